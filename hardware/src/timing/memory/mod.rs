//! Traffic between the array, its global buffer and DRAM; waiting for DRAM; energy. Baseline and MERCURY
//! by the same model.
//!
//! Levels are Eyeriss's (Chen et al., ISCA 2016): registers of a PE, the neighbouring PE, a global
//! buffer that all operands share, DRAM. [`Accesses`] counts words at each, [`Energy`] says what one
//! costs. Counts are integers and merge by addition; they hold the largest layers of a trace, as long as
//! an operand alone has less than 2^57 elements.
//!
//! # Matrix products
//!
//! Buffer: what the array reads and writes, as SCALE-Sim 3.0.0 counts its SRAM accesses (a test compares
//! 54 runs; output stationary but for R + C ofmap writes a fold that it counts too many), and each word once more on its way from or to DRAM. Partial sums of a product cut
//! along k are read back and added outside of the array, once for each fold but the first.
//!
//! DRAM: folds run in SCALE-Sim's order (the table in `folds.rs`; streams that add to the same results
//! one after another within an outer fold). An operand is fetched when it is first needed. It is
//! fetched again in each sweep that needs it again, unless the buffer (double buffered: half of it)
//! holds what lies between the uses: the whole ifmap, or the filters of an outer fold (output
//! stationary), the whole right operand (input stationary). Partial sums stay if those of an outer fold
//! fit, or if those of a tile of it do beside its stationary operand, which the array then reads again
//! for each tile; else they go to DRAM and back for each fold. Of what fits together, that is kept
//! which leaves the fewest words. An ifmap has in DRAM the elements of the layer's planes, not those of
//! im2col, which repeats them: the buffer's port does that.
//!
//! Time: folds are double buffered, each takes the longer of computing and of transferring the next
//! one's operands and the last one's results; the first load and the last store are exposed, once for
//! a product ([`Traffic::stall`] is what exceeds computing). In closed form over kinds of folds.
//!
//! Reuse: a stream's vectors are read from DRAM once, for their signatures and for the first fold of
//! filters alike (tile by tile, so that both find them in the buffer). Later sweeps read the computed
//! vectors alone, at most all elements of the planes. The projection's rows are filters; they stay in
//! the buffer if they fit. Each vector writes and reads its signature, looks up a tag, and writes two
//! bits of Hitmap, which each fold of filters reads. A MAU inserts a tag and writes a result for each
//! filter, a HIT reads one and writes it to the ofmap. Signatures of the forward pass go to DRAM and
//! back for the weight gradient. There each HIT's gradient is read and added to its group's sum (a
//! word read and written), and only the computed vectors are read. Streams of a weight gradient, each
//! with a Hitmap and so sums of its own, share one reading of the gradients from DRAM if the buffer
//! holds those of a sample for a fold of filters; else each reads them.
//!
//! # Row stationary
//!
//! From the mapping: scratchpads 4 accesses for each multiply-accumulate, a hop for each partial sum on
//! its way up a column, the buffer's loads and DRAM's words as `Mapping` has them, for the buffer
//! sizes of its [`PeArray`](super::row_stationary::PeArray), which [`Memory::pe_array`] makes of this
//! memory. With reuse multiply-accumulates, scratchpads and hops shrink to the computed positions;
//! ifmaps, filters and partial sums are read as without, since rows hold both. Stalls are the roofline
//! of a layer's product on the whole: DRAM's cycles beyond those of the array. That hides the first load
//! and the last store, and takes transfers to be spread evenly. Additions are those of HITs alone:
//! partial sums are added up within the array.
//!
//! AlexNet's five convolutions, batch 4, in 16 bits: the model moves 6.1, 6.0, 5.1, 3.9 and 2.6 MB,
//! together 23.7 MB (of 10^6 bytes), padding counted as words. Eyeriss measured 15.4 MB (JSSC 2017,
//! table V; recalled without its text at hand), but with ifmaps and ofmaps run-length compressed, which
//! is left out here: the factor of 1.5 says no more than that the two are of a size.
//!
//! # A unit for signatures
//!
//! A unit beside the array ([`SigningUnit`](super::SigningUnit)) multiplies and accumulates as often as the array
//! would, at a PE's costs of registers. It reads the operand from the buffer once more, and the projection from
//! DRAM. The wait for DRAM counts the operand with the products alone. Free signatures access nothing.
//!
//! # Left out
//!
//! Latency, rows and banks of DRAM; banks and ports of the buffer (compute never waits for it);
//! compression and zero gating; leakage, clock, and the buses' energy; replacement traffic of an LRU or
//! FIFO cache. (What variants and centroids access beside is added by [`crate::timed`].) MCACHE is taken to hold results of all filters. Where its tags are needed again for later
//! folds of filters, the Hitmap is taken to lead there without a look-up. Sums of a group's
//! gradients are taken to stay in the buffer while a stream lasts. A tile's time to fill the array, an
//! eighth of its streaming at most, is not in the cycles; loads and stores are taken to be spread over
//! the folds of all tiles. Operands do not stay in the buffer from one product, or layer, to the next.
//! Folds keep their order: blocking that would fetch less is not looked for, so long reductions (output
//! stationary) and large right operands (input stationary) are fetched anew for each sweep.

mod accesses;
mod config;
mod folds;
mod reuse;
mod roofline;
mod rows;

pub use accesses::{Accesses, Level, Words};
pub use config::{Energy, Memory};

use super::row_stationary::Shape;
use super::{Array, FoldedDataflow, LayerProduct};
use folds::{Folds, Operands};
use mercury_reuse::config::{Matrix, Rpq};
use mercury_trace::geometry::{Gemm, Pass};
use roofline::Roofline;
use serde::{Deserialize, Serialize};

/// What traffic needs to know of signatures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signatures {
    /// Bits of a whole signature; each takes whole bytes, then whole words.
    pub width: u64,
    /// Whether projecting takes additions alone.
    pub sparse: bool,
    /// Whether the weight gradient uses those of the forward pass, which so go to DRAM.
    pub kept: bool,
}

impl Signatures {
    /// Of a configuration; `kept`: whether the scheme is applied to the weight gradient.
    pub fn new(rpq: &Rpq, kept: bool) -> Self {
        Self { width: u64::from(rpq.signature_bits()), sparse: rpq.projection == Matrix::Sparse, kept }
    }
}

/// What a product moves, and how long it waits for that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Accesses by level.
    pub accesses: Accesses,
    /// Cycles of waiting for DRAM, beyond those of the array.
    pub stall: u64,
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.accesses += other.accesses;
        self.stall += other.stall;
    }
}

/// What traffic depends on of one product of a layer's pass, for the whole batch.
#[derive(Debug, Clone, Copy)]
pub struct ProductWords {
    /// The pass.
    pub pass: Pass,
    /// The dense product.
    pub gemm: Gemm,
    /// Words that all left operands together have in DRAM.
    pub ifmap_words: u64,
    /// Samples of the batch.
    pub samples: u64,
}

impl ProductWords {
    /// Those of a layer's product.
    pub fn new(product: &LayerProduct) -> Self {
        let LayerProduct { geometry, pass, number, batch, .. } = product;
        let gemm = product.gemm();
        // The part of a plane that windows touch, padding between them included.
        let shape = &Shape::from_layer(geometry, *pass, *batch, false)[*number];
        let plane = shape.touched_rows(shape.output[0]) * shape.touched_columns();
        let ifmap_words = (shape.scopes() * plane).min(gemm.m * gemm.k * gemm.count);
        Self { pass: *pass, gemm, ifmap_words, samples: u64::from(*batch) }
    }

    /// Those of a matrix product without a layer, whose left operand repeats nothing.
    pub fn from_gemm(pass: Pass, gemm: Gemm) -> Self {
        Self { pass, gemm, ifmap_words: gemm.m * gemm.k * gemm.count, samples: 1 }
    }
}

/// The memory of an array, and what MERCURY adds to it.
#[derive(Debug, Clone)]
pub struct MemoryModel {
    /// Buffer and DRAM; valid.
    pub memory: Memory,
    /// The array.
    pub array: Array,
    /// Signatures.
    pub signatures: Signatures,
}

impl MemoryModel {
    /// Traffic of matrix products in folds without reuse, which take `compute` cycles.
    pub fn dense_folds(&self, dataflow: &dyn FoldedDataflow, words: &ProductWords, compute: u64) -> Traffic {
        let Gemm { m, k, n, count } = words.gemm;
        if m * k * n * count == 0 {
            return Traffic::default();
        }
        let one = dataflow.dense(&self.array, m, k, n);
        debug_assert_eq!(one * count, compute, "cycles of the baseline");
        let operands = Operands {
            ifmap: [words.ifmap_words.div_ceil(count); 2],
            filter: [k * n; 2],
            outputs: m * n,
            ..Operands::default()
        };
        let mut folds = Folds::new(dataflow.stationary(), &self.array, &self.memory, [m, k, n], operands, 0);
        let [outer, inner] = folds.count();
        folds.cycles = one / (outer * inner);
        let mut roofline = Roofline::new(&self.memory);
        roofline.repeat(count, |roofline| roofline.product(&folds));
        Traffic { accesses: folds.accesses().map(|one| one * count), stall: roofline.stall() }
    }
}

#[cfg(test)]
mod tests;
