//! The ladder from one reading of the hardware to the bound: one assumption after the other, each a configuration that
//! `replay` takes.

use crate::config::{Config, DealingRule, HitCycles, PRESETS};
use crate::error::Result;
use crate::timing::DataflowName;
use mercury_reuse::config::SignatureUnit;

/// Multiply-accumulates per cycle of the units for signatures that a ladder tries, before one for each PE.
const UNITS: [u32; 3] = [14, 42, 84];

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
            let (flags, preset) = (list_flags(before, &config), find_preset(&config));
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
        flags: list_flags(&Config::default(), &bound.config),
        ..bound
    }));
    Ok(rungs)
}

fn list_assumptions(base: &Config) -> Vec<(String, Change)> {
    let pes = base.array.rows.saturating_mul(base.array.columns);
    let is_row_stationary = base.array.dataflow == DataflowName::RowStationary;
    let mut steps: Vec<(String, Change)> = Vec::new();
    let mut add = |assumption: &str, change: Change| steps.push((assumption.to_owned(), change));
    add("no layer is switched off", Box::new(|config| config.stop.window = 0));
    if is_row_stationary {
        add("a HIT takes one operation of a PE", Box::new(|config| config.array.hit_cycles = HitCycles::Column));
        add(
            "MCACHE delivers a result per PE and cycle",
            Box::new(move |config| {
                config.mcache.results_per_cycle = pes;
                config.mcache.read_ports = config.array.rows;
            }),
        );
        add("rows go to the PE set that is free", Box::new(|config| config.array.dealing = DealingRule::Dynamic));
    } else {
        add(
            "MCACHE delivers a result per PE and cycle",
            Box::new(|config| config.mcache.read_ports = config.array.rows),
        );
    }
    for macs in UNITS.into_iter().filter(|&macs| macs < pes).chain([pes]) {
        let assumption = format!("a unit of {macs} MACs per cycle signs ahead");
        let unit = move |config: &mut Config| {
            config.rpq.unit = SignatureUnit::Dedicated;
            config.rpq.macs_per_cycle = Some(macs);
        };
        add(&assumption, Box::new(unit));
    }
    add(
        "signatures are free",
        Box::new(|config| {
            config.rpq.unit = SignatureUnit::Free;
            config.rpq.macs_per_cycle = None;
        }),
    );
    if is_row_stationary {
        add(
            "PE sets may be 64 filters and scopes apart",
            Box::new(|config| {
                config.mcache.versions = config.mcache.versions.max(AHEAD);
                config.mcache.banks = config.mcache.banks.max(AHEAD);
            }),
        );
        add(
            "HITs are free",
            Box::new(|config| {
                config.array.hit_cycles = HitCycles::Exact(crate::timing::row_stationary::Fraction::new(0, 1));
                config.mcache.results_per_cycle = 0;
            }),
        );
    } else {
        add("HITs are free", Box::new(|config| config.mcache.read_ports = MANY_PORTS));
    }
    add(
        "MCACHE has room for everything",
        Box::new(|config| {
            config.mcache.entries = 0;
            config.mcache.ways = 1;
        }),
    );
    steps
}

/// The preset that a configuration equals, but for the switching off of layers.
fn find_preset(config: &Config) -> Option<&'static str> {
    let is_equal = |name: &str| {
        let preset = Config::preset(name).and_then(|table| Config::resolve(name, table, &[]));
        preset.is_ok_and(|preset| Config { stop: config.stop.clone(), ..preset } == *config)
    };
    PRESETS.iter().map(|(name, _)| *name).find(|name| is_equal(name))
}

/// The keys in which two configurations differ, as flags with the second one's values.
fn list_flags(before: &Config, after: &Config) -> String {
    let table = |config: &Config| toml::Table::try_from(config).expect("a configuration is a table");
    let (before, after) = (table(before), table(after));
    let mut flags = Vec::new();
    for (section, keys) in &after {
        for (key, value) in keys.as_table().into_iter().flatten() {
            if before.get(section).and_then(|keys| keys.get(key)) != Some(value) {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                flags.push(mercury_cli::flag(&format!("{section}.{key}"), &text));
            }
        }
    }
    flags.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn assumptions_that_are_made_already_are_left_out() {
        let ahead = Config::resolve("mercury-ahead", Config::preset("mercury-ahead").unwrap(), &[]).unwrap();
        let rungs = list_rungs(&ahead);
        assert!(rungs.iter().all(|rung| !rung.assumption.contains("PE set that is free")));
        let matrix = Config::resolve("patch-os", Config::preset("patch-os").unwrap(), &[]).unwrap();
        assert!(list_rungs(&matrix).iter().all(|rung| !rung.flags.contains("hit_cycles")));
    }
}
