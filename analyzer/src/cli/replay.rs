//! `replay`: a trace under one configuration.

use super::console::Console;
use super::overrides::Configuration;
use super::replay_notes::warn_of_scopes;
use super::replay_text;
use super::work::{Work, advance, on_threads};
use crate::export::Format;
use crate::output::{ResultsDir, units};
use crate::partition::{Partition, PartitionDir, Share};
use crate::replay::Replay as Replaying;
use crate::request::Measures;
use crate::results;
use anyhow::Result;
use clap::{Args, ValueEnum};
use mercury_trace::Trace;
use std::path::{Path, PathBuf};

/// Replay a trace: similarity, output error and cycles per layer, pass and step.
///
/// The results are written to a folder: run.json, layers.parquet, models.parquet,
/// configurations.parquet, designs.parquet, angles.parquet. The printed table sums all passes over the steps after
/// the trial (`stop.window`). In these steps, layers in which reuse does not save cycles are
/// switched off. JSON and CSV print the rows of layers.parquet, for all steps; column `trial` marks
/// the trial.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mercury-analyzer replay trace --out results --rpq.bits 32\n  \
                        mercury-analyzer replay trace --out results --config my.toml --layers 'features.*'")]
pub struct Replay {
    /// Folder of the trace.
    trace: PathBuf,
    /// Folder for the results; must be empty or missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    work: Work,
    /// What else to measure. `bounds`: upper bounds on reuse, and competing methods, on the same
    /// vectors (unlimited MCACHE, exact duplicates, ideal cosine similarity, zeros, weight repetition,
    /// predicted collisions).
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    with: Vec<With>,
    /// Replay only the I-th of N partitions, each with its own --out; `merge` combines them. A
    /// partition that was stopped continues when the command is run again.
    #[arg(long, value_name = "I/N", conflicts_with = "format")]
    partition: Option<Share>,
    #[command(flatten)]
    configuration: Configuration,
}

/// Measures that take time and are left out by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum With {
    /// Upper bounds on reuse, and competing methods.
    Bounds,
}

impl Replay {
    /// Replays the trace, writes the results and prints them.
    pub fn run(self, console: Console) -> Result<()> {
        let config = self.configuration.resolve()?;
        let bounds = self.with.contains(&With::Bounds);
        let measures = Measures { selection: self.work.chosen.selection()?, errors: self.work.errors(), bounds };
        let trace = Trace::open(&self.trace)?;
        let configs = self.work.with_seeds(&[config])?;
        let run = results::run_text(&trace, &configs, &measures, self.work.label.as_deref())?;
        let replay =
            Replaying::new(&trace, &configs, &measures)?.with_stop(console.stop()).with_limit(self.work.limit())?;
        if let Some(share) = self.partition {
            return replay_partition(&replay, share, run, &self.out, self.work.threads, "merge", console);
        }
        let target = ResultsDir::claim(&self.out, &run)?;
        let units = replay.units();
        let progress = console.progress(units.len(), "replaying", "layers");
        let results = on_threads(self.work.threads, || {
            let results = units::run(&replay, units, &target.units(), |unit| advance(&progress, unit))?;
            Ok(replay.finish(results))
        })?;
        progress.finish();

        target.write(&run, trace.layers().len(), &configs, &results)?;
        if let Some(warning) = warn_of_scopes(&configs[0], &trace, &results) {
            console.warn(format_args!("{warning}"));
        }
        if self.work.format == Format::Table {
            let text = replay_text::format_replay(&trace, &configs, &measures, &results, &self.out);
            console.print(&text)?;
            Ok(())
        } else {
            console.print_table(&results::layers_frame(&results)?, self.work.format)
        }
    }
}

/// Replays the units of one partition and stores their results, which `combine` puts together.
pub(super) fn replay_partition(
    replay: &Replaying,
    share: Share,
    run: String,
    out: &Path,
    threads: Option<u16>,
    combine: &str,
    console: Console,
) -> Result<()> {
    let (partition, units) = Partition::new(share, replay, run);
    let (count, all) = (units.len(), partition.units_in_all);
    let dir = PartitionDir::open(out, partition)?;
    if dir.is_complete() {
        console.note(format_args!("{} is already complete; nothing is replayed", out.display()));
        return Ok(());
    }
    let progress = console.progress(count, "replaying", "layers");
    on_threads(threads, || Ok(units::run(replay, units, &dir.units(), |unit| advance(&progress, unit))?))?;
    progress.finish();
    dir.finish()?;
    console.note(format_args!(
        "partition {share}: {count} of {all} layers of captured steps; when all partitions are done: mercury-analyzer {combine} {} … --out DIR",
        out.display()
    ));
    Ok(())
}
