//! Time of PE sets whose output rows have different work.
//!
//! Filters come one after another, scope by scope. In a scope each set has the same work for every
//! filter, because every filter of a channel sees the same Hitmap. Let `w(s)` be the cycles of set
//! s for a filter of the current scope, and number the filters through all scopes. Then:
//!
//! - `start(s, j) = max(end(s, j - 1), all(j - V))`: a set is at most V - 1 filters ahead of the
//!   slowest;
//! - `start(s, j) >= all(i)`, where j is the first filter of a scope, and i is the last filter of
//!   the scope `banks` before, whose bank it reuses;
//! - `end(s, j) = max over s and the sets u that it reuses from, directly or not, of start(u, j) +
//!   w(u)`: its last copy waits until the sets that compute the results have finished the filter;
//! - `all(j) = max over s of end(s, j)`.
//!
//! V = 1 is synchronous: all sets meet after each filter, so each filter takes the longest `w`.
//!
//! # Closed form of a scope
//!
//! A scope needs no simulation of its filters. An end is the longest path through these maxima. Let
//! a(s) be the ends when a scope begins, w* the largest work, and let j count the filters of the
//! scope from 1.
//!
//! A path that crosses from set to set through the window V skips V - 1 filters. So crossing at the
//! start of the scope, and then staying on w*, is never worse than crossing later. Crossing by a
//! reuse costs nothing, so it happens after the first filter. Let `B(d)` be the largest a(u) + w(u)
//! of d and the sets that it reuses from. Then:
//!
//! `all(j) = max(max over d of B(d) + (j - 1) w(d), max over h <= min(0, j - V) of all(h) + (j - h - V + 1) w*)`
//!
//! This is convex in j from 1 on. So for `end(s, F)`, whose last crossing may be at any g up to
//! F - V, only g <= 0, g = 1 and g = F - V matter. A scope takes O(V sets + reuses), independent of the
//! number of its filters. Property tests compare the result with the recurrence above, filter by
//! filter, and with a simulation cycle by cycle.

use std::collections::VecDeque;

/// When a PE set may begin its next filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discipline {
    /// When all sets have finished the filter before.
    Synchronous,
    /// When it is not too far ahead of the slowest set.
    Asynchronous {
        /// V: a set may be V - 1 filters ahead; 1 is synchronous.
        versions: u64,
        /// MCACHE banks. With 1 all sets meet at the end of a scope, when the cache is flushed.
        /// With 2 a set may be in the next scope.
        banks: u64,
    },
}

/// Work of the PE sets in a scope, for each filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScopeWork {
    /// Cycles of each set.
    pub work: Vec<u64>,
    /// Reuses between sets, `(set, from)`: `set` copies results that `from` computes in this scope.
    /// Order and repetition have no effect.
    pub reuses: Vec<(u32, u32)>,
}

/// The time of a schedule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Cycles from the first start to the last end.
    pub cycles: u64,
    /// Cycles of work of all sets together.
    pub busy: u128,
    /// Number of PE sets.
    pub sets: u64,
}

impl Timeline {
    /// Cycles that sets wait for others, of all sets together.
    pub fn idle(&self) -> u128 {
        u128::from(self.sets) * u128::from(self.cycles) - self.busy
    }
}

/// Times scopes one after another.
#[derive(Debug, Clone)]
pub struct Schedule {
    filters: u64,
    versions: u64,
    banks: usize,
    /// The time when each set finished its last filter.
    ends: Vec<u64>,
    /// `all` of the last V filters (fewer at first), oldest first.
    history: VecDeque<u64>,
    /// The time when all sets had finished each of the last `banks` scopes, oldest first.
    scopes: VecDeque<u64>,
    busy: u128,
}

/// Buffers for [`Schedule::scope_in`]. Any schedule may use them.
#[derive(Debug, Default)]
pub struct Scratch {
    first_ends: Vec<u64>,
    own: Vec<u64>,
    reach: Vec<u64>,
    past: Vec<u64>,
    crossings: Vec<(u64, u64)>,
}

/// Replaces the content of a buffer.
fn refill<T>(buffer: &mut Vec<T>, values: impl Iterator<Item = T>) {
    buffer.clear();
    buffer.extend(values);
}

impl Schedule {
    /// A schedule of `sets` PE sets, each with `filters` filters per scope.
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
            // Sets are at most `banks` scopes apart, so a wider window has no effect.
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
    /// If the number of sets is not that of the schedule.
    pub fn scope(&mut self, scope: &ScopeWork) {
        self.scope_in(scope, &mut Scratch::default());
    }

    /// [`Schedule::scope`] with given buffers.
    ///
    /// # Panics
    /// As [`Schedule::scope`].
    pub fn scope_in(&mut self, scope: &ScopeWork, scratch: &mut Scratch) {
        let work = &scope.work;
        assert_eq!(work.len(), self.ends.len(), "sets of the scope");
        self.busy += work.iter().map(|&cycles| u128::from(cycles)).sum::<u128>() * u128::from(self.filters);
        if self.scopes.len() == self.banks {
            let flushed = self.scopes.pop_front().unwrap_or(0);
            self.ends.iter_mut().for_each(|end| *end = flushed.max(*end));
        }
        self.compute_first_ends(scope, &mut scratch.first_ends);
        self.compute_last_ends(scope, scratch);
        self.scopes.push_back(self.makespan());
    }

    /// The time so far.
    pub fn timeline(&self) -> Timeline {
        Timeline { cycles: self.makespan(), busy: self.busy, sets: self.ends.len() as u64 }
    }

    fn makespan(&self) -> u64 {
        self.ends.iter().copied().max().unwrap_or(0)
    }

    /// Computes `B`: the ends of the first filter, without the limit of the window.
    fn compute_first_ends(&self, scope: &ScopeWork, first_ends: &mut Vec<u64>) {
        refill(first_ends, self.ends.iter().zip(&scope.work).map(|(end, work)| end + work));
        propagate_maxima(first_ends, &scope.reuses);
    }

    /// Advances `ends` and `history` to the last filter of the scope.
    fn compute_last_ends(&mut self, scope: &ScopeWork, scratch: &mut Scratch) {
        let Scratch { first_ends, own, reach, past, crossings } = scratch;
        let (filters, versions) = (self.filters, self.versions);
        let heaviest = scope.work.iter().copied().max().unwrap_or(0);
        // `past[i]` is all(h) for h = i + 1 - past.len(). The first filter that it delays is h + V.
        refill(past, self.history.iter().copied());
        let past = past.as_slice();
        let opens = |index: usize| index as u64 + 1 + versions - past.len() as u64;
        let all = |j: u64| {
            let own = first_ends.iter().zip(&scope.work).map(|(end, work)| end + (j - 1) * work).max();
            let held = past.iter().enumerate().take_while(|&(index, _)| opens(index) <= j);
            let held = held.map(|(index, all)| all + (j + 1 - opens(index)) * heaviest).max();
            own.max(held).unwrap_or(0)
        };

        refill(own, first_ends.iter().zip(&scope.work).map(|(end, work)| end + (filters - 1) * work));
        propagate_maxima(own, &scope.reuses);
        // The largest work of the sets that each set waits for, including itself.
        reach.clone_from(&scope.work);
        propagate_maxima(reach, &scope.reuses);
        // Each crossing: the time when all had finished a filter, and the number of filters of this
        // scope from the first that it delays to the last.
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

/// Raises the value of each set to the largest of the sets that it reuses from, directly or not.
fn propagate_maxima(values: &mut [u64], reuses: &[(u32, u32)]) {
    // Representatives come first, so most reuses are from lower to higher sets, and few rounds
    // suffice.
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
