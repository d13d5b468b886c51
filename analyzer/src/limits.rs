//! What bounds reuse and competes with it, counted on the same vectors and scopes as MERCURY's hits, and
//! whether signatures agree as often as angles predict.

use crate::config::BoundsConfig;
use crate::operand::LayerData;
use crate::replay::sign::Signed;
use mercury_reuse::Outcomes;
use mercury_reuse::analytic::{AngleBin, CollisionOptions, collisions};
use mercury_reuse::bounds::{
    CosineOptions, Sampled, WeightRepetition, Zeros, exact_duplicates, ideal_cosine, weight_repetition, zeros,
};
use mercury_reuse::config::{Rpq, Scope};
use mercury_trace::geometry::Pass;
use rayon::prelude::*;
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
    /// ones; none in products of two activations, which have no weights.
    pub repetition: WeightRepetition,
    /// Pairs of vectors of one stream and scope, drawn by the projection's seed, by their angle: how
    /// many share a signature, and how many are expected to.
    pub angles: Vec<AngleBin>,
}

/// Bins of angles from 0 to pi.
pub const BINS: usize = 18;

/// Vectors whose reuse is bounded, and how.
#[derive(Debug, Clone)]
pub struct Bounded {
    /// The pass that streams them.
    pub pass: Pass,
    /// When MCACHE is flushed.
    pub scope: Scope,
    /// What signs them, at the length in question; its seed draws samples, too.
    pub rpq: Rpq,
    /// Options of the bounds.
    pub options: BoundsConfig,
}

impl Limits {
    /// Counts them on the vectors of a pass, of the samples that are there as part of all. `unlimited` are their outcomes
    /// in an MCACHE with room for all.
    pub fn add(
        &mut self,
        data: &LayerData,
        signed: &Signed,
        unlimited: &[Outcomes],
        Bounded { pass, scope, rpq, options: bounds }: &Bounded,
    ) {
        let (pass, scope) = (*pass, *scope);
        let (seed, variant) = (rpq.seed, rpq.variant);
        self.unlimited += unlimited.iter().flat_map(Outcomes::counts).map(|counts| counts.hit).sum::<u64>();
        self.angles.resize_with(BINS, || AngleBin::with_lengths(1));
        let mut angles = Vec::with_capacity(signed.views.len());
        for (view, signatures) in signed.views.iter().zip(&signed.signatures) {
            // Of few vectors there are few pairs, and long vectors take long: no more than there are.
            let layout = view.layout();
            let samples = data.kept.samples;
            let members = if scope == Scope::Batch { samples * layout.positions } else { layout.positions };
            let vectors = samples * layout.streams * layout.positions;
            let distinct = vectors * members.saturating_sub(1) / 2;
            let options = CollisionOptions { pairs: distinct.min(bounds.pairs as usize), bins: BINS, seed, variant };
            angles.push(collisions(view, signatures, scope, &[rpq.bits], &options));
            let cosine =
                CosineOptions { exact: bounds.exact_vectors as usize, sample: bounds.sampled_vectors as usize, seed };
            self.duplicates += exact_duplicates(view, scope).into_iter().sum::<u64>();
            self.cosine += ideal_cosine(view, scope, bounds.cosine, &cosine).into_iter().sum();
            for run in zeros(view) {
                self.zeros += run;
            }
            // Every sample meets the same weights.
            if data.first_sample == 0 && !data.kept.weights_change_with_sample() {
                let count_stream = |stream| repetition(data, pass, view, stream, bounds.weight_bits);
                let counts: Vec<WeightRepetition> = (0..layout.streams).into_par_iter().map(count_stream).collect();
                for count_stream in counts {
                    self.repetition += count_stream;
                }
            }
        }
        // Sample by sample, so that sums are rounded alike however many come at a time.
        for sample in 0..angles.iter().map(Vec::len).max().unwrap_or(0) {
            for bins in angles.iter().filter_map(|products| products.get(sample)) {
                for (sum, bin) in self.angles.iter_mut().zip(&bins.bins) {
                    sum.add(bin);
                }
            }
        }
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
    let mut filter: Vec<f32> = Vec::new();
    for output in 0..weights.outputs.len() {
        filter.clear();
        filter.extend(weights.rows().map(|(_, row)| row[output]));
        sum += weight_repetition(&filter, bits);
    }
    let vectors = (data.kept.samples * view.layout().positions) as u64;
    WeightRepetition { weights: sum.weights * vectors, zero: sum.zero * vectors, distinct: sum.distinct * vectors }
}

impl std::ops::AddAssign for Limits {
    fn add_assign(&mut self, other: Self) {
        self.unlimited += other.unlimited;
        self.duplicates += other.duplicates;
        self.cosine += other.cosine;
        self.zeros += other.zeros;
        self.repetition += other.repetition;
        self.angles.resize_with(other.angles.len().max(self.angles.len()), || AngleBin::with_lengths(1));
        for (sum, bin) in self.angles.iter_mut().zip(&other.angles) {
            sum.add(bin);
        }
    }
}
