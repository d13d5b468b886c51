//! Growth of signatures during training when the loss stops falling.

use crate::config::{BitsConfig, MAX_BITS, Rpq};

/// The current signature length, updated step by step.
///
/// Signatures start with `rpq.bits` bits. They grow by one bit, up to `bits.max`, when the loss has
/// not reached a new minimum for `bits.patience` steps; growth restarts this count. The loss of a
/// step takes effect from the next step on. NaN is never a new minimum. This is our reading of the
/// scheme, which says that signatures grow on a plateau.
#[derive(Debug, Clone, PartialEq)]
pub struct Growth {
    patience: u64,
    max_bits: u32,
    bits: u32,
    least_loss: f64,
    /// Steps since the last new minimum or the last growth.
    waited: u64,
}

impl Growth {
    /// The state before the first step.
    pub fn new(rpq: &Rpq, config: &BitsConfig) -> Self {
        let longest = MAX_BITS - rpq.variant.magnitude_bits();
        Self {
            patience: config.patience,
            max_bits: config.max.min(longest).max(rpq.bits),
            bits: rpq.bits,
            least_loss: f64::INFINITY,
            waited: 0,
        }
    }

    /// Bits of the projection in the next step, without the bits of a magnitude.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Records the loss of a step.
    pub fn step(&mut self, loss: f64) {
        self.waited += 1;
        if loss < self.least_loss {
            self.least_loss = loss;
            self.waited = 0;
        } else if self.patience > 0 && self.waited >= self.patience {
            self.bits = (self.bits + 1).min(self.max_bits);
            self.waited = 0;
        }
    }
}
