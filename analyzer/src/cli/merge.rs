//! `merge`: combines the partitions of a replay.

use super::console::Console;
use crate::export::Format;
use crate::output::ResultsDir;
use crate::partition::merge;
use crate::results;
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Merge the partitions of a replay into the results of one run, byte for byte the same.
///
/// Every partition must be given exactly once, in any order. The trace is not needed. JSON and CSV
/// print the rows of layers.parquet.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mercury-analyzer merge part-1 part-2 part-3 --out results
  mercury-analyzer merge parts --out results      # all partitions in the folder parts")]
pub struct Merge {
    /// Folders that `replay --partition` wrote, or folders that contain them.
    #[arg(required = true, value_name = "DIR")]
    partitions: Vec<PathBuf>,
    /// Folder for the results; must be empty or missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Output format; `table` prints nothing.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Merge {
    /// Merges the partitions and writes the results.
    pub fn run(self, console: Console) -> Result<()> {
        let merged = merge::read(&self.partitions)?;
        let target = ResultsDir::claim(&self.out, &merged.run)?;
        target.write(&merged.run, merged.layers, &merged.configs, &merged.results)?;
        let (partitions, units) = (merged.partitions, merged.units);
        console.note(format_args!("{partitions} partitions, {units} layers of captured steps: {}", self.out.display()));
        if self.format == Format::Table {
            return Ok(());
        }
        console.print_table(&results::layers_frame(&merged.results)?, self.format)
    }
}
