//! Reuse in the loop of a training run.

use super::exact::deviation;
use super::tap::{Beside, Measured, Session};
use crate::error::Result;
use crate::policy::Policy;
use crate::tap::{Plain, Tap};
use mercury_reuse::Deviation;
use mercury_trace::evaluations::Evaluation;
use mercury_trace::measurements::{LossChange, Measurement, Measurements};
use std::sync::{Arc, Mutex, PoisonError};
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
    /// What is to be said of layers that were switched off.
    pub news: Mutex<Option<String>>,
}

impl InLoop {
    /// A run without reuse.
    pub fn none() -> Self {
        Self { training: None, probes: Vec::new(), measure: Policy::None, news: Mutex::default() }
    }

    /// All configurations.
    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.training.iter().chain(&self.probes)
    }

    /// Tells all of a step's loss.
    pub fn step(&self, loss: f64) {
        self.sessions().for_each(|session| session.step(loss));
    }

    /// Tells what is trained with what its layers took in measured steps, in the order of steps; those for which reuse
    /// does not pay run without it from now on. What is tried beside is tried in all layers.
    pub fn took(&self, rows: &[Measurement]) {
        let Some(session) = &self.training else { return };
        let rows: Vec<_> = rows.iter().filter(|row| row.configuration == session.named().name).collect();
        let mut off = Vec::new();
        for of_step in rows.chunk_by(|a, b| a.step == b.step) {
            let passes = of_step.iter().map(|row| (row.layer.as_str(), [row.baseline_cycles, row.mercury_cycles]));
            off.extend(session.took(of_step[0].step, passes));
        }
        if !off.is_empty() {
            let (window, layers) = (session.named().config.stop.window, off.join(", "));
            let text = format!(
                "reuse cost cycles over {window} measured steps: from now on without it (stop.window): {layers}"
            );
            *self.news.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        }
    }

    /// What is to be said since the last call.
    pub fn news(&self) -> Option<String> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Evaluates after so many steps: without reuse, and with it if that is how it is trained; the latter's metrics have
    /// `reuse_` before their names. `evaluate` also hears what it does.
    pub fn evaluate(
        &self,
        steps_done: u64,
        mut evaluate: impl FnMut(&mut dyn Tap, &'static str) -> Result<Vec<Evaluation>>,
    ) -> Result<Vec<Evaluation>> {
        let mut evaluations = evaluate(&mut Plain, "validating")?;
        if let Some(session) = &self.training {
            let with = evaluate(&mut session.tap(steps_done, false), "validating with reuse")?;
            // Outcomes of training steps are counted, not these.
            session.take();
            evaluations
                .extend(with.into_iter().map(|row| Evaluation { metric: format!("reuse_{}", row.metric), ..row }));
        }
        Ok(evaluations)
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
