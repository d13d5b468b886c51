//! `replay`: a trace through the scheme.

use super::messages::Messages;
use super::overrides::Configuration;
use super::replay_text;
use super::work::{Work, on_threads};
use crate::export::{self, Format};
use crate::replay::{Errors, Measures, Replay as Replaying, Unit};
use crate::results::{self, ResultsDir};
use anyhow::Result;
use clap::{Args, ValueEnum};
use mercury_trace::Trace;
use std::io::Write;
use std::path::PathBuf;

/// Replay a trace: similarity, output error and cycles per layer, pass and step.
///
/// Results go to a folder: run.json, layers.parquet, models.parquet, configurations.parquet, angles.parquet. A table
/// for people adds up passes and steps; JSON and CSV print the rows of layers.parquet.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mercury-analyzer replay trace --out results --rpq.bits 32\n  \
                        mercury-analyzer replay trace --out results --config my.toml --layers 'features.*'")]
pub struct Replay {
    /// The trace's folder.
    trace: PathBuf,
    /// Folder for the results; must be empty or missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    work: Work,
    /// What to leave out of the results.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    without: Vec<Without>,
    #[command(flatten)]
    configuration: Configuration,
}

/// What takes time beside outcomes and cycles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Without {
    /// Output errors.
    Errors,
    /// Bounds and competitors: unlimited MCACHE, exact duplicates, ideal cosine similarity, zeros, weight
    /// repetition, predicted collisions.
    Bounds,
}

impl Replay {
    /// Replays, writes the results, prints them.
    pub fn run(self, messages: Messages) -> Result<()> {
        let config = self.configuration.resolve()?;
        let errors = if self.without.contains(&Without::Errors) { Errors::None } else { Errors::Exact };
        let bounds = !self.without.contains(&Without::Bounds);
        let measures = Measures { selection: self.work.chosen.selection()?, errors, bounds };
        let trace = Trace::open(&self.trace)?;
        let target = ResultsDir::claim(&self.out)?;
        let configs = [config];
        let results = on_threads(self.work.threads, || {
            let replay = Replaying::new(&trace, &configs, &measures)?;
            let units = replay.units();
            let bar = messages.progress_bar(units.len());
            let mut results = Vec::new();
            let begin = |unit: &Unit| bar.set_message(format!("step {}, {}", unit.step.step, unit.layer.name));
            replay.run(&units, begin, |_, of_unit| {
                results.extend(of_unit);
                bar.inc(1);
                Ok(())
            })?;
            bar.finish_and_clear();
            Ok(replay.finish(results))
        })?;

        target.write(&trace, &configs, &measures, &results)?;
        if self.work.format == Format::Table {
            let text = replay_text::text(&trace, &configs[0], &results, &self.out);
            std::io::stdout().write_all(text.as_bytes())?;
            Ok(())
        } else {
            export::print(&mut results::layers_frame(&results)?, self.work.format)
        }
    }
}
