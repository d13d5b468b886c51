//! `replay`: a trace through the scheme.

use super::overrides::Configuration;
use super::report;
use crate::export::{self, Format};
use crate::replay;
use crate::results::{self, ResultsDir};
use anyhow::{Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use mercury_trace::Trace;
use std::io::Write;
use std::path::PathBuf;

/// Replay a trace: similarity, output error and cycles per layer, pass and step.
///
/// Results go to a folder: run.json, layers.parquet, models.parquet. A table for people adds up
/// passes and steps; JSON and CSV print the rows of layers.parquet.
///
/// Example: mercury-analyzer replay trace --out results --rpq.bits 32
#[derive(Debug, Args)]
pub struct Replay {
    /// The trace's folder.
    trace: PathBuf,
    /// Folder for the results; must be empty or missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Worker threads [default: one a core]. Results do not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// What to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    configuration: Configuration,
}

impl Replay {
    /// Replays, writes the results, prints them.
    pub fn run(self) -> Result<()> {
        let config = self.configuration.resolve()?;
        let trace = Trace::open(&self.trace)?;
        let target = ResultsDir::claim(&self.out)?;
        let threads = self.threads.map_or(0, usize::from);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("--threads")?;

        let manifest = trace.manifest();
        let layers = manifest.captured.iter().map(|step| step.tensors.len() as u64).sum::<u64>() / 3;
        let bar = ProgressBar::new(layers).with_prefix("replaying");
        let style = "{prefix} {wide_bar} {pos}/{len} layers, {msg} (left: {eta})";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is well-formed"));
        let results = pool.install(|| {
            replay::replay(&trace, &config, |step, layer| {
                bar.set_message(format!("step {step}, {layer}"));
                bar.inc(1);
            })
        })?;
        bar.finish_and_clear();

        target.write(&trace, &config, &results)?;
        if self.format == Format::Table {
            let text = report::text(&trace, &config, &results, &self.out);
            std::io::stdout().write_all(text.as_bytes())?;
            Ok(())
        } else {
            export::print(&mut results::layers_frame(&results)?, self.format)
        }
    }
}
