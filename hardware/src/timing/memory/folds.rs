//! A matrix product in folds: what the array reads from the buffer, and the buffer from DRAM.
//!
//! | dataflow | outer folds | inner folds | ifmap reads | filter reads | ofmap writes |
//! | --- | --- | --- | --- | --- | --- |
//! | weight stationary | n by C | k by R | ceil(n/C) m k | k n | ceil(k/R) m n |
//! | output stationary | n by C | m by R | ceil(n/C) m k | ceil(m/R) k n | m n |
//! | input stationary | m by C | k by R | m k | ceil(m/C) k n | ceil(k/R) m n |
//!
//! Order of folds and words of the buffer are SCALE-Sim's (its "SRAM" counts; a test compares them).

use super::accesses::{Accesses, Level};
use super::config::Memory;
use crate::timing::{Array, Stationary};

/// A tile streams for so many times the cycles that it takes to fill and drain the array, which are not
/// counted for each tile anew: what is left out so is an eighth at most.
const LEAST_FILLS: u64 = 8;

/// What of a product passes between buffer and DRAM, in words, if each sweep over the folds that needs
/// an operand again fetches it again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Operands {
    /// The left operand when it is first needed, and when it is again.
    pub ifmap: [u64; 2],
    /// The right operand, likewise.
    pub filter: [u64; 2],
    /// Results that go to DRAM.
    pub outputs: u64,
    /// Partial sums that come from the streams before and go to those after; 0: none.
    pub carried: u64,
    /// Streams that add to the same results.
    pub merged: u64,
}

/// What becomes of partial sums between inner folds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Psums {
    /// The buffer holds those of an outer fold.
    Kept,
    /// The buffer holds those of a tile of what streams, and the stationary operand of an outer fold,
    /// which the array reads again for each of so many tiles.
    Tiled(u64),
    /// They go to DRAM and back.
    Spilled,
}

/// What the buffer keeps from one use to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub ifmap: bool,
    pub filter: bool,
    pub psums: Psums,
}

/// A product in folds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Folds {
    stationary: Stationary,
    size: [u64; 3],
    /// Number, tile and size of outer and inner folds.
    axes: [Axis; 2],
    operands: Operands,
    kept: Kept,
    /// Cycles of each fold.
    pub cycles: u64,
}

#[derive(Debug, Clone, Copy)]
struct Axis {
    folds: u64,
    tile: u64,
    size: u64,
}

impl Axis {
    fn new(size: u64, tile: u64) -> Self {
        Self { folds: size.div_ceil(tile), tile: tile.min(size), size }
    }

    /// A fold's share of so many words: that of its tile, the last one's what remains.
    fn share(self, words: u64, fold: u64) -> u64 {
        let full = (u128::from(words) * u128::from(self.tile) / u128::from(self.size)) as u64;
        if fold + 1 < self.folds { full } else { words - full * (self.folds - 1) }
    }
}

impl Folds {
    /// The product of m x k by k x n, none of them 0, of which each fold takes `cycles`.
    pub fn new(
        stationary: Stationary,
        array: &Array,
        memory: &Memory,
        [m, k, n]: [u64; 3],
        operands: Operands,
        cycles: u64,
    ) -> Self {
        let axes = match stationary {
            Stationary::Weights => [Axis::new(n, array.columns), Axis::new(k, array.rows)],
            Stationary::Outputs => [Axis::new(n, array.columns), Axis::new(m, array.rows)],
            Stationary::Inputs => [Axis::new(m, array.columns), Axis::new(k, array.rows)],
        };
        let kept = Kept { ifmap: true, filter: true, psums: Psums::Kept };
        let mut folds = Self { stationary, size: [m, k, n], axes, operands, kept, cycles };
        folds.kept = folds.keep(memory.kept_words(), LEAST_FILLS * (2 * array.rows + array.columns));
        folds
    }

    /// Outer and inner folds.
    pub fn count(&self) -> [u64; 2] {
        self.axes.map(|axis| axis.folds)
    }

    /// What is kept: of what fits, that with the fewest words from and to DRAM, then the fewest tiles.
    /// `least`: what streams in a tile at least.
    fn keep(mut self, room: u64, least: u64) -> Kept {
        let [m, k, n] = self.size;
        let mut best = None;
        for (ifmap, filter) in [(true, true), (true, false), (false, true), (false, false)] {
            let sets = self.sets();
            let taken = if ifmap { sets[0] } else { 0 } + if filter { sets[1] } else { 0 };
            let Some(left) = room.checked_sub(taken) else { continue };
            for psums in [Psums::Kept, Psums::Tiled(0), Psums::Spilled] {
                // What streams past a fold, and how wide its stationary operand is.
                let (streamed, width) =
                    if self.stationary == Stationary::Inputs { (n, self.axes[0].tile) } else { (m, self.axes[0].tile) };
                let psums = match psums {
                    _ if !self.has_psums() => Psums::Kept,
                    Psums::Tiled(_) => {
                        let rows = (left / width).saturating_sub(k * self.operands.merged.max(1));
                        if rows < least {
                            continue;
                        }
                        Psums::Tiled(streamed.div_ceil(rows))
                    }
                    Psums::Kept if self.psum_set() > left => continue,
                    other => other,
                };
                self.kept = Kept { ifmap, filter, psums };
                let tiles = if let Psums::Tiled(tiles) = psums { tiles } else { 1 };
                let cost = (self.dram().total(), tiles);
                if best.is_none_or(|(least, _)| cost < least) {
                    best = Some((cost, self.kept));
                }
            }
        }
        best.expect("keeping nothing always fits").1
    }

    /// Words that must stay in the buffer for ifmap and filter not to be fetched again.
    fn sets(&self) -> [u64; 2] {
        let outer = self.axes[0];
        // Streams that add to the same results follow each other within an outer fold.
        let ifmap = self.operands.ifmap[1] * self.operands.merged.max(1);
        match self.stationary {
            Stationary::Weights => [ifmap, 0],
            Stationary::Outputs => [ifmap, outer.share(self.operands.filter[1], 0)],
            Stationary::Inputs => [0, self.operands.filter[1]],
        }
    }

    /// Whether partial sums of a fold meet those of another.
    fn has_psums(&self) -> bool {
        let summed = self.stationary != Stationary::Outputs && self.axes[1].folds > 1;
        summed || self.operands.carried > 0
    }

    /// Partial sums of an outer fold.
    fn psum_set(&self) -> u64 {
        self.axes[0].share(self.operands.carried.max(self.size[0] * self.size[2]), 0)
    }

    /// Words that a fold reads from DRAM and writes there.
    pub fn fold(&self, outer: u64, inner: u64) -> [u64; 2] {
        let [outers, inners] = self.axes;
        let by_tile = |words: u64| outers.share(inners.share(words, inner), outer);
        let again = |words: [u64; 2], first: bool, kept: bool| match (first, kept) {
            (true, _) => words[0],
            (false, true) => 0,
            (false, false) => words[1],
        };
        let Operands { ifmap, filter, outputs, carried, .. } = self.operands;
        let swept_ifmap = || inners.share(again(ifmap, outer == 0, self.kept.ifmap), inner);
        let (load, summed) = match self.stationary {
            Stationary::Weights => (by_tile(filter[0]) + swept_ifmap(), true),
            Stationary::Outputs => {
                (outers.share(again(filter, inner == 0, self.kept.filter), outer) + swept_ifmap(), false)
            }
            Stationary::Inputs => {
                (by_tile(ifmap[0]) + inners.share(again(filter, outer == 0, self.kept.filter), inner), true)
            }
        };
        let spilled = self.kept.psums == Psums::Spilled;
        if let Psums::Tiled(_) = self.kept.psums {
            // Tiles end one after another, all through the inner folds.
            return [load, by_tile(outputs)];
        }
        if !summed {
            let carried = if spilled { carried } else { 0 };
            return [load + by_tile(carried), by_tile(if spilled { carried } else { outputs })];
        }
        let psums = outers.share(self.size[0] * self.size[2], outer);
        let last = inner + 1 == inners.folds;
        let store = match (last, spilled) {
            (true, true) if carried > 0 => outers.share(carried, outer),
            (true, _) => outers.share(outputs, outer),
            (false, true) => psums,
            (false, false) => 0,
        };
        let back = match (inner, spilled) {
            (_, false) => 0,
            (0, true) => outers.share(carried, outer),
            (_, true) => psums,
        };
        [load + back, store]
    }

    /// Words from and to DRAM, of all folds together.
    pub fn dram(&self) -> Level {
        let [outers, inners] = self.count();
        let Operands { ifmap, filter, outputs, carried, .. } = self.operands;
        let again =
            |words: [u64; 2], sweeps: u64, kept: bool| words[0] + if kept { 0 } else { (sweeps - 1) * words[1] };
        let mut level = Level::default();
        let summed = match self.stationary {
            Stationary::Weights => {
                level.ifmap.reads = again(ifmap, outers, self.kept.ifmap);
                level.filter.reads = filter[0];
                inners - 1
            }
            Stationary::Outputs => {
                level.ifmap.reads = again(ifmap, outers, self.kept.ifmap);
                level.filter.reads = again(filter, inners, self.kept.filter);
                0
            }
            Stationary::Inputs => {
                level.ifmap.reads = ifmap[0];
                level.filter.reads = again(filter, outers, self.kept.filter);
                inners - 1
            }
        };
        level.ofmap.writes = outputs;
        if self.kept.psums == Psums::Spilled {
            let between = summed * self.size[0] * self.size[2];
            level.psum_reads = between + carried;
            level.ofmap.writes = between + if carried > 0 { carried } else { outputs };
        }
        level
    }

    /// Accesses of the product, but for merging with other streams' results: `psum_reads` and additions
    /// count all partial sums but the first of each result.
    pub fn accesses(&self) -> Accesses {
        let [m, k, n] = self.size;
        let [outers, inners] = self.count();
        let tiles = if let Psums::Tiled(tiles) = self.kept.psums { tiles } else { 1 };
        let macs = m * k * n;
        let (ifmap, filter, psums, register) = match self.stationary {
            // The stationary operand is written to a PE's register once and read for each MAC.
            Stationary::Weights => (outers * m * k, tiles * k * n, inners * m * n, macs + tiles * k * n),
            // A partial sum is read and written for each MAC.
            Stationary::Outputs => (outers * m * k, inners * k * n, m * n, 2 * macs),
            Stationary::Inputs => (tiles * m * k, outers * k * n, inners * m * n, macs + tiles * m * k),
        };
        let dram = self.dram();
        let mut buffer = Level { psum_reads: psums - m * n, ..Level::default() };
        buffer.ifmap.reads = ifmap;
        buffer.ifmap.writes = dram.ifmap.reads;
        buffer.filter.reads = filter;
        buffer.filter.writes = dram.filter.reads;
        buffer.ofmap.writes = psums + dram.psum_reads;
        buffer.ofmap.reads = dram.ofmap.writes;
        // Two operands move on from PE to PE, whichever the third is.
        Accesses { macs, adds: psums - m * n, register, neighbour: 2 * macs, buffer, dram, mcache: 0 }
    }

    #[cfg(test)]
    pub fn kept(&self) -> Kept {
        self.kept
    }
}
