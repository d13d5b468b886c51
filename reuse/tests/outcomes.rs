//! Outcomes of caches that replace nothing, found by the ranks of first arrivals, against a look-up
//! in each cache; unlimited hits against a comparison with every earlier vector.

use mercury_reuse::config::{McacheConfig, Replacement, Scope, SetIndex};
use mercury_reuse::{Counts, FirstArrivals, Layout, Outcome, Outcomes};
use proptest::prelude::*;

const SCOPES: [Scope; 3] = [Scope::Channel, Scope::Sample, Scope::Batch];

fn scopes() -> impl Strategy<Value = Scope> {
    prop::sample::select(SCOPES.to_vec())
}

/// Layouts with up to `positions` vectors per run, including layouts without vectors.
fn layouts(positions: usize) -> impl Strategy<Value = Layout> {
    (0usize..4, 0usize..4, 0..positions).prop_map(|(samples, streams, positions)| Layout {
        samples,
        streams,
        positions,
    })
}

fn indices() -> impl Strategy<Value = SetIndex> {
    prop::sample::select(vec![SetIndex::Mixed, SetIndex::LowBits])
}

/// Signatures that share prefixes (low bits) of all lengths. Each copies the low bits of one of
/// `few` roots, up to a random bit, and is random above it.
fn signatures(count: usize, seed: u64, few: u64) -> Vec<u64> {
    let mut state = seed | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    };
    let roots: Vec<u64> = (0..few).map(|_| random()).collect();
    let mut one = || {
        let (root, shared) = (roots[(random() % few) as usize], random() % 90);
        let kept = 1u64.checked_shl(shared as u32).map_or(u64::MAX, |bit| bit - 1);
        (root & kept) | (random() & !kept)
    };
    (0..count).map(|_| one()).collect()
}

/// Keeps the first `bits` of each signature, which are its low bits.
fn shorten(signatures: &[u64], bits: u32) -> Vec<u64> {
    signatures.iter().map(|signature| signature & (u64::MAX >> (64 - bits))).collect()
}

/// Looks all vectors up in a cache of `sets` sets without replacement.
fn look_up(layout: Layout, signatures: &[u64], (sets, ways): (u32, u32), index: SetIndex, scope: Scope) -> Outcomes {
    let replacement = Replacement::None;
    let config = McacheConfig { entries: sets * ways, ways, index, replacement, ..McacheConfig::default() };
    Outcomes::look_up(layout, signatures, &config, scope)
}

fn count_mnu(outcomes: &Outcomes) -> u64 {
    outcomes.counts().iter().map(|counts| counts.mnu).sum()
}

/// Counts the low bits that two signatures share.
fn count_shared_bits(a: u64, b: u64) -> u32 {
    (a ^ b).trailing_zeros()
}

/// For each vector, the largest number of low bits that its signature shares with any earlier
/// vector of its stream and scope; `None` if there is no earlier vector.
fn naive_lengths(layout: Layout, signatures: &[u64], scope: Scope) -> Vec<Option<u32>> {
    let are_peers = |a: usize, b: usize| {
        let (a, b) = (layout.locate(a), layout.locate(b));
        a.1 == b.1 && (a.0 == b.0 || scope == Scope::Batch)
    };
    let longest = |vector: usize| {
        let earlier = (0..vector).filter(|&earlier| are_peers(earlier, vector));
        earlier.map(|earlier| count_shared_bits(signatures[earlier], signatures[vector])).max()
    };
    (0..layout.vectors()).map(longest).collect()
}

/// Checks that holders, outcomes, representatives and counts agree with each other.
fn check_agreement(outcomes: &Outcomes) -> Result<(), TestCaseError> {
    let layout = outcomes.layout();
    let mut counts = vec![Counts::default(); layout.runs()];
    for vector in 0..layout.vectors() {
        let run = &mut counts[vector / layout.positions];
        let (holder, representative) = match outcomes.outcome(vector) {
            Outcome::Hit(first) => {
                run.hit += 1;
                (first, first as usize)
            }
            Outcome::Mau => {
                run.mau += 1;
                (vector as u32, vector)
            }
            Outcome::Mnu => {
                run.mnu += 1;
                (Outcomes::NONE, vector)
            }
        };
        prop_assert_eq!((outcomes.holder(vector), outcomes.representative(vector)), (holder, representative));
    }
    prop_assert_eq!(outcomes.counts(), counts);
    let holders: Vec<u32> = (0..layout.vectors()).map(|vector| outcomes.holder(vector)).collect();
    for range in [0..holders.len(), holders.len() / 3..holders.len() - holders.len() / 4] {
        let found = outcomes.holders(range.clone());
        prop_assert_eq!(&found[..], &holders[range]);
    }
    Ok(())
}

proptest! {
    #[test]
    fn an_unlimited_cache_hits_the_prefixes_of_any_earlier_vector(
        layout in layouts(60), scope in scopes(), seed: u64, few in 1u64..20, bits in 1u32..=64,
    ) {
        let all = signatures(layout.vectors(), seed, few);
        let lengths = naive_lengths(layout, &all, scope);
        let mut counts = Vec::with_capacity(layout.runs());
        for run in 0..layout.runs() {
            let lengths = &lengths[run * layout.positions..][..layout.positions];
            let hit = lengths.iter().flatten().filter(|&&length| length >= bits).count() as u64;
            counts.push(Counts { hit, mau: layout.positions as u64 - hit, mnu: 0 });
        }
        let short = shorten(&all, bits);
        let unlimited = McacheConfig { entries: 0, ..McacheConfig::default() };
        let looked_up = Outcomes::look_up(layout, &short, &unlimited, scope);
        prop_assert_eq!(looked_up.counts(), counts.as_slice());
        let arrivals = FirstArrivals::find(layout, &short, scope);
        prop_assert_eq!(arrivals.outcomes(), &looked_up);
        // A limited cache with room for all signatures.
        let room = layout.vectors().max(1) as u32;
        prop_assert_eq!(&arrivals.rank(1, SetIndex::Mixed).outcomes(room), &looked_up);
        prop_assert_eq!(look_up(layout, &short, (1, room), SetIndex::Mixed, scope), looked_up);
    }

    #[test]
    fn ranks_give_the_outcomes_of_a_look_up_in_each_cache(
        layout in layouts(80), scope in scopes(), index in indices(), seed: u64, few in 1u64..30,
        bits in 1u32..=64, caches in prop::collection::vec((1u32..9, 1u32..6), 1..5),
    ) {
        let signatures = shorten(&signatures(layout.vectors(), seed, few), bits);
        let arrivals = FirstArrivals::find(layout, &signatures, scope);
        check_agreement(arrivals.outcomes())?;
        for (sets, ways) in caches {
            let found = arrivals.rank(sets, index).outcomes(ways);
            prop_assert_eq!(&found, &look_up(layout, &signatures, (sets, ways), index, scope));
            check_agreement(&found)?;
        }
    }

    #[test]
    fn one_rank_gives_the_outcomes_of_any_number_of_ways(
        layout in layouts(80), scope in scopes(), index in indices(), seed: u64, few in 1u64..30,
        bits in 1u32..=64, sets in 1u32..9,
    ) {
        let signatures = shorten(&signatures(layout.vectors(), seed, few), bits);
        let ranks = FirstArrivals::find(layout, &signatures, scope).rank(sets, index);
        let all = ranks.ways_for_all();
        for ways in [1, 2, 3, 5, all.max(2) - 1, all.max(1), all + 1] {
            prop_assert_eq!(ranks.outcomes(ways), look_up(layout, &signatures, (sets, ways), index, scope));
        }
    }

    #[test]
    fn ways_for_all_are_the_fewest_without_mnu(
        layout in layouts(80), scope in scopes(), index in indices(), seed: u64, few in 1u64..30,
        bits in 1u32..=64, sets in 1u32..9,
    ) {
        let signatures = shorten(&signatures(layout.vectors(), seed, few), bits);
        let ways = FirstArrivals::find(layout, &signatures, scope).rank(sets, index).ways_for_all();
        prop_assert_eq!(ways == 0, layout.vectors() == 0);
        if ways > 0 {
            prop_assert_eq!(count_mnu(&look_up(layout, &signatures, (sets, ways), index, scope)), 0);
        }
        if ways > 1 {
            prop_assert!(count_mnu(&look_up(layout, &signatures, (sets, ways - 1), index, scope)) > 0);
        }
    }
}

/// Large enough to split every step over threads and to fill sets.
#[test]
fn outcomes_do_not_depend_on_the_number_of_threads() {
    let layout = Layout { samples: 3, streams: 9, positions: 4000 };
    let all = signatures(layout.vectors(), 7, 3000);
    // Sets and ways.
    let caches = [(64, 16), (64, 1), (256, 16), (96, 8), (128, 8)];
    for (scope, index) in SCOPES.into_iter().zip([SetIndex::Mixed, SetIndex::LowBits, SetIndex::Mixed]) {
        for bits in [8, 20, 44, 64] {
            let signatures = shorten(&all, bits);
            let mut expected = Vec::with_capacity(caches.len());
            for cache in caches {
                expected.push(look_up(layout, &signatures, cache, index, scope));
            }
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let found: Vec<Outcomes> = pool.install(|| {
                    let arrivals = FirstArrivals::find(layout, &signatures, scope);
                    caches.iter().map(|&(sets, ways)| arrivals.rank(sets, index).outcomes(ways)).collect()
                });
                for (found, expected) in found.iter().zip(&expected) {
                    assert!(found == expected, "{threads} threads, {bits} bits, {scope:?}");
                }
            }
            assert!(expected[0].counts().iter().any(|counts| counts.hit > 0) && count_mnu(&expected[1]) > 0);
        }
    }
}

/// With one sample the scope `batch` equals `sample`.
#[test]
fn outcomes_of_a_batch_of_one_sample_equal_those_of_the_sample() {
    let layout = Layout { samples: 1, streams: 3, positions: 50 };
    for bits in [5, 40] {
        let signatures = shorten(&signatures(layout.vectors(), 3, 9), bits);
        for (sets, ways) in [(2, 2), (3, 3)] {
            let find =
                |scope| FirstArrivals::find(layout, &signatures, scope).rank(sets, SetIndex::Mixed).outcomes(ways);
            assert_eq!(find(Scope::Batch), find(Scope::Sample));
        }
    }
}

#[test]
fn without_vectors_there_is_nothing_to_count() {
    for (samples, streams, positions) in [(0, 2, 3), (2, 0, 3), (2, 3, 0)] {
        let layout = Layout { samples, streams, positions };
        for scope in SCOPES {
            let arrivals = FirstArrivals::find(layout, &[], scope);
            let ranks = arrivals.rank(4, SetIndex::Mixed);
            assert_eq!(ranks.ways_for_all(), 0);
            for outcomes in [arrivals.outcomes(), &ranks.outcomes(2)] {
                assert_eq!(outcomes.counts(), vec![Counts::default(); layout.runs()]);
                assert_eq!(outcomes.iter().len(), 0);
                assert!(outcomes.holders(0..0).is_empty());
            }
        }
    }
}

#[test]
#[should_panic(expected = "a cache has sets")]
fn a_cache_without_sets_is_refused() {
    let layout = Layout { samples: 1, streams: 1, positions: 1 };
    FirstArrivals::find(layout, &[0], Scope::Batch).rank(0, SetIndex::Mixed);
}
