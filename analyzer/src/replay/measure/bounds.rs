//! Bounds and competitors of reuse.

use super::{Bytes, Measure, Samples};
use crate::config::BoundsConfig;
use crate::limits::Limits;
use mercury_reuse::Outcomes;
use mercury_reuse::config::{Rpq, Scope};
use mercury_trace::geometry::Pass;

/// What bounds reuse on the vectors of a pass, signed at one length and looked up in one scope.
pub struct BoundsMeasure {
    source: Pass,
    scope: Scope,
    rpq: Rpq,
    config: BoundsConfig,
    limits: Limits,
}

impl BoundsMeasure {
    /// Bounds on the vectors of `source`, which `rpq` signs at the length in question.
    pub fn new(source: Pass, scope: Scope, rpq: Rpq, config: BoundsConfig) -> Self {
        Self { source, scope, rpq, config, limits: Limits::default() }
    }

    /// The options that these bounds are of.
    pub fn config(&self) -> &BoundsConfig {
        &self.config
    }

    /// The bounds.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

impl Measure for BoundsMeasure {
    /// Adds samples, with their outcomes in a cache with room for all.
    fn add(&mut self, samples: Samples, unlimited: &[Outcomes]) {
        let Self { source, scope, rpq, config, limits } = self;
        limits.add(samples.data, *source, samples.signed, unlimited, *scope, rpq, config);
    }

    fn bytes(&self) -> Bytes {
        // Sums alone: what a vector takes while it is counted is given back before the next measure.
        Bytes::default()
    }
}
