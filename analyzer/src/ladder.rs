//! The ladder from one reading of the hardware to the bound: one assumption after the other, each a configuration that
//! `replay` takes.

use crate::config::{Config, DealingRule, HitCycles};
use crate::error::Result;
use crate::presets::{find_nearest_preset, list_flags};
use crate::timing::DataflowName;
use mercury_reuse::config::{MAX_UNIT_MACS, SignatureUnit};

/// Multiply-accumulates per cycle of the units for signatures that a ladder tries, in rows of the array, before one for
/// each PE.
const UNITS: [u32; 3] = [1, 3, 6];

/// Most results per cycle that a configuration takes.
const MAX_RESULTS: u32 = 1 << 20;

/// Versions of an entry, and banks, with which PE sets hardly wait for each other.
const AHEAD: u32 = 64;

/// Read ports with which copies take no time.
const MANY_PORTS: u32 = 1 << 16;

/// A rung of the ladder.
#[derive(Debug, Clone, PartialEq)]
pub struct Rung {
    /// What the rung assumes beyond the rung before.
    pub assumption: String,
    /// The keys that differ from the rung before, as flags.
    pub flags: String,
    /// The preset that the configuration equals, but for `stop.window`.
    pub preset: Option<&'static str>,
    /// The configuration.
    pub config: Config,
}

/// A change of a configuration.
type Change = Box<dyn Fn(&mut Config)>;

/// Lists the rungs from `base` to the bound. Assumptions that `base` makes already are left out.
pub fn list_rungs(base: &Config) -> Vec<Rung> {
    let mut rungs = vec![Rung {
        assumption: "as configured".to_owned(),
        flags: String::new(),
        preset: find_preset(base),
        config: base.clone(),
    }];
    for (assumption, change) in list_assumptions(base) {
        let before = &rungs[rungs.len() - 1].config;
        let mut config = before.clone();
        change(&mut config);
        if config != *before {
            let (flags, preset) = (list_flags(before, &config).join(" "), find_preset(&config));
            rungs.push(Rung { assumption, flags, preset, config });
        }
    }
    rungs
}

/// The readings that presets name, and the last rung: the bound.
pub fn list_readings() -> Result<Vec<Rung>> {
    let mut rungs = Vec::new();
    for name in ["mercury", "mercury-skip", "mercury-ahead"] {
        let config = Config::resolve(name, Config::preset(name)?, &[])?;
        let (assumption, flags) = (format!("preset {name}"), format!("--preset {name}"));
        rungs.push(Rung { assumption, flags, preset: Some(name), config });
    }
    rungs.extend(list_rungs(&Config::default()).pop().map(|bound| Rung {
        assumption: "the bound: HITs and signatures free, no waiting, MCACHE without limit".to_owned(),
        flags: list_flags(&Config::default(), &bound.config).join(" "),
        ..bound
    }));
    Ok(rungs)
}

/// Each assumption only improves on what is assumed already.
fn list_assumptions(base: &Config) -> Vec<(String, Change)> {
    let mut steps: Vec<(String, Change)> = Vec::new();
    let mut add = |assumption: &str, change: Change| steps.push((assumption.to_owned(), change));
    let is_row_stationary = base.array.dataflow == DataflowName::RowStationary;
    add("no layer is switched off", Box::new(|config| config.stop.window = 0));
    if is_row_stationary {
        add("a HIT takes one operation of a PE", Box::new(hit_by_column));
    }
    add("MCACHE delivers a result per PE and cycle", Box::new(deliver_to_each_pe));
    if is_row_stationary {
        add("rows go to the PE set that is free", Box::new(|config| config.array.dealing = DealingRule::Dynamic));
    }
    let columns = base.array.columns;
    for macs in UNITS.map(|rows| columns.saturating_mul(rows)).into_iter().chain([base.array.pes()]) {
        if macs <= MAX_UNIT_MACS {
            let unit = move |config: &mut Config| sign_beside_array(config, macs);
            add(&format!("a unit of {macs} MACs per cycle signs ahead"), Box::new(unit));
        }
    }
    add("signatures are free", Box::new(sign_for_free));
    if is_row_stationary {
        add("PE sets may be 64 filters and scopes apart", Box::new(run_ahead));
    }
    add("HITs are free", Box::new(hit_for_free));
    add("MCACHE has room for everything", Box::new(|config| (config.mcache.entries, config.mcache.ways) = (0, 1)));
    steps
}

fn hit_by_column(config: &mut Config) {
    // A set has at least one PE, so a column never takes longer than a cycle.
    if matches!(config.array.hit_cycles, HitCycles::Exact(cycles) if !cycles.is_below_part(1)) {
        config.array.hit_cycles = HitCycles::Column;
    }
}

fn deliver_to_each_pe(config: &mut Config) {
    let results = &mut config.mcache.results_per_cycle;
    let pes = config.array.pes();
    // Of HITs that take less than their PEs, no bandwidth is asked.
    let is_free = config.array.hit_cycles == HitCycles::FREE;
    if config.array.dataflow == DataflowName::RowStationary && pes <= MAX_RESULTS && !is_free {
        *results = (*results).max(pes);
    }
    config.mcache.read_ports = config.mcache.read_ports.max(config.array.rows);
}

fn sign_beside_array(config: &mut Config, macs: u32) {
    let is_better = match config.rpq.unit {
        SignatureUnit::Array => true,
        SignatureUnit::Dedicated => config.unit_macs() < Some(macs),
        SignatureUnit::Free => false,
    };
    if is_better {
        config.rpq.unit = SignatureUnit::Dedicated;
        config.rpq.macs_per_cycle = Some(macs);
    }
}

fn sign_for_free(config: &mut Config) {
    config.rpq.unit = SignatureUnit::Free;
    config.rpq.macs_per_cycle = None;
}

fn run_ahead(config: &mut Config) {
    config.mcache.versions = config.mcache.versions.max(AHEAD);
    config.mcache.banks = config.mcache.banks.max(AHEAD);
}

fn hit_for_free(config: &mut Config) {
    if config.array.dataflow == DataflowName::RowStationary {
        config.array.hit_cycles = HitCycles::FREE;
        config.mcache.results_per_cycle = 0;
    } else {
        config.mcache.read_ports = MANY_PORTS;
    }
}

/// The preset that a configuration equals, but for the switching off of layers.
fn find_preset(config: &Config) -> Option<&'static str> {
    let (preset, flags) = find_nearest_preset(config);
    flags.iter().all(|flag| flag.starts_with("--stop.window ")).then_some(preset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PRESETS;

    #[test]
    fn the_ladder_passes_the_named_readings() {
        let rungs = list_rungs(&Config::default());
        let presets: Vec<_> = rungs.iter().filter_map(|rung| rung.preset).collect();
        assert_eq!(presets, ["mercury", "mercury", "mercury-skip", "mercury-ahead"]);
        assert!(rungs.windows(2).all(|pair| pair[0].config != pair[1].config));
        let last = &rungs[rungs.len() - 1];
        assert_eq!((last.config.mcache.entries, last.config.array.hit_cycles.to_string().as_str()), (0, "0"));
    }

    #[test]
    fn flags_lead_from_rung_to_rung() {
        for pair in list_rungs(&Config::default()).windows(2) {
            let words = mercury_cli::split_words(&pair[1].flags).unwrap();
            let mut overrides: Vec<(&str, String)> = Vec::new();
            for flag in words.chunks(2) {
                overrides.push((flag[0].trim_start_matches('-'), flag[1].clone()));
            }
            let mut table = toml::Table::try_from(&pair[0].config).unwrap();
            // A key without a value cannot be taken back by a flag.
            if pair[1].config.rpq.macs_per_cycle.is_none() {
                table["rpq"].as_table_mut().unwrap().remove("macs_per_cycle");
            }
            let found = Config::resolve("a test", table, &overrides).unwrap();
            assert_eq!(found, pair[1].config, "{}", pair[1].flags);
        }
    }

    /// Rungs differ, and make no assumption of the base worse.
    #[test]
    fn assumptions_that_are_made_already_are_left_out() {
        let mut bases: Vec<Config> = PRESETS.iter().map(|(name, _)| preset(name, &[])).collect();
        bases.push(preset("mercury", &[("rpq.unit", "free".to_owned())]));
        bases.push(preset("mercury", &[("array.hit_cycles", "0".to_owned())]));
        bases
            .push(preset("mercury", &[("array.hit_cycles", "1/2".to_owned()), ("mcache.read_ports", "64".to_owned())]));
        let unit = [("rpq.unit", "dedicated".to_owned()), ("rpq.macs_per_cycle", "1000".to_owned())];
        bases.push(preset("mercury", &unit));
        for base in bases {
            let rungs = list_rungs(&base);
            for (number, rung) in rungs.iter().enumerate() {
                assert!(rungs[..number].iter().all(|earlier| earlier.config != rung.config), "{}", rung.assumption);
                assert!(rung.config.mcache.read_ports >= base.mcache.read_ports);
                assert!(rung.config.unit_macs() >= base.unit_macs() || rung.config.rpq.unit == SignatureUnit::Free);
            }
        }
        let matrix = preset("patch-os", &[]);
        assert!(list_rungs(&matrix).iter().all(|rung| !rung.flags.contains("hit_cycles")));
    }

    fn preset(name: &str, overrides: &[(&str, String)]) -> Config {
        Config::resolve("a test", Config::preset(name).unwrap(), overrides).unwrap()
    }
}
