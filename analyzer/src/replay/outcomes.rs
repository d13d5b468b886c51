//! The outcomes of all caches over signatures of one length in one scope.

use super::grouped::grouped;
use super::plan::{Cache, LengthPlan};
use super::sign::Signed;
use mercury_reuse::config::{Replacement, Scope, SetIndex};
use mercury_reuse::{FirstArrivals, Outcomes, Ranks};
use std::vec::IntoIter;

/// Bytes of a vector: its holder, the list of first arrivals and their ranks, and what look-ups add for a while.
pub const BYTES_PER_VECTOR: u64 = 32;

/// Caches that had the same outcomes in some samples.
pub struct Found {
    /// Their numbers in the plan.
    pub caches: Vec<usize>,
    /// The outcomes, by product.
    pub outcomes: Vec<Outcomes>,
}

/// Finds the first arrivals of signatures, by product.
pub fn find_arrivals<'s>(signed: &Signed, signatures: &'s [Vec<u64>], scope: Scope) -> Vec<FirstArrivals<'s>> {
    let products = signed.views.iter().zip(signatures);
    products.map(|(view, signatures)| FirstArrivals::find(view.layout(), signatures, scope)).collect()
}

/// Finds the outcomes of the caches of a length, a few caches at a time.
///
/// First arrivals give the outcomes of all caches that replace nothing or have room for everything. Each other cache
/// looks signatures up.
pub struct OutcomeFinder<'a> {
    signed: &'a Signed<'a>,
    signatures: &'a [Vec<u64>],
    arrivals: &'a [FirstArrivals<'a>],
    plan: &'a LengthPlan,
    /// Limited caches by number of sets and how these are chosen.
    groups: IntoIter<((u32, SetIndex), Vec<usize>)>,
    /// Caches with replacement in which not everything found room.
    replacing: Vec<usize>,
    /// Caches in which everything found room.
    roomy: Vec<usize>,
}

impl<'a> OutcomeFinder<'a> {
    /// Begins with none of the caches.
    pub fn new(
        signed: &'a Signed<'a>,
        signatures: &'a [Vec<u64>],
        arrivals: &'a [FirstArrivals<'a>],
        plan: &'a LengthPlan,
    ) -> Self {
        let cache = |number: usize| plan.caches[number].cache;
        let numbers = 0..plan.caches.len();
        let (roomy, limited): (Vec<usize>, Vec<usize>) = numbers.partition(|&number| cache(number) == Cache::UNLIMITED);
        let groups = grouped(limited, |number| (cache(number).sets(), cache(number).index));
        let groups = groups.into_iter().collect::<Vec<_>>().into_iter();
        Self { signed, signatures, arrivals, plan, groups, replacing: Vec::new(), roomy }
    }

    /// The outcomes of caches with as many sets that replace nothing; sets the others aside.
    fn rank_group(&mut self, (sets, index): (u32, SetIndex), members: Vec<usize>) -> Vec<Found> {
        let ranks: Vec<Ranks> = self.arrivals.iter().map(|arrivals| arrivals.rank(sets, index)).collect();
        let mut found = Vec::new();
        for number in members {
            let cache = self.plan.caches[number].cache;
            if ranks.iter().all(|ranks| ranks.holds_all(cache.ways)) {
                self.roomy.push(number);
            } else if cache.replacement == Replacement::None {
                let outcomes = ranks.iter().map(|ranks| ranks.outcomes(cache.ways)).collect();
                found.push(Found { caches: vec![number], outcomes });
            } else {
                self.replacing.push(number);
            }
        }
        found
    }

    fn look_up(&self, number: usize) -> Found {
        let (config, scope) = (self.plan.caches[number].cache.config(), self.plan.scope);
        let products = self.signed.views.iter().zip(self.signatures);
        let outcomes = products.map(|(view, signatures)| Outcomes::look_up(view.layout(), signatures, &config, scope));
        Found { caches: vec![number], outcomes: outcomes.collect() }
    }
}

impl Iterator for OutcomeFinder<'_> {
    type Item = Vec<Found>;

    fn next(&mut self) -> Option<Vec<Found>> {
        // One at a time, as each takes memory of its own.
        if let Some(number) = self.replacing.pop() {
            return Some(vec![self.look_up(number)]);
        }
        if let Some((key, members)) = self.groups.next() {
            return Some(self.rank_group(key, members));
        }
        if self.roomy.is_empty() {
            return None;
        }
        let outcomes = self.arrivals.iter().map(|arrivals| arrivals.outcomes().clone()).collect();
        Some(vec![Found { caches: std::mem::take(&mut self.roomy), outcomes }])
    }
}
