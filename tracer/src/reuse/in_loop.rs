//! Reuse in the loop of a training run.

use super::exact::deviation;
use super::tap::{Measured, Session};
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
    let (configuration, bits) = (&session.named().name, session.bits());
    let layer = |measured: Measured| {
        let Measured { layer, pass, counts, deviation } = measured;
        let deviation = deviation?;
        Some(Measurement {
            step,
            configuration: configuration.clone(),
            layer,
            pass,
            bits,
            hit: counts.hit,
            mau: counts.mau,
            mnu: counts.mnu,
            output_error: deviation.relative(),
            cosine: deviation.cosine(),
            norm_ratio: deviation.norm_ratio(),
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
        bits,
        loss: exact.loss,
        loss_change: reused.loss - exact.loss,
        gradient_error: all.relative(),
        gradient_cosine: all.cosine(),
        gradient_norm_ratio: all.norm_ratio(),
    };
    Measurements { layers: session.take().into_iter().filter_map(layer).collect(), steps: vec![change] }
}
