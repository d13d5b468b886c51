//! What bounds reuse, counted on the same vectors and scopes as MERCURY's hits, and whether signatures
//! agree as often as angles predict.

use crate::config::Config;
use crate::replay::Signed;
use mercury_reuse::analytic::{CollisionOptions, collisions};
use mercury_reuse::bounds::{Zeros, exact_duplicates, zeros};
use mercury_reuse::config::Scope;
use mercury_reuse::{repeat_histograms, repeat_lengths};
use serde::{Deserialize, Serialize};

/// How many of a pass's vectors any scheme of a kind could spare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Vectors that an MCACHE with room for all would hit at this signature length.
    pub unlimited: u64,
    /// Vectors equal to an earlier one of their scope, element for element: reuse without error.
    pub duplicates: u64,
    /// Vectors of zeros only, and zero elements.
    pub zeros: Zeros,
    /// Pairs of vectors of one stream and scope, drawn by the projection's seed.
    pub pairs: u64,
    /// Of these, how many share a signature.
    pub collisions: u64,
    /// How many are expected to: the sum of (1 - angle / pi)^bits.
    pub predicted: f64,
}

/// Pairs drawn for each product of a pass.
const PAIRS: usize = 1 << 12;

impl Limits {
    /// Counts them on the vectors of a pass, whose signatures of the configuration's length these are.
    pub fn of(signed: &Signed, signatures: &[Vec<u64>], scope: Scope, config: &Config) -> Self {
        let mut limits = Self::default();
        for (view, signatures) in signed.views.iter().zip(signatures) {
            let lengths = repeat_lengths(view.layout(), signatures, scope);
            let histograms = repeat_histograms(view.layout(), &lengths);
            // Signatures of these bits repeat where all of their bits do.
            limits.unlimited +=
                histograms.iter().map(|histogram| histogram.counts(config.rpq.signature_bits()).hit).sum::<u64>();
            limits.duplicates += exact_duplicates(view, scope).into_iter().sum::<u64>();
            for run in zeros(view) {
                limits.zeros += run;
            }
            let options = CollisionOptions { pairs: PAIRS, bins: 1, seed: config.rpq.seed };
            for bin in collisions(view, signatures, scope, &[config.rpq.bits], &options).bins {
                limits.pairs += bin.pairs;
                limits.collisions += bin.measured[0];
                limits.predicted += bin.predicted[0];
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
        self.pairs += other.pairs;
        self.collisions += other.collisions;
        self.predicted += other.predicted;
    }
}
