//! The training loop.

use crate::capture;
use crate::datasets::{Augment, Batch, Dataset, Loader};
use crate::error::{Result, TracerError};
use crate::evaluate::{Evaluator, measure_accuracy};
use crate::loss::compute_loss;
use crate::models::{Model, ModelOutput};
use crate::optimizer::{Optimizer, clip};
use crate::plan::{plan_steps, steps_per_epoch};
use crate::policy::Policy;
use crate::reuse::{InLoop, LossGradients, PassMeasurement, ReuseTap, measure_step};
use crate::schedule::Schedule;
use crate::tap::{Plain, Recorder, Tap, backward};
use mercury_capture::rows::kinds;
use mercury_capture::sampling::step_seed;
use mercury_capture::sink::Sink;
use mercury_trace::evaluations::Evaluation;
use mercury_trace::manifest::Sampling;
use mercury_trace::measurements::Measurements;
use mercury_trace::steps::Step;
use mercury_trace::tensor::TensorKind;
use std::collections::BTreeSet;
use std::time::Instant;
use tch::{Device, Tensor};

/// Hyper-parameters of a run.
#[derive(Debug, Clone, Copy)]
pub struct TrainingSettings {
    /// Training steps.
    pub steps: u64,
    /// Samples per step.
    pub batch_size: usize,
    /// Learning rate by step.
    pub schedule: Schedule,
    /// Share of a label's weight that is spread evenly over all classes.
    pub label_smoothing: f64,
    /// Maximum norm of all gradients together.
    pub clip: Option<f64>,
    /// Seed of the order of samples, of augmentation and of dropout.
    pub seed: u64,
    /// Steps between two evaluations.
    pub evaluate_every: Option<u64>,
    /// Steps between two checkpoints.
    pub checkpoint_every: Option<u64>,
}

/// Settings of the capture.
pub struct CaptureSettings {
    /// Steps to capture.
    pub policy: Policy,
    /// Names of the layers to capture.
    pub layers: BTreeSet<String>,
    /// The part of their tensors to keep.
    pub sampling: Sampling,
    /// Maximum size of a step's files, in bytes.
    pub step_bytes: u64,
    /// Maximum size of all files, in bytes.
    pub max_bytes: Option<u64>,
    /// Whether training continues without capture if the trace cannot be written.
    pub continue_on_error: bool,
}

impl CaptureSettings {
    /// The limit that another step could exceed, if there is one.
    ///
    /// Sizes before compression decide, because they are the same on every machine and disk.
    fn exceeded_limit(&self, captured_bytes: u64) -> Option<u64> {
        let bytes = captured_bytes.saturating_add(self.step_bytes);
        self.max_bytes.filter(|&limit| bytes > limit)
    }
}

/// Shows a run's progress and writes its checkpoints.
pub trait Observer {
    /// Shows a training step that is done.
    fn show_step(&mut self, step: &Step);
    /// Shows that validation samples were evaluated.
    fn show_validated(&mut self, samples: usize);
    /// Shows a notice to the user.
    fn show_notice(&mut self, message: &str);
    /// Writes a checkpoint after this many steps.
    fn write_checkpoint(&mut self, steps_done: u64, optimizer: &Optimizer) -> Result<()>;
}

/// A training run: the model, its data and all settings.
pub struct TrainingRun<'a> {
    /// The model.
    pub model: &'a dyn Model,
    /// The data.
    pub dataset: &'a Dataset,
    /// The device that computes.
    pub device: Device,
    /// Hyper-parameters.
    pub settings: TrainingSettings,
    /// The capture.
    pub capture: CaptureSettings,
    /// Reuse in the loop.
    pub reuse: &'a mut InLoop,
    /// Running statistics of batch normalisation, which training updates but does not learn.
    pub buffers: Vec<Tensor>,
    /// Evaluates the model during the run.
    pub evaluator: &'a Evaluator<'a>,
}

/// The results of a batch's forward and backward pass.
struct BatchResult {
    output: ModelOutput,
    loss: f64,
    gradients: Vec<Tensor>,
}

impl BatchResult {
    fn loss_gradients(&self) -> LossGradients<'_> {
        LossGradients { loss: self.loss, gradients: &self.gradients }
    }
}

impl TrainingRun<'_> {
    /// Trains from step `start` on; the sink receives captured tensors and the rows of all tables.
    pub fn train(
        &mut self,
        start: u64,
        optimizer: &mut Optimizer,
        sink: &Sink,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let settings = self.settings;
        let seed = settings.seed;
        let samples = self.dataset.train.len();
        let steps = || plan_steps(samples, settings.batch_size, seed, start..settings.steps);
        let batches = steps().map(move |(epoch, batch)| (batch, Some(Augment { seed, epoch })));
        let mut loader = Loader::start(self.dataset.train.clone(), batches);
        let per_epoch = self.steps_per_epoch();
        let mut capturing = true;
        let captured_before = self.capture.policy.count(start, per_epoch);
        let mut captured_bytes = captured_before.saturating_mul(self.capture.step_bytes);
        for (step, (epoch, indices)) in (start..settings.steps).zip(steps()) {
            // The time of a step includes waiting for its data.
            let began = Instant::now();
            let batch = loader.next().expect("a batch for each step")?.to_device(self.device);
            let mut captured = capturing && self.capture.policy.captures(step, per_epoch);
            if captured {
                if let Some(limit) = self.capture.exceeded_limit(captured_bytes) {
                    (capturing, captured) = (false, false);
                    observer.show_notice(&describe_limit(limit, step));
                } else {
                    captured_bytes = captured_bytes.saturating_add(self.capture.step_bytes);
                }
            }
            let (mut row, notice) = self.step(step, &batch, &indices, optimizer, sink, captured)?;
            row.epoch = epoch;
            row.seconds = began.elapsed().as_secs_f64();
            sink.log_step(row);
            self.reuse.record_loss(row.loss);
            observer.show_step(&row);
            if let Some(notice) = notice {
                observer.show_notice(&notice);
            }
            capturing &= self.check_writes(sink, observer)?;
            let done = step + 1;
            if self.is_due(settings.evaluate_every, done) {
                let evaluations = self.evaluate(done, observer)?;
                sink.log_evaluations(evaluations);
            }
            if self.is_due(settings.checkpoint_every, done) {
                capturing &= self.write_checkpoint(done, optimizer, sink, observer)?;
            }
        }
        self.flush(sink, observer)?;
        Ok(())
    }

    /// Whether a periodic task is due after `done` steps; after the last step none is.
    fn is_due(&self, every: Option<u64>, done: u64) -> bool {
        every.is_some_and(|every| done.is_multiple_of(every)) && done < self.settings.steps
    }

    fn evaluate(&self, done: u64, observer: &mut dyn Observer) -> Result<Vec<Evaluation>> {
        self.reuse.evaluate(done, |tap, _| self.evaluator.run(done, tap, |samples| observer.show_validated(samples)))
    }

    /// Checks for failures of writing; returns whether capturing can go on.
    fn check_writes(&self, sink: &Sink, observer: &mut dyn Observer) -> Result<bool> {
        match sink.next_failure() {
            None => Ok(true),
            Some(error) => self.tolerate(TracerError::from_sink(error), observer),
        }
    }

    /// Turns a failure of writing into a notice if the run continues without capture.
    fn tolerate(&self, error: TracerError, observer: &mut dyn Observer) -> Result<bool> {
        if !self.capture.continue_on_error {
            return Err(error);
        }
        let reason = match error {
            TracerError::Capture(refused) => refused.to_string(),
            other => other.to_string(),
        };
        observer.show_notice(&format!("{reason}; training goes on, but nothing more is captured"));
        Ok(false)
    }

    /// Waits until everything sent to the sink is on disk; returns whether it is.
    fn flush(&self, sink: &Sink, observer: &mut dyn Observer) -> Result<bool> {
        let flushed = sink.flush();
        if !self.check_writes(sink, observer)? {
            return Ok(false);
        }
        flushed.map_or_else(|error| self.tolerate(error.into(), observer), |()| Ok(true))
    }

    /// Writes a checkpoint; the tables, and every step captured before it, are on disk first.
    fn write_checkpoint(
        &self,
        done: u64,
        optimizer: &Optimizer,
        sink: &Sink,
        observer: &mut dyn Observer,
    ) -> Result<bool> {
        if !self.flush(sink, observer)? {
            return Ok(false);
        }
        match observer.write_checkpoint(done, optimizer) {
            Ok(()) => Ok(true),
            Err(error) => self.tolerate(error, observer),
        }
    }

    fn steps_per_epoch(&self) -> u64 {
        steps_per_epoch(self.dataset.train.len(), self.settings.batch_size)
    }

    /// Does one step. Returns its row, without epoch and seconds, and a notice of layers that the
    /// step switched off.
    fn step(
        &mut self,
        step: u64,
        batch: &Batch,
        indices: &[u32],
        optimizer: &mut Optimizer,
        sink: &Sink,
        captured: bool,
    ) -> Result<(Step, Option<String>)> {
        let settings = self.settings;
        let compares = self.reuse.measures(step, self.steps_per_epoch());
        let training = self.reuse.training.as_ref();
        let mut reuse_tap = training.map(|session| ReuseTap::new(session, step, compares));
        let mut plain = Plain;
        let tap: &mut dyn Tap = match &mut reuse_tap {
            Some(tap) => tap,
            None => &mut plain,
        };
        let sampling = &self.capture.sampling;
        let gradients = captured && kinds(sampling).contains(&TensorKind::GradOutput);
        let wanted = if captured { self.capture.layers.clone() } else { BTreeSet::new() };
        let mut recorder = Recorder::new(wanted, gradients).with_tap(tap);
        let result = self.pass(step, batch, &optimizer.parameters(), &mut recorder)?;
        let records = recorder.into_records();
        let passes = reuse_tap.map(ReuseTap::finish).unwrap_or_default();
        if !result.loss.is_finite() {
            return Err(TracerError::Diverged { step, loss: result.loss });
        }
        // The trace holds this step's weights, so this comes before the optimiser changes them in
        // place.
        if captured {
            capture::submit(sink, sampling, settings.seed, step, indices, &records)?;
        }
        let mut notice = None;
        if compares {
            let parameters = optimizer.parameters();
            let measurements = self.compare(step, batch, &parameters, &result, passes)?;
            notice = self.reuse.record_cycles(&measurements.layers);
            sink.log_measurements(measurements);
        }
        let BatchResult { output, loss, mut gradients } = result;
        if let Some(limit) = settings.clip {
            clip(&mut gradients, limit);
        }
        optimizer.step(gradients, &settings.schedule, step);
        let accuracy = measure_accuracy(&output.scores, batch);
        let learning_rate = settings.schedule.rate(step);
        let row = Step { step, epoch: 0, loss, accuracy, learning_rate, seconds: 0.0, captured };
        Ok((row, notice))
    }

    /// Runs forward and backward. Random numbers depend on the step alone, so a step can be
    /// repeated.
    fn pass(&self, step: u64, batch: &Batch, parameters: &[&Tensor], recorder: &mut Recorder) -> Result<BatchResult> {
        tch::manual_seed(step_seed(self.settings.seed, step));
        let output = self.model.forward(batch, true, recorder);
        let loss = compute_loss(&output, batch, self.settings.label_smoothing);
        let gradients = backward(&loss, parameters, Some(recorder))?;
        Ok(BatchResult { output, loss: loss.double_value(&[]), gradients })
    }

    /// Compares a step with reuse with the same step without, for all configurations.
    ///
    /// `trained` is the step's result, `passes` are the measurements of its tap. The step is
    /// repeated as often as needed; the model's buffers are restored.
    fn compare(
        &self,
        step: u64,
        batch: &Batch,
        parameters: &[&Tensor],
        trained: &BatchResult,
        passes: Vec<PassMeasurement>,
    ) -> Result<Measurements> {
        let buffers: Vec<Tensor> = self.buffers.iter().map(Tensor::copy).collect();
        let mut measurements = Measurements::default();
        let mut plain = None;
        if let Some(session) = &self.reuse.training {
            let exact = self.repeat(step, batch, parameters, &mut Plain)?;
            let (exact_step, reused_step) = (exact.loss_gradients(), trained.loss_gradients());
            measurements.extend(measure_step(session, step, passes, &exact_step, &reused_step));
            plain = Some(exact);
        }
        // Without a training configuration, the step itself was exact.
        let exact = plain.as_ref().unwrap_or(trained).loss_gradients();
        for session in &self.reuse.probes {
            let mut tap = ReuseTap::new(session, step, true);
            let reused = self.repeat(step, batch, parameters, &mut tap)?;
            let passes = tap.finish();
            measurements.extend(measure_step(session, step, passes, &exact, &reused.loss_gradients()));
        }
        for (buffer, before) in self.buffers.iter().zip(&buffers) {
            tch::no_grad(|| buffer.shallow_clone().copy_(before));
        }
        Ok(measurements)
    }

    /// Runs forward and backward through a tap, without recording.
    fn repeat(&self, step: u64, batch: &Batch, parameters: &[&Tensor], tap: &mut dyn Tap) -> Result<BatchResult> {
        let mut recorder = Recorder::new(BTreeSet::new(), false).with_tap(tap);
        self.pass(step, batch, parameters, &mut recorder)
    }
}

fn describe_limit(limit: u64, step: u64) -> String {
    format!(
        "--max-bytes: with another step the trace might exceed {:.1} MB; training goes on, but \
         nothing more is captured from step {step} on",
        limit as f64 / 1e6
    )
}
