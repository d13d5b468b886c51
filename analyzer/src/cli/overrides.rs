//! The flags of the configuration: --preset, --config, and one flag per key.

use crate::config::{Config, DEFAULT_PRESET, preset_names};
use crate::error::{AnalyzerError, Result};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use mercury_cli::flag;
use std::path::PathBuf;
use toml::Table;

/// Every key as `(key, value name, help)`.
pub const KEYS: &[(&str, &str, &str)] = &[
    ("rpq.bits", "N", "Signature length at the start of training, 1 to 64 bits"),
    ("rpq.seed", "N", "Seed of a drawn projection matrix"),
    (
        "rpq.granularity",
        "G",
        "How vectors are cut: channel-patch, channel-patch(q), channel-patch(auto), patch, sub-vector(L)",
    ),
    ("rpq.variant", "V", "Signature variant: sign, sign+rescale, sign+magnitude(m), centred"),
    ("rpq.projection", "P", "Projection matrix: drawn gaussian or sparse, or that of a file: file:R.safetensors"),
    ("rpq.unit", "U", "What computes signatures: array, dedicated (beside it), free (a bound)"),
    ("rpq.macs_per_cycle", "N", "Multiply-accumulates per cycle of a dedicated unit [default: rows x columns]"),
    ("mcache.entries", "N", "Entries of MCACHE; 0: unlimited"),
    ("mcache.ways", "N", "Entries per set"),
    ("mcache.index", "I", "How a signature selects its set: mixed, low-bits"),
    ("mcache.replacement", "R", "Replacement in a full set: none, lru, fifo"),
    ("mcache.representative", "R", "Representative of the vectors that share a signature: first, centroid"),
    ("mcache.scope", "S", "Scope after which MCACHE is flushed in convolutions: channel, sample, batch"),
    ("mcache.scope_linear", "S", "Scope after which MCACHE is flushed in fully connected layers: sample, batch"),
    ("mcache.read_ports", "N", "Rows of results that MCACHE delivers per cycle"),
    ("mcache.results_per_cycle", "N", "Results that MCACHE delivers per cycle; 0: no limit (row stationary)"),
    ("mcache.versions", "N", "Result versions per MCACHE entry (row stationary)"),
    ("mcache.banks", "N", "MCACHE banks (row stationary)"),
    ("array.dataflow", "D", "Dataflow: os, ws, is, rs (output, weight, input or row stationary)"),
    ("array.rows", "N", "Rows of processing elements"),
    ("array.columns", "N", "Columns of processing elements"),
    ("array.clock_mhz", "X", "Clock frequency, MHz"),
    ("array.accumulate_lanes", "N", "Gradient additions per cycle [default: array.columns]"),
    ("array.ifmap_words", "N", "Ifmap scratchpad of a PE, words (row stationary)"),
    ("array.filter_words", "N", "Filter scratchpad of a PE, words (row stationary)"),
    ("array.psum_words", "N", "Psum scratchpad of a PE, words (row stationary)"),
    (
        "array.hit_cycles",
        "N",
        "Cycles that a HIT takes, 0 to 65536: 1, 0.25, 1/3, or column: 1 / kernel rows (row stationary)",
    ),
    ("array.dealing", "D", "How output rows are dealt to PE sets: static, dynamic (row stationary)"),
    (
        "array.schedule",
        "S",
        "Whether PE sets wait for each other after each filter: synchronous, asynchronous (row stationary)",
    ),
    ("array.network_bound", "B", "Whether buses of Eyeriss's widths can stall the PEs: true, false (row stationary)"),
    ("reuse.passes", "LIST", "Passes with reuse, a TOML list of quoted names: forward, input-grad, weight-grad"),
    ("bits.patience", "N", "Training steps without a lower loss before signatures grow by a bit; 0: never"),
    ("bits.max", "N", "Longest signature, bits"),
    (
        "stop.window",
        "N",
        "Captured steps over which reuse must save cycles, else the layer is switched off; the first N are the trial; 0: never",
    ),
    ("bounds.cosine", "X", "Smallest cosine at which ideal similarity reuses"),
    ("bounds.exact_vectors", "N", "Up to N vectors per stream and scope, ideal similarity examines all"),
    ("bounds.sampled_vectors", "N", "Above that, vectors that ideal similarity samples per product of a pass"),
    ("bounds.pairs", "N", "Pairs of vectors sampled per product of a pass to compare angles with signatures"),
    ("bounds.weight_bits", "N", "Bits per weight, for weight repetition"),
    ("memory.word_bytes", "N", "Bytes per word"),
    ("memory.buffer_kb", "N", "Size of the global buffer, KB"),
    ("memory.dram_bytes_per_cycle", "X", "DRAM bandwidth, bytes per cycle; 0: unlimited"),
    ("memory.double_buffered", "B", "Whether one half of the buffer is filled while the other is in use: true, false"),
    ("energy.mac", "X", "Energy of a multiply-accumulate"),
    ("energy.add", "X", "Energy of an addition"),
    ("energy.register", "X", "Energy of a register access"),
    ("energy.neighbour", "X", "Energy of a word from a neighbouring PE"),
    ("energy.buffer", "X", "Energy of a word from or to the global buffer"),
    ("energy.dram", "X", "Energy of a word from or to DRAM"),
    ("energy.mcache", "X", "Energy of a word from or to MCACHE [default: energy.buffer]"),
];

/// Keys with the values that override a configuration.
pub type Overrides = Vec<(&'static str, String)>;

const HEADING: &str = "Configuration";

/// The configuration that the flags describe: defaults, overridden by a preset or file, overridden
/// by the flags of keys.
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    config: Option<PathBuf>,
    preset: Option<String>,
    overrides: Overrides,
}

impl Args for Configuration {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .conflicts_with("preset")
            .help("Configuration file (TOML)");
        let preset = Arg::new("preset")
            .long("preset")
            .value_name("NAME")
            .help(format!("Built-in configuration: {} [default: {DEFAULT_PRESET}]", preset_names()));
        let keys = KEYS.iter().map(|&(key, value, help)| Arg::new(key).long(key).value_name(value).help(help));
        command.args([config, preset].into_iter().chain(keys).map(|arg| arg.help_heading(HEADING)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Configuration {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        let value = |key: &'static str| Some((key, matches.get_one::<String>(key)?.clone()));
        Ok(Self {
            config: matches.get_one("config").cloned(),
            preset: matches.get_one("preset").cloned(),
            overrides: KEYS.iter().filter_map(|&(key, ..)| value(key)).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Configuration {
    /// Applies the flags and checks the result.
    pub fn resolve(self) -> Result<Config> {
        let (origin, table, overrides) = self.parts()?;
        Ok(Config::resolve(&origin, table, &overrides)?)
    }

    /// The origin for messages, the preset's or file's table, and the overriding flags.
    pub fn parts(self) -> Result<(String, Table, Overrides)> {
        let (origin, table) = self.base()?;
        let origin = if self.overrides.is_empty() { origin } else { format!("{origin} and flags") };
        Ok((origin, table, self.overrides))
    }

    /// Whether a file sets keys of one of these sections.
    pub fn sets_sections(&self, sections: &[&str]) -> Result<bool> {
        let Some(path) = &self.config else { return Ok(false) };
        let table = Config::file(path)?;
        Ok(sections.iter().any(|section| table.contains_key(*section)))
    }

    /// The flags that were given.
    pub fn list_flags(&self) -> Vec<String> {
        let config = self.config.as_ref().map(|path| flag("config", &path.display().to_string()));
        let preset = self.preset.as_ref().map(|name| flag("preset", name));
        let overrides = self.overrides.iter().map(|(key, value)| flag(key, value));
        config.into_iter().chain(preset).chain(overrides).collect()
    }

    /// Whether a preset, a file or a key was given.
    pub fn is_chosen(&self) -> bool {
        self.config.is_some() || self.preset.is_some() || !self.overrides.is_empty()
    }

    /// The name of the preset or file, and its table.
    pub fn base(&self) -> Result<(String, Table)> {
        if let Some(path) = &self.config {
            return Ok((path.display().to_string(), Config::file(path)?));
        }
        let name = self.preset.as_deref().unwrap_or(DEFAULT_PRESET);
        let table = Config::preset(name)
            .map_err(|error| AnalyzerError::Flag { flag: "--preset", reason: error.to_string() })?;
        Ok((format!("preset {name}"), table))
    }

    /// Refuses every flag of a configuration, because `flag` excludes them.
    ///
    /// # Errors
    /// If there is one: the error names both flags.
    pub fn refuse(&self, flag: &'static str) -> Result<()> {
        let given = [("config", self.config.is_some()), ("preset", self.preset.is_some())];
        let given = given.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name);
        match given.chain(self.overrides.iter().map(|(key, _)| *key)).next() {
            Some(name) => {
                let reason = format!("takes its configurations from presets; leave out --{name}");
                Err(AnalyzerError::Flag { flag, reason })
            }
            None => Ok(()),
        }
    }

    /// The overriding flags.
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_a_flag() {
        let mut config = Config::default();
        config.array.accumulate_lanes = Some(1);
        config.energy.mcache = Some(1.0);
        config.rpq.macs_per_cycle = Some(1);
        let table = Table::try_from(config).unwrap();
        let mut keys = Vec::new();
        for (section, section_keys) in &table {
            keys.extend(section_keys.as_table().unwrap().keys().map(|key| format!("{section}.{key}")));
        }
        let mut flags: Vec<String> = KEYS.iter().map(|&(key, ..)| key.to_owned()).collect();
        keys.sort();
        flags.sort();
        assert_eq!(keys, flags);
    }
}
