//! The configuration's flags: a preset or a file, and one flag for each key.

use crate::config::{Config, DEFAULT_PRESET, preset_names};
use crate::error::{AnalyzerError, Result};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use std::path::PathBuf;
use toml::Table;

/// Every key: its name, the placeholder of its value, and its meaning.
pub const KEYS: &[(&str, &str, &str)] = &[
    ("rpq.bits", "N", "Signature length at the start of training, 1 to 64 bits"),
    ("rpq.seed", "N", "Seed of the projection matrix"),
    ("rpq.granularity", "G", "Granularity of vectors: channel-patch, patch, sub-vector(L)"),
    ("rpq.variant", "V", "Content of a signature: sign, sign+rescale, sign+magnitude(m), centred"),
    ("rpq.projection", "P", "Entries of the projection matrix: gaussian, sparse"),
    ("mcache.entries", "N", "Entries of MCACHE; 0: unlimited"),
    ("mcache.ways", "N", "Entries per set"),
    ("mcache.index", "I", "Set selection by a signature: mixed, low-bits"),
    ("mcache.replacement", "R", "Replacement in a full set: none, lru, fifo"),
    ("mcache.representative", "R", "Vector that represents an entry: first, centroid"),
    ("mcache.scope", "S", "Scope in convolutions, after which MCACHE is flushed: channel, sample, batch"),
    ("mcache.scope_linear", "S", "Scope in fully connected layers: sample, batch"),
    ("mcache.read_ports", "N", "Rows of results that MCACHE delivers per cycle"),
    ("mcache.versions", "N", "Results per entry of MCACHE (row stationary)"),
    ("mcache.banks", "N", "Banks of MCACHE (row stationary)"),
    ("array.dataflow", "D", "Dataflow: os, ws, is (output, weight, input stationary) or rs (row stationary)"),
    ("array.rows", "N", "Rows of processing elements"),
    ("array.columns", "N", "Columns of processing elements"),
    ("array.clock_mhz", "X", "Clock frequency, MHz"),
    ("array.accumulate_lanes", "N", "Additions of gradients per cycle [default: array.columns]"),
    ("array.ifmap_words", "N", "Words of a PE's ifmap scratchpad (row stationary)"),
    ("array.filter_words", "N", "Words of a PE's filter scratchpad (row stationary)"),
    ("array.psum_words", "N", "Words of a PE's psum scratchpad (row stationary)"),
    ("array.hit_cycles", "N", "Cycles of a HIT (row stationary)"),
    ("array.schedule", "S", "Whether PE sets wait after each filter: synchronous, asynchronous (row stationary)"),
    ("array.network_bound", "B", "Whether buses of Eyeriss's widths can delay computing: true, false (row stationary)"),
    ("reuse.passes", "LIST", "Passes with reuse: a TOML list of forward, input-grad, weight-grad, each in quotes"),
    ("bits.patience", "N", "Steps without a new minimum of the loss after which signatures grow by one bit; 0: never"),
    ("bits.max", "N", "Maximum signature length"),
    (
        "stop.window",
        "N",
        "Captured steps over which a layer must save cycles, or is switched off; the first are the trial; 0: never",
    ),
    ("bounds.cosine", "X", "Minimum cosine for ideal similarity"),
    ("bounds.exact_vectors", "N", "Up to this number of vectors per stream and scope, ideal similarity examines all"),
    ("bounds.sampled_vectors", "N", "Otherwise, number of vectors per pass that it examines"),
    ("bounds.pairs", "N", "Pairs of vectors whose angle and signatures are compared"),
    ("bounds.weight_bits", "N", "Bits per weight, for weight repetition"),
    ("memory.word_bytes", "N", "Bytes per word"),
    ("memory.buffer_kb", "N", "Size of the global buffer, KB"),
    ("memory.dram_bytes_per_cycle", "X", "Bytes from and to DRAM per cycle; 0: no bound"),
    ("memory.double_buffered", "B", "Whether one half of the buffer is filled while the other is used: true, false"),
    ("energy.mac", "X", "Energy of a multiply-accumulate"),
    ("energy.add", "X", "Energy of an addition"),
    ("energy.register", "X", "Energy of a register access"),
    ("energy.neighbour", "X", "Energy of a word from the neighbouring PE"),
    ("energy.buffer", "X", "Energy of a word of the global buffer"),
    ("energy.dram", "X", "Energy of a word of DRAM"),
    ("energy.mcache", "X", "Energy of a word of MCACHE [default: energy.buffer]"),
];

/// Keys and their values on top of a configuration.
pub type Overrides = Vec<(&'static str, String)>;

const HEADING: &str = "Configuration";

/// Where the configuration comes from: defaults, then a preset or file, then flags by key.
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
            .help(format!("Configuration that comes with the program: {} [default: {DEFAULT_PRESET}]", preset_names()));
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
    /// The configuration that comes of it.
    pub fn resolve(self) -> Result<Config> {
        let (origin, table, overrides) = self.parts()?;
        Ok(Config::resolve(&origin, table, &overrides)?)
    }

    /// What it came from (for messages), its table, and the flags that go on top.
    pub fn parts(self) -> Result<(String, Table, Overrides)> {
        let (origin, table) = self.base()?;
        let origin = if self.overrides.is_empty() { origin } else { format!("{origin} and flags") };
        Ok((origin, table, self.overrides))
    }

    /// The preset or file, and its table.
    pub fn base(&self) -> Result<(String, Table)> {
        if let Some(path) = &self.config {
            return Ok((path.display().to_string(), Config::file(path)?));
        }
        let name = self.preset.as_deref().unwrap_or(DEFAULT_PRESET);
        let table = Config::preset(name)
            .map_err(|error| AnalyzerError::Flag { flag: "--preset", reason: error.to_string() })?;
        Ok((format!("preset {name}"), table))
    }

    /// The flags that go on top.
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key of the configuration without a flag, or a flag without a key, would be missed by a user.
    #[test]
    fn every_key_is_a_flag() {
        let mut config = Config::default();
        config.array.accumulate_lanes = Some(1);
        config.energy.mcache = Some(1.0);
        let table = Table::try_from(config).unwrap();
        let of_section = |(section, keys): (&String, &toml::Value)| -> Vec<String> {
            keys.as_table().unwrap().keys().map(|key| format!("{section}.{key}")).collect()
        };
        let mut keys: Vec<String> = table.iter().flat_map(of_section).collect();
        let mut flags: Vec<String> = KEYS.iter().map(|&(key, ..)| key.to_owned()).collect();
        keys.sort();
        flags.sort();
        assert_eq!(keys, flags);
    }
}
