//! Outcomes of many caches that replace nothing, from one look-up without limit.

use super::look_up::runs_of_scope;
use super::{Limit, Outcomes, for_each_holder, is_resident};
use crate::caching::counts::Counts;
use crate::caching::mcache::MNU;
use crate::config::{McacheConfig, Scope, SetIndex};
use crate::simd::simd_dispatch;
use crate::vectors::Layout;
use rayon::prelude::*;
use std::sync::Arc;

/// The first vectors of each signature and stream in a scope, in order of arrival.
///
/// A signature that found room stays until the flush. So a cache that replaces nothing holds it exactly if fewer than
/// its ways others reached the same set before it (their number is the *rank*); then all vectors of that signature hit,
/// otherwise all are MNU. Ranks depend on the number of sets and how sets are chosen, not on the ways:
/// O(first arrivals) for each number of sets, O(vectors) for each cache, without a look-up.
///
/// ```
/// use mercury_reuse::config::{Scope, SetIndex};
/// use mercury_reuse::{FirstArrivals, Layout};
/// let layout = Layout { samples: 1, streams: 1, positions: 4 };
/// let arrivals = FirstArrivals::find(layout, &[7, 5, 5, 7], Scope::Channel);
/// let ranks = arrivals.rank(1, SetIndex::Mixed);
/// assert_eq!(ranks.outcomes(1).counts()[0].hit, 1);
/// assert_eq!(ranks.outcomes(2).counts()[0].hit, 2);
/// assert_eq!(ranks.ways_for_all(), 2);
/// ```
pub struct FirstArrivals<'s> {
    signatures: &'s [u64],
    unlimited: Outcomes,
    /// Vectors of a scope.
    scope_length: usize,
    /// First arrivals, scope by scope.
    arrivals: Vec<Vec<u32>>,
}

/// First arrivals and their ranks in the sets of a cache.
pub struct Ranks {
    unlimited: Outcomes,
    /// Of each first arrival its rank; of other vectors anything.
    by_vector: Arc<Vec<u32>>,
    ways_for_all: u32,
}

impl<'s> FirstArrivals<'s> {
    /// Looks signatures up in a cache with room for all, flushed as `scope` says.
    ///
    /// # Panics
    /// If there are not as many signatures as the layout has vectors, or 2^32 or more.
    pub fn find(layout: Layout, signatures: &'s [u64], scope: Scope) -> Self {
        let unlimited = McacheConfig { entries: 0, ..McacheConfig::default() };
        let unlimited = Outcomes::look_up(layout, signatures, &unlimited, scope);
        let scope_length = (runs_of_scope(scope, layout) * layout.positions).max(1);
        let scopes = unlimited.holders.par_chunks(scope_length).enumerate();
        let arrivals = scopes.map(|(scope, holders)| list_arrivals((scope * scope_length) as u32, holders)).collect();
        Self { signatures, unlimited, scope_length, arrivals }
    }

    /// The outcomes of a cache with room for all.
    pub fn outcomes(&self) -> &Outcomes {
        &self.unlimited
    }

    /// Ranks first arrivals in the sets of a cache.
    ///
    /// # Panics
    /// If there are no sets.
    pub fn rank(&self, sets: u32, index: SetIndex) -> Ranks {
        assert!(sets > 0, "a cache has sets");
        let mut ranks = vec![0; self.unlimited.layout.vectors()];
        let scopes = ranks.par_chunks_mut(self.scope_length).enumerate().zip(&self.arrivals);
        let counter = || SetCounter::new(sets);
        let most = scopes.map_init(counter, |counter, ((scope, ranks), arrivals)| {
            let first = scope * self.scope_length;
            for &vector in arrivals {
                let key = index.key(self.signatures[vector as usize]);
                ranks[vector as usize - first] = counter.count(key);
            }
            counter.clear()
        });
        let ways_for_all = most.max().unwrap_or(0);
        Ranks { unlimited: self.unlimited.clone(), by_vector: Arc::new(ranks), ways_for_all }
    }
}

/// The vectors from number `first` on that hold their own signature.
fn list_arrivals(first: u32, holders: &[u32]) -> Vec<u32> {
    (first..).zip(holders).filter(|&(vector, &holder)| vector == holder).map(|(vector, _)| vector).collect()
}

/// Counts the arrivals at each set of a cache.
struct SetCounter {
    arrived: Vec<u32>,
    used: Vec<usize>,
    /// Most numbers of sets are powers of two, and a division would take longer than all the rest.
    mask: Option<u64>,
}

impl SetCounter {
    fn new(sets: u32) -> Self {
        let mask = sets.is_power_of_two().then(|| u64::from(sets) - 1);
        Self { arrived: vec![0; sets as usize], used: Vec::new(), mask }
    }

    /// How many arrived at the key's set before.
    fn count(&mut self, key: u64) -> u32 {
        let set = self.mask.map_or_else(|| key % self.arrived.len() as u64, |mask| key & mask) as usize;
        let rank = self.arrived[set];
        if rank == 0 {
            self.used.push(set);
        }
        self.arrived[set] = rank + 1;
        rank
    }

    /// Empties the sets; the most that arrived at one. A cache may have many more sets than a scope has vectors.
    fn clear(&mut self) -> u32 {
        let Self { arrived, used, .. } = self;
        used.drain(..).map(|set| std::mem::take(&mut arrived[set])).max().unwrap_or(0)
    }
}

impl Ranks {
    /// Whether every first arrival finds room in sets of so many ways.
    pub fn holds_all(&self, ways: u32) -> bool {
        self.ways_for_all.checked_sub(1).is_none_or(|last| is_resident(last, ways))
    }

    /// The ways from which on every first arrival finds room.
    pub fn ways_for_all(&self) -> u32 {
        self.ways_for_all
    }

    /// The outcomes of a cache of so many ways: those that [`Outcomes::look_up`] finds without replacement.
    pub fn outcomes(&self, ways: u32) -> Outcomes {
        if self.holds_all(ways) {
            return self.unlimited.clone();
        }
        let Outcomes { layout, holders, .. } = &self.unlimited;
        let positions = layout.positions.max(1);
        let runs = holders.par_chunks(positions).enumerate();
        let counts = runs.map(|(run, firsts)| self.count((run * positions) as u32, firsts, ways)).collect();
        let limit = Some(Limit { ranks: Arc::clone(&self.by_vector), ways });
        Outcomes { layout: *layout, holders: Arc::clone(holders), limit, counts }
    }

    /// Counts of a run from vector `first` on.
    fn count(&self, first: u32, first_arrivals: &[u32], ways: u32) -> Counts {
        let (mut mau, mut mnu) = (0, 0);
        simd_dispatch(|| {
            for_each_holder(first_arrivals, &self.by_vector, ways, |place, holder| {
                mau += u32::from(holder == first.wrapping_add(place as u32));
                mnu += u32::from(holder == MNU);
            });
        });
        let (mau, mnu) = (u64::from(mau), u64::from(mnu));
        Counts { hit: first_arrivals.len() as u64 - mau - mnu, mau, mnu }
    }
}
