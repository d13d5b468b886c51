//! How often each outcome came about.

use super::{Bytes, Measure, Samples};
use mercury_reuse::{Counts, Cut, Outcomes};

/// Counts of each run, by product of a pass.
#[derive(Debug, Clone)]
pub struct CountsMeasure {
    /// `[products][samples][streams]`.
    counts: Vec<Vec<Counts>>,
    /// Runs of all kept samples, over the products.
    runs: u64,
}

impl CountsMeasure {
    /// Begins without samples; `cuts` are those of all kept samples, by product.
    pub fn new(cuts: &[Cut]) -> Self {
        let runs = cuts.iter().map(|cut| cut.layout.runs() as u64).sum();
        Self { counts: vec![Vec::new(); cuts.len()], runs }
    }

    /// Counts of each run, `[products][samples][streams]`.
    pub fn counts(&self) -> &[Vec<Counts>] {
        &self.counts
    }
}

impl Measure for CountsMeasure {
    fn add(&mut self, _: Samples, outcomes: &[Outcomes]) {
        for (sum, outcomes) in self.counts.iter_mut().zip(outcomes) {
            sum.extend(outcomes.counts());
        }
    }

    fn bytes(&self) -> Bytes {
        Bytes { fixed: self.runs.saturating_mul(size_of::<Counts>() as u64), per_sample: 0 }
    }
}
