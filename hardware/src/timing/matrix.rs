//! Arrays that run matrix products in folds.

use super::dataflow::{Dataflow, DealtCycles, LayerProduct, ProductModel};
use super::memory::{MemoryModel, ProductWords, Traffic};
use super::signing::{SigningUnit, wait_for_streams};
use super::{Array, DataflowName, MercuryCycles, StreamWork, Work};
use super::{input_stationary, output_stationary, weight_stationary};
use mercury_reuse::config::{Granularity, Scope};
use mercury_trace::geometry::{Gemm, Pass};
use std::any::Any;
use std::fmt::Debug;

/// The dataflow that runs matrix products in folds; `None` for row stationary, which runs planes.
pub fn folded_dataflow(name: DataflowName) -> Option<&'static dyn FoldedDataflow> {
    match name {
        DataflowName::OutputStationary => Some(&output_stationary::OutputStationary),
        DataflowName::WeightStationary => Some(&weight_stationary::WeightStationary),
        DataflowName::InputStationary => Some(&input_stationary::InputStationary),
        DataflowName::RowStationary => None,
    }
}

/// The operand that stays in the array during a fold; it decides the order of folds and so the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stationary {
    /// The right operand: elements of filters.
    Weights,
    /// Partial sums.
    Outputs,
    /// The left operand: elements of vectors.
    Inputs,
}

/// Folds of a dense product: the pieces that fill the array one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Folds {
    /// Folds over the array's rows.
    pub rows: u64,
    /// Folds over its columns.
    pub columns: u64,
    /// Cycles of each.
    pub cycles: u64,
}

/// How an array runs a matrix product in folds.
pub trait FoldedDataflow: Debug + Sync {
    /// Its name in words.
    fn name(&self) -> &'static str;

    /// The operand that stays in the array during a fold.
    fn stationary(&self) -> Stationary;

    /// Folds of a dense product.
    fn folds(&self, array: &Array, m: u64, k: u64, n: u64) -> Folds;

    /// Cycles of a dense product.
    fn dense(&self, array: &Array, m: u64, k: u64, n: u64) -> u64 {
        let folds = self.folds(array, m, k, n);
        folds.rows * folds.columns * folds.cycles
    }

    /// Whether vectors of this granularity can be dropped one by one; if not, why and what to do.
    fn check(&self, granularity: Granularity) -> Result<(), String>;

    /// Cycles of copying the results of `hits` vectors: C results a cycle and port, for each fold of
    /// the filters anew.
    fn copies(&self, array: &Array, hits: u64, filters: u64) -> u64 {
        filters.div_ceil(array.columns) * hits.div_ceil(array.read_ports)
    }

    /// Compute and stall cycles of a stream's products in the forward pass or the input gradient:
    /// only vectors that did not hit are computed, the results of the others are copied, C of them a
    /// cycle and port, while the array computes.
    fn products(&self, array: &Array, stream: &StreamWork, filters: u64) -> (u64, u64) {
        let computed = stream.counts.computed();
        let compute = if computed == 0 { 0 } else { self.dense(array, computed, stream.length, filters) };
        let copies = self.copies(array, stream.counts.hit, filters);
        (compute, copies.saturating_sub(compute))
    }

    /// Compute and stall cycles of a stream's share of the weight gradient: the reduction runs over
    /// the vectors that did not hit; the output gradients of the others are added to those of their
    /// representatives, one addition a filter, while the array computes.
    fn reduction(&self, array: &Array, stream: &StreamWork, filters: u64) -> (u64, u64) {
        let computed = stream.counts.computed();
        let compute = if computed == 0 { 0 } else { self.dense(array, stream.length, computed, filters) };
        let additions = (stream.counts.hit * filters).div_ceil(array.accumulate_lanes);
        (compute, additions.saturating_sub(compute))
    }

    /// Cycles of all `count` dense products: the baseline.
    fn product(&self, array: &Array, gemm: Gemm) -> u64 {
        gemm.count * self.dense(array, gemm.m, gemm.k, gemm.n)
    }

    /// As [`product`](Self::product), or none where the cycles do not fit 64 bits.
    fn checked_product(&self, array: &Array, gemm: Gemm) -> Option<u64> {
        let folds = self.folds(array, gemm.m, gemm.k, gemm.n);
        folds.rows.checked_mul(folds.columns)?.checked_mul(folds.cycles)?.checked_mul(gemm.count)
    }

    /// Cycles with reuse.
    fn mercury(&self, array: &Array, work: &Work) -> MercuryCycles {
        let time = |stream| match work.pass {
            Pass::WeightGrad => self.reduction(array, stream, work.gemm.n),
            Pass::Forward | Pass::InputGrad => self.products(array, stream, work.gemm.n),
        };
        let times: Vec<(u64, u64)> = work.streams.iter().map(time).collect();
        MercuryCycles {
            signature: self.signatures(array, work, &times),
            compute: work.scale(times.iter().map(|(compute, _)| compute).sum()),
            stall: work.scale(times.iter().map(|(_, stall)| stall).sum()),
            extra: 0,
        }
    }

    /// Cycles of computing signatures, or of waiting for them; `times` are the compute and stall cycles of each stream.
    fn signatures(&self, array: &Array, work: &Work, times: &[(u64, u64)]) -> u64 {
        if work.pass == Pass::WeightGrad {
            return 0;
        }
        match array.signing {
            SigningUnit::Free => 0,
            SigningUnit::Array => {
                let sign = |stream: &StreamWork| self.dense(array, stream.counts.vectors(), stream.length, work.bits);
                work.scale(work.streams.iter().map(sign).sum())
            }
            SigningUnit::Dedicated { .. } => {
                let times: Vec<u64> = times.iter().map(|(compute, stall)| compute + stall).collect();
                let scale = |waits| work.scale(waits);
                wait_for_streams(array.signing, &work.streams, &times, work.bits, work.scopes, scale)
            }
        }
    }
}

/// An array of some size that runs matrix products in folds.
#[derive(Debug, Clone, Copy)]
pub struct MatrixArray {
    /// The array's sizes.
    pub array: Array,
    /// Its dataflow.
    pub dataflow: &'static dyn FoldedDataflow,
}

impl Dataflow for MatrixArray {
    fn name(&self) -> &'static str {
        self.dataflow.name()
    }

    fn check(&self, granularity: Granularity, _: Scope) -> Result<(), String> {
        self.dataflow.check(granularity)
    }

    fn is_equal(&self, other: &dyn Dataflow) -> bool {
        let other = (other as &dyn Any).downcast_ref::<Self>();
        other.is_some_and(|other| other.array == self.array && other.name() == self.name())
    }

    fn model(&self, product: &LayerProduct) -> Box<dyn ProductModel> {
        Box::new(MatrixProduct { array: *self, gemm: product.gemm(), words: ProductWords::new(product) })
    }
}

struct MatrixProduct {
    array: MatrixArray,
    gemm: Gemm,
    words: ProductWords,
}

impl ProductModel for MatrixProduct {
    fn baseline(&self) -> u64 {
        self.array.dataflow.product(&self.array.array, self.gemm)
    }

    fn mercury(&self, work: &Work, _: Option<DealtCycles>) -> MercuryCycles {
        self.array.dataflow.mercury(&self.array.array, work)
    }

    fn peak_results(&self) -> Option<f64> {
        let Array { columns, read_ports, .. } = self.array.array;
        Some((columns * read_ports) as f64)
    }

    fn is_hit_a_bound(&self) -> bool {
        // More results than the array has PEs to take them.
        self.array.array.read_ports > self.array.array.rows
    }

    fn baseline_traffic(&self, memory: &MemoryModel) -> Traffic {
        memory.dense_folds(self.array.dataflow, &self.words, self.baseline())
    }

    fn traffic(&self, memory: &MemoryModel, work: &Work, _: MercuryCycles) -> Traffic {
        memory.reused_folds(self.array.dataflow, &self.words, work)
    }
}
