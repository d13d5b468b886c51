//! `search`: the design that pays most within an error that one accepts.

use super::console::Console;
use super::overrides::{Configuration, KEYS};
use super::work::{Work, advance, on_threads};
use super::{search_accuracy, search_text};
use crate::error::{AnalyzerError, Result as AnalyzerResult};
use crate::export::Format;
use crate::partition::{Share, merge};
use crate::replay::Replay;
use crate::request::{ErrorMode, Measures};
use crate::results;
use crate::search::accuracy_curve::AccuracyCurve;
use crate::search::bound::{Bound, BoundKind, ErrorKind, Objective};
use crate::search::evidence::Folds;
use crate::search::found::Found;
use crate::search::outcome::{Question, ReadingOutcome};
use crate::search::space::{Searched, Space, Start};
use crate::search::store::{Evaluation, SearchDir};
use crate::search::{Axes, tables};
use crate::sweep::grid::Axis;
use anyhow::Result;
use clap::Args;
use mercury_cli::flag;
use mercury_trace::Trace;
use mercury_trace::geometry::Pass;
use rayon::prelude::*;
use std::path::PathBuf;

/// Search for the settings of each layer that pay most within an error.
///
/// Every setting is replayed on every layer, in one pass over the trace. A design then has, for each layer, the setting
/// that costs least within the bounds; a layer without one runs without reuse. The output compares it with the best
/// single setting for all layers, and with the settings as they are configured.
///
/// The best of many looks better on the data that it was chosen by. So the printed figures are judged: settings are chosen
/// by some captured steps and judged by the others (by samples, if there is one step).
///
/// Without a configuration the search covers the readings that presets name (mercury, mercury-skip, mercury-ahead), and
/// the bound. Signatures do not grow and no layer is switched off by its cycles, so that a replay of the design takes the
/// promised cycles.
///
/// Files in the folder: best.toml for `--config` of `replay` and `--reuse` of `mercury-tracer`, one such file per reading,
/// choices.parquet (a row per layer and pass), frontier.parquet (speed-up by bound), and tables as from `sweep` of the
/// designs that were found. All results are kept: the same search with other bounds or another objective replays nothing,
/// and one that was stopped continues.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mercury-analyzer search trace --out search --bound 'layer-error<=0.1'\n  \
                        mercury-analyzer search trace --out search --bound 'step-error<=5%' --bound 'loss-change<=0.01' \
                        --preset mercury-skip --per-layer rpq.bits=12..=48:4 --per-layer rpq.variant=sign,sign+rescale\n  \
                        mercury-analyzer search trace --out search --bound 'accuracy-loss<=1'\n  \
                        mercury-analyzer search trace --out search --shared mcache.entries=256,1024,4096 --objective edp")]
pub struct Search {
    /// Folder of the trace.
    trace: PathBuf,
    /// Folder for the results: empty, missing, or begun by the same search.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A key that each layer chooses for itself, and its values: KEY=A,B,FIRST..=LAST:STEP. May be repeated for other
    /// keys [default: rpq.variant=sign,sign+rescale,centred, rpq.bits=12,20,28,36,44,52 and, if the reading cuts
    /// patches of one channel, rpq.granularity=channel-patch,channel-patch(auto)].
    #[arg(long, value_name = "KEY=VALUES", value_parser = parse_axis)]
    per_layer: Vec<Axis>,
    /// A key that all layers share, and its values. Each combination is a reading with a design of its own. May be
    /// repeated.
    #[arg(long, value_name = "KEY=VALUES", value_parser = parse_axis)]
    shared: Vec<Axis>,
    /// The quantity that a design minimises, over the chosen steps.
    #[arg(long, value_enum, default_value_t)]
    objective: Objective,
    /// The most error of a design: `layer-error` (of each layer and pass), `step-error` (root mean square of these),
    /// `gradient-error` (of all weight gradients together), `loss-change` (nats; the sum of the layers' upper 95 %
    /// limits). Or the most accuracy that training loses: `accuracy-loss` (percentage points; 1 and 1% are one point),
    /// which a calibration turns into a step error. May be repeated: all are kept.
    #[arg(long, value_name = "KIND<=X", default_value = "layer-error<=0.1")]
    bound: Vec<Bound>,
    /// The accuracy loss of training over the step error, by a calibration of your own: CSV with the columns
    /// `step_error`, `accuracy_loss`, `upper` [default: the built-in curve].
    #[arg(long, value_name = "FILE")]
    accuracy_curve: Option<PathBuf>,
    /// Parts of the trace by which designs are judged: captured steps, or samples if there is one step; 0 judges nothing
    /// [default: one for each step, at most 5; 2 of samples].
    #[arg(long, value_name = "N")]
    folds: Option<usize>,
    /// Evaluate only the I-th of N partitions, each with its own --out, which --parts combines.
    #[arg(long, value_name = "I/N", conflicts_with_all = ["format", "parts"])]
    partition: Option<Share>,
    /// Take the results of these partitions, or of folders that contain them.
    #[arg(long, value_name = "DIR", value_delimiter = ',', num_args = 1..)]
    parts: Vec<PathBuf>,
    #[command(flatten)]
    work: Work,
    #[command(flatten)]
    configuration: Configuration,
}

fn parse_axis(text: &str) -> Result<Axis, String> {
    Axis::parse(text, KEYS.iter().map(|&(key, ..)| key).filter(|key| !key.starts_with("bounds.")))
}

impl Search {
    /// Begins or continues the search, and prints what it found.
    pub fn run(mut self, console: Console) -> Result<()> {
        let command = self.format_command();
        let bounds = std::mem::take(&mut self.bound);
        let selection = self.work.chosen.list_flags().join(" ");
        let curve =
            self.accuracy_curve.as_deref().map_or_else(|| Ok(AccuracyCurve::built_in()), AccuracyCurve::read)?;
        let question = Question { objective: self.objective, bounds, curve, command, selection };
        let trace = Trace::open(&self.trace)?;
        let sampling = &trace.manifest().sampling;
        let measures = Measures {
            selection: self.work.chosen.selection()?,
            errors: self.work.errors_or(ErrorMode::Rough),
            bounds: false,
        };
        let searched = Searched {
            has_all_channels: sampling.channels.is_empty() && sampling.grad_channels.is_empty(),
            passes: Pass::ALL.into_iter().filter(|pass| measures.selection.pass(*pass)).collect(),
        };
        let space = Space::new(&self.start()?, &self.axes(), self.work.seeds, &searched)?;
        if self.configuration.sets_sections(&["stop", "bits"])? {
            console.note(
                "a design is the same in all steps: stop.window = 0 and bits.patience = 0 replace those of the file",
            );
        }
        if let Some((count, reason)) = &space.left_out {
            console.note(format_args!("{count} invalid combinations are left out; the first: {reason}"));
        }
        check_bounds(&question.bounds, &space, &measures, &trace)?;
        search_accuracy::check_bound(&question, console)?;
        let configs = space.configs()?;
        let run = results::run_text(&trace, &configs, &measures, self.work.label.as_deref())?;
        let replay = || Ok(Replay::new(&trace, &configs, &measures)?.with_stop(console.stop()));
        let steps: Vec<_> =
            trace.manifest().captured.iter().filter(|step| measures.selection.step(step.step)).collect();
        let folds = Folds::new(&steps, self.folds)?;
        if let Some(share) = self.partition {
            return self.evaluate_partition(share, &replay()?.with_limit(self.work.limit())?, &folds, run, console);
        }
        let dir = SearchDir::open(&self.out, &run, &folds)?;
        let evaluations = Evaluation::list(replay, &folds, self.work.limit())?;
        self.adopt_partitions(&dir, &evaluations[0], &run)?;
        let units = evaluations.iter().map(|evaluation| evaluation.replay.units().len()).sum();
        let progress = console.progress(units, "replaying", "layers");
        let evidence = on_threads(self.work.threads, || {
            Ok(dir.evaluate(&space, &evaluations, &folds, |unit| advance(&progress, unit))?)
        })?;
        progress.finish();
        let layers = trace.layers();
        let find = |number| ReadingOutcome::find(&evidence, &space, number, layers, &question);
        let numbers = 0..space.readings.len();
        let outcomes: Vec<ReadingOutcome> =
            on_threads(self.work.threads, || Ok(numbers.into_par_iter().map(find).collect()))?;
        let found =
            Found { trace: &trace, space: &space, question: &question, folds: &folds, evidence: &evidence, outcomes };
        found.check_any()?;
        search_accuracy::compare_with_earlier(dir.read_curve().as_ref(), &question, console);
        found.write(&dir, &evaluations[0], &measures, self.work.label.as_deref())?;
        search_accuracy::judge_design(&found, console);
        if self.work.format == Format::Table {
            let text = search_text::format_search(&found, &self.trace, &self.out);
            console.print(&text)?;
            return Ok(());
        }
        console.print_table(&tables::build_frontier(&found.outcomes, &question)?, self.work.format)
    }

    fn start(&self) -> Result<Start> {
        let is_chosen = self.configuration.is_chosen();
        let (origin, table, overrides) = self.configuration.clone().parts()?;
        Ok(Start { origin, table, overrides, is_chosen })
    }

    /// The command without what does not change its results.
    fn format_command(&self) -> String {
        let mut words = vec!["mercury-analyzer search TRACE --out SEARCH".to_owned()];
        let format_axis = |axis: &Axis| format!("{}={}", axis.key, axis.values.join(","));
        words.extend(self.per_layer.iter().map(|axis| flag("per-layer", &format_axis(axis))));
        words.extend(self.shared.iter().map(|axis| flag("shared", &format_axis(axis))));
        words.push(format!("--objective {}", self.objective.name()));
        words.extend(self.bound.iter().map(|bound| flag("bound", &bound.to_string().replace(' ', ""))));
        words.extend(self.accuracy_curve.iter().map(|path| flag("accuracy-curve", &path.display().to_string())));
        words.extend(self.folds.map(|folds| format!("--folds {folds}")));
        words.extend(self.configuration.list_flags());
        words.extend(self.work.list_flags());
        words.join(" ")
    }

    fn axes(&self) -> Axes {
        Axes { shared: self.shared.clone(), per_layer: self.per_layer.clone() }
    }

    fn evaluate_partition(
        &self,
        share: Share,
        replay: &Replay,
        folds: &Folds,
        run: String,
        console: Console,
    ) -> Result<()> {
        if let Folds::Samples(_) = folds {
            let reason = "a trace of one step is judged by folds of its samples, which partitions do not have; capture more \
                          steps, or give --folds 0";
            return Err(AnalyzerError::Flag { flag: "--partition", reason: reason.to_owned() }.into());
        }
        super::replay::replay_partition(replay, share, run, &self.out, self.work.threads, "search … --parts", console)
    }

    /// Takes over the results of partitions.
    fn adopt_partitions(&self, dir: &SearchDir, evaluation: &Evaluation, run: &str) -> AnalyzerResult<()> {
        if self.parts.is_empty() {
            return Ok(());
        }
        let merged = merge::read(&self.parts)?;
        if merged.run != run {
            let reason = "are of another search; give the same trace, readings, settings, seeds and label".to_owned();
            return Err(AnalyzerError::Flag { flag: "--parts", reason });
        }
        dir.adopt(&evaluation.replay, &merged.results)
    }
}

/// Refuses bounds that contradict each other, or the candidates.
fn check_bounds(bounds: &[Bound], space: &Space, measures: &Measures, trace: &Trace) -> AnalyzerResult<()> {
    let fail = |reason: String| Err(AnalyzerError::Flag { flag: "--bound", reason });
    let is_partial =
        |bound: &Bound| matches!(bound.kind, BoundKind::Error(ErrorKind::GradientError | ErrorKind::LossChange));
    if bounds.iter().all(is_partial) {
        let kind = bounds[0].kind.name();
        return fail(format!(
            "{kind} does not limit all passes; add layer-error or step-error, which limit each of them"
        ));
    }
    for (number, bound) in bounds.iter().enumerate() {
        let kind = bound.kind.name();
        if bounds[..number].iter().any(|other| other.kind == bound.kind) {
            return fail(format!("{kind} is given twice; leave one out"));
        }
        if measures.errors.is_none() {
            return fail(format!("{bound} needs errors, which --errors none leaves out"));
        }
        let needed = match bound.kind {
            BoundKind::Error(ErrorKind::GradientError) => Pass::WeightGrad,
            BoundKind::Error(ErrorKind::LossChange) => Pass::Forward,
            BoundKind::Error(ErrorKind::LayerError | ErrorKind::StepError) | BoundKind::AccuracyLoss => continue,
        };
        if !measures.selection.pass(needed) || !space.candidates().any(|candidate| candidate.reuses(needed)) {
            return fail(format!("{kind} is an error of {needed}, which no setting reuses; choose another bound"));
        }
        let has_all = trace.layers().iter().all(|layer| measures.selection.layer(&layer.name));
        if bound.kind == BoundKind::Error(ErrorKind::LossChange) && !has_all {
            return fail(format!("{kind} is that of all layers, but --layers leaves some out"));
        }
    }
    Ok(())
}
