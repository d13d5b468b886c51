//! The outcomes of all caches over signatures of one length in one scope.

use super::grouped::grouped;
use super::plan::{Cache, CachePlan, LengthPlan};
use super::sign::Signed;
use mercury_reuse::config::Replacement;
use mercury_reuse::{FirstArrivals, Outcomes, Ranks};

/// Bytes of a vector: its holder, the list of first arrivals and their ranks, and what look-ups add for a while.
pub const BYTES_PER_VECTOR: u64 = 32;

/// Caches that had the same outcomes in some samples.
pub struct Found {
    /// The cache that stands for all: without limit, if everything found room in each of them.
    pub canonical: Cache,
    /// Their numbers in the plan.
    pub caches: Vec<usize>,
    /// The outcomes, by product.
    pub outcomes: Vec<Outcomes>,
}

/// Finds the outcomes of the caches of a length, and hands those of caches with as many sets to `each` at a time: first
/// arrivals tell the outcomes of all caches that replace nothing or have room for everything, others look signatures
/// up. `unlimited` gets the outcomes of a cache with room for all.
pub fn find_outcomes(
    signed: &Signed,
    plan: &LengthPlan,
    unlimited: impl FnOnce(&[Outcomes]),
    mut each: impl FnMut(Vec<Found>),
) {
    let products = 0..signed.views.len();
    let signatures: Vec<Vec<u64>> = products.map(|product| signed.shorten(product, plan.bits)).collect();
    let layouts = signed.views.iter().map(|view| view.layout());
    let arrivals: Vec<FirstArrivals> = layouts
        .zip(&signatures)
        .map(|(layout, signatures)| FirstArrivals::find(layout, signatures, plan.scope))
        .collect();
    let all_found_room: Vec<Outcomes> = arrivals.iter().map(|arrivals| arrivals.outcomes().clone()).collect();
    unlimited(&all_found_room);

    let cache = |number: usize| plan.caches[number].cache;
    let (mut roomy, limited): (Vec<usize>, Vec<usize>) =
        (0..plan.caches.len()).partition(|&number| cache(number) == Cache::UNLIMITED);
    for ((sets, index), members) in grouped(limited, |number| (cache(number).sets(), cache(number).index)) {
        let ranks: Vec<Ranks> = arrivals.iter().map(|arrivals| arrivals.rank(sets, index)).collect();
        let ways_for_all = ranks.iter().map(Ranks::ways_for_all).max().unwrap_or(0);
        let (with_room, others): (Vec<usize>, Vec<usize>) =
            members.into_iter().partition(|&number| cache(number).ways >= ways_for_all);
        roomy.extend(with_room);
        let find = |number: usize| {
            let canonical = cache(number);
            let outcomes = match canonical.replacement {
                Replacement::None => ranks.iter().map(|ranks| ranks.outcomes(canonical.ways)).collect(),
                Replacement::Lru | Replacement::Fifo => look_up(signed, &signatures, plan, &plan.caches[number]),
            };
            Found { canonical, caches: vec![number], outcomes }
        };
        each(others.into_iter().map(find).collect());
    }
    if !roomy.is_empty() {
        each(vec![Found { canonical: Cache::UNLIMITED, caches: roomy, outcomes: all_found_room }]);
    }
}

fn look_up(signed: &Signed, signatures: &[Vec<u64>], plan: &LengthPlan, cache: &CachePlan) -> Vec<Outcomes> {
    let config = cache.cache.config();
    let products = signed.views.iter().zip(signatures);
    products.map(|(view, signatures)| Outcomes::look_up(view.layout(), signatures, &config, plan.scope)).collect()
}
