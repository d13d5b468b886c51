//! The training loop.

use crate::capture;
use crate::datasets::{Augment, Batch, Dataset, Loader};
use crate::error::{Result, TracerError};
use crate::evaluate::{Evaluator, accuracy, flatten, ignored};
use crate::models::{Model, Output};
use crate::optimizer::{Optimizer, clip};
use crate::policy::Policy;
use crate::reuse::{InLoop, Outcome, compare};
use crate::sampling::{self, Purpose};
use crate::schedule::Schedule;
use crate::sink::Sink;
use crate::tap::{Plain, Recorder, Tap, backward};
use mercury_trace::manifest::Sampling;
use mercury_trace::measurements::Measurements;
use mercury_trace::steps::Step;
use mercury_trace::tensor::TensorKind;
use std::collections::BTreeSet;
use std::time::Instant;
use tch::{Device, Reduction, Tensor};

/// What an auxiliary head's loss weighs (Szegedy et al., CVPR 2015, section 5).
const AUXILIARY_WEIGHT: f64 = 0.3;

/// Hyper-parameters of a run.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Training steps.
    pub steps: u64,
    /// Samples per step.
    pub batch_size: usize,
    /// Learning rate.
    pub schedule: Schedule,
    /// Share of the label's weight that goes to all classes alike.
    pub label_smoothing: f64,
    /// Most that the norm of all gradients may be.
    pub clip: Option<f64>,
    /// Seed of the order of samples, of augmentation and of dropout.
    pub seed: u64,
    /// Steps between two evaluations.
    pub evaluate_every: Option<u64>,
    /// Steps between two checkpoints.
    pub checkpoint_every: Option<u64>,
}

/// What is captured.
pub struct Capture {
    /// Which steps.
    pub policy: Policy,
    /// Names of the layers.
    pub layers: BTreeSet<String>,
    /// What is kept of them.
    pub sampling: Sampling,
    /// Most bytes that a step's files have.
    pub step_bytes: u64,
    /// Most bytes that all files may have.
    pub max_bytes: Option<u64>,
    /// Whether training goes on where the trace cannot be written.
    pub go_on: bool,
}

/// What becomes of a run while it runs.
pub trait Observer {
    /// A step was done.
    fn step(&mut self, step: &Step);
    /// Validation samples were measured.
    fn validated(&mut self, samples: usize);
    /// Something that the user should know.
    fn notice(&mut self, message: &str);
    /// Writes a checkpoint after so many steps.
    fn checkpoint(&mut self, steps_done: u64, optimizer: &Optimizer) -> Result<()>;
}

/// Steps of an epoch: whole batches only.
pub fn steps_per_epoch(samples: usize, batch_size: usize) -> u64 {
    (samples / batch_size) as u64
}

/// Samples of each step from `start` on: a new permutation each epoch.
fn plan(
    samples: usize,
    batch_size: usize,
    seed: u64,
    steps: std::ops::Range<u64>,
) -> impl Iterator<Item = (u64, Vec<u32>)> {
    let per_epoch = steps_per_epoch(samples, batch_size);
    let mut order = Vec::new();
    let mut of_epoch = None;
    steps.map(move |step| {
        let (epoch, position) = (step / per_epoch, (step % per_epoch) as usize);
        if of_epoch != Some(epoch) {
            order = sampling::permutation(seed, Purpose::Epoch(epoch), samples);
            of_epoch = Some(epoch);
        }
        (epoch, order[position * batch_size..][..batch_size].to_vec())
    })
}

/// A model, what it is trained on and how.
pub struct Run<'a> {
    /// The model.
    pub model: &'a dyn Model,
    /// The data.
    pub dataset: &'a Dataset,
    /// Where it is computed.
    pub device: Device,
    /// Hyper-parameters.
    pub settings: Settings,
    /// What is captured.
    pub capture: Capture,
    /// Reuse in the loop.
    pub reuse: &'a InLoop,
    /// What training keeps but does not learn: of batch normalisation.
    pub buffers: Vec<Tensor>,
    /// What is measured on the way.
    pub evaluator: &'a Evaluator<'a>,
}

/// What came of a batch: forward and backward.
struct Passed {
    output: Output,
    loss: f64,
    gradients: Vec<Tensor>,
}

impl Passed {
    fn outcome(&self) -> Outcome<'_> {
        Outcome { loss: self.loss, gradients: &self.gradients }
    }
}

impl Run<'_> {
    /// Trains from step `start` on; what is captured and logged goes into the sink.
    pub fn train(&self, start: u64, optimizer: &mut Optimizer, sink: &Sink, observer: &mut dyn Observer) -> Result<()> {
        let settings = &self.settings;
        let (samples, seed) = (self.dataset.train.len(), settings.seed);
        let steps = || plan(samples, settings.batch_size, seed, start..settings.steps);
        let batches = steps().map(move |(epoch, batch)| (batch, Some(Augment { seed, epoch })));
        let mut loader = Loader::start(self.dataset.train.clone(), batches);
        let mut capturing = true;
        let before = self.capture.policy.count(start, self.steps_per_epoch());
        let mut captured_bytes = before.saturating_mul(self.capture.step_bytes);
        for (step, (epoch, indices)) in (start..settings.steps).zip(steps()) {
            // What a step waits for its data is part of its time.
            let began = Instant::now();
            let batch = loader.next().expect("a batch for each step")?.to_device(self.device);
            let captured = capturing && self.captures(step, captured_bytes, &mut capturing, observer);
            captured_bytes = captured_bytes.saturating_add(if captured { self.capture.step_bytes } else { 0 });
            let mut row = self.step(step, &batch, &indices, optimizer, sink, captured)?;
            row.epoch = epoch;
            row.seconds = began.elapsed().as_secs_f64();
            sink.step(row);
            self.reuse.step(row.loss);
            observer.step(&row);
            if let Some(text) = self.reuse.news() {
                observer.notice(&text);
            }
            capturing &= self.check(sink, observer)?;
            let done = step + 1;
            let due =
                |every: Option<u64>| every.is_some_and(|every| done.is_multiple_of(every)) && done < settings.steps;
            if due(settings.evaluate_every) {
                let evaluate =
                    |tap: &mut dyn Tap, _| self.evaluator.run(done, tap, |samples| observer.validated(samples));
                sink.evaluated(self.reuse.evaluate(done, evaluate)?);
            }
            if due(settings.checkpoint_every) {
                capturing &= self.checkpoint(done, optimizer, sink, observer)?;
            }
        }
        self.flush(sink, observer)?;
        Ok(())
    }

    /// Whether all went well with what is being written; an error where the run must not go on.
    fn check(&self, sink: &Sink, observer: &mut dyn Observer) -> Result<bool> {
        match sink.failure() {
            None => Ok(true),
            Some(error) => self.forgive(error, observer),
        }
    }

    /// What training that goes on makes of an error of the disk: a notice.
    fn forgive(&self, error: TracerError, observer: &mut dyn Observer) -> Result<bool> {
        if !self.capture.go_on {
            return Err(error);
        }
        let reason = match error {
            TracerError::Capture(refused) => refused.to_string(),
            other => other.to_string(),
        };
        observer.notice(&format!("{reason}; training goes on, but nothing more is captured"));
        Ok(false)
    }

    /// Waits until all is on disk; whether it is.
    fn flush(&self, sink: &Sink, observer: &mut dyn Observer) -> Result<bool> {
        let flushed = sink.flush();
        if !self.check(sink, observer)? {
            return Ok(false);
        }
        flushed.map_or_else(|error| self.forgive(error, observer), |()| Ok(true))
    }

    /// Writes a checkpoint; the tables, and every step captured before it, must be on disk first.
    fn checkpoint(&self, done: u64, optimizer: &Optimizer, sink: &Sink, observer: &mut dyn Observer) -> Result<bool> {
        if !self.flush(sink, observer)? {
            return Ok(false);
        }
        observer.checkpoint(done, optimizer).map_or_else(|error| self.forgive(error, observer), |()| Ok(true))
    }

    fn steps_per_epoch(&self) -> u64 {
        steps_per_epoch(self.dataset.train.len(), self.settings.batch_size)
    }

    /// One step; its row lacks epoch and seconds.
    fn step(
        &self,
        step: u64,
        batch: &Batch,
        indices: &[u32],
        optimizer: &mut Optimizer,
        sink: &Sink,
        captured: bool,
    ) -> Result<Step> {
        let settings = &self.settings;
        let compares = self.reuse.measures(step, self.steps_per_epoch());
        let tap: Box<dyn Tap> = match &self.reuse.training {
            Some(session) => Box::new(session.tap(step, compares)),
            None => Box::new(Plain),
        };
        let sampling = &self.capture.sampling;
        let gradients = captured && capture::kinds(sampling).contains(&TensorKind::GradOutput);
        let wanted = if captured { self.capture.layers.clone() } else { BTreeSet::new() };
        let mut recorder = Recorder::of(wanted, gradients).through(tap);
        let passed = self.pass(step, batch, &optimizer.parameters(), &mut recorder)?;
        if !passed.loss.is_finite() {
            return Err(TracerError::Diverged { step, loss: passed.loss });
        }
        // Before the optimiser changes the weights in place: the trace holds those of this step.
        if captured {
            capture::submit(sink, sampling, settings.seed, step, indices, &recorder.records)?;
        }
        if compares {
            let measurements = self.compare(step, batch, &optimizer.parameters(), &passed)?;
            self.reuse.took(&measurements.layers);
            sink.measured(measurements);
        } else if let Some(session) = &self.reuse.training {
            session.take();
        }
        let Passed { output, loss, mut gradients } = passed;
        if let Some(limit) = settings.clip {
            clip(&mut gradients, limit);
        }
        let learning_rate = settings.schedule.rate(step);
        optimizer.step(gradients, learning_rate);
        let accuracy = accuracy(&output.scores, batch);
        Ok(Step { step, epoch: 0, loss, accuracy, learning_rate, seconds: 0.0, captured })
    }

    /// Forward and backward; random numbers are those of the step, however often it is passed.
    fn pass(&self, step: u64, batch: &Batch, parameters: &[&Tensor], recorder: &mut Recorder) -> Result<Passed> {
        tch::manual_seed(sampling::step_seed(self.settings.seed, step));
        let output = self.model.forward(batch, true, recorder);
        let loss = loss(&output, batch, self.settings.label_smoothing);
        let gradients = backward(&loss, parameters, Some(recorder))?;
        Ok(Passed { output, loss: loss.double_value(&[]), gradients })
    }

    /// Sets what reuse makes of a step beside exact computation, of which `passed` is one or the other;
    /// the model is left as it was.
    fn compare(&self, step: u64, batch: &Batch, parameters: &[&Tensor], passed: &Passed) -> Result<Measurements> {
        let buffers: Vec<Tensor> = self.buffers.iter().map(Tensor::copy).collect();
        let pass = |tap: Box<dyn Tap>| {
            self.pass(step, batch, parameters, &mut Recorder::of(BTreeSet::new(), false).through(tap))
        };
        let mut measurements = Measurements::default();
        let plain = match &self.reuse.training {
            Some(session) => {
                let plain = pass(Box::new(Plain))?;
                measurements.extend(compare(session, step, &plain.outcome(), &passed.outcome()));
                Some(plain)
            }
            None => None,
        };
        let exact = plain.as_ref().unwrap_or(passed).outcome();
        for session in &self.reuse.probes {
            let reused = pass(Box::new(session.tap(step, true)))?;
            measurements.extend(compare(session, step, &exact, &reused.outcome()));
        }
        for (buffer, before) in self.buffers.iter().zip(&buffers) {
            tch::no_grad(|| buffer.shallow_clone().copy_(before));
        }
        Ok(measurements)
    }

    /// Whether a step is captured; sets `capturing` to false where the trace must not grow further.
    /// That is decided by sizes before compression, which are the same on every machine and disk.
    fn captures(&self, step: u64, bytes: u64, capturing: &mut bool, observer: &mut dyn Observer) -> bool {
        if !self.capture.policy.captures(step, self.steps_per_epoch()) {
            return false;
        }
        if let Some(most) = self.capture.max_bytes.filter(|&most| bytes.saturating_add(self.capture.step_bytes) > most)
        {
            *capturing = false;
            observer.notice(&format!(
                "--max-bytes: with another step the trace might exceed {:.1} MB; training goes on, but nothing more is captured from step {step} on",
                most as f64 / 1e6
            ));
        }
        *capturing
    }
}

/// The loss, in nats: mean cross entropy, and that of auxiliary heads.
pub fn loss(output: &Output, batch: &Batch, label_smoothing: f64) -> Tensor {
    let of = |scores: &Tensor| {
        let (scores, labels) = flatten(scores, batch);
        scores.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, ignored(batch), label_smoothing)
    };
    output.auxiliary.iter().fold(of(&output.scores), |loss, scores| loss + of(scores) * AUXILIARY_WEIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_begins_later_is_the_rest_of_the_whole_one() {
        let whole: Vec<_> = plan(10, 3, 7, 0..20).collect();
        assert_eq!(plan(10, 3, 7, 8..20).collect::<Vec<_>>(), whole[8..]);
        for epoch in whole.chunks(3) {
            let mut seen: Vec<u32> = epoch.iter().flat_map(|(_, batch)| batch.clone()).collect();
            let count = seen.len();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), count, "no sample twice in an epoch");
        }
        assert_ne!(whole[0].1, whole[3].1, "each epoch has an order of its own");
    }
}
