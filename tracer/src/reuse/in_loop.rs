//! Reuse in the loop of a training run.

use super::exact::deviation;
use super::tap::{Beside, Measured, Session};
use crate::policy::Policy;
use mercury_reuse::Deviation;
use mercury_trace::measurements::{LossChange, Measurement, Measurements};
use std::sync::Arc;
use tch::Tensor;

/// What is trained with reuse, and what is tried beside.
#[derive(Debug)]
pub struct InLoop {
    /// What the run trains with, if not without reuse.
    pub training: Option<Arc<Session>>,
    /// What is tried at measured steps, on the same weights and samples, without training by it.
    pub probes: Vec<Arc<Session>>,
    /// Steps at which reuse is set beside exact computation.
    pub measure: Policy,
}

impl InLoop {
    /// A run without reuse.
    pub fn none() -> Self {
        Self { training: None, probes: Vec::new(), measure: Policy::None }
    }

    /// All configurations.
    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.training.iter().chain(&self.probes)
    }

    /// Tells all of a step's loss.
    pub fn step(&self, loss: f64) {
        self.sessions().for_each(|session| session.step(loss));
    }

    /// Tells all what their layers took in measured steps, in the order of steps; layers that no longer run with
    /// reuse, by configuration, are said in the log.
    pub fn took(&self, rows: &[Measurement]) {
        for of_step in rows.chunk_by(|a, b| (a.step, &a.configuration) == (b.step, &b.configuration)) {
            let Measurement { step, configuration, .. } = &of_step[0];
            for session in self.sessions().filter(|session| session.named().name == *configuration) {
                let cycles = |row: &Measurement| [row.baseline_cycles, row.mercury_cycles];
                for layer in session.took(of_step.iter().map(|row| (row.layer.as_str(), cycles(row)))) {
                    tracing::info!(
                        "{configuration}: {layer} runs without reuse after step {step}: it cost cycles (stop.window)"
                    );
                }
            }
        }
    }

    /// Whether a step is measured, where an epoch has so many.
    pub fn measures(&self, step: u64, steps_per_epoch: u64) -> bool {
        self.sessions().next().is_some() && self.measure.captures(step, steps_per_epoch)
    }
}

/// The loss of a batch and its gradients.
pub struct Outcome<'a> {
    /// The loss.
    pub loss: f64,
    /// With respect to each parameter; undefined where the loss does not depend on it.
    pub gradients: &'a [Tensor],
}

/// A step with reuse beside the same without; the session has measured its layers.
pub fn compare(session: &Session, step: u64, exact: &Outcome, reused: &Outcome) -> Measurements {
    let (configuration, signature_bits) = (&session.named().name, session.bits());
    let layer = |measured: Measured| {
        let Measured { layer, pass, counts, beside } = measured;
        let Beside { deviation, cycles: [baseline_cycles, mercury_cycles] } = beside?;
        Some(Measurement {
            step,
            configuration: configuration.clone(),
            layer,
            pass,
            signature_bits,
            hit: counts.hit,
            mau: counts.mau,
            mnu: counts.mnu,
            output_error: deviation.relative(),
            output_cosine: deviation.cosine(),
            output_norm_ratio: deviation.norm_ratio(),
            baseline_cycles,
            mercury_cycles,
        })
    };
    let mut all = Deviation::default();
    for (exact, reused) in exact.gradients.iter().zip(reused.gradients) {
        if exact.defined() && reused.defined() {
            all += deviation(exact, reused);
        }
    }
    let change = LossChange {
        step,
        configuration: configuration.clone(),
        signature_bits,
        loss: exact.loss,
        loss_change: reused.loss - exact.loss,
        gradient_error: all.relative(),
        gradient_cosine: all.cosine(),
        gradient_norm_ratio: all.norm_ratio(),
    };
    Measurements { layers: session.take().into_iter().filter_map(layer).collect(), steps: vec![change] }
}
