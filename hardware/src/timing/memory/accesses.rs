//! Accesses by memory level and operand, and their energy.

use super::config::Energy;
use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// Words read and written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    /// Words read.
    pub reads: u64,
    /// Words written.
    pub writes: u64,
}

impl Words {
    /// Words read and written.
    pub fn total(self) -> u64 {
        self.reads + self.writes
    }

    fn map(self, scale: impl Fn(u64) -> u64) -> Self {
        Self { reads: scale(self.reads), writes: scale(self.writes) }
    }
}

/// Accesses of a memory level that all operands share, in words. In every pass, ifmap, filter and
/// ofmap are the left operand, the right operand and the result of a product.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// The left operand: the streamed vectors.
    pub ifmap: Words,
    /// The right operand, and the rows of the projection.
    pub filter: Words,
    /// The result. At the buffer, writes are results and partial sums from the array, and copied
    /// results; reads are results on the way to DRAM.
    pub ofmap: Words,
    /// Partial sums that are read back for accumulation.
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

    fn map(self, scale: impl Fn(u64) -> u64) -> Self {
        Self {
            ifmap: self.ifmap.map(&scale),
            filter: self.filter.map(&scale),
            ofmap: self.ofmap.map(&scale),
            psum_reads: scale(self.psum_reads),
            similarity: self.similarity.map(&scale),
        }
    }
}

/// Operations and accesses of a product, by memory level. Counts of several products add up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accesses {
    /// Multiply-accumulates, including those of signatures.
    pub macs: u64,
    /// Additions that are not part of a multiply-accumulate.
    pub adds: u64,
    /// Words of registers and scratchpads in the PEs.
    pub register: u64,
    /// Words from a neighbouring PE.
    pub neighbour: u64,
    /// Words of the global buffer.
    pub buffer: Level,
    /// Words of DRAM.
    pub dram: Level,
    /// Tags of MCACHE that are looked up or inserted, and words of its results.
    pub mcache: u64,
}

impl Accesses {
    /// Computes the energy, in the unit of the table: one multiply-accumulate.
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

    /// Applies a function to every count.
    #[must_use]
    pub(super) fn map(self, scale: impl Fn(u64) -> u64) -> Self {
        Self {
            macs: scale(self.macs),
            adds: scale(self.adds),
            register: scale(self.register),
            neighbour: scale(self.neighbour),
            buffer: self.buffer.map(&scale),
            dram: self.dram.map(&scale),
            mcache: scale(self.mcache),
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
