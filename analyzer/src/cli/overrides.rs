//! The configuration's flags: a preset or a file, and one flag for each key.

use crate::config::Config;
use crate::error::Result;
use clap::Args;
use std::path::PathBuf;

/// Where the configuration comes from: defaults, then a preset or file, then flags by key.
#[derive(Debug, Args)]
#[command(next_help_heading = "Configuration")]
pub struct Configuration {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    config: Option<PathBuf>,
    /// Configuration that comes with the program: mercury (the default), patch-os.
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Signature length, 1 to 64.
    #[arg(long = "rpq.bits", value_name = "N")]
    bits: Option<String>,
    /// Seed of the projection matrix.
    #[arg(long = "rpq.seed", value_name = "N")]
    seed: Option<String>,
    /// How vectors are cut: channel-patch, patch, sub-vector(L).
    #[arg(long = "rpq.granularity", value_name = "G")]
    granularity: Option<String>,
    /// Entries of MCACHE.
    #[arg(long = "mcache.entries", value_name = "N")]
    entries: Option<String>,
    /// Entries of a set.
    #[arg(long = "mcache.ways", value_name = "N")]
    ways: Option<String>,
    /// How a signature chooses its set: mixed, low-bits.
    #[arg(long = "mcache.index", value_name = "I")]
    index: Option<String>,
    /// When MCACHE is flushed in convolutions: channel, sample, batch.
    #[arg(long = "mcache.scope", value_name = "S")]
    scope: Option<String>,
    /// When MCACHE is flushed in fully connected layers: sample, batch.
    #[arg(long = "mcache.scope_linear", value_name = "S")]
    scope_linear: Option<String>,
    /// Rows of results that MCACHE delivers in a cycle.
    #[arg(long = "mcache.read_ports", value_name = "N")]
    read_ports: Option<String>,
    /// Results that an entry of MCACHE holds (row stationary).
    #[arg(long = "mcache.versions", value_name = "N")]
    versions: Option<String>,
    /// Banks of MCACHE (row stationary).
    #[arg(long = "mcache.banks", value_name = "N")]
    banks: Option<String>,
    /// Which operand stays in place: os, ws, is, or rs (rows of a plane).
    #[arg(long = "array.dataflow", value_name = "D")]
    dataflow: Option<String>,
    /// Rows of processing elements.
    #[arg(long = "array.rows", value_name = "N")]
    rows: Option<String>,
    /// Columns of processing elements.
    #[arg(long = "array.columns", value_name = "N")]
    columns: Option<String>,
    /// Clock, MHz.
    #[arg(long = "array.clock_mhz", value_name = "X")]
    clock_mhz: Option<String>,
    /// Additions of gradients a cycle [default: array.columns].
    #[arg(long = "array.accumulate_lanes", value_name = "N")]
    accumulate_lanes: Option<String>,
    /// Cycles of a HIT (row stationary).
    #[arg(long = "array.hit_cycles", value_name = "N")]
    hit_cycles: Option<String>,
    /// PE sets wait after each filter, or not: synchronous, asynchronous (row stationary).
    #[arg(long = "array.schedule", value_name = "S")]
    schedule: Option<String>,
    /// Whether buses of Eyeriss's widths can hold computing up: true, false (row stationary).
    #[arg(long = "array.network_bound", value_name = "B")]
    network_bound: Option<String>,
    /// Passes with reuse: a TOML list of forward, input-grad, weight-grad, each in quotes.
    #[arg(long = "reuse.passes", value_name = "LIST")]
    passes: Option<String>,
}

impl Configuration {
    /// The configuration that comes of it.
    pub fn resolve(self) -> Result<Config> {
        let (origin, table) = match (&self.config, &self.preset) {
            (Some(path), _) => (path.display().to_string(), Config::file(path)?),
            (None, preset) => {
                let name = preset.as_deref().unwrap_or("mercury");
                (format!("preset {name}"), Config::preset(name)?)
            }
        };
        let flags = [
            ("rpq.bits", self.bits),
            ("rpq.seed", self.seed),
            ("rpq.granularity", self.granularity),
            ("mcache.entries", self.entries),
            ("mcache.ways", self.ways),
            ("mcache.index", self.index),
            ("mcache.scope", self.scope),
            ("mcache.scope_linear", self.scope_linear),
            ("mcache.read_ports", self.read_ports),
            ("mcache.versions", self.versions),
            ("mcache.banks", self.banks),
            ("array.dataflow", self.dataflow),
            ("array.rows", self.rows),
            ("array.columns", self.columns),
            ("array.clock_mhz", self.clock_mhz),
            ("array.accumulate_lanes", self.accumulate_lanes),
            ("array.hit_cycles", self.hit_cycles),
            ("array.schedule", self.schedule),
            ("array.network_bound", self.network_bound),
            ("reuse.passes", self.passes),
        ];
        let overrides: Vec<_> = flags.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        let origin = if overrides.is_empty() { origin } else { format!("{origin} and flags") };
        Config::resolve(&origin, table, &overrides)
    }
}
