//! Waiting for DRAM: folds in turn, each as long as its computing or its transfers, whichever is longer.

use super::config::Memory;
use super::folds::Folds;

/// Folds one after another, of one product or several, and what they take.
///
/// Double buffered: while a fold computes, what the next one needs is loaded and what the one before
/// made is stored; the first fold's load and the last one's store are exposed. Not so: a fold loads,
/// computes and stores in turn.
#[derive(Debug, Clone)]
pub(super) struct Roofline<'a> {
    memory: &'a Memory,
    last: Option<Last>,
    // Wide, since DRAM may be as slow as a thousandth of a byte a cycle.
    time: u128,
    compute: u128,
}

/// The last fold that came: it ends when it is known what the next one loads.
#[derive(Debug, Clone, Copy)]
struct Last {
    cycles: u64,
    store: u64,
    /// What the fold before stores.
    before: u64,
}

impl<'a> Roofline<'a> {
    pub fn new(memory: &'a Memory) -> Self {
        Self { memory, last: None, time: 0, compute: 0 }
    }

    /// One fold.
    pub fn fold(&mut self, cycles: u64, [load, store]: [u64; 2]) {
        self.compute += u128::from(cycles);
        if !self.memory.double_buffered {
            let parts = [self.memory.transfer(load), cycles, self.memory.transfer(store)];
            self.time += parts.map(u128::from).iter().sum::<u128>();
            return;
        }
        let before = match self.last {
            None => {
                self.time += u128::from(self.memory.transfer(load));
                0
            }
            Some(last) => {
                self.time += u128::from(last.cycles.max(self.memory.transfer(last.before + load)));
                last.store
            }
        };
        self.last = Some(Last { cycles, store, before });
    }

    /// All folds of a product, in closed form.
    ///
    /// A fold's words depend on whether it is the first or the last along each axis, and its time on its
    /// own kind, the one before and the one after. So along an axis of many folds the third stands for
    /// all up to the third last.
    pub fn product(&mut self, folds: &Folds) {
        let count @ [outers, inners] = folds.count();
        let [outer, inner] = count.map(kinds);
        let cycles = folds.cycles;
        if !self.memory.double_buffered {
            for ((outer, many), (inner, times)) in pairs(&outer, &inner) {
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
        // The last two folds that came by hand are 0 and 1; those from 1 to the last but one end here.
        for ((outer, many), (inner, times)) in pairs(&outer, &inner) {
            let fold = outer * inners + inner;
            if fold > 0 && fold + 1 < all {
                let words = at(fold - 1)[1] + at(fold + 1)[0];
                self.time += u128::from(many * times) * u128::from(cycles.max(self.memory.transfer(words)));
            }
        }
        self.compute += u128::from(all - 2) * u128::from(cycles);
        self.last = Some(Last { cycles, store: at(all - 1)[1], before: at(all - 2)[1] });
    }

    /// The same `count` times over: from the third time on, each takes as long as the one before.
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

    /// Cycles beyond computing.
    pub fn stall(mut self) -> u64 {
        if let Some(last) = self.last {
            let ends = [last.cycles.max(self.memory.transfer(last.before)), self.memory.transfer(last.store)];
            self.time += ends.map(u128::from).iter().sum::<u128>();
        }
        u64::try_from(self.time - self.compute).unwrap_or(u64::MAX)
    }
}

/// Folds along an axis, and how many each stands for.
fn kinds(folds: u64) -> Vec<(u64, u64)> {
    if folds <= 5 {
        return (0..folds).map(|fold| (fold, 1)).collect();
    }
    vec![(0, 1), (1, 1), (2, folds - 4), (folds - 2, 1), (folds - 1, 1)]
}

fn pairs<'a>(outer: &'a [(u64, u64)], inner: &'a [(u64, u64)]) -> impl Iterator<Item = ((u64, u64), (u64, u64))> + 'a {
    outer.iter().flat_map(move |&outer| inner.iter().map(move |&inner| (outer, inner)))
}
