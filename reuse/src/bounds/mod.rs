//! Upper bounds of what reuse can save, and savings of other methods, to compare MERCURY with.

pub mod analytic;
mod cosine;
mod equality;
mod repeated;
mod scan;

pub use cosine::{CosineOptions, Sampled, ideal_cosine};

use crate::config::{Scope, SetIndex};
use crate::simd::simd_dispatch;
use crate::vectors::VectorView;
use crate::vectors::peers::Peers;
use equality::Equality;
use rayon::prelude::*;
use repeated::{Table, count_repeats};
use scan::Sweep;
use serde::{Deserialize, Serialize};

/// Counts the vectors of each run, `[samples][streams]`, that equal an earlier vector of their
/// stream and scope in every element. Reusing these causes no error.
///
/// Elements are equal if their bits are, except that -0.0 equals 0.0: an f32 sum that starts at 0.0
/// has the same bits with either, so the results are the same. (NaN equals NaN of the same bits.)
/// A hash finds candidates, and vectors with equal hashes are compared, so the count is exact.
/// O(n d) for n vectors of d elements.
pub fn exact_duplicates(view: &VectorView, scope: Scope) -> Vec<u64> {
    let peers = Peers::new(view.layout(), scope);
    let sweep = Sweep::new(view);
    if view.layout().positions == 0 {
        return vec![0; view.layout().runs()];
    }
    let groups: Vec<Vec<u64>> = (0..peers.groups())
        .into_par_iter()
        .map_init(Default::default, |(table, hashes): &mut (Table, Vec<u64>), group| {
            count_group_duplicates(view, peers, &sweep, group, table, hashes)
        })
        .collect();
    peers.by_run(&groups)
}

/// Counts the duplicates in each run of a group. `table` and `hashes` are buffers.
fn count_group_duplicates(
    view: &VectorView,
    peers: Peers,
    sweep: &Sweep,
    group: usize,
    table: &mut Table,
    hashes: &mut Vec<u64>,
) -> Vec<u64> {
    let (first, stream, _) = peers.locate(group, 0);
    hashes.resize(peers.members(), 0);
    hashes.par_chunks_mut(peers.positions()).enumerate().for_each(|(slot, run)| {
        run.par_chunks_mut(sweep.block()).enumerate().for_each(|(block, hashes)| {
            sweep.hashes(first + slot, stream, block * sweep.block_rows(), hashes);
            for hash in hashes {
                *hash = SetIndex::Mixed.key(*hash);
            }
        });
    });
    let equality = Equality::new(view, first, stream);
    // Vectors of zeros, the most common duplicates, need no comparison.
    let is_zero = |member: u32| sweep.zero_is_exact() && hashes[member as usize] == 0;
    count_repeats(table, hashes, peers.positions(), |a, b| is_zero(b) || equality.are_equal(a, b))
}

/// Counts of zeros in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zeros {
    /// Vectors in all.
    pub vectors: u64,
    /// Vectors of zeros only. Skipping them saves their share of the dot products.
    pub zero_vectors: u64,
    /// Elements of all vectors, including the padding.
    pub operands: u64,
    /// Elements that are zero. Skipping all of them saves their share of the multiplications.
    pub zero_operands: u64,
}

impl std::ops::AddAssign for Zeros {
    fn add_assign(&mut self, other: Self) {
        self.vectors += other.vectors;
        self.zero_vectors += other.zero_vectors;
        self.operands += other.operands;
        self.zero_operands += other.zero_operands;
    }
}

/// Counts the zeros, 0.0 and -0.0, of each run, `[samples][streams]`.
///
/// An element counts once for each vector that contains it, because each of these vectors
/// multiplies it. The zeros of the padding count, too.
pub fn zeros(view: &VectorView) -> Vec<Zeros> {
    let sweep = Sweep::new(view);
    (0..view.layout().runs())
        .into_par_iter()
        .map_init(|| vec![0_u32; sweep.block()], |counts, run| count_zeros(view, &sweep, run, counts))
        .collect()
}

/// Counts the zeros of one run. `counts` is a buffer of [`Sweep::block`] elements.
fn count_zeros(view: &VectorView, sweep: &Sweep, run: usize, counts: &mut [u32]) -> Zeros {
    let layout = view.layout();
    let (sample, stream) = (run / layout.streams, run % layout.streams);
    let length = view.streams()[stream].length as u64;
    let mut nonzero = 0;
    let mut zero_vectors = 0;
    for first in (0..layout.positions).step_by(sweep.block()) {
        let counts = &mut counts[..sweep.block().min(layout.positions - first)];
        sweep.nonzeros(sample, stream, first / sweep.block() * sweep.block_rows(), counts);
        nonzero += counts.iter().map(|&count| u64::from(count)).sum::<u64>();
        zero_vectors += counts.iter().filter(|&&count| count == 0).count() as u64;
    }
    let (vectors, operands) = (layout.positions as u64, layout.positions as u64 * length);
    Zeros { vectors, zero_vectors, operands, zero_operands: operands - nonzero }
}

/// The multiplications of a filter, with and without factorisation by equal weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightRepetition {
    /// All weights: multiplications per vector without factorisation.
    pub weights: u64,
    /// Weights that quantise to zero.
    pub zero: u64,
    /// Distinct quantised weights other than zero: multiplications per vector with factorisation.
    pub distinct: u64,
}

impl WeightRepetition {
    /// Share of the multiplications that factorisation saves; 0 for a filter without weights. Of
    /// the additions it saves only those of zero weights.
    pub fn saved(&self) -> f64 {
        if self.weights == 0 { 0.0 } else { 1.0 - self.distinct as f64 / self.weights as f64 }
    }
}

impl std::ops::AddAssign for WeightRepetition {
    fn add_assign(&mut self, other: Self) {
        self.weights += other.weights;
        self.zero += other.zero;
        self.distinct += other.distinct;
    }
}

/// Counts the distinct weights of one filter, for weight repetition (UCNN-like, Hegde et al., ISCA
/// 2018).
///
/// Weight repetition adds up the elements that meet equal weights before it multiplies. So a vector
/// takes one multiplication for each distinct weight, and none for zero.
///
/// `filter` holds the weights that one vector meets, such as k x k of a channel; longer vectors
/// have more repetition. The weights are quantised to `w / max |w| * (2^(bits - 1) - 1)`, where the
/// maximum is over this filter, and rounded to nearest, ties to even. -w and w are distinct. A
/// filter of zeros has no distinct weights.
///
/// # Panics
/// If `bits` is not within 2 to 16, or a weight is not finite.
pub fn weight_repetition(filter: &[f32], bits: u32) -> WeightRepetition {
    assert!((2..=16).contains(&bits), "{bits} bits");
    assert!(filter.iter().all(|w| w.is_finite()), "weights are finite");
    let most = (1i32 << (bits - 1)) - 1;
    let largest = f64::from(filter.iter().fold(0.0f32, |largest, w| largest.max(w.abs())));
    if largest == 0.0 {
        return WeightRepetition { weights: filter.len() as u64, zero: filter.len() as u64, distinct: 0 };
    }
    let mut levels = vec![0; filter.len()];
    simd_dispatch(|| {
        for (level, w) in levels.iter_mut().zip(filter) {
            *level = (f64::from(*w) / largest * f64::from(most)).round_ties_even() as i32;
        }
    });
    // A bit for each level.
    let mut seen = vec![0_u64; (2 * most as usize + 1).div_ceil(64)];
    for &level in &levels {
        let level = (level + most) as usize;
        seen[level / 64] |= 1 << (level % 64);
    }
    let zero = levels.iter().filter(|&&level| level == 0).count() as u64;
    let seen_levels: u64 = seen.iter().map(|bits| u64::from(bits.count_ones())).sum();
    let distinct = seen_levels - u64::from(zero > 0);
    WeightRepetition { weights: filter.len() as u64, zero, distinct }
}
