//! `replay`: a trace through the scheme.

use super::overrides::Configuration;
use super::replay_text;
use super::work::{Work, advance, on_threads};
use crate::export::{self, Format};
use crate::output::{ResultsDir, units};
use crate::partition::{Partition, PartitionDir, Share};
use crate::replay::Replay as Replaying;
use crate::request::{Errors, Measures};
use crate::results;
use anyhow::Result;
use clap::{Args, ValueEnum};
use mercury_cli::Messages;
use mercury_trace::Trace;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Replay a trace: similarity, output error and cycles per layer, pass and step.
///
/// Results go to a folder: run.json, layers.parquet, models.parquet, configurations.parquet, angles.parquet. The table
/// for people sums passes and the steps after the trial (`stop.window`), in which layers that do not pay are switched
/// off. JSON and CSV print the rows of layers.parquet, of all steps; column `trial` tells them apart.
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
    /// Replay one of N parts alone, for `merge` to put together: --partition 1/3 to 3/3, each with a folder of its
    /// own. One that was stopped goes on when it is run again.
    #[arg(long, value_name = "I/N", conflicts_with = "format")]
    partition: Option<Share>,
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
        let configs = [config];
        let run = results::run_text(&trace, &configs, &measures, self.work.label.as_deref())?;
        let replay = Replaying::new(&trace, &configs, &measures)?.with_limit(self.work.limit())?;
        if let Some(share) = self.partition {
            return replay_partition(&replay, share, run, &self.out, self.work.threads, messages);
        }
        let target = ResultsDir::claim(&self.out, &run)?;
        let units = replay.units();
        let progress = messages.progress(units.len(), "replaying", "layers");
        let results = on_threads(self.work.threads, || {
            let results = units::run(&replay, units, &target.units(), |unit| advance(&progress, unit))?;
            Ok(replay.finish(results))
        })?;
        progress.finish();

        target.write(&run, trace.layers().len(), &results)?;
        if self.work.format == Format::Table {
            let text = replay_text::text(&trace, &configs[0], &results, &self.out);
            std::io::stdout().write_all(text.as_bytes())?;
            Ok(())
        } else {
            export::print(&results::layers_frame(&results)?, self.work.format)
        }
    }
}

/// Replays the units of one partition, and keeps their results.
fn replay_partition(
    replay: &Replaying,
    share: Share,
    run: String,
    out: &Path,
    threads: Option<u16>,
    messages: Messages,
) -> Result<()> {
    let (partition, units) = Partition::new(share, replay, run);
    let (count, all) = (units.len(), partition.units_in_all);
    let dir = PartitionDir::open(out, partition)?;
    if dir.is_complete() {
        messages.note(format_args!("{} is complete; nothing is replayed", out.display()));
        return Ok(());
    }
    let progress = messages.progress(count, "replaying", "layers");
    on_threads(threads, || Ok(units::run(replay, units, &dir.units(), |unit| advance(&progress, unit))?))?;
    progress.finish();
    dir.finish()?;
    messages.note(format_args!(
        "partition {share}: {count} of {all} layers of captured steps; when all are done: mercury-analyzer merge {} … --out DIR",
        out.display()
    ));
    Ok(())
}
