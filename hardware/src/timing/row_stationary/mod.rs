//! Row-stationary timing, after Eyeriss (Chen et al., ISCA 2016 and JSSC 52(1), 2017).
//!
//! A *PE set* here is a column of `k_h` processing elements that computes an output row for one
//! channel and filter: `k_w` cycles for each computed position, `hit_cycles` for each HIT, and the
//! vertical accumulation of its partial sums. (Eyeriss calls `e` such columns side by side a PE set.)
//!
//! - [`Shape`]: what a pass computes, for convolutions, fully connected layers, attention products,
//!   and for each of the three passes.
//! - [`Mapping`]: how many output rows, filters and channels are on the array at once, and so how many
//!   processing passes it takes; the cycles of the dense layer.
//! - [`Schedule`]: time of PE sets whose output rows have different work, synchronous or not.
//!
//! The baseline is the same model with every position computed: the compute cycles of
//! [`Mapping::baseline`] equal the schedule of such rows, which a test checks.
//!
//! # What is Eyeriss's and what is our reading
//!
//! Eyeriss's, as recalled, without the papers' text at hand: 12 x 14 PEs; scratchpads of 12 ifmap, 224
//! filter and 24 psum words of 16 bits; 108 KB of global buffer, of which 8 KB hold filters; buses of 4
//! filter words, 1 ifmap word and 4 psum words a cycle; sets cut into strips of `e` rows, folded, and
//! replicated over channels (`r`) and filters (`t`); `p` filters and `q` channels interleaved in a PE,
//! `n` samples that share a load of filters, `m` filters whose psums the buffer holds.
//!
//! Ours:
//! - A column of `k_h` PEs may be anywhere in the array, as CONV2's 27 columns in two bands show. A
//!   kernel higher than the array, or wider than the ifmap scratchpad, is cut into parts.
//! - The mapping with the fewest cycles is taken. Eyeriss minimised energy; of AlexNet's five layers
//!   ours has other `e` and `t` in CONV2 alone. [`Mapping::with`] times any other.
//! - Ramp: a pass begins by loading its filters and first windows. Neither hides behind the pass
//!   before, as the scratchpads hold what one pass needs (`p q k_w` of 224 words, `q k_w` of 12).
//! - An output row ends with its vertical accumulation, `k_h - 1` hops, for each channel and filter.
//!   Eyeriss interleaves channels and filters, and so hides most of it.
//! - The ifmap and psum buses overlap with computing, which waits where a bus is busy for longer: 1 x 1
//!   kernels, depthwise and fully connected layers, CONV3 by 3 %. Reuse shortens computing alone, so
//!   they bound its gain, too; [`Cycles::stall`] tells it apart, and [`PeArray::network_bound`] = false
//!   takes it away.
//! - Filters of a scope are timed one after another, though a PE interleaves `p` of them, and all
//!   filters of a scope before the next scope, though a pass over `p t` filters goes through all scopes.
//! - DRAM is not modelled here, nor are the layer's configuration and the last psums' way out.
//!
//! # AlexNet
//!
//! Batch 4, 200 MHz, the five convolutions as Eyeriss ran them (CONV2, 4, 5 in two groups). Published:
//! the processing latency (JSSC 2017, table V), without the wait for DRAM that is in the total latency
//! beside it (115.3 ms of total to 103.5 ms of processing). A test holds these numbers.
//!
//! | layer | published, ms | Eyeriss's mapping, ms | ratio | ours | ratio | ours, no network bound | ratio |
//! | --- | --- | --- | --- | --- | --- | --- | --- |
//! | CONV1 | 16.5 | 16.12 | 0.977 | 16.12 | 0.977 | 15.70 | 0.951 |
//! | CONV2 | 39.2 | 38.08 | 0.971 | 35.91 | 0.916 | 35.91 | 0.916 |
//! | CONV3 | 21.8 | 22.22 | 1.019 | 22.22 | 1.019 | 21.60 | 0.991 |
//! | CONV4 | 16.0 | 16.46 | 1.029 | 16.46 | 1.029 | 16.20 | 1.013 |
//! | CONV5 | 10.0 | 10.97 | 1.097 | 10.97 | 1.097 | 10.80 | 1.080 |
//!
//! What differs: our mapping of CONV2 (7 rows of 4 filters, in place of 27 rows of one) shares its
//! filters among four samples, for more words from DRAM. CONV3 to CONV5 pay `k_h - 1` cycles for rows
//! of only 39, 5 %, which Eyeriss mostly hides. CONV5 runs with CONV4's mapping and two thirds of its
//! work, so any such model gives two thirds of its time, 10.7 ms by the published CONV4: 7 of its 10 %
//! are between the published numbers themselves. What CONV1 and CONV2 lack we don't know; control
//! between their many short passes is a guess.

mod mapping;
mod schedule;
mod shape;

pub use mapping::{Choice, Cycles, Mapping};
pub use schedule::{Discipline, Schedule, ScopeWork, Scratch, Timeline};
pub use shape::Shape;

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
    /// Global buffer for ifmaps and psums (without what it holds of filters).
    pub buffer_words: u64,
    /// Filter words that reach the array in a cycle.
    pub filter_bus: u64,
    /// Ifmap words that reach the array in a cycle.
    pub ifmap_bus: u64,
    /// Psum words that reach the array in a cycle, and that leave it.
    pub psum_bus: u64,
    /// Whether computing waits for the ifmap and psum buses, where it needs more of them than they
    /// carry; if not, ifmap and psum words other than those that begin a pass are there in time.
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

/// What became of an output row's positions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// Computed: MAU and MNU.
    pub computed: u64,
    /// HIT: copied (in a weight gradient: added).
    pub hit: u64,
}

/// Cycles that a PE set spends, for one filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowCost {
    /// On a computed position.
    pub computed: u64,
    /// On a HIT.
    pub hit: u64,
    /// On the vertical accumulation of an output row, if anything of it is computed.
    pub accumulation: u64,
}

impl RowCost {
    /// Cycles of an output row.
    pub fn row(&self, counts: RowCounts) -> u64 {
        let accumulation = if counts.computed == 0 { 0 } else { self.accumulation };
        counts.computed * self.computed + counts.hit * self.hit + accumulation
    }
}

#[cfg(test)]
mod tests;
