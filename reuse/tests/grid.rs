//! Unlimited hits and grids of counts against naive implementations: a comparison with every
//! earlier vector, and a cache pass for each configuration.

use mercury_reuse::config::{McacheConfig, Scope, SetIndex};
use mercury_reuse::{
    Counts, Hitmap, Layout, Limited, Outcome, RunOutcomes, counts_grid, outcomes_grid, unlimited_hits,
};
use proptest::prelude::*;

const SCOPES: [Scope; 3] = [Scope::Channel, Scope::Sample, Scope::Batch];

fn scopes() -> impl Strategy<Value = Scope> {
    prop::sample::select(SCOPES.to_vec())
}

fn layouts(positions: usize) -> impl Strategy<Value = Layout> {
    (0usize..4, 0usize..4, 1..positions).prop_map(|(samples, streams, positions)| Layout {
        samples,
        streams,
        positions,
    })
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

/// Counts the low bits that two signatures share.
fn count_shared_bits(a: u64, b: u64) -> u32 {
    (a ^ b).trailing_zeros()
}

/// For each vector, the largest number of low bits that its signature shares with any earlier
/// vector of its stream and scope.
fn naive_lengths(layout: Layout, signatures: &[u64], scope: Scope) -> Vec<u32> {
    let are_peers = |a: usize, b: usize| {
        let (a, b) = (layout.locate(a), layout.locate(b));
        a.1 == b.1 && (a.0 == b.0 || scope == Scope::Batch)
    };
    let longest = |vector: usize| {
        let earlier = (0..vector).filter(|&earlier| are_peers(earlier, vector));
        earlier.map(|earlier| count_shared_bits(signatures[earlier], signatures[vector])).max().unwrap_or(0)
    };
    (0..layout.vectors()).map(longest).collect()
}

/// Counts with a cache pass for each length and cache.
fn count_one_by_one(
    layout: Layout,
    signatures: &[u64],
    bits: &[u32],
    caches: &[(u32, u32)],
    index: SetIndex,
    scope: Scope,
) -> Vec<Vec<Counts>> {
    let mut result = Vec::new();
    for &bits in bits {
        let short: Vec<u64> = signatures.iter().map(|signature| signature & (u64::MAX >> (64 - bits))).collect();
        for &(entries, ways) in caches {
            let config = McacheConfig { entries, ways, index, ..McacheConfig::default() };
            result.push(Hitmap::new(layout, &short, &config, scope).counts().to_vec());
        }
    }
    result
}

/// Lists the outcomes of a run by cache, then by vector.
fn list_outcomes(outcomes: &RunOutcomes, layout: Layout, caches: usize) -> Vec<Outcome> {
    let first_vector = outcomes.run * layout.positions;
    let mut list = Vec::with_capacity(caches * layout.positions);
    for cache in 0..caches {
        for (place, &first) in outcomes.firsts.iter().enumerate() {
            list.push(match (outcomes.holds(cache, place), place == first as usize) {
                (true, true) => Outcome::Mau,
                (true, false) => Outcome::Hit((first_vector + first as usize) as u32),
                (false, _) => Outcome::Mnu,
            });
        }
    }
    list
}

/// Counts the outcomes of a run in one cache.
fn count_outcomes(outcomes: &RunOutcomes, layout: Layout, cache: usize) -> Counts {
    let held = || (0..layout.positions).filter(|&place| outcomes.holds(cache, place));
    let mau = held().filter(|&place| outcomes.firsts[place] as usize == place).count();
    Counts { hit: (held().count() - mau) as u64, mau: mau as u64, mnu: (layout.positions - held().count()) as u64 }
}

proptest! {
    #[test]
    fn a_cache_with_room_for_all_hits_what_any_earlier_vector_shares(
        layout in layouts(60), scope in scopes(), seed: u64, few in 1u64..20, bits in 1u32..=64,
    ) {
        let signatures = signatures(layout.vectors(), seed, few);
        let lengths = naive_lengths(layout, &signatures, scope);
        let count_hits = |run: &[u32]| run.iter().filter(|&&length| length >= bits).count() as u64;
        let hits: Vec<u64> = lengths.chunks(layout.positions).map(count_hits).collect();
        prop_assert_eq!(&unlimited_hits(layout, &signatures, bits, scope), &hits);
        let vectors = layout.positions as u64;
        let counts: Vec<Counts> = hits.into_iter().map(|hit| Counts { hit, mau: vectors - hit, mnu: 0 }).collect();
        let room = layout.vectors().max(1) as u32;
        let caches = [(room, room)];
        let expected = count_one_by_one(layout, &signatures, &[bits], &caches, SetIndex::Mixed, scope);
        prop_assert_eq!(&expected[0], &counts);
        let grid = counts_grid(layout, &signatures, &[bits], &caches, SetIndex::Mixed, scope);
        prop_assert_eq!(&grid[0], &counts);
    }

    #[test]
    fn a_grid_is_a_cache_pass_for_each_configuration(
        layout in layouts(80), scope in scopes(), seed: u64, few in 1u64..30, mixed: bool,
        bits in prop::collection::vec(1u32..=64, 0..5),
        caches in prop::collection::vec((1u32..9, 1u32..6), 0..5),
    ) {
        let signatures = signatures(layout.vectors(), seed, few);
        let caches: Vec<(u32, u32)> = caches.into_iter().map(|(sets, ways)| (sets * ways, ways)).collect();
        let index = if mixed { SetIndex::Mixed } else { SetIndex::LowBits };
        let grid = counts_grid(layout, &signatures, &bits, &caches, index, scope);
        prop_assert_eq!(grid, count_one_by_one(layout, &signatures, &bits, &caches, index, scope));
    }

    #[test]
    fn outcomes_equal_a_cache_pass_for_each_configuration(
        layout in layouts(60), in_channel: bool, seed: u64, few in 1u64..30, mixed: bool,
        bits in prop::collection::vec(1u32..=64, 0..4),
        // Up to more caches than one slice of 32 bits has room for.
        caches in prop::collection::vec((1u32..9, 1u32..6), 0..40),
    ) {
        let signatures = signatures(layout.vectors(), seed, few);
        let caches: Vec<(u32, u32)> = caches.into_iter().map(|(sets, ways)| (sets * ways, ways)).collect();
        let index = if mixed { SetIndex::Mixed } else { SetIndex::LowBits };
        let scope = if in_channel { Scope::Channel } else { Scope::Sample };
        let each = |outcomes: &RunOutcomes| {
            (outcomes.length, outcomes.run, list_outcomes(outcomes, layout, caches.len()))
        };
        let (counts, found) = outcomes_grid(layout, &signatures, &bits, &caches, index, scope, each);
        prop_assert_eq!(counts, count_one_by_one(layout, &signatures, &bits, &caches, index, scope));
        prop_assert_eq!(found.len(), bits.len());
        for (length, (found, &bits)) in found.iter().zip(&bits).enumerate() {
            prop_assert_eq!(found.len(), layout.runs());
            let short: Vec<u64> = signatures.iter().map(|signature| signature & (u64::MAX >> (64 - bits))).collect();
            for (number, &(entries, ways)) in caches.iter().enumerate() {
                let config = McacheConfig { entries, ways, index, ..McacheConfig::default() };
                let hitmap = Hitmap::new(layout, &short, &config, scope);
                for (run, (found_length, found_run, outcomes)) in found.iter().enumerate() {
                    prop_assert_eq!((*found_length, *found_run), (length, run));
                    for place in 0..layout.positions {
                        let outcome = outcomes[number * layout.positions + place];
                        prop_assert_eq!(outcome, hitmap.outcome(run * layout.positions + place));
                    }
                }
            }
        }
    }

    #[test]
    fn a_limited_hitmap_equals_a_pass_of_that_cache(
        layout in layouts(80), scope in scopes(), seed: u64, few in 1u64..30, mixed: bool,
        sets in 1u32..9, ways in prop::collection::vec(1u32..6, 1..4), bits in 1u32..=64,
    ) {
        let mut signatures = signatures(layout.vectors(), seed, few);
        for signature in &mut signatures {
            *signature &= u64::MAX >> (64 - bits);
        }
        let index = if mixed { SetIndex::Mixed } else { SetIndex::LowBits };
        let cache = |entries, ways| McacheConfig { entries, ways, index, ..McacheConfig::default() };
        let unlimited = Hitmap::new(layout, &signatures, &cache(0, 1), scope);
        let limited = Limited::new(&unlimited, &signatures, scope, index);
        let mut memory = vec![5; 3];
        for sets in [sets, 2 * sets, 1] {
            let ranks = limited.ranks(sets, memory);
            memory = Vec::new();
            for &ways in &ways {
                let found = ranks.hitmap(ways, std::mem::take(&mut memory));
                prop_assert_eq!(&found, &Hitmap::new(layout, &signatures, &cache(sets * ways, ways), scope));
                memory = found.into_memory();
            }
            memory = ranks.into_memory();
        }
    }
}

/// Large enough to split every step over threads and to fill sets.
#[test]
fn large_grids_are_exact_with_any_number_of_threads() {
    let layout = Layout { samples: 3, streams: 9, positions: 4000 };
    let signatures = signatures(layout.vectors(), 7, 3000);
    let bits = [8, 64, 20, 44, 45];
    let caches = [(1024, 16), (64, 1), (4096, 16), (768, 8), (1024, 8), (1024, 16)];
    for (scope, index) in SCOPES.into_iter().zip([SetIndex::Mixed, SetIndex::LowBits, SetIndex::Mixed]) {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| counts_grid(layout, &signatures, &bits, &caches, index, scope))
        };
        let expected = count_one_by_one(layout, &signatures, &bits, &caches, index, scope);
        assert_eq!(run(1), expected);
        assert_eq!(run(3), expected);
        assert!(expected[0].iter().any(|counts| counts.hit > 0) && expected[1].iter().any(|counts| counts.mnu > 0));
        if scope == Scope::Batch {
            continue;
        }
        let each = |outcomes: &RunOutcomes| -> Vec<Counts> {
            (0..caches.len()).map(|cache| count_outcomes(outcomes, layout, cache)).collect()
        };
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (counts, found) =
                pool.install(|| outcomes_grid(layout, &signatures, &bits, &caches, index, scope, each));
            assert_eq!(counts, expected);
            for (number, expected) in expected.iter().enumerate() {
                let (length, cache) = (number / caches.len(), number % caches.len());
                for (run, expected) in expected.iter().enumerate() {
                    assert_eq!(found[length][run][cache], *expected);
                }
            }
        }
    }
}

/// With one sample the scope `batch` equals `sample`.
#[test]
fn outcomes_of_a_batch_of_one_sample_equal_those_of_the_sample() {
    let layout = Layout { samples: 1, streams: 3, positions: 50 };
    let signatures = signatures(layout.vectors(), 3, 9);
    let (bits, caches) = ([5, 40], [(4, 2), (9, 3)]);
    let collect = |scope| {
        outcomes_grid(layout, &signatures, &bits, &caches, SetIndex::Mixed, scope, |outcomes| {
            (outcomes.firsts.to_vec(), (0..50).map(|place| outcomes.holds(1, place)).collect::<Vec<_>>())
        })
    };
    assert_eq!(collect(Scope::Batch), collect(Scope::Sample));
}

#[test]
#[should_panic(expected = "cannot be told alone")]
fn outcomes_of_a_batch_of_several_samples_are_refused() {
    let layout = Layout { samples: 2, streams: 1, positions: 1 };
    outcomes_grid(layout, &[1, 2], &[4], &[(4, 2)], SetIndex::Mixed, Scope::Batch, |_| ());
}

#[test]
fn without_vectors_there_is_nothing_to_count() {
    for (samples, streams, positions) in [(0, 2, 3), (2, 0, 3), (2, 3, 0)] {
        let layout = Layout { samples, streams, positions };
        for scope in SCOPES {
            let grid = counts_grid(layout, &[], &[4], &[(4, 2)], SetIndex::Mixed, scope);
            assert_eq!(grid, [vec![Counts::default(); layout.runs()]]);
            if scope != Scope::Batch {
                let each = |outcomes: &RunOutcomes| outcomes.firsts.len();
                let (counts, found) = outcomes_grid(layout, &[], &[4], &[(4, 2)], SetIndex::Mixed, scope, each);
                assert_eq!((counts, found), (grid, vec![vec![0; layout.runs()]]));
            }
            assert_eq!(unlimited_hits(layout, &[], 4, scope), vec![0; layout.runs()]);
        }
    }
}

#[test]
#[should_panic(expected = "signatures have 1 to 64 bits")]
fn a_signature_of_no_bits_is_refused() {
    let layout = Layout { samples: 1, streams: 1, positions: 1 };
    counts_grid(layout, &[0], &[0], &[(4, 2)], SetIndex::Mixed, Scope::Batch);
}
