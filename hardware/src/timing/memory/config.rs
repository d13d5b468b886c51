//! Configuration of the memory and of the energy of its accesses.

use crate::timing::row_stationary::PeArray;
use serde::{Deserialize, Serialize};

/// Most bytes of a word.
pub const MAX_WORD_BYTES: u32 = 64;

/// Largest buffer, KB: 1 GiB.
pub const MAX_BUFFER_KB: u32 = 1 << 20;

/// Highest bandwidth of DRAM, bytes per cycle.
pub const MAX_BANDWIDTH: f64 = 1e6;

/// Parts of a byte in which bandwidth is rounded, so that cycles of transfers are exact integers on
/// every machine.
pub(super) const PARTS: f64 = 1000.0;

/// The global buffer and DRAM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// Bytes of a word: an element of any operand, or a partial sum.
    pub word_bytes: u32,
    /// Global buffer, KB of 1024 bytes, shared by all operands. For row stationary see
    /// [`Memory::pe_array`].
    pub buffer_kb: u32,
    /// Bandwidth of DRAM, bytes per cycle of the array, rounded to thousandths; 0: unlimited. The
    /// default is ours: 3.2 GB/s at 200 MHz, the clock of Eyeriss, from a DDR3 channel of 16 bits
    /// at 1600 MT/s.
    pub dram_bytes_per_cycle: f64,
    /// Whether transfers overlap with computing. Half of the buffer then holds data for the next
    /// fold.
    pub double_buffered: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Self { word_bytes: 2, buffer_kb: 108, dram_bytes_per_cycle: 16.0, double_buffered: true }
    }
}

impl Memory {
    /// Checks every value.
    ///
    /// # Errors
    /// If a value is out of range. The text names the key.
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

    /// A row-stationary array with this buffer, split as in Eyeriss: 8 of 108 KB hold filters. Its
    /// mappings use the whole buffer, with or without double buffering.
    #[must_use]
    pub fn pe_array(&self, array: PeArray) -> PeArray {
        let bytes = u64::from(self.buffer_kb) * 1024 * 100 / 108;
        PeArray { buffer_words: (bytes / u64::from(self.word_bytes)).max(1), ..array }
    }

    /// Words of the buffer for the current folds.
    pub(super) fn kept_words(&self) -> u64 {
        let words = u64::from(self.buffer_kb) * 1024 / u64::from(self.word_bytes);
        if self.double_buffered { words / 2 } else { words }
    }

    /// Cycles of a transfer of `words` words from or to DRAM, rounded up.
    pub(super) fn transfer(&self, words: u64) -> u64 {
        let rate = (self.dram_bytes_per_cycle * PARTS).round() as u128;
        if rate == 0 {
            return 0;
        }
        let parts = u128::from(words) * u128::from(self.word_bytes) * PARTS as u128;
        u64::try_from(parts.div_ceil(rate)).unwrap_or(u64::MAX)
    }

    /// Words for `bits` bits of each of `count` vectors. The bits of each vector start at a word.
    pub(super) fn words_of_bytes(&self, bits: u64, count: u64) -> u64 {
        count * bits.div_ceil(8).div_ceil(u64::from(self.word_bytes))
    }

    /// Words for `bits` bits.
    pub(super) fn words_of_bits(&self, bits: u64) -> u64 {
        bits.div_ceil(8 * u64::from(self.word_bytes))
    }
}

/// Energy of operations and of accesses of a word, in units of one multiply-accumulate.
///
/// The costs of the levels are those of Eyeriss (Chen et al., ISCA 2016, table IV: commercial 65 nm
/// process, 16 bits), as recalled. An addition is cheaper than a multiply-accumulate: about a
/// quarter with 16-bit floats (Horowitz, ISSCC 2014, as recalled). The ratio depends on the format,
/// so the default counts an addition as a whole multiply-accumulate. This is a disadvantage for
/// MERCURY, which has more additions than the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Energy {
    /// A multiply-accumulate.
    pub mac: f64,
    /// An addition without a multiplication: partial sums that are merged at the buffer, gradients
    /// of HITs, projections by a sparse matrix.
    pub add: f64,
    /// A word of the registers or scratchpads in a PE.
    pub register: f64,
    /// A word from a neighbouring PE.
    pub neighbour: f64,
    /// A word of the global buffer.
    pub buffer: f64,
    /// A word of DRAM.
    pub dram: f64,
    /// A look-up of a tag of MCACHE, or a word of its results; default: `buffer`, because MCACHE is
    /// about as large as a buffer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcache: Option<f64>,
}

impl Default for Energy {
    fn default() -> Self {
        Self { mac: 1.0, add: 1.0, register: 1.0, neighbour: 2.0, buffer: 6.0, dram: 200.0, mcache: None }
    }
}

impl Energy {
    /// The energy of an access of MCACHE.
    pub fn mcache(&self) -> f64 {
        self.mcache.unwrap_or(self.buffer)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// If a value is out of range. The text names the key.
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
