//! Cycles of a systolic array, baseline and with reuse, by one model: they differ in the Hitmap alone.
//!
//! A dense product of `m x k` by `k x n` on an array of R x C takes, without stalls, as SCALE-Sim
//! (Samajdar et al., ISPASS 2020) counts them:
//!
//! | dataflow | folds | cycles of a fold |
//! | --- | --- | --- |
//! | output stationary | ceil(m/R) ceil(n/C) | R + C + k - 2 |
//! | weight stationary | ceil(k/R) ceil(n/C) | 2R + C + m - 2 |
//! | input stationary | ceil(k/R) ceil(m/C) | 2R + C + n - 2 |
//!
//! SCALE-Sim 3 reports the index of the last cycle, one less in all.
//!
//! With reuse m (in the weight gradient: k) shrinks to the vectors that did not hit, stream by stream.
//!
//! Copies and additions overlap with computing; hits are taken to be spread evenly over the folds of a
//! stream, so waiting is counted for the stream as a whole.
//!
//! Left out: inserting into MCACHE (taken to keep up with computing), memory (see [`memory`], which has its
//! stalls), the latency of a look-up (taken to be pipelined with the signature's computation), and the
//! additions that merge partial sums outside of the array, of which vectors of part of a row need more than
//! packed rows.

mod dataflow;
mod input_stationary;
mod matrix;
pub mod memory;
mod output_stationary;
pub mod row_stationary;
pub mod rows;
mod signing;
mod weight_stationary;

pub use dataflow::{Dataflow, Dealing, DealtCycles, LayerProduct, ProductModel};
pub use matrix::{FoldedDataflow, Folds, MatrixArray, Stationary, folded_dataflow};
pub use signing::SigningUnit;

use mercury_reuse::Counts;
use mercury_trace::geometry::{Gemm, Pass};
use serde::{Deserialize, Serialize};

/// Most rows or columns of an array.
pub const MAX_ARRAY: u32 = 1 << 16;

/// Which operand stays in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum DataflowName {
    /// Output stationary.
    #[serde(rename = "os")]
    #[value(name = "os")]
    OutputStationary,
    /// Weight stationary.
    #[serde(rename = "ws")]
    #[value(name = "ws")]
    WeightStationary,
    /// Input stationary.
    #[serde(rename = "is")]
    #[value(name = "is")]
    InputStationary,
    /// Row stationary, see [`row_stationary`].
    #[serde(rename = "rs")]
    #[value(skip)]
    RowStationary,
}

/// The array's sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Array {
    /// Rows of processing elements, R.
    pub rows: u64,
    /// Columns of processing elements, C.
    pub columns: u64,
    /// Additions a cycle by which a HIT's gradient joins its group's.
    pub accumulate_lanes: u64,
    /// Rows of C results that MCACHE delivers in a cycle.
    pub read_ports: u64,
    /// What computes signatures.
    pub signing: SigningUnit,
}

/// Vectors that meet the same weights, and what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamWork {
    /// Length of each vector.
    pub length: u64,
    /// Outcomes.
    pub counts: Counts,
}

/// One product of a layer's pass.
#[derive(Debug, Clone)]
pub struct Work {
    /// The pass.
    pub pass: Pass,
    /// The dense product, of the whole batch and all channels.
    pub gemm: Gemm,
    /// The streams that were captured, each with the vectors of the whole batch.
    pub streams: Vec<StreamWork>,
    /// How many streams there are: where only some were captured, the cycles of those stand for the
    /// others in proportion.
    pub streams_in_all: u64,
    /// Signature length.
    pub bits: u64,
    /// Scopes into which the vectors of a stream fall, one after the other.
    pub scopes: u64,
}

impl Work {
    /// What the captured streams come to for all.
    pub(crate) fn scale(&self, captured: u64) -> u64 {
        (u128::from(captured) * u128::from(self.streams_in_all) / self.streams.len().max(1) as u128) as u64
    }

    /// Multiply-accumulates that hits make unnecessary.
    pub fn macs_skipped(&self) -> u64 {
        self.sum_streams(|stream| stream.counts.hit * stream.length * self.gemm.n)
    }

    /// The sum of a value over all streams, captured or not.
    pub fn sum_streams(&self, value: impl Fn(&StreamWork) -> u64) -> u64 {
        self.scale(self.streams.iter().map(value).sum())
    }

    /// Results of HITs; in a weight gradient, the gradients that they add to those of their groups.
    pub fn hit_results(&self) -> u64 {
        self.sum_streams(|stream| stream.counts.hit * self.gemm.n)
    }

    /// Streams whose results add up to one.
    pub fn merged_streams(&self) -> u64 {
        self.streams_in_all.div_ceil(self.gemm.count.max(1)).max(1)
    }
}

/// Cycles with reuse.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MercuryCycles {
    /// Computing signatures: on the same array, R's rows as filters.
    pub signature: u64,
    /// Computing the products of vectors that did not hit.
    pub compute: u64,
    /// Waiting for results to be copied, or gradients to be added, beyond that.
    pub stall: u64,
    /// Additions for centroids; norms and means of variants, and what they add to the products.
    pub extra: u64,
}

impl MercuryCycles {
    /// All cycles.
    pub fn total(&self) -> u64 {
        self.signature + self.compute + self.stall + self.extra
    }
}

impl std::ops::AddAssign for MercuryCycles {
    fn add_assign(&mut self, other: Self) {
        self.signature += other.signature;
        self.compute += other.compute;
        self.stall += other.stall;
        self.extra += other.extra;
    }
}

#[cfg(test)]
mod tests;
