//! What bounds reuse, counted on the same vectors and scopes as MERCURY's hits.

use crate::config::Config;
use crate::operand::LayerData;
use crate::replay::Similarity;
use mercury_reuse::bounds::{Zeros, exact_duplicates, zeros};
use mercury_reuse::{repeat_histograms, repeat_lengths};

/// How many of a pass's vectors any scheme of a kind could spare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Vectors that an MCACHE with room for all would hit at this signature length.
    pub unlimited: u64,
    /// Vectors equal to an earlier one of their scope, element for element: reuse without error.
    pub duplicates: u64,
    /// Vectors of zeros only, and zero elements.
    pub zeros: Zeros,
}

impl Limits {
    /// Counts them on the vectors of a pass.
    pub fn of(data: &LayerData, similarity: &Similarity, config: &Config) -> Self {
        let scope = data.scope(config.mcache.scope, config.mcache.scope_linear);
        let mut limits = Self::default();
        for (view, signatures) in similarity.views.iter().zip(&similarity.signatures) {
            let lengths = repeat_lengths(view.layout(), signatures, scope);
            let histograms = repeat_histograms(view.layout(), &lengths);
            // Signatures of these bits repeat where all of their bits do.
            limits.unlimited += histograms.iter().map(|histogram| histogram.counts(config.rpq.bits).hit).sum::<u64>();
            limits.duplicates += exact_duplicates(view, scope).into_iter().sum::<u64>();
            for run in zeros(view) {
                limits.zeros += run;
            }
        }
        limits
    }
}

impl std::ops::AddAssign for Limits {
    fn add_assign(&mut self, other: Self) {
        self.unlimited += other.unlimited;
        self.duplicates += other.duplicates;
        self.zeros += other.zeros;
    }
}
