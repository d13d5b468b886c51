//! The training loop.

use crate::capture;
use crate::datasets::Dataset;
use crate::error::{Result, TracerError};
use crate::models::Model;
use crate::sampling::{self, Purpose};
use crate::tap::{Plain, Recorder};
use mercury_trace::TraceWriter;
use mercury_trace::steps::Step;
use std::collections::BTreeSet;
use std::time::Instant;
use tch::{Device, Kind, Tensor, nn};

/// Hyper-parameters of a run; SGD with momentum, cross entropy.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Training steps.
    pub steps: u64,
    /// Every so many steps one is captured, beginning with step 0.
    pub every: u64,
    /// Samples per step.
    pub batch_size: usize,
    /// Learning rate.
    pub learning_rate: f64,
    /// Seed of the order of samples.
    pub seed: u64,
}

/// Order in which training visits the data set: a new permutation each epoch, whole batches only.
struct Batches {
    order: Vec<u32>,
    position: usize,
    epoch: u64,
    seed: u64,
}

impl Batches {
    fn new(samples: usize, seed: u64) -> Self {
        Self { order: sampling::permutation(seed, Purpose::Epoch(0), samples), position: 0, epoch: 0, seed }
    }

    fn next(&mut self, size: usize) -> (u64, Vec<i64>) {
        if self.position + size > self.order.len() {
            self.epoch += 1;
            self.position = 0;
            self.order = sampling::permutation(self.seed, Purpose::Epoch(self.epoch), self.order.len());
        }
        let batch = &self.order[self.position..self.position + size];
        self.position += size;
        (self.epoch, batch.iter().map(|&index| i64::from(index)).collect())
    }
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
}

impl Run<'_> {
    /// Trains, captures every so often the layers named `wanted`, and returns all steps. A captured
    /// step is part of the trace as soon as it is written.
    pub fn train(
        &self,
        optimizer: &mut nn::Optimizer,
        wanted: &BTreeSet<String>,
        writer: &mut TraceWriter,
        mut progress: impl FnMut(&Step),
    ) -> Result<Vec<Step>> {
        let Self { model, dataset, device, settings } = self;
        let mut batches = Batches::new(dataset.train.len(), settings.seed);
        let mut steps: Vec<Step> = Vec::new();
        for step in 0..settings.steps {
            let start = Instant::now();
            let (epoch, indices) = batches.next(settings.batch_size);
            let (images, labels) = dataset.batch(&dataset.train, &indices, *device);
            let mut recorder = (step % settings.every == 0).then(|| Recorder::of(wanted.clone()));
            let scores = match &mut recorder {
                Some(recorder) => model.forward(&images, true, recorder),
                None => model.forward(&images, true, &mut Plain),
            };
            let loss = scores.cross_entropy_for_logits(&labels);
            let value = loss.double_value(&[]);
            if !value.is_finite() {
                return Err(TracerError::Diverged { step, loss: value });
            }
            optimizer.zero_grad();
            loss.backward();
            // Before the optimiser changes the weights in place: the trace holds those of this step.
            let captured = recorder.map(|r| capture::write_step(writer, step, &indices, &r.records)).transpose()?;
            optimizer.step();
            steps.push(Step {
                step,
                epoch,
                loss: value,
                accuracy: correct(&scores, &labels) as f64 / indices.len() as f64,
                learning_rate: settings.learning_rate,
                seconds: start.elapsed().as_secs_f64(),
                captured: captured.is_some(),
            });
            if let Some(captured) = captured {
                let bytes: u64 = captured.tensors.iter().map(|file| file.bytes).sum();
                tracing::info!(step, files = captured.tensors.len(), bytes, "captured");
                writer.commit(captured, &steps)?;
            }
            progress(steps.last().expect("a step was just pushed"));
        }
        Ok(steps)
    }

    /// Share of the first `samples` validation images that the model classifies correctly.
    pub fn validate(&self, samples: usize, mut progress: impl FnMut(usize)) -> f64 {
        const BATCH: usize = 100;
        let split = &self.dataset.validation;
        let mut right = 0;
        for first in (0..samples).step_by(BATCH) {
            let indices: Vec<i64> = (first..(first + BATCH).min(samples)).map(|index| index as i64).collect();
            let (images, labels) = self.dataset.batch(split, &indices, self.device);
            right += correct(&tch::no_grad(|| self.model.forward(&images, false, &mut Plain)), &labels);
            progress(indices.len());
        }
        right as f64 / samples as f64
    }
}

fn correct(scores: &Tensor, labels: &Tensor) -> i64 {
    scores.argmax(-1, false).eq_tensor(labels).sum(Kind::Int64).int64_value(&[])
}
