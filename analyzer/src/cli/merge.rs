//! `merge`: partitions of a replay put together.

use crate::export::{self, Format};
use crate::output::ResultsDir;
use crate::partition::merge;
use crate::results;
use anyhow::Result;
use clap::Args;
use mercury_cli::Messages;
use std::path::PathBuf;

/// Put the partitions of a replay together: the same results, byte for byte, as of one run.
///
/// All partitions must be there, each once, in whatever order. The trace is not needed. JSON and CSV print the rows
/// of layers.parquet.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mercury-analyzer merge part-1 part-2 part-3 --out results
  mercury-analyzer merge parts --out results      # all partitions whose folders are in parts")]
pub struct Merge {
    /// Folders that `replay --partition` wrote, or folders that hold these.
    #[arg(required = true, value_name = "DIR")]
    partitions: Vec<PathBuf>,
    /// Folder for the results; must be empty or missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What to print; the table is left to people who read the results.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Merge {
    /// Merges, and writes the results.
    pub fn run(self, messages: Messages) -> Result<()> {
        let merged = merge::read(&self.partitions)?;
        let target = ResultsDir::claim(&self.out, &merged.run)?;
        target.write(&merged.run, merged.layers, &merged.results)?;
        let (partitions, units) = (merged.partitions, merged.units);
        messages
            .note(format_args!("{partitions} partitions, {units} layers of captured steps: {}", self.out.display()));
        if self.format == Format::Table {
            return Ok(());
        }
        export::print(&results::layers_frame(&merged.results)?, self.format)
    }
}
