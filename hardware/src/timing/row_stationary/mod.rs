//! Row-stationary timing, after Eyeriss (Chen et al., ISCA 2016 and JSSC 52(1), 2017).
//!
//! A *PE set* here is a column of `k_h` processing elements that computes an output row for one
//! channel and filter. It takes `k_w` cycles for each computed position, [`HitCycles`] for each HIT,
//! and the vertical accumulation of its partial sums. (In Eyeriss a PE set is `e` such columns side
//! by side.)
//!
//! - [`Shape`]: the computation of a pass, for convolutions, fully connected layers and attention
//!   products.
//! - [`Mapping`]: the number of output rows, filters and channels on the array at once, and so the
//!   number of processing passes; the cycles of the dense layer.
//! - [`Schedule`]: the time of PE sets whose output rows have different work, synchronous or not.
//!
//! The baseline is the same model with every position computed. The compute cycles of
//! [`Mapping::baseline`] equal the schedule of such rows; a test checks this.
//!
//! # Parts from Eyeriss and our reading
//!
//! From Eyeriss, recalled without the papers' text at hand:
//! - 12 x 14 PEs, with scratchpads of 12 ifmap, 224 filter and 24 psum words of 16 bits.
//! - A global buffer of 108 KB, of which 8 KB hold filters.
//! - Buses of 4 filter words, 1 ifmap word and 4 psum words per cycle.
//! - Sets cut into strips of `e` rows, folded, and replicated over channels (`r`) and filters
//!   (`t`).
//! - `p` filters and `q` channels interleaved in a PE, `n` samples that share a load of filters,
//!   `m` filters whose psums the buffer holds.
//!
//! Ours:
//! - A column of `k_h` PEs may be anywhere in the array, as the 27 columns of CONV2 in two bands
//!   show. A kernel higher than the array, or wider than the ifmap scratchpad, is cut into parts.
//! - The model takes the mapping with the fewest cycles, while Eyeriss minimised energy. Of
//!   AlexNet's five layers only CONV2 has another `e` and `t`. [`Mapping::with`] times any other
//!   mapping.
//! - Ramp: a pass begins by loading its filters and first windows. The pass before does not hide
//!   this, because the scratchpads have room for one pass only (`p q k_w` of 224 words, `q k_w` of
//!   12).
//! - An output row ends with its vertical accumulation, `k_h - 1` hops, for each channel and
//!   filter. Eyeriss interleaves channels and filters, which hides most of it.
//! - The ifmap and psum buses overlap with computing, which waits if a bus is busy for longer. This
//!   happens with 1 x 1 kernels, depthwise and fully connected layers, and adds 3 % to CONV3. Reuse
//!   shortens only computing, so the buses limit its gain. [`Cycles::stall`] reports these waits,
//!   and [`PeArray::network_bound`] = false removes them.
//! - Filters of a scope are timed one after another, although a PE interleaves `p` of them. All
//!   filters of a scope come before the next scope, although a pass over `p t` filters visits all
//!   scopes.
//! - DRAM is not modelled here, nor the configuration of a layer, nor the output of the last psums.
//!
//! # AlexNet
//!
//! Batch 4, 200 MHz, the five convolutions as Eyeriss ran them (CONV2, 4, 5 in two groups).
//! Published is the processing latency (JSSC 2017, table V). It excludes the wait for DRAM, which
//! the total latency in the same table includes (115.3 ms total, 103.5 ms processing). A test
//! checks these numbers.
//!
//! | layer | published, ms | Eyeriss's mapping, ms | ratio | ours | ratio | ours, no network bound | ratio |
//! | --- | --- | --- | --- | --- | --- | --- | --- |
//! | CONV1 | 16.5 | 16.12 | 0.977 | 16.12 | 0.977 | 15.70 | 0.951 |
//! | CONV2 | 39.2 | 38.08 | 0.971 | 35.91 | 0.916 | 35.91 | 0.916 |
//! | CONV3 | 21.8 | 22.22 | 1.019 | 22.22 | 1.019 | 21.60 | 0.991 |
//! | CONV4 | 16.0 | 16.46 | 1.029 | 16.46 | 1.029 | 16.20 | 1.013 |
//! | CONV5 | 10.0 | 10.97 | 1.097 | 10.97 | 1.097 | 10.80 | 1.080 |
//!
//! Reasons for the differences:
//! - Our mapping of CONV2 (7 rows of 4 filters instead of 27 rows of one) shares its filters among
//!   four samples, at the cost of more words from DRAM.
//! - CONV3 to CONV5 spend `k_h - 1` cycles per row of only 39 cycles, which is 5 %. Eyeriss hides
//!   most of it.
//! - CONV5 has the mapping of CONV4 and two thirds of its work. So any such model gives two thirds
//!   of its time: 10.7 ms from the published CONV4. This explains 7 of the 10 %, as a difference
//!   between the published numbers.
//! - The remaining time of CONV1 and CONV2 is unknown. Control between their many short passes is a
//!   guess.

mod hit_cycles;
mod mapping;
mod schedule;
mod shape;

pub use hit_cycles::{Fraction, HitCycles};
pub use mapping::{Choice, Cycles, Mapping};
pub use schedule::{Discipline, Schedule, ScopeWork, Scratch, Timeline};
pub use shape::Shape;

use serde::{Deserialize, Serialize};

/// The array and its storage, in words of an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeArray {
    /// Rows of PEs.
    pub rows: u64,
    /// Columns of PEs.
    pub columns: u64,
    /// Ifmap scratchpad of a PE.
    pub ifmap_words: u64,
    /// Filter scratchpad of a PE.
    pub filter_words: u64,
    /// Psum scratchpad of a PE.
    pub psum_words: u64,
    /// Global buffer for ifmaps and psums, without the part for filters.
    pub buffer_words: u64,
    /// Filter words that reach the array per cycle.
    pub filter_bus: u64,
    /// Ifmap words that reach the array per cycle.
    pub ifmap_bus: u64,
    /// Psum words that reach the array per cycle; as many leave it.
    pub psum_bus: u64,
    /// Whether computing waits if the ifmap and psum buses are too slow. If not, only the words at
    /// the start of a pass take time.
    pub network_bound: bool,
}

impl Default for PeArray {
    /// Eyeriss: 12 x 14 PEs, 100 KB of 16-bit words for ifmaps and psums.
    fn default() -> Self {
        Self {
            rows: 12,
            columns: 14,
            ifmap_words: 12,
            filter_words: 224,
            psum_words: 24,
            buffer_words: 100 * 1024 / 2,
            filter_bus: 4,
            ifmap_bus: 1,
            psum_bus: 4,
            network_bound: true,
        }
    }
}

/// How the output rows of a scope are dealt to the PE sets of a channel lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DealingRule {
    /// In order, one row per set and strip: neighbouring sets share diagonals of the ifmap.
    Static,
    /// Each row in turn to the set that is free first, once for all filters (list scheduling). A set then reads all
    /// `k_h` ifmap rows of each of its output rows.
    Dynamic,
}

/// Outcomes of the positions of an output row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// Computed positions: MAU and MNU.
    pub computed: u64,
    /// HITs, whose results are copied. In a weight gradient they are added.
    pub hit: u64,
}

/// Cycles of a PE set for one filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowCost {
    /// Cycles of a computed position.
    pub computed: u64,
    /// Cycles of a HIT; those of a row together are rounded up.
    pub hit: Fraction,
    /// Cycles of the vertical accumulation of an output row, if any of its positions is computed.
    pub accumulation: u64,
}

impl RowCost {
    /// Computes the cycles of an output row.
    pub fn row(&self, counts: RowCounts) -> u64 {
        let accumulation = if counts.computed == 0 { 0 } else { self.accumulation };
        counts.computed * self.computed + self.hit.multiply_rounding_up(counts.hit) + accumulation
    }
}

#[cfg(test)]
mod tests;
