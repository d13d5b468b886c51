//! What of the work could be saved at most, and by other means than signatures: bounds and
//! competitors to set beside MERCURY.

pub use crate::cosine::{CosineOptions, Sampled, ideal_cosine};

use crate::config::{Scope, SetIndex};
use crate::equality::Equality;
use crate::peers::Peers;
use crate::repeated::{Table, count_repeats};
use crate::scan::Sweep;
use crate::vectors::VectorView;
use crate::widest::simd_dispatch;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How many vectors of each run, `[samples][streams]`, equal an earlier one of their stream and
/// scope element for element: what reuse without any error saves.
///
/// Elements are equal where their bits are, except that -0.0 is taken for 0.0: an f32 sum that
/// starts at 0.0 comes out with the same bits from either, so the results are the same. (NaN equals
/// NaN of the same bits.) Vectors are found by a hash, and compared themselves where hashes are
/// equal, so the count is exact. O(n d) for n vectors of d elements.
pub fn exact_duplicates(view: &VectorView, scope: Scope) -> Vec<u64> {
    let peers = Peers::new(view.layout(), scope);
    let sweep = Sweep::new(view);
    let of_group = |(table, hashes): &mut (Table, Vec<u64>), group: usize| {
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
        // Vectors of zeros, the most common duplicates, are equal without a look.
        let zero = |member: u32| sweep.zero_is_exact() && hashes[member as usize] == 0;
        count_repeats(table, hashes, peers.positions(), |a, b| zero(b) || equality.of(a, b))
    };
    if view.layout().positions == 0 {
        return vec![0; view.layout().runs()];
    }
    let groups: Vec<Vec<u64>> = (0..peers.groups()).into_par_iter().map_init(Default::default, of_group).collect();
    peers.by_run(&groups)
}

/// Zeros of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zeros {
    /// Vectors in all.
    pub vectors: u64,
    /// Vectors of zeros only: skipping them saves their share of the products.
    pub zero_vectors: u64,
    /// Elements of all vectors, those of the padding too.
    pub operands: u64,
    /// Elements that are zero: skipping every one saves their share of the multiplications.
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

/// Zeros, 0.0 and -0.0, of each run, `[samples][streams]`.
///
/// An element counts in each vector that it is in, as it is multiplied in each; the padding's zeros
/// count as any others.
pub fn zeros(view: &VectorView) -> Vec<Zeros> {
    let layout = view.layout();
    let sweep = Sweep::new(view);
    let of_run = |counts: &mut Vec<u32>, run: usize| {
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
    };
    (0..layout.runs()).into_par_iter().map_init(|| vec![0; sweep.block()], of_run).collect()
}

/// Weights of a filter that factorisation by equal weights multiplies by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightRepetition {
    /// Weights in all: multiplications a vector without factorisation.
    pub weights: u64,
    /// Weights that quantise to zero.
    pub zero: u64,
    /// Distinct quantised weights other than zero: multiplications a vector with it.
    pub distinct: u64,
}

impl WeightRepetition {
    /// Share of the multiplications that is saved. The additions of the zero weights are saved, too;
    /// all others stay.
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

/// Weight repetition of one filter (UCNN-like, Hegde et al., ISCA 2018): elements that meet equal
/// weights are added up first and multiplied once, so a vector takes a multiplication for each
/// distinct weight, and none for zero.
///
/// `filter` are the weights that one vector meets, such as k x k of a channel; a longer vector
/// repeats more. They are quantised symmetrically with a scale of the filter's own, to
/// `w / max |w| * (2^(bits - 1) - 1)`, rounded to nearest, ties to even; -w and w are distinct. A filter
/// of zeros has none to multiply by.
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
    let mut met = vec![0_u64; (2 * most as usize + 1).div_ceil(64)];
    for &level in &levels {
        let level = (level + most) as usize;
        met[level / 64] |= 1 << (level % 64);
    }
    let zero = levels.iter().filter(|&&level| level == 0).count() as u64;
    let distinct = met.iter().map(|bits| u64::from(bits.count_ones())).sum::<u64>() - u64::from(zero > 0);
    WeightRepetition { weights: filter.len() as u64, zero, distinct }
}
