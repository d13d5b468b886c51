//! What the memory is like and what an access to it costs: configuration.

use crate::timing::row_stationary::PeArray;
use serde::{Deserialize, Serialize};

/// Most bytes of a word.
pub const MAX_WORD_BYTES: u32 = 64;

/// Largest buffer, KB: 1 GiB.
pub const MAX_BUFFER_KB: u32 = 1 << 20;

/// Most bytes that DRAM delivers in a cycle.
pub const MAX_BANDWIDTH: f64 = 1e6;

/// Parts of a byte in which bandwidth is counted, so that transfers are whole cycles on every machine.
pub(super) const PARTS: f64 = 1000.0;

/// The global buffer and DRAM behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// Bytes of a word: an element of any operand or a partial sum.
    pub word_bytes: u32,
    /// Global buffer, KB of 1024 bytes, shared by all operands; see [`Memory::pe_array`] for row
    /// stationary.
    pub buffer_kb: u32,
    /// Bytes from or to DRAM in a cycle of the array, in thousandths; 0: as many as it takes. The
    /// default is ours: 3.2 GB/s, a DDR3 channel of 16 bits at 1600 MT/s, at Eyeriss's 200 MHz.
    pub dram_bytes_per_cycle: f64,
    /// Whether a transfer overlaps with computing. Half of the buffer then holds what comes next.
    pub double_buffered: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Self { word_bytes: 2, buffer_kb: 108, dram_bytes_per_cycle: 16.0, double_buffered: true }
    }
}

impl Memory {
    /// Checks every value; the error names the key.
    pub fn validate(&self) -> Result<(), String> {
        let sizes = [("word_bytes", self.word_bytes, MAX_WORD_BYTES), ("buffer_kb", self.buffer_kb, MAX_BUFFER_KB)];
        for (name, value, most) in sizes {
            if !(1..=most).contains(&value) {
                return Err(format!("memory.{name}: is {value}, but must be between 1 and {most}"));
            }
        }
        let bandwidth = self.dram_bytes_per_cycle;
        if bandwidth != 0.0 && !(1.0 / PARTS..=MAX_BANDWIDTH).contains(&bandwidth) {
            return Err(format!(
                "memory.dram_bytes_per_cycle: is {bandwidth}, but must be between {} and {MAX_BANDWIDTH}, or 0: unlimited",
                1.0 / PARTS
            ));
        }
        Ok(())
    }

    /// A row-stationary array with this buffer, split as Eyeriss's: 8 KB of 108 hold filters. Its
    /// mappings take the buffer whole, double buffered or not.
    #[must_use]
    pub fn pe_array(&self, array: PeArray) -> PeArray {
        let bytes = u64::from(self.buffer_kb) * 1024 * 100 / 108;
        PeArray { buffer_words: (bytes / u64::from(self.word_bytes)).max(1), ..array }
    }

    /// Words of the buffer that hold what folds at work share.
    pub(super) fn kept_words(&self) -> u64 {
        let words = u64::from(self.buffer_kb) * 1024 / u64::from(self.word_bytes);
        if self.double_buffered { words / 2 } else { words }
    }

    /// Cycles that DRAM takes for so many words, rounded up.
    pub(super) fn transfer(&self, words: u64) -> u64 {
        let rate = (self.dram_bytes_per_cycle * PARTS).round() as u128;
        if rate == 0 {
            return 0;
        }
        let parts = u128::from(words) * u128::from(self.word_bytes) * PARTS as u128;
        u64::try_from(parts.div_ceil(rate)).unwrap_or(u64::MAX)
    }

    /// Words that `bits` bits of each of `count` vectors take, each vector's from a byte of its own.
    pub(super) fn words_of_bytes(&self, bits: u64, count: u64) -> u64 {
        count * bits.div_ceil(8).div_ceil(u64::from(self.word_bytes))
    }

    /// Words that `bits` bits take.
    pub(super) fn words_of_bits(&self, bits: u64) -> u64 {
        bits.div_ceil(8 * u64::from(self.word_bytes))
    }
}

/// What an access of a word costs, in units of one multiply-accumulate.
///
/// The levels are Eyeriss's (Chen et al., ISCA 2016, table IV: commercial 65 nm process, 16 bits), as
/// recalled. An addition alone is cheaper than a multiply-accumulate (about a quarter in 16-bit floats
/// by Horowitz, ISSCC 2014, as recalled), but by how much depends on the format, so the default counts
/// it as a whole one: that is to MERCURY's disadvantage, which alone does more of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Energy {
    /// A multiply-accumulate.
    pub mac: f64,
    /// An addition outside of one: partial sums merged at the buffer, gradients of HITs, projections by
    /// a sparse matrix.
    pub add: f64,
    /// A word of a PE's own registers or scratchpads.
    pub register: f64,
    /// A word from a neighbouring PE.
    pub neighbour: f64,
    /// A word of the global buffer.
    pub buffer: f64,
    /// A word of DRAM.
    pub dram: f64,
    /// A look-up of a tag of MCACHE or a word of its results; default: `buffer`, since its size is
    /// about that of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcache: Option<f64>,
}

impl Default for Energy {
    fn default() -> Self {
        Self { mac: 1.0, add: 1.0, register: 1.0, neighbour: 2.0, buffer: 6.0, dram: 200.0, mcache: None }
    }
}

impl Energy {
    /// What an access of MCACHE costs.
    pub fn mcache(&self) -> f64 {
        self.mcache.unwrap_or(self.buffer)
    }

    /// Checks every value; the error names the key.
    pub fn validate(&self) -> Result<(), String> {
        let costs = [
            ("mac", self.mac),
            ("add", self.add),
            ("register", self.register),
            ("neighbour", self.neighbour),
            ("buffer", self.buffer),
            ("dram", self.dram),
            ("mcache", self.mcache()),
        ];
        for (name, cost) in costs {
            if !(0.0..=1e9).contains(&cost) {
                return Err(format!("energy.{name}: is {cost}, but must be between 0 and 1000000000"));
            }
        }
        Ok(())
    }
}
