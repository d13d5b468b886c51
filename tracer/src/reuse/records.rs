//! Measurements of the passes of one step.

use super::lock;
use mercury_reuse::{Counts, Deviation};
use mercury_trace::geometry::Pass;
use std::sync::{Arc, Mutex};

/// One pass of a layer that was computed with reuse in a step.
#[derive(Debug, Clone, PartialEq)]
pub struct PassMeasurement {
    /// The layer's name.
    pub layer: String,
    /// The pass.
    pub pass: Pass,
    /// Bits of a signature.
    pub signature_bits: u32,
    /// HIT, MAU and MNU counts of its vectors; the weight gradient has the forward pass's.
    pub counts: Counts,
    /// The comparison with the exact pass, in steps that compare.
    pub comparison: Option<PassComparison>,
}

/// A pass with reuse compared with the exact pass on the same operands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PassComparison {
    /// Deviation of the result with reuse from the exact result.
    pub deviation: Deviation,
    /// Cycles on the configuration's array: without reuse, with reuse.
    pub cycles: [u64; 2],
}

/// Collects the measurements of one step.
///
/// libtorch owns and calls the layers' backward passes, so they share this list through clones of
/// it.
#[derive(Debug, Clone, Default)]
pub(super) struct StepRecords(Arc<Mutex<Vec<PassMeasurement>>>);

impl StepRecords {
    /// Adds the measurement of a pass.
    pub fn add(&self, measurement: PassMeasurement) {
        lock(&self.0).push(measurement);
    }

    /// Returns all measurements, by layer name and pass.
    pub fn into_sorted(self) -> Vec<PassMeasurement> {
        let mut measurements = std::mem::take(&mut *lock(&self.0));
        // libtorch orders the backward passes of layers.
        measurements.sort_by(|a, b| (&a.layer, a.pass).cmp(&(&b.layer, b.pass)));
        measurements
    }
}
