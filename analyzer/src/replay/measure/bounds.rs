//! Bounds and competitors of reuse.

use super::{Bytes, Measure, Samples};
use crate::config::BoundsConfig;
use crate::limits::{Bounded, Limits};
use mercury_reuse::Outcomes;

/// Bounds of reuse on the vectors of a pass, signed at one length and looked up in one scope.
pub struct BoundsMeasure {
    bounded: Bounded,
    limits: Limits,
}

impl BoundsMeasure {
    /// Begins with no samples.
    pub fn new(bounded: Bounded) -> Self {
        Self { bounded, limits: Limits::default() }
    }

    /// The options.
    pub fn config(&self) -> &BoundsConfig {
        &self.bounded.options
    }

    /// The bounds.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

impl Measure for BoundsMeasure {
    /// Adds samples, with their outcomes in a cache with room for all.
    fn add(&mut self, samples: Samples, unlimited: &[Outcomes]) {
        self.limits.add(samples.data, samples.signed, unlimited, &self.bounded);
    }

    fn bytes(&self) -> Bytes {
        // Sums alone. Hash tables of the vectors of a scope are within what a vector takes for its outcomes.
        Bytes::default()
    }
}
