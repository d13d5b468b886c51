//! What bounds reuse and competes with it, counted on the same vectors and scopes as MERCURY's hits, and
//! whether signatures agree as often as angles predict.

use crate::config::Config;
use crate::operand::LayerData;
use crate::replay::Signed;
use mercury_reuse::analytic::{AngleBin, CollisionOptions, collisions};
use mercury_reuse::bounds::{
    CosineOptions, Sampled, WeightRepetition, Zeros, exact_duplicates, ideal_cosine, weight_repetition, zeros,
};
use mercury_reuse::config::Scope;
use mercury_reuse::unlimited_hits;
use mercury_trace::geometry::Pass;
use serde::{Deserialize, Serialize};

/// How many of a pass's vectors, and of its multiplications, other schemes would spare.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Vectors that an MCACHE with room for all would hit at this signature length.
    pub unlimited: u64,
    /// Vectors equal to an earlier one of their scope, element for element: reuse without error.
    pub duplicates: u64,
    /// Vectors with an earlier one of their scope at a cosine of `bounds.cosine` or more.
    pub cosine: Sampled,
    /// Vectors of zeros only, and zero elements.
    pub zeros: Zeros,
    /// Multiplications by weights, and what of them is left where a vector is multiplied once by equal
    /// ones; none in attention products, which have no weights.
    pub repetition: WeightRepetition,
    /// Pairs of vectors of one stream and scope, drawn by the projection's seed, by their angle: how
    /// many share a signature, and how many are expected to.
    pub angles: Vec<AngleBin>,
}

/// Bins of angles from 0 to pi.
pub const BINS: usize = 18;

impl Limits {
    /// Counts them on the vectors of a pass, whose signatures of the configuration's length these are.
    pub fn of(
        data: &LayerData,
        pass: Pass,
        signed: &Signed,
        signatures: &[Vec<u64>],
        scope: Scope,
        config: &Config,
    ) -> Self {
        let bounds = &config.bounds;
        let bits = config.rpq.signature_bits();
        let mut limits = Self::default();
        for (view, signatures) in signed.views.iter().zip(signatures) {
            // Of few vectors there are few pairs, and long vectors take long: no more than there are.
            let layout = view.layout();
            let members = if scope == Scope::Batch { layout.samples * layout.positions } else { layout.positions };
            let distinct = layout.vectors() * members.saturating_sub(1) / 2;
            let angles =
                CollisionOptions { pairs: distinct.min(bounds.pairs as usize), bins: BINS, seed: config.rpq.seed };
            let cosine = CosineOptions {
                exact: bounds.exact_vectors as usize,
                sample: bounds.sampled_vectors as usize,
                seed: config.rpq.seed,
            };
            limits += Self {
                unlimited: unlimited_hits(view.layout(), signatures, bits, scope).into_iter().sum(),
                duplicates: exact_duplicates(view, scope).into_iter().sum(),
                cosine: ideal_cosine(view, scope, bounds.cosine, &cosine).into_iter().sum(),
                zeros: zeros(view).into_iter().fold(Zeros::default(), |mut sum, run| {
                    sum += run;
                    sum
                }),
                repetition: WeightRepetition::default(),
                angles: collisions(view, signatures, scope, &[bits], &angles).bins,
            };
            if !data.weights_change_with_sample() {
                for stream in 0..view.layout().streams {
                    limits.repetition += repetition(data, pass, view, stream, bounds.weight_bits);
                }
            }
        }
        limits
    }

    /// Pairs drawn, those that share a signature, and those expected to.
    pub fn pairs(&self) -> (u64, u64, f64) {
        self.angles.iter().fold((0, 0, 0.0), |(pairs, measured, predicted), bin| {
            (pairs + bin.pairs, measured + bin.measured[0], predicted + bin.predicted[0])
        })
    }
}

/// Weight repetition of what a stream's vectors meet, counted for each vector; a filter is the kept
/// weights of one output.
fn repetition(
    data: &LayerData,
    pass: Pass,
    view: &mercury_reuse::VectorView,
    stream: usize,
    bits: u32,
) -> WeightRepetition {
    let mut sum = WeightRepetition::default();
    let Some(weights) = data.stream_weights(view, pass, 0, stream) else { return sum };
    for output in 0..weights.outputs.len() {
        let filter: Vec<f32> = weights.rows().map(|(_, row)| row[output]).collect();
        sum += weight_repetition(&filter, bits);
    }
    let vectors = (view.layout().samples * view.layout().positions) as u64;
    WeightRepetition { weights: sum.weights * vectors, zero: sum.zero * vectors, distinct: sum.distinct * vectors }
}

impl std::ops::AddAssign for Limits {
    fn add_assign(&mut self, other: Self) {
        self.unlimited += other.unlimited;
        self.duplicates += other.duplicates;
        self.cosine += other.cosine;
        self.zeros += other.zeros;
        self.repetition += other.repetition;
        self.angles.resize_with(other.angles.len().max(self.angles.len()), || AngleBin::of_lengths(1));
        for (sum, bin) in self.angles.iter_mut().zip(&other.angles) {
            sum.add(bin);
        }
    }
}
