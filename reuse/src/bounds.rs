//! What of the work could be saved at most, and by other means than signatures: bounds and
//! competitors to set beside MERCURY.

pub use crate::cosine::{CosineOptions, Sampled, ideal_cosine};

use crate::config::Scope;
use crate::peers::Peers;
use crate::vectors::VectorView;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How many vectors of each run, `[samples][streams]`, equal an earlier one of their stream and
/// scope element for element: what reuse without any error saves.
///
/// Elements are equal where their bits are, except that -0.0 is taken for 0.0: an f32 sum that
/// starts at 0.0 comes out with the same bits from either, so the results are the same. (NaN equals
/// NaN of the same bits.) Vectors are sorted by a hash, and compared themselves where hashes are
/// equal, so the count is exact. O(n (d + log n)) for n vectors of d elements.
pub fn exact_duplicates(view: &VectorView, scope: Scope) -> Vec<u64> {
    let peers = Peers::new(view.layout(), scope);
    let of_group = |group| {
        let mut hashes: Vec<(u64, u32)> = (0..peers.members() as u32)
            .into_par_iter()
            .with_min_len(1 << 12)
            .map_init(
                || vec![0.0; view.max_length()],
                |buffer, member| {
                    let (sample, stream, position) = peers.locate(group, member as usize);
                    (hash(view.gather(sample, stream, position, buffer)), member)
                },
            )
            .collect();
        hashes.par_sort_unstable();
        let mut duplicates = vec![0; peers.samples];
        let mut buffer = vec![0.0; view.max_length()];
        for alike in hashes.chunk_by(|a, b| a.0 == b.0).filter(|alike| alike.len() > 1) {
            // One vector, unless hashes collide.
            let mut distinct: Vec<Vec<f32>> = Vec::new();
            for &(_, member) in alike {
                let (sample, stream, position) = peers.locate(group, member as usize);
                let vector = view.gather(sample, stream, position, &mut buffer);
                if distinct.iter().any(|earlier| equal(earlier, vector)) {
                    duplicates[peers.slot(member as usize)] += 1;
                } else {
                    distinct.push(vector.to_vec());
                }
            }
        }
        duplicates
    };
    let groups: Vec<Vec<u64>> = (0..peers.groups()).into_par_iter().map(of_group).collect();
    peers.by_run(&groups)
}

fn bits(x: f32) -> u32 {
    if x == 0.0 { 0 } else { x.to_bits() }
}

fn equal(a: &[f32], b: &[f32]) -> bool {
    a.iter().zip(b).all(|(&a, &b)| bits(a) == bits(b))
}

/// Multiply and rotate, as in rustc's hash: fast, and good enough for data that nobody chose to
/// collide.
fn hash(vector: &[f32]) -> u64 {
    vector
        .iter()
        .fold(0, |hash: u64, &x| (hash.rotate_left(5) ^ u64::from(bits(x))).wrapping_mul(0x517c_c1b7_2722_0a95))
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
    let of_run = |buffer: &mut Vec<f32>, run: usize| {
        let mut zeros = Zeros::default();
        for position in 0..layout.positions {
            let vector = view.gather(run / layout.streams, run % layout.streams, position, buffer);
            let zero = vector.iter().filter(|&&x| x == 0.0).count();
            zeros.vectors += 1;
            zeros.zero_vectors += u64::from(zero == vector.len());
            zeros.operands += vector.len() as u64;
            zeros.zero_operands += zero as u64;
        }
        zeros
    };
    (0..layout.runs()).into_par_iter().map_init(|| vec![0.0; view.max_length()], of_run).collect()
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
    let most = f64::from((1i32 << (bits - 1)) - 1);
    let largest = f64::from(filter.iter().fold(0.0f32, |largest, w| largest.max(w.abs())));
    let level = |w: &f32| if largest == 0.0 { 0 } else { (f64::from(*w) / largest * most).round_ties_even() as i32 };
    let mut levels: Vec<i32> = filter.iter().map(level).filter(|&level| level != 0).collect();
    let zero = (filter.len() - levels.len()) as u64;
    levels.sort_unstable();
    levels.dedup();
    WeightRepetition { weights: filter.len() as u64, zero, distinct: levels.len() as u64 }
}
