//! `compare`: the differences between two results.

use super::console::Console;
use crate::compare::{Comparison, Threshold};
use crate::export::Format;
use crate::schema::configurations;
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// Compare two results: hit rate, output error, cycles and speed-up per layer and pass, and for the
/// model, over the steps after the trial.
///
/// The model's row has the hit rate and output error of the forward pass and the cycles of all
/// passes. Rows without a change are left out. Speed-ups are relative to the baseline of the same
/// array, so compare cycles between different arrays. The exit code is 1 if a threshold is crossed,
/// else 0.
#[derive(Debug, Args)]
#[command(after_help = "Example: mercury-analyzer compare before after --threshold speed_up=0.02,output_error=0.005")]
pub struct Compare {
    /// Folder of the first results.
    a: PathBuf,
    /// Folder of the second results.
    b: PathBuf,
    /// Largest accepted absolute differences, of `hit_rate`, `output_error` or `speed_up`. A row
    /// that only one of the results has crosses every threshold.
    #[arg(long, value_delimiter = ',', value_name = "METRIC=DIFFERENCE", value_parser = Threshold::parse)]
    threshold: Vec<Threshold>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Compare {
    /// Compares the results and prints the changed rows.
    pub fn run(self, console: Console) -> Result<u8> {
        let comparison = Comparison::read(&self.a, &self.b)?;
        for (side, folder, name) in [("a", &self.a, &comparison.names[0]), ("b", &self.b, &comparison.names[1])] {
            let folder = folder.display().to_string();
            let name = if *name == folder { String::new() } else { format!(": {name}") };
            console.note(format_args!("{side}: {folder}{name}"));
        }
        for (key, a, b) in &comparison.settings {
            console.note(format_args!("{key}: {a} -> {b}"));
        }
        let mut changed = comparison.changed()?;
        if changed.height() == 0 {
            console.note(format_args!("no change in {} rows", comparison.rows.len()));
        }
        let [steps_a, steps_b] = comparison.steps;
        if steps_a != steps_b {
            console.note(format_args!(
                "a sums {steps_a} captured steps and b sums {steps_b}: compare speed-ups, not cycles"
            ));
        } else if comparison.has_unlike_baselines() {
            console.note(super::UNLIKE_BASELINES);
        } else if self.format == Format::Table {
            let baselines = ["a", "b"].map(|side| format!("{}_{side}", configurations::BASELINE_CYCLES.name));
            changed = changed.drop_many(baselines);
        }
        console.print_table(&changed, self.format)?;
        let crossed = comparison.count_crossed(&self.threshold);
        if crossed > 0 {
            console.note(format_args!("{crossed} of {} rows cross a threshold", comparison.rows.len()));
            return Ok(1);
        }
        Ok(0)
    }
}
