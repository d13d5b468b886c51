//! Accesses by level and operand, and what they cost.

use super::config::Energy;
use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// Words read and written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    /// Read.
    pub reads: u64,
    /// Written.
    pub writes: u64,
}

impl Words {
    /// Both.
    pub fn total(self) -> u64 {
        self.reads + self.writes
    }
}

/// Accesses of a level that all operands share, in words. Ifmap, filter and ofmap are the left operand,
/// the right operand and the result of a product, in any pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// The left operand: streamed vectors.
    pub ifmap: Words,
    /// The right operand, and the rows of the projection.
    pub filter: Words,
    /// The result. At the buffer, writes are those of the array, with partial sums, and of copied
    /// results; reads are those on the way to DRAM.
    pub ofmap: Words,
    /// Partial sums read back to be added to.
    pub psum_reads: u64,
    /// Signatures and Hitmap.
    pub similarity: Words,
}

impl Level {
    /// All words.
    pub fn total(&self) -> u64 {
        let operands = [self.ifmap, self.filter, self.ofmap, self.similarity];
        operands.into_iter().map(Words::total).sum::<u64>() + self.psum_reads
    }
}

/// What a product does, by level. Counts add up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accesses {
    /// Multiply-accumulates, those of signatures among them.
    pub macs: u64,
    /// Additions outside of them.
    pub adds: u64,
    /// Words of registers and scratchpads in the PEs.
    pub register: u64,
    /// Words from a neighbouring PE.
    pub neighbour: u64,
    /// Words of the global buffer.
    pub buffer: Level,
    /// Words of DRAM.
    pub dram: Level,
    /// Tags looked up and inserted in MCACHE, and words of its results.
    pub mcache: u64,
}

impl Accesses {
    /// Energy in units of one multiply-accumulate of the table's scale.
    pub fn energy(&self, table: &Energy) -> f64 {
        let terms = [
            (self.macs, table.mac),
            (self.adds, table.add),
            (self.register, table.register),
            (self.neighbour, table.neighbour),
            (self.buffer.total(), table.buffer),
            (self.dram.total(), table.dram),
            (self.mcache, table.mcache()),
        ];
        terms.into_iter().map(|(count, cost)| count as f64 * cost).sum()
    }

    /// Each count changed by the same function: scaling.
    #[must_use]
    pub(super) fn map(self, of: impl Fn(u64) -> u64) -> Self {
        let words = |words: Words| Words { reads: of(words.reads), writes: of(words.writes) };
        let level = |level: Level| Level {
            ifmap: words(level.ifmap),
            filter: words(level.filter),
            ofmap: words(level.ofmap),
            psum_reads: of(level.psum_reads),
            similarity: words(level.similarity),
        };
        Self {
            macs: of(self.macs),
            adds: of(self.adds),
            register: of(self.register),
            neighbour: of(self.neighbour),
            buffer: level(self.buffer),
            dram: level(self.dram),
            mcache: of(self.mcache),
        }
    }
}

impl AddAssign for Words {
    fn add_assign(&mut self, other: Self) {
        self.reads += other.reads;
        self.writes += other.writes;
    }
}

impl AddAssign for Level {
    fn add_assign(&mut self, other: Self) {
        self.ifmap += other.ifmap;
        self.filter += other.filter;
        self.ofmap += other.ofmap;
        self.psum_reads += other.psum_reads;
        self.similarity += other.similarity;
    }
}

impl AddAssign for Accesses {
    fn add_assign(&mut self, other: Self) {
        self.macs += other.macs;
        self.adds += other.adds;
        self.register += other.register;
        self.neighbour += other.neighbour;
        self.buffer += other.buffer;
        self.dram += other.dram;
        self.mcache += other.mcache;
    }
}
