//! What is measured of outcomes, from a layer's samples as they come.

mod bounds;
mod counts;
mod errors;
mod schedule;

pub use bounds::BoundsMeasure;
pub use counts::CountsMeasure;
pub use errors::ErrorMeasure;
pub use schedule::ScheduleMeasure;

use super::sign::Signed;
use crate::operand::LayerData;
use mercury_reuse::Outcomes;

/// Samples of a layer whose vectors were signed.
#[derive(Clone, Copy)]
pub struct Samples<'a> {
    /// Their tensors.
    pub data: &'a LayerData,
    /// Their vectors.
    pub signed: &'a Signed<'a>,
}

/// Something that is added up over the samples of a layer.
pub trait Measure {
    /// Adds the samples that come next, with the outcomes of their vectors by product of the pass.
    fn add(&mut self, samples: Samples, outcomes: &[Outcomes]);

    /// The memory that it takes.
    fn bytes(&self) -> Bytes;
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes {
    /// However many samples are evaluated at a time.
    pub fixed: u64,
    /// For each of these samples.
    pub per_sample: u64,
}

impl std::ops::AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        self.fixed = self.fixed.saturating_add(other.fixed);
        self.per_sample = self.per_sample.saturating_add(other.per_sample);
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |mut sum, bytes| {
            sum += bytes;
            sum
        })
    }
}
