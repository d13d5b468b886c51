//! A run as the terminal shows it.

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

/// Shows a run's progress on stderr, where that is a terminal, and what came of it on stdout.
pub struct Terminal<'a> {
    messages: Messages,
    progress: Progress,
    samples: usize,
    checkpoint: PathBuf,
    weights: &'a Weights,
    /// Loss and accuracy of the last steps.
    recent: VecDeque<[f64; 2]>,
}

/// Steps that a mean is taken over.
const RECENT: usize = 20;

impl<'a> Terminal<'a> {
    /// For a run of these steps, of so many samples each.
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

    /// Measures the model after its last step.
    pub fn validate(
        &mut self,
        evaluator: &Evaluator,
        steps: u64,
        reuse: &InLoop,
    ) -> crate::error::Result<Vec<Evaluation>> {
        self.progress.finish();
        reuse.evaluate(steps, |tap, doing| {
            self.progress = self.messages.progress(evaluator.samples, doing, "samples");
            let evaluations = evaluator.run(steps, tap, |samples| self.progress.advance(samples as u64, ""));
            self.progress.finish();
            evaluations
        })
    }

    /// Prints what came of the run.
    pub fn report(&self, out: &Path, manifest: &Manifest, evaluations: &[Evaluation], reuse: &InLoop) -> Result<()> {
        let bytes: u64 = manifest.captured.iter().flat_map(|step| &step.tensors).map(|file| file.bytes).sum();
        let mut stdout = std::io::stdout();
        let mean = |which: usize| {
            self.recent.iter().map(|values| values[which]).sum::<f64>() / self.recent.len().max(1) as f64
        };
        let (model, dataset) = (&manifest.model.name, &manifest.dataset.name);
        let (loss, accuracy) = (mean(0), 100.0 * mean(1));
        writeln!(stdout, "{model} on {dataset}: loss {loss:.3}, training accuracy {accuracy:.1} % (last steps' mean)")?;
        if !evaluations.is_empty() {
            let shown: Vec<String> = evaluations.iter().map(shown).collect();
            writeln!(stdout, "validation: {} on {} samples", shown.join(", "), manifest.dataset.validation_samples)?;
        }
        if let Some(session) = &reuse.training {
            let off = session.switched_off();
            let layers: Vec<String> = off.iter().map(|(step, layer)| format!("{layer} (step {step})")).collect();
            let layers = if layers.is_empty() { "none".to_owned() } else { layers.join(", ") };
            writeln!(stdout, "layers that went on without reuse, as it cost cycles there (stop.window): {layers}")?;
        }
        let count = manifest.captured.len();
        writeln!(stdout, "trace {}: {count} steps captured, {:.1} MB", out.display(), bytes as f64 / 1e6)?;
        Ok(())
    }
}

impl Observer for Terminal<'_> {
    fn step(&mut self, step: &Step) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back([step.loss, step.accuracy]);
        let rate = self.samples as f64 / step.seconds;
        let (loss, accuracy) = (step.loss, 100.0 * step.accuracy);
        self.progress.set(step.step + 1, format_args!("loss {loss:.3}, accuracy {accuracy:.0} %, {rate:.0} samples/s"));
    }

    fn validated(&mut self, _: usize) {
        self.progress.advance(0, "evaluating");
    }

    fn notice(&mut self, message: &str) {
        self.progress.print(format_args!("warning: {message}"));
    }

    fn checkpoint(&mut self, steps_done: u64, optimizer: &Optimizer) -> crate::error::Result<()> {
        checkpoint::save(&self.checkpoint, self.weights, optimizer, steps_done)
    }
}

fn shown(row: &Evaluation) -> String {
    let Evaluation { metric, value, .. } = row;
    let (with, metric) = metric.strip_prefix("reuse_").map_or(("", metric.as_str()), |metric| ("with reuse: ", metric));
    match metric {
        "top1" | "top5" | "token_accuracy" => format!("{with}{} {:.1} %", metric.replace('_', " "), 100.0 * value),
        "bleu" => format!("{with}BLEU {value:.1} ({} sentences)", row.samples),
        _ => format!("{with}{metric} {value:.3}"),
    }
}
