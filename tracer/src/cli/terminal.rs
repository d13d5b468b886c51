//! Shows a run on the terminal.

use crate::checkpoint;
use crate::evaluate::Evaluator;
use crate::optimizer::Optimizer;
use crate::reuse::InLoop;
use crate::train::Observer;
use crate::weights::Weights;
use anyhow::Result;
use mercury_cli::{Messages, Progress};
use mercury_trace::evaluations::Evaluation;
use mercury_trace::manifest::Manifest;
use mercury_trace::steps::Step;
use std::collections::VecDeque;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Shows a run's progress on stderr and its results on stdout.
pub struct Terminal<'a> {
    messages: Messages,
    progress: Progress,
    samples: usize,
    checkpoint: PathBuf,
    weights: &'a Weights,
    /// Loss and accuracy of the most recent steps.
    recent: VecDeque<[f64; 2]>,
}

/// Number of steps over which loss and accuracy are averaged.
const RECENT: usize = 20;

impl<'a> Terminal<'a> {
    /// Shows a run of these steps with this many samples each.
    pub fn new(
        messages: Messages,
        steps: Range<u64>,
        samples: usize,
        checkpoint: PathBuf,
        weights: &'a Weights,
    ) -> Self {
        let progress = messages.progress(steps.end as usize, "training", "steps");
        progress.start_at(steps.start);
        Self { messages, progress, samples, checkpoint, weights, recent: VecDeque::new() }
    }

    /// Evaluates the model after its last step.
    pub fn validate(
        &mut self,
        evaluator: &Evaluator,
        steps: u64,
        reuse: &InLoop,
    ) -> crate::error::Result<Vec<Evaluation>> {
        self.progress.finish();
        reuse.evaluate(steps, |tap, activity| {
            self.progress = self.messages.progress(evaluator.samples, activity, "samples");
            let evaluations = evaluator.run(steps, tap, |samples| self.progress.advance(samples as u64, ""));
            self.progress.finish();
            evaluations
        })
    }

    /// Prints the results of the run.
    pub fn report(&self, out: &Path, manifest: &Manifest, evaluations: &[Evaluation], reuse: &InLoop) -> Result<()> {
        let mut stdout = std::io::stdout();
        let (model, dataset) = (&manifest.model.name, &manifest.dataset.name);
        let [loss, accuracy] = self.recent_means();
        writeln!(
            stdout,
            "{model} on {dataset}: loss {loss:.3}, training accuracy {:.1} % (last steps' mean)",
            100.0 * accuracy
        )?;
        if !evaluations.is_empty() {
            let metrics: Vec<String> = evaluations.iter().map(format_metric).collect();
            let samples = manifest.dataset.validation_samples;
            writeln!(stdout, "validation: {} on {samples} samples", metrics.join(", "))?;
        }
        if let Some(session) = &reuse.training {
            let off = session.switched_off().iter();
            let layers: Vec<String> = off.map(|(step, layer)| format!("{layer} (step {step})")).collect();
            let layers = if layers.is_empty() { "none".to_owned() } else { layers.join(", ") };
            writeln!(stdout, "layers switched off, because reuse cost cycles (stop.window): {layers}")?;
        }
        let files = manifest.captured.iter().flat_map(|step| &step.tensors);
        let bytes: u64 = files.map(|file| file.bytes).sum();
        let count = manifest.captured.len();
        writeln!(stdout, "trace {}: {count} steps captured, {:.1} MB", out.display(), bytes as f64 / 1e6)?;
        Ok(())
    }

    /// Means of loss and accuracy over the most recent steps.
    fn recent_means(&self) -> [f64; 2] {
        let count = self.recent.len().max(1) as f64;
        [0, 1].map(|which| self.recent.iter().map(|values| values[which]).sum::<f64>() / count)
    }
}

impl Observer for Terminal<'_> {
    fn show_step(&mut self, step: &Step) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back([step.loss, step.accuracy]);
        let rate = self.samples as f64 / step.seconds;
        let (loss, accuracy) = (step.loss, 100.0 * step.accuracy);
        let message = format_args!("loss {loss:.3}, accuracy {accuracy:.0} %, {rate:.0} samples/s");
        self.progress.set(step.step + 1, message);
    }

    fn show_validated(&mut self, _: usize) {
        self.progress.advance(0, "evaluating");
    }

    fn show_notice(&mut self, message: &str) {
        self.progress.print(format_args!("warning: {message}"));
    }

    fn write_checkpoint(&mut self, steps_done: u64, optimizer: &Optimizer) -> crate::error::Result<()> {
        checkpoint::save(&self.checkpoint, self.weights, optimizer, steps_done)
    }
}

fn format_metric(row: &Evaluation) -> String {
    let Evaluation { metric, value, .. } = row;
    let (prefix, metric) = match metric.strip_prefix("reuse_") {
        Some(metric) => ("with reuse: ", metric),
        None => ("", metric.as_str()),
    };
    match metric {
        "top1" | "top5" | "token_accuracy" => {
            format!("{prefix}{} {:.1} %", metric.replace('_', " "), 100.0 * value)
        }
        "bleu" => format!("{prefix}BLEU {value:.1} ({} sentences)", row.samples),
        _ => format!("{prefix}{metric} {value:.3}"),
    }
}
