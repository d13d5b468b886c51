//! Signatures that grow during training while the loss stands still.

use crate::config::{BitsConfig, MAX_BITS, Rpq};

/// The signature length in force, step by step.
///
/// Signatures begin with `rpq.bits` bits and grow by one each time the loss has not fallen below its
/// least value so far for `bits.patience` steps since it last did or since they last grew, up to
/// `bits.max`. A step's own loss counts from the next step on. A loss that is not a number is no fall.
/// Our reading of the scheme, which says that signatures grow on a plateau.
#[derive(Debug, Clone, PartialEq)]
pub struct Growth {
    patience: u64,
    most: u32,
    bits: u32,
    least: f64,
    waited: u64,
}

impl Growth {
    /// Before the first step.
    pub fn new(rpq: &Rpq, config: &BitsConfig) -> Self {
        let longest = MAX_BITS - rpq.variant.magnitude_bits();
        let most = config.max.min(longest).max(rpq.bits);
        Self { patience: config.patience, most, bits: rpq.bits, least: f64::INFINITY, waited: 0 }
    }

    /// Bits of the projection in the step that comes next; those of a magnitude come on top.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Hears the loss of a step.
    pub fn step(&mut self, loss: f64) {
        self.waited += 1;
        if loss < self.least {
            (self.least, self.waited) = (loss, 0);
        } else if self.patience > 0 && self.waited >= self.patience {
            (self.bits, self.waited) = ((self.bits + 1).min(self.most), 0);
        }
    }
}
