//! Flags that `replay` and `sweep` share: the selected part of the trace, threads, memory, labels.

use crate::config::Config;
use crate::error::{AnalyzerError, Result as AnalyzerResult};
use crate::export::Format;
use crate::layer_settings::format_setting;
use crate::replay::Limit;
use crate::request::{ErrorMode, Selection, Unit};
use crate::sweep::seeds;
use anyhow::{Context, Result};
use clap::Args;
use mercury_cli::{Progress, flag, parse_bytes};
use mercury_trace::geometry::Pass;
use mercury_trace::manifest::parse_label;

/// Flags that `replay` and `sweep` share.
#[derive(Debug, Args)]
pub struct Work {
    /// Worker threads [default: one per core]. Results do not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Memory limit, such as 500MB or 2GiB. Fewer samples of a layer are evaluated at a time to
    /// stay below it; a layer for which that does not suffice is an error. Results do not depend on
    /// it.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    memory_limit: Option<u64>,
    /// Name of the results in `report` and `compare` [default: their differences from the other
    /// results].
    #[arg(long, value_name = "TEXT", value_parser = parse_label)]
    pub label: Option<String>,
    /// Output errors to compute. `sampled` evaluates output positions until sampling alone makes the 95 % interval no wider
    /// than 2 % of the error to either side, `rough` 5 %; `all` evaluates every captured output. [default: sampled; of
    /// `search`: rough]
    #[arg(long, value_enum, value_name = "WHICH", hide_default_value = true)]
    errors: Option<ErrorMode>,
    /// Evaluate N projections in one pass, with the seeds rpq.seed, rpq.seed + 1 and so on. Intervals then cover captured
    /// samples and projections; otherwise they cover samples alone.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub seeds: u32,
    /// What to print.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    pub chosen: Chosen,
}

impl Work {
    /// The configurations with as many projections as asked for.
    pub fn with_seeds(&self, configs: &[Config]) -> AnalyzerResult<Vec<Config>> {
        seeds::with_seeds(configs, self.seeds).map_err(|reason| AnalyzerError::Flag { flag: "--seeds", reason })
    }

    /// The flags that change results.
    pub fn list_flags(&self) -> Vec<String> {
        let mut flags: Vec<String> = Vec::new();
        flags.extend(self.errors.map(|errors| format!("--errors {}", format_setting(&errors))));
        flags.extend((self.seeds > 1).then(|| format!("--seeds {}", self.seeds)));
        flags.extend(self.label.as_ref().map(|label| flag("label", label)));
        flags.extend(self.chosen.list_flags());
        flags
    }

    /// The errors to compute, or else these.
    pub fn errors_or(&self, default: ErrorMode) -> ErrorMode {
        self.errors.unwrap_or(default)
    }

    /// The errors to compute.
    pub fn errors(&self) -> ErrorMode {
        self.errors_or(ErrorMode::default())
    }

    /// The memory limit of the replay.
    pub fn limit(&self) -> Limit {
        self.memory_limit.map_or_else(Limit::default, Limit::Bytes)
    }
}

/// Flags that select a part of the trace.
#[derive(Debug, Args)]
pub struct Chosen {
    /// Replay only these layers, by name or by pattern such as 'features.*'.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    layers: Vec<String>,
    /// Replay only these captured steps, by number or by range such as 100..=500. With --steps or
    /// --passes no layer is switched off (stop.window).
    #[arg(long, value_delimiter = ',', value_name = "STEPS")]
    steps: Vec<String>,
    /// Replay only these passes: forward, input-grad, weight-grad.
    #[arg(long, value_delimiter = ',', value_name = "PASSES", value_parser = parse_pass)]
    passes: Vec<Pass>,
}

impl Chosen {
    /// The flags that were given.
    pub fn list_flags(&self) -> Vec<String> {
        let Self { layers, steps, passes } = self;
        let passes: Vec<String> = passes.iter().map(|pass| pass.name().to_owned()).collect();
        let mut flags = Vec::new();
        for (name, values) in [("layers", layers), ("steps", steps), ("passes", &passes)] {
            if !values.is_empty() {
                flags.push(flag(name, &values.join(",")));
            }
        }
        flags
    }

    /// Parses the flags into a selection.
    pub fn selection(&self) -> AnalyzerResult<Selection> {
        Selection::new(self.layers.clone(), &self.steps, self.passes.clone())
    }
}

/// Parses a pass by its name.
pub fn parse_pass(name: &str) -> Result<Pass, String> {
    let known = Pass::ALL.into_iter().find(|pass| pass.name() == name);
    known.ok_or_else(|| format!("choose one of {}", Pass::ALL.map(Pass::name).join(", ")))
}

/// Does the work on this many threads, or on one per core if `threads` is not given.
pub fn on_threads<T: Send>(threads: Option<u16>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let threads = threads.map_or(0, usize::from);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("--threads")?.install(work)
}

/// Shows the unit that begins in the progress display.
pub fn advance(progress: &Progress, unit: &Unit) {
    progress.advance(1, format_args!("step {}, {}", unit.step.step, unit.layer.name));
}
