//! Time of PE sets whose output rows have different work.
//!
//! Filters come one after another, scope by scope; in a scope each set has the same work for every
//! filter, as every filter of a channel sees the same Hitmap. With `w(s)` the cycles of set s for a
//! filter of the present scope, and filters numbered through all scopes:
//!
//! - `start(s, j) = max(end(s, j - 1), all(j - V))`: at most V - 1 filters ahead of the slowest;
//! - `start(s, j) >= all(i)` where j is the first filter of a scope and i the last of the scope that
//!   is `banks` before, whose bank it takes over;
//! - `end(s, j) = max over s and the sets u that it reuses from, directly or not, of start(u, j) + w(u)`:
//!   its last copy waits until the sets that compute the results have ended the filter;
//! - `all(j) = max over s of end(s, j)`.
//!
//! V = 1 is synchronous: all sets meet after each filter, which so takes the longest `w`.
//!
//! # Why a scope needs no simulation of its filters
//!
//! An end is the longest path through these maxima. Let a(s) be the ends when a scope begins, w* the
//! largest work, and j count the scope's filters from 1. A path that crosses from set to set by the
//! window V skips V - 1 filters, so crossing when the scope begins and then staying on w* is never
//! worse than crossing later, and crossing by a reuse costs nothing, so it happens after the first
//! filter. Hence, with `B(d)` = the largest a(u) + w(u) of d and those that it reuses from:
//!
//! `all(j) = max(max over d of B(d) + (j - 1) w(d), max over h <= min(0, j - V) of all(h) + (j - h - V + 1) w*)`
//!
//! which is convex in j from 1 on, so for `end(s, F)`, where the last crossing may be at any g up to
//! F - V, only g <= 0, g = 1 and g = F - V matter. A scope takes O(V sets + reuses), however many its
//! filters. The property tests compare it with the recurrence above, filter by filter, and with a
//! simulation that goes cycle by cycle.

use std::collections::VecDeque;

/// When a PE set may begin its next filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discipline {
    /// All sets end a filter before the next begins.
    Synchronous,
    /// Sets may be ahead of the slowest.
    Asynchronous {
        /// V: a set may be V - 1 filters ahead; 1 is synchronous.
        versions: u64,
        /// MCACHE banks: with 1 all sets meet where a scope ends and the cache is flushed, with 2 a
        /// set may be in the next scope.
        banks: u64,
    },
}

/// Work of the PE sets in a scope, for each filter of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScopeWork {
    /// Cycles of each set.
    pub work: Vec<u64>,
    /// Reuses between sets, `(set, from)`: `set` copies results that `from` computes in this scope.
    /// Order and repetition don't matter.
    pub reuses: Vec<(u32, u32)>,
}

/// The time of a schedule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeline {
    /// From the first start to the last end.
    pub cycles: u64,
    /// Work of all sets: `sets * cycles - busy` is what they wait.
    pub busy: u128,
    /// PE sets.
    pub sets: u64,
}

impl Timeline {
    /// Cycles that sets wait for others, all sets together.
    pub fn idle(&self) -> u128 {
        u128::from(self.sets) * u128::from(self.cycles) - self.busy
    }
}

/// Times scopes as they come.
#[derive(Debug, Clone)]
pub struct Schedule {
    filters: u64,
    versions: u64,
    banks: usize,
    /// When each set ended its last filter.
    ends: Vec<u64>,
    /// `all` of the last V filters (fewer at first), oldest first.
    history: VecDeque<u64>,
    /// When all sets had ended each of the last `banks` scopes, oldest first.
    scopes: VecDeque<u64>,
    busy: u128,
}

/// Memory of the scope before, for the next; of any schedule.
#[derive(Debug, Default)]
pub struct Scratch {
    begun: Vec<u64>,
    own: Vec<u64>,
    reach: Vec<u64>,
    past: Vec<u64>,
    crossings: Vec<(u64, u64)>,
}

/// Fills what was used before.
fn refill<T>(memory: &mut Vec<T>, values: impl Iterator<Item = T>) {
    memory.clear();
    memory.extend(values);
}

impl Schedule {
    /// A schedule of `sets` PE sets that each take `filters` filters a scope.
    ///
    /// # Panics
    /// If one of the numbers is 0.
    pub fn new(discipline: Discipline, sets: usize, filters: u64) -> Self {
        let (versions, banks) = match discipline {
            Discipline::Synchronous => (1, 1),
            Discipline::Asynchronous { versions, banks } => (versions, banks),
        };
        assert!(sets > 0 && filters > 0 && versions > 0 && banks > 0, "a schedule has sets, filters, versions, banks");
        Self {
            filters,
            // The banks keep sets within as many scopes, so a wider window changes nothing.
            versions: versions.min(banks.saturating_mul(filters)),
            banks: banks as usize,
            ends: vec![0; sets],
            history: VecDeque::new(),
            scopes: VecDeque::new(),
            busy: 0,
        }
    }

    /// Runs the next scope.
    ///
    /// # Panics
    /// If the scope does not have as many sets as the schedule.
    pub fn scope(&mut self, scope: &ScopeWork) {
        self.scope_in(scope, &mut Scratch::default());
    }

    /// [`Schedule::scope`], in memory of another one.
    ///
    /// # Panics
    /// As that.
    pub fn scope_in(&mut self, scope: &ScopeWork, scratch: &mut Scratch) {
        let work = &scope.work;
        assert_eq!(work.len(), self.ends.len(), "sets of the scope");
        self.busy += work.iter().map(|&cycles| u128::from(cycles)).sum::<u128>() * u128::from(self.filters);
        if self.scopes.len() == self.banks {
            let flushed = self.scopes.pop_front().unwrap_or(0);
            self.ends.iter_mut().for_each(|end| *end = flushed.max(*end));
        }
        self.begin(scope, &mut scratch.begun);
        self.finish(scope, scratch);
        self.scopes.push_back(self.makespan());
    }

    /// The time so far.
    pub fn timeline(&self) -> Timeline {
        Timeline { cycles: self.makespan(), busy: self.busy, sets: self.ends.len() as u64 }
    }

    fn makespan(&self) -> u64 {
        self.ends.iter().copied().max().unwrap_or(0)
    }

    /// `B`: the ends of the first filter if only the sets' own past held it back.
    fn begin(&self, scope: &ScopeWork, first: &mut Vec<u64>) {
        refill(first, self.ends.iter().zip(&scope.work).map(|(end, work)| end + work));
        settle(first, &scope.reuses);
    }

    /// Moves ends and history to the scope's last filter.
    fn finish(&mut self, scope: &ScopeWork, scratch: &mut Scratch) {
        let Scratch { begun, own, reach, past, crossings } = scratch;
        let (filters, versions) = (self.filters, self.versions);
        let heaviest = scope.work.iter().copied().max().unwrap_or(0);
        // `past[i]` is all(h) of h = i + 1 - past.len(); its filter h + V is the first that it holds back.
        refill(past, self.history.iter().copied());
        let past = past.as_slice();
        let opens = |index: usize| index as u64 + 1 + versions - past.len() as u64;
        let all = |j: u64| {
            let own = begun.iter().zip(&scope.work).map(|(begun, work)| begun + (j - 1) * work).max();
            let held = past.iter().enumerate().take_while(|&(index, _)| opens(index) <= j);
            let held = held.map(|(index, all)| all + (j + 1 - opens(index)) * heaviest).max();
            own.max(held).unwrap_or(0)
        };

        refill(own, begun.iter().zip(&scope.work).map(|(begun, work)| begun + (filters - 1) * work));
        settle(own, &scope.reuses);
        // The heaviest set that each waits for, itself included.
        reach.clone_from(&scope.work);
        settle(reach, &scope.reuses);
        // (when all had ended a filter, how many filters of this scope follow the window after it)
        let held = past.iter().enumerate().map(|(index, &all)| (all, opens(index)));
        let held = held.filter(|&(_, opens)| opens <= filters);
        refill(crossings, held.map(|(all, opens)| (all, filters + 1 - opens)));
        if filters > versions {
            crossings.extend([(all(1), filters - versions), (all(filters - versions), 1)]);
        }
        self.history.extend((filters.saturating_sub(versions) + 1..=filters).map(all));
        for (set, end) in self.ends.iter_mut().enumerate() {
            let held = crossings.iter().map(|&(all, left)| all + left * reach[set]).max();
            *end = own[set].max(held.unwrap_or(0));
        }
        let surplus = self.history.len().saturating_sub(versions as usize);
        self.history.drain(..surplus);
    }
}

/// Raises each set's value to the largest of those that it reuses from, directly or not.
fn settle(values: &mut [u64], reuses: &[(u32, u32)]) {
    // Representatives come first, so reuses mostly point from lower to higher sets: few rounds.
    let mut changed = !reuses.is_empty();
    while changed {
        changed = false;
        for &(set, from) in reuses {
            if values[from as usize] > values[set as usize] {
                values[set as usize] = values[from as usize];
                changed = true;
            }
        }
    }
}
