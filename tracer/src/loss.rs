//! The loss of a batch.

use crate::datasets::Batch;
use crate::evaluate::{flatten, ignored_label};
use crate::models::ModelOutput;
use tch::{Reduction, Tensor};

/// Weight of an auxiliary head's loss (Szegedy et al., CVPR 2015, section 5).
const AUXILIARY_WEIGHT: f64 = 0.3;

/// Computes the loss in nats: the mean cross entropy, plus the weighted loss of auxiliary heads.
pub fn compute_loss(output: &ModelOutput, batch: &Batch, label_smoothing: f64) -> Tensor {
    let main = cross_entropy(&output.scores, batch, label_smoothing);
    output
        .auxiliary
        .iter()
        .fold(main, |loss, scores| loss + cross_entropy(scores, batch, label_smoothing) * AUXILIARY_WEIGHT)
}

fn cross_entropy(scores: &Tensor, batch: &Batch, label_smoothing: f64) -> Tensor {
    let (scores, labels) = flatten(scores, batch);
    let ignored = ignored_label(batch);
    scores.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, ignored, label_smoothing)
}
