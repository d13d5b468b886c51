//! Row stationary: a mapping's traffic, dense and with reuse.

use super::accesses::{Accesses, Words};
use super::{MemoryModel, ProductWords, Traffic};
use crate::timing::row_stationary::Mapping;
use crate::timing::{SigningUnit, Work};
use mercury_reuse::Counts;
use mercury_trace::geometry::{Gemm, Pass};

/// Accesses of a scratchpad for each multiply-accumulate: ifmap, filter, partial sum read and written.
const SCRATCHPAD: u64 = 4;

/// Accesses of the dense product.
fn dense(mapping: &Mapping, pass: Pass, gemm: Gemm) -> Accesses {
    let macs = gemm.macs();
    let filters = mapping.filter_loads();
    let mut sum =
        Accesses { macs, register: SCRATCHPAD * macs, neighbour: hops(mapping, pass, gemm), ..Accesses::default() };
    let (buffer, dram) = (&mut sum.buffer, &mut sum.dram);
    dram.ifmap.reads = mapping.dram_words() - filters;
    buffer.ifmap.writes = dram.ifmap.reads;
    buffer.ifmap.reads = mapping.ifmap_loads();
    let results = gemm.m * gemm.n * gemm.count;
    if pass == Pass::WeightGrad {
        // Where the forward pass has filters there are gradients of filters: its results.
        buffer.psum_reads = filters.saturating_sub(results);
        dram.psum_reads = buffer.psum_reads;
        dram.ofmap.writes = filters;
        buffer.ofmap.reads = filters;
        buffer.ofmap.writes = filters + dram.psum_reads;
        dram.filter.reads = gemm.k * gemm.n * gemm.count;
        buffer.filter.writes = dram.filter.reads;
        buffer.filter.reads = mapping.psum_loads();
    } else {
        dram.filter.reads = filters;
        buffer.filter.writes = filters;
        buffer.filter.reads = filters;
        dram.ofmap.writes = results;
        buffer.ofmap.reads = results;
        buffer.ofmap.writes = mapping.psum_loads();
        buffer.psum_reads = mapping.psum_loads().saturating_sub(results);
    }
    sum
}

/// Words that pass from PE to PE: partial sums up a column, or in a weight gradient sums of gradients
/// along a strip.
fn hops(mapping: &Mapping, pass: Pass, gemm: Gemm) -> u64 {
    if pass == Pass::WeightGrad {
        mapping.filter_loads() * (mapping.choice().strip - 1)
    } else {
        gemm.m * gemm.n * gemm.count * mapping.shape().channels * mapping.hops()
    }
}

impl MemoryModel {
    /// Traffic of a row-stationary array without reuse, whose product takes `compute` cycles.
    pub fn dense_rows(&self, mapping: &Mapping, product: &ProductWords, compute: u64) -> Traffic {
        let accesses = dense(mapping, product.pass, product.gemm);
        Traffic { accesses, stall: self.layer_stall(&accesses, compute) }
    }

    /// Traffic with reuse, of all streams. `mappings` are the product's and its signatures'; `compute` are all cycles
    /// with reuse.
    pub fn reused_rows(&self, mappings: &[Mapping; 2], product: &ProductWords, work: &Work, compute: u64) -> Traffic {
        let [mapping, projection] = mappings;
        let mut sum = dense(mapping, product.pass, product.gemm);
        let macs = product.gemm.macs();
        sum.macs = macs.saturating_sub(work.macs_skipped());
        sum.register = SCRATCHPAD * sum.macs;
        if product.pass != Pass::WeightGrad {
            sum.neighbour = (u128::from(sum.neighbour) * u128::from(sum.macs) / u128::from(macs.max(1))) as u64;
        }
        let choice = mapping.choice();
        let sweeps = mapping.shape().filters.div_ceil(choice.filter_lanes * choice.filters);
        let mut reuse = Accesses::default();
        let mut counts = Counts::default();
        let mut projected = 0;
        for stream in &work.streams {
            reuse += self.look_ups(work, stream, sweeps);
            counts += stream.counts;
            projected += stream.counts.vectors() * stream.length * work.bits;
        }
        sum += reuse.map(|count| work.scale(count));
        if product.pass != Pass::WeightGrad {
            if work.merged_streams() > 1 {
                // A copied result joins those of the channels before.
                sum.adds += work.scale(counts.hit * work.gemm.n);
            }
            let length = work.streams.iter().map(|stream| stream.length).max().unwrap_or(0);
            sum += match self.array.signing {
                _ if work.bits == 0 => Accesses::default(),
                SigningUnit::Array => {
                    self.signature_rows(projection, work.scale(projected), work.scale(counts.vectors()) * work.bits)
                }
                SigningUnit::Dedicated { .. } => {
                    self.unit_accesses(work.scale(projected), product.ifmap_words, work.bits * length)
                }
                SigningUnit::Free => Accesses::default(),
            };
        }
        Traffic { accesses: sum, stall: self.layer_stall(&sum, compute) }
    }

    /// Computing signatures beside the array: the unit reads the operand's words once from the buffer, and keeps the
    /// projection.
    pub(super) fn unit_accesses(&self, macs: u64, operand_words: u64, projection_words: u64) -> Accesses {
        let mut sum = self.project(macs);
        sum.register = SCRATCHPAD * macs;
        sum.buffer.ifmap.reads = operand_words;
        sum.dram.filter.reads = projection_words;
        sum.buffer.filter = Words { reads: projection_words, writes: projection_words };
        sum
    }

    /// Computing signatures of `results` bits: rows of the ifmap are read for them, from DRAM with
    /// those of the product.
    fn signature_rows(&self, mapping: &Mapping, macs: u64, results: u64) -> Accesses {
        let mut sum = self.project(macs);
        sum.register = SCRATCHPAD * macs;
        sum.neighbour = results * mapping.hops();
        sum.buffer.ifmap.reads = mapping.ifmap_loads();
        sum.buffer.filter.reads = mapping.filter_loads();
        sum.dram.filter.reads = mapping.shape().filter_words();
        sum.buffer.filter.writes = sum.dram.filter.reads;
        // Of a kernel cut into parts, bits are known after the last one alone.
        sum.buffer.psum_reads = results * (mapping.row_parts() - 1);
        sum.buffer.ofmap.writes = sum.buffer.psum_reads;
        sum
    }

    /// Waiting for DRAM beyond `compute` cycles, of a layer's product as a whole.
    fn layer_stall(&self, accesses: &Accesses, compute: u64) -> u64 {
        let transfer = self.memory.transfer(accesses.dram.total());
        if self.memory.double_buffered { transfer.saturating_sub(compute) } else { transfer }
    }
}
