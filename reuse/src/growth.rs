//! Growth of signatures during training when the loss stops falling.

use crate::config::{BitsConfig, MAX_BITS, Rpq};

/// Counts by how many bits signatures have grown, step by step.
///
/// They grow by one bit when the loss has not reached a new minimum for `bits.patience` steps; growth restarts this
/// count. The loss of a step takes effect from the next step on. A step whose loss is unknown (NaN) does not count. This
/// is our reading of the scheme, which says that signatures grow on a plateau.
#[derive(Debug, Clone, PartialEq)]
pub struct Growth {
    patience: u64,
    grown_bits: u32,
    least_loss: f64,
    /// Steps since the last new minimum or the last growth.
    waited: u64,
}

impl Growth {
    /// The state before the first step.
    pub fn new(config: &BitsConfig) -> Self {
        Self { patience: config.patience, grown_bits: 0, least_loss: f64::INFINITY, waited: 0 }
    }

    /// Bits by which signatures have grown before the next step.
    pub fn grown_bits(&self) -> u32 {
        self.grown_bits
    }

    /// Records the loss of a step.
    pub fn step(&mut self, loss: f64) {
        if loss.is_nan() {
            return;
        }
        self.waited += 1;
        if loss < self.least_loss {
            self.least_loss = loss;
            self.waited = 0;
        } else if self.patience > 0 && self.waited >= self.patience {
            self.grown_bits += 1;
            self.waited = 0;
        }
    }
}

/// Bits of a projection, without those of a magnitude, after signatures have grown: at most `bits.max`, which never
/// shortens the initial signature, and at most as many as a matrix from outside has.
pub fn grow(rpq: &Rpq, config: &BitsConfig, grown_bits: u32) -> u32 {
    let longest = (MAX_BITS - rpq.variant.magnitude_bits()).min(rpq.projection.max_bits());
    rpq.bits.saturating_add(grown_bits).min(config.max.min(longest).max(rpq.bits))
}
