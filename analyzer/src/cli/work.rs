//! What the commands that replay have in common: which part of a trace, on how many threads.

use crate::error::Result as AnalyzerResult;
use crate::export::Format;
use crate::replay::Limit;
use crate::request::{ErrorMode, Selection, Unit};
use anyhow::{Context, Result};
use clap::Args;
use mercury_cli::{Progress, parse_bytes};
use mercury_trace::geometry::Pass;
use mercury_trace::manifest::parse_label;

/// What is replayed, how, and what of it is shown.
#[derive(Debug, Args)]
pub struct Work {
    /// Worker threads [default: one a core]. Results do not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Most memory, such as 500MB or 2GiB: fewer samples of a layer are evaluated at a time where they would take
    /// more. Results do not depend on it; a layer that cannot be evaluated in it is an error.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    memory_limit: Option<u64>,
    /// What to call the results in `report` and `compare` [default: what they differ in from others].
    #[arg(long, value_name = "TEXT", value_parser = parse_label)]
    pub label: Option<String>,
    /// Output errors to compute. `sampled` evaluates output positions until sampling alone makes the 95 % interval no wider
    /// than 2 % of the error to either side; `all` evaluates every captured output.
    #[arg(long, value_enum, default_value_t, value_name = "WHICH")]
    pub errors: ErrorMode,
    /// What to print.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    pub chosen: Chosen,
}

impl Work {
    /// How much may be in memory.
    pub fn limit(&self) -> Limit {
        self.memory_limit.map_or_else(Limit::default, Limit::Bytes)
    }
}

/// A part of the trace.
#[derive(Debug, Args)]
pub struct Chosen {
    /// Only these layers, by name or pattern such as 'features.*'.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    layers: Vec<String>,
    /// Only these captured steps, by number or range such as 100..=500. With this or --passes no layer is
    /// switched off (stop.window).
    #[arg(long, value_delimiter = ',', value_name = "STEPS")]
    steps: Vec<String>,
    /// Only these passes: forward, input-grad, weight-grad.
    #[arg(long, value_delimiter = ',', value_name = "PASSES", value_parser = parse_pass)]
    passes: Vec<Pass>,
}

impl Chosen {
    /// The selection that it comes to.
    pub fn selection(&self) -> AnalyzerResult<Selection> {
        Selection::new(self.layers.clone(), &self.steps, self.passes.clone())
    }
}

/// A pass by its name.
pub fn parse_pass(name: &str) -> Result<Pass, String> {
    let known = Pass::ALL.into_iter().find(|pass| pass.name() == name);
    known.ok_or_else(|| format!("choose one of {}", Pass::ALL.map(Pass::name).join(", ")))
}

/// Does the work on so many threads; one a core if it is not said.
pub fn on_threads<T: Send>(threads: Option<u16>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let threads = threads.map_or(0, usize::from);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("--threads")?.install(work)
}

/// Shows the layer that is begun.
pub fn advance(progress: &Progress, unit: &Unit) {
    progress.advance(1, format_args!("step {}, {}", unit.step.step, unit.layer.name));
}
