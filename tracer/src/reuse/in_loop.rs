//! Reuse in the loop of a training run.

use super::exact::deviation;
use super::records::{PassComparison, PassMeasurement};
use super::session::Session;
use super::tap::ReuseTap;
use crate::error::Result;
use crate::policy::Policy;
use crate::tap::{Plain, Tap};
use mercury_reuse::Deviation;
use mercury_trace::evaluations::Evaluation;
use mercury_trace::measurements::{LossChange, Measurement, Measurements};
use tch::Tensor;

/// The configurations of reuse in a training run.
#[derive(Debug)]
pub struct InLoop {
    /// The configuration that training steps use; `None` trains without reuse.
    pub training: Option<Session>,
    /// Configurations that measured steps also try, on the same weights and samples. They do not
    /// affect the training.
    pub probes: Vec<Session>,
    /// Steps in which reuse is compared with exact computation.
    pub measure: Policy,
}

impl InLoop {
    /// All configurations.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.training.iter().chain(&self.probes)
    }

    /// Records the loss of a training step in all configurations.
    pub fn record_loss(&mut self, loss: f64) {
        for session in self.training.iter_mut().chain(&mut self.probes) {
            session.record_loss(loss);
        }
    }

    /// Records the training configuration's cycles in measured steps; `rows` are in the order of
    /// steps.
    ///
    /// Layers for which reuse does not pay run without it from now on; the notice returned names
    /// them. Probes keep reuse in all layers.
    pub fn record_cycles(&mut self, rows: &[Measurement]) -> Option<String> {
        let session = self.training.as_mut()?;
        let name = session.configuration().name.clone();
        let rows: Vec<_> = rows.iter().filter(|row| row.configuration == name).collect();
        let mut switched_off = Vec::new();
        for step_rows in rows.chunk_by(|a, b| a.step == b.step) {
            let step = step_rows[0].step;
            let passes = step_rows.iter().map(|row| (row.layer.as_str(), [row.baseline_cycles, row.mercury_cycles]));
            switched_off.extend(session.record_cycles(step, passes));
        }
        if switched_off.is_empty() {
            return None;
        }
        let window = session.configuration().config.stop.window;
        Some(format!(
            "layers switched off, because reuse cost cycles over {window} measured steps (stop.window): {}",
            switched_off.join(", ")
        ))
    }

    /// Evaluates without reuse, and again with the training configuration if there is one.
    ///
    /// The metrics of the second evaluation begin with `reuse_`. `evaluate` also gets a description
    /// of the activity. `steps_done` training steps came before.
    pub fn evaluate(
        &self,
        steps_done: u64,
        mut evaluate: impl FnMut(&mut dyn Tap, &'static str) -> Result<Vec<Evaluation>>,
    ) -> Result<Vec<Evaluation>> {
        let mut evaluations = evaluate(&mut Plain, "validating")?;
        if let Some(session) = &self.training {
            let mut tap = ReuseTap::new(session, steps_done, false);
            for row in evaluate(&mut tap, "validating with reuse")? {
                evaluations.push(Evaluation { metric: format!("reuse_{}", row.metric), ..row });
            }
        }
        Ok(evaluations)
    }

    /// Whether a step is measured.
    pub fn measures(&self, step: u64, steps_per_epoch: u64) -> bool {
        self.sessions().next().is_some() && self.measure.captures(step, steps_per_epoch)
    }
}

/// The loss of a batch and its gradients.
pub struct LossGradients<'a> {
    /// The loss.
    pub loss: f64,
    /// With respect to each parameter; undefined where the loss does not depend on it.
    pub gradients: &'a [Tensor],
}

/// Compares a step with reuse with the same step without; `passes` are the measurements of its tap.
pub fn measure_step(
    session: &Session,
    step: u64,
    passes: Vec<PassMeasurement>,
    exact: &LossGradients,
    reused: &LossGradients,
) -> Measurements {
    let mut all = Deviation::default();
    for (exact, reused) in exact.gradients.iter().zip(reused.gradients) {
        if exact.defined() && reused.defined() {
            all += deviation(exact, reused);
        }
    }
    let change = LossChange {
        step,
        configuration: session.configuration().name.clone(),
        signature_bits: session.signature_bits(),
        loss: exact.loss,
        loss_change: reused.loss - exact.loss,
        gradient_error: all.relative(),
        gradient_cosine: all.cosine(),
        gradient_norm_ratio: all.norm_ratio(),
    };
    let layers = passes.into_iter().filter_map(|pass| create_row(session, step, pass)).collect();
    Measurements { layers, steps: vec![change] }
}

/// The table row of a pass; `None` if the pass was not compared.
fn create_row(session: &Session, step: u64, measurement: PassMeasurement) -> Option<Measurement> {
    let PassMeasurement { layer, pass, signature_bits, counts, comparison } = measurement;
    let PassComparison { deviation, cycles: [baseline_cycles, mercury_cycles] } = comparison?;
    Some(Measurement {
        step,
        configuration: session.configuration().name.clone(),
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
}
