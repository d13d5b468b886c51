//! What reuse adds to a product's traffic, and matrix products with it, stream by stream.

use super::accesses::{Accesses, Words};
use super::folds::{Folds, Operands};
use super::roofline::Roofline;
use super::{MemoryModel, ProductWords, Traffic};
use crate::timing::{FoldedDataflow, SigningUnit, Stationary, StreamWork, Work};
use mercury_trace::geometry::Pass;

impl MemoryModel {
    /// Accesses of signatures, Hitmap and MCACHE for a stream, and of copied results or added gradients;
    /// the Hitmap is read `sweeps` times.
    pub(super) fn look_ups(&self, work: &Work, stream: &StreamWork, sweeps: u64) -> Accesses {
        let (counts, filters) = (stream.counts, work.gemm.n);
        let vectors = counts.vectors();
        let signatures = self.memory.words_of_bytes(self.signatures.width, vectors);
        let hitmap = self.memory.words_of_bits(2 * vectors);
        let mut found = Accesses { mcache: vectors + counts.mau, ..Accesses::default() };
        found.buffer.similarity = Words { reads: signatures + hitmap * sweeps, writes: signatures + hitmap };
        if work.pass == Pass::WeightGrad {
            found.dram.similarity.reads = signatures;
            // A HIT's gradients join its group's sum: read, added, written.
            found.adds = counts.hit * filters;
            found.buffer.filter = Words { reads: counts.hit * filters, writes: counts.hit * filters };
        } else {
            found.mcache += (counts.mau + counts.hit) * filters;
            if work.pass == Pass::Forward && self.signatures.kept {
                found.buffer.similarity.reads += signatures;
                found.dram.similarity.writes = signatures;
            }
        }
        found
    }

    /// Multiply-accumulates of projections, or what takes their place.
    pub(super) fn project(&self, macs: u64) -> Accesses {
        if self.signatures.sparse {
            // A third of the entries is not 0.
            Accesses { adds: macs / 3, ..Accesses::default() }
        } else {
            Accesses { macs, ..Accesses::default() }
        }
    }

    /// Traffic of matrix products in folds with reuse; `work` is that of all streams.
    pub fn reused_folds(&self, dataflow: &dyn FoldedDataflow, product: &ProductWords, work: &Work) -> Traffic {
        let group = Group { model: self, dataflow, work, product, merged: work.merged_streams() };
        let mut accesses = Accesses::default();
        let mut roofline = Roofline::new(&self.memory);
        for stream in work.streams.iter().filter(|stream| stream.counts.vectors() > 0) {
            accesses += match work.pass {
                Pass::WeightGrad => group.gradient(stream, &mut roofline),
                Pass::Forward | Pass::InputGrad => group.stream(stream, &mut roofline),
            };
        }
        let mut accesses = accesses.map(|count| work.scale(count));
        let mut stall = work.scale(roofline.stall());
        if work.pass != Pass::WeightGrad {
            // The first stream's results are added to nothing.
            let first = if group.merged > 1 { work.gemm.m * work.gemm.n * work.gemm.count } else { 0 };
            accesses.adds = accesses.adds.saturating_sub(first);
            accesses.buffer.psum_reads = accesses.buffer.psum_reads.saturating_sub(first);
            let back = first.min(accesses.dram.psum_reads);
            accesses.dram.psum_reads -= back;
            accesses.buffer.ofmap.writes -= back;
            let resident = if self.array.signing == SigningUnit::Free { 0 } else { group.resident_projection() };
            accesses.dram.filter.reads += resident;
            accesses.buffer.filter.writes += resident;
            stall += self.memory.transfer(resident);
        }
        Traffic { accesses, stall }
    }
}

/// The streams of a product.
struct Group<'a> {
    model: &'a MemoryModel,
    dataflow: &'a dyn FoldedDataflow,
    work: &'a Work,
    product: &'a ProductWords,
    /// Streams that add to the same results.
    merged: u64,
}

impl Group<'_> {
    fn folds(&self, size: [u64; 3], operands: Operands, waiting: u64) -> Folds {
        let array = &self.model.array;
        let [m, k, n] = size;
        let cycles = self.dataflow.dense(array, m, k, n);
        let mut folds = Folds::new(self.dataflow.stationary(), array, &self.model.memory, size, operands, 0);
        let [outer, inner] = folds.count();
        // Waiting for copies or additions is spread over the folds, for transfers to overlap with.
        folds.cycles = (cycles + waiting) / (outer * inner);
        folds
    }

    /// Whether the projection for vectors of this length stays in the buffer.
    fn resident(&self, length: u64) -> bool {
        self.work.bits * length <= self.model.memory.kept_words()
    }

    /// Words of the projections that stay, fetched once for all streams.
    fn resident_projection(&self) -> u64 {
        let mut lengths: Vec<u64> = self.work.streams.iter().map(|stream| stream.length).collect();
        lengths.sort_unstable();
        lengths.dedup();
        lengths.into_iter().filter(|&length| self.resident(length)).map(|length| self.work.bits * length).sum()
    }

    /// A stream's share of the words that the left operand has in DRAM.
    fn distinct(&self, stream: &StreamWork) -> u64 {
        let all = u128::from(self.work.gemm.m) * u128::from(self.work.gemm.k) * u128::from(self.work.gemm.count);
        let own = u128::from(stream.counts.vectors()) * u128::from(stream.length);
        (u128::from(self.product.ifmap_words) * own).div_ceil(all.max(1)) as u64
    }

    /// Signatures of a stream by the array, which read `distinct` words of it; `kept` words of signatures go to DRAM.
    fn sign_on_array(&self, stream: &StreamWork, distinct: u64, kept: u64, roofline: &mut Roofline) -> Accesses {
        let (vectors, bits) = (stream.counts.vectors(), self.work.bits);
        let projection = if self.resident(stream.length) { 0 } else { bits * stream.length };
        let operands = Operands { ifmap: [distinct, 0], filter: [projection; 2], outputs: kept, ..Operands::default() };
        let folds = self.folds([vectors, stream.length, bits], operands, 0);
        roofline.product(&folds);
        let mut signatures = folds.accesses();
        // Results leave the array as bits, which `look_ups` counts.
        signatures.buffer.ofmap.writes -= vectors * bits;
        signatures.buffer.ofmap.reads -= kept;
        signatures.dram.ofmap.writes -= kept;
        let macs = std::mem::take(&mut signatures.macs);
        signatures += self.model.project(macs);
        signatures
    }

    /// Forward pass and input gradient.
    fn stream(&self, stream: &StreamWork, roofline: &mut Roofline) -> Accesses {
        let (model, work, filters, length) = (self.model, self.work, self.work.gemm.n, stream.length);
        let (vectors, computed) = (stream.counts.vectors(), stream.counts.computed());
        let array = &model.array;
        let sweeps = if self.dataflow.stationary() == Stationary::Inputs { 1 } else { filters.div_ceil(array.columns) };
        let mut sum = model.look_ups(work, stream, sweeps);
        let distinct = self.distinct(stream);
        let first = match array.signing {
            SigningUnit::Array if work.bits > 0 => {
                sum += self.sign_on_array(stream, distinct, sum.dram.similarity.writes, roofline);
                // The products find what was read for signatures in the buffer.
                0
            }
            SigningUnit::Dedicated { .. } if work.bits > 0 => {
                let projection = if self.resident(length) { 0 } else { work.bits * length };
                sum += model.unit_accesses(vectors * length * work.bits, distinct, projection);
                distinct
            }
            _ => distinct,
        };
        let outputs = (vectors * filters).div_ceil(self.merged);
        let carried = if self.merged > 1 { vectors * filters } else { 0 };
        if computed > 0 {
            let operands = Operands {
                ifmap: [first, distinct.min(computed * length)],
                filter: [length * filters; 2],
                outputs,
                carried,
                merged: self.merged,
            };
            let (_, waiting) = self.dataflow.products(array, stream, filters);
            let folds = self.folds([computed, length, filters], operands, waiting);
            roofline.product(&folds);
            let products = folds.accesses();
            sum += products;
        } else {
            roofline.fold(self.dataflow.copies(array, stream.counts.hit, filters), [first, outputs]);
            sum.dram.ifmap.reads += first;
            sum.buffer.ifmap.writes += first;
            sum.dram.ofmap.writes += outputs;
            sum.buffer.ofmap.reads += outputs;
        }
        let copied = stream.counts.hit * filters;
        sum.buffer.ofmap.writes += copied;
        if self.merged > 1 {
            // Of all streams but the first, taken off when all are summed, every result is added to
            // that of the streams before.
            sum.buffer.psum_reads += vectors * filters;
            sum.adds += vectors * filters;
        }
        sum
    }

    /// Weight gradient: the reduction runs over the computed vectors alone, all gradients are read.
    fn gradient(&self, stream: &StreamWork, roofline: &mut Roofline) -> Accesses {
        let (filters, length) = (self.work.gemm.n, stream.length);
        let (vectors, computed) = (stream.counts.vectors(), stream.counts.computed());
        let array = &self.model.array;
        let sweeps = match self.dataflow.stationary() {
            Stationary::Inputs => length.div_ceil(array.columns),
            Stationary::Outputs => length.div_ceil(array.rows) * filters.div_ceil(array.columns),
            Stationary::Weights => filters.div_ceil(array.columns),
        };
        let mut sum = self.model.look_ups(self.work, stream, sweeps);
        let ifmap = self.distinct(stream).min(computed * length);
        // Where a sample's gradients of a fold of filters stay, all streams share one reading of them.
        let tile = vectors.div_ceil(self.product.samples) * filters.min(array.columns);
        let readers = if tile <= self.model.memory.kept_words() { self.merged } else { 1 };
        let gradients = (vectors * filters).div_ceil(readers);
        // Signatures come with the gradients of their vectors.
        let signatures = sum.dram.similarity.reads;
        let operands = Operands {
            ifmap: [ifmap; 2],
            filter: [gradients + signatures, gradients.min(computed * filters)],
            outputs: length * filters,
            ..Operands::default()
        };
        if computed > 0 {
            let (_, waiting) = self.dataflow.reduction(array, stream, filters);
            let folds = self.folds([length, computed, filters], operands, waiting);
            roofline.product(&folds);
            let mut products = folds.accesses();
            products.dram.filter.reads -= signatures;
            products.buffer.filter.writes -= signatures;
            sum += products;
        }
        // The HITs' own gradients; the array reads those of groups.
        sum.buffer.filter.reads += stream.counts.hit * filters;
        sum
    }
}
