//! Stalls for DRAM: each fold takes the longer of its computing and its transfers.

use super::config::Memory;
use super::folds::Folds;

/// Adds up the time of consecutive folds, of one product or several.
///
/// With double buffering, the loads of the next fold and the stores of the previous one overlap
/// with the computing of a fold. Only the first load and the last store are exposed. Without it, a
/// fold loads, computes and stores in turn.
#[derive(Debug, Clone)]
pub(super) struct Roofline<'a> {
    memory: &'a Memory,
    last: Option<Last>,
    /// Cycles so far. 128 bits, because DRAM may be as slow as a thousandth of a byte per cycle.
    time: u128,
    /// Cycles of computing so far.
    compute: u128,
}

/// The last fold so far. Its time depends on the load of the next fold, so it is not yet added.
#[derive(Debug, Clone, Copy)]
struct Last {
    cycles: u64,
    /// Words that it stores.
    store: u64,
    /// Words that the fold before it stores.
    previous_store: u64,
}

impl<'a> Roofline<'a> {
    pub fn new(memory: &'a Memory) -> Self {
        Self { memory, last: None, time: 0, compute: 0 }
    }

    /// Adds one fold, with the words that it loads and stores.
    pub fn fold(&mut self, cycles: u64, [load, store]: [u64; 2]) {
        self.compute += u128::from(cycles);
        if !self.memory.double_buffered {
            let parts = [self.memory.transfer(load), cycles, self.memory.transfer(store)];
            self.time += parts.map(u128::from).iter().sum::<u128>();
            return;
        }
        let previous_store = match self.last {
            None => {
                self.time += u128::from(self.memory.transfer(load));
                0
            }
            Some(last) => {
                self.time += u128::from(last.cycles.max(self.memory.transfer(last.previous_store + load)));
                last.store
            }
        };
        self.last = Some(Last { cycles, store, previous_store });
    }

    /// Adds all folds of a product, in closed form.
    ///
    /// The words of a fold depend on whether it is the first or the last along each axis. Its time
    /// also depends on the folds before and after. So along an axis with many folds the third
    /// represents all up to the third last.
    pub fn product(&mut self, folds: &Folds) {
        let count @ [outers, inners] = folds.count();
        let [outer, inner] = count.map(list_kinds);
        let cycles = folds.cycles;
        if !self.memory.double_buffered {
            for ((outer, many), (inner, times)) in list_pairs(&outer, &inner) {
                let [load, store] = folds.fold(outer, inner).map(|words| u128::from(self.memory.transfer(words)));
                self.time += u128::from(many * times) * (load + u128::from(cycles) + store);
            }
            self.compute += u128::from(outers * inners) * u128::from(cycles);
            return;
        }
        let at = |fold: u64| folds.fold(fold / inners, fold % inners);
        let all = outers * inners;
        for fold in 0..all.min(2) {
            self.fold(cycles, at(fold));
        }
        if all <= 2 {
            return;
        }
        // Folds 0 and 1 were added above. This adds the time of folds 1 to the second last.
        for ((outer, many), (inner, times)) in list_pairs(&outer, &inner) {
            let fold = outer * inners + inner;
            if fold > 0 && fold + 1 < all {
                let words = at(fold - 1)[1] + at(fold + 1)[0];
                self.time += u128::from(many * times) * u128::from(cycles.max(self.memory.transfer(words)));
            }
        }
        self.compute += u128::from(all - 2) * u128::from(cycles);
        self.last = Some(Last { cycles, store: at(all - 1)[1], previous_store: at(all - 2)[1] });
    }

    /// Adds the same folds `count` times. From the third time on, each takes as long as the one
    /// before.
    pub fn repeat(&mut self, count: u64, mut once: impl FnMut(&mut Self)) {
        let mut taken = [0; 2];
        for _ in 0..count.min(3) {
            let before = [self.time, self.compute];
            once(self);
            taken = [self.time - before[0], self.compute - before[1]];
        }
        let more = u128::from(count.saturating_sub(3));
        self.time += more * taken[0];
        self.compute += more * taken[1];
    }

    /// Cycles in addition to computing.
    pub fn stall(mut self) -> u64 {
        if let Some(last) = self.last {
            let computing = last.cycles.max(self.memory.transfer(last.previous_store));
            self.time += u128::from(computing) + u128::from(self.memory.transfer(last.store));
        }
        u64::try_from(self.time - self.compute).unwrap_or(u64::MAX)
    }
}

/// Lists representative folds along an axis, each with the number of folds that it represents.
fn list_kinds(folds: u64) -> Vec<(u64, u64)> {
    if folds <= 5 {
        return (0..folds).map(|fold| (fold, 1)).collect();
    }
    vec![(0, 1), (1, 1), (2, folds - 4), (folds - 2, 1), (folds - 1, 1)]
}

fn list_pairs<'a>(
    outer: &'a [(u64, u64)],
    inner: &'a [(u64, u64)],
) -> impl Iterator<Item = ((u64, u64), (u64, u64))> + 'a {
    outer.iter().flat_map(move |&outer| inner.iter().map(move |&inner| (outer, inner)))
}
