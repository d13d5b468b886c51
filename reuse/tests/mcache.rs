//! All kinds of MCACHE against naive implementations, with each set of instructions of the CPU.

use mercury_reuse::config::{McacheConfig, Replacement, Scope, SetIndex};
use mercury_reuse::{Counts, Isa, Layout, Outcome, Outcomes};
use proptest::prelude::*;

/// The mixing function of the configuration, implemented again.
fn mix(signature: u64) -> u64 {
    let mut key = signature ^ (signature >> 33);
    key = key.wrapping_mul(0xff51_afd7_ed55_8ccd);
    key = (key ^ (key >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    key ^ (key >> 33)
}

/// A resident entry of a set, with the times of its insertion and last use.
struct Resident {
    signature: u64,
    stream: usize,
    vector: u32,
    inserted: usize,
    used: usize,
}

/// Finds the outcomes of a limited cache with a list for each set. Times select the victim.
fn look_up_in_lists(layout: Layout, signatures: &[u64], config: &McacheConfig, scope: Scope) -> Vec<Outcome> {
    let sets = u64::from(config.entries / config.ways);
    let mut lists: Vec<Vec<Resident>> = Vec::new();
    let mut outcomes = Vec::new();
    for (time, &signature) in signatures.iter().enumerate() {
        let (sample, stream, position) = layout.locate(time);
        let begins = match scope {
            Scope::Channel => position == 0,
            Scope::Sample => position == 0 && stream == 0,
            Scope::Batch => position == 0 && stream == 0 && sample == 0,
        };
        if begins {
            lists = (0..sets).map(|_| Vec::new()).collect();
        }
        let key = if config.index == SetIndex::Mixed { mix(signature) } else { signature };
        let list = &mut lists[(key % sets) as usize];
        if let Some(entry) = list.iter_mut().find(|entry| (entry.signature, entry.stream) == (signature, stream)) {
            entry.used = time;
            outcomes.push(Outcome::Hit(entry.vector));
            continue;
        }
        if list.len() == config.ways as usize {
            let victim = match config.replacement {
                Replacement::None => {
                    outcomes.push(Outcome::Mnu);
                    continue;
                }
                Replacement::Lru => (0..list.len()).min_by_key(|&way| list[way].used),
                Replacement::Fifo => (0..list.len()).min_by_key(|&way| list[way].inserted),
            };
            list.swap_remove(victim.unwrap());
        }
        list.push(Resident { signature, stream, vector: time as u32, inserted: time, used: time });
        outcomes.push(Outcome::Mau);
    }
    outcomes
}

/// Finds the outcomes of an unlimited cache: a HIT on the first earlier vector of the stream and
/// scope with the signature.
fn look_up_all_earlier(layout: Layout, signatures: &[u64], scope: Scope) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(layout.vectors());
    for vector in 0..layout.vectors() {
        let (sample, stream, _) = layout.locate(vector);
        let same = |&earlier: &usize| {
            let other = layout.locate(earlier);
            let peers = other.1 == stream && (other.0 == sample || scope == Scope::Batch);
            peers && signatures[earlier] == signatures[vector]
        };
        outcomes.push((0..vector).find(same).map_or(Outcome::Mau, |first| Outcome::Hit(first as u32)));
    }
    outcomes
}

fn count_outcomes(layout: Layout, outcomes: &[Outcome]) -> Vec<Counts> {
    let mut counts = vec![Counts::default(); layout.runs()];
    for (vector, outcome) in outcomes.iter().enumerate() {
        let run = &mut counts[vector / layout.positions];
        match outcome {
            Outcome::Hit(_) => run.hit += 1,
            Outcome::Mau => run.mau += 1,
            Outcome::Mnu => run.mnu += 1,
        }
    }
    counts
}

/// Signatures of `spread` values. Rotated by `shift`, they differ only in some low, middle or high
/// bits. Of a hundred signatures `repeats` repeat the one before.
fn signatures(count: usize, seed: u64, spread: u64, shift: u32, repeats: u64) -> Vec<u64> {
    let mut state = seed | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    };
    let mut last = 0;
    let mut one = || {
        if random() % 100 >= repeats {
            last = (random() % spread).rotate_right(shift);
        }
        last
    };
    (0..count).map(|_| one()).collect()
}

fn check(layout: Layout, signatures: &[u64], config: &McacheConfig, scope: Scope) -> Result<(), TestCaseError> {
    let expected = match config.entries {
        0 => look_up_all_earlier(layout, signatures, scope),
        _ => look_up_in_lists(layout, signatures, config, scope),
    };
    for isa in Isa::available() {
        let hitmap = Outcomes::look_up_with(layout, signatures, config, scope, isa);
        prop_assert_eq!(hitmap.iter().collect::<Vec<_>>(), expected.as_slice(), "{:?}", isa);
        prop_assert_eq!(hitmap.counts(), count_outcomes(layout, &expected));
        for (vector, &outcome) in expected.iter().enumerate() {
            let representative = if let Outcome::Hit(first) = outcome { first as usize } else { vector };
            prop_assert_eq!((hitmap.outcome(vector), hitmap.representative(vector)), (outcome, representative));
        }
    }
    Ok(())
}

const REPLACEMENTS: [Replacement; 3] = [Replacement::None, Replacement::Lru, Replacement::Fifo];
const SCOPES: [Scope; 3] = [Scope::Channel, Scope::Sample, Scope::Batch];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn outcomes_equal_those_of_a_list_for_each_set(
        (samples, streams, positions) in (1usize..4, 1usize..4, 1usize..300),
        (sets, ways) in (1u32..12, prop_oneof![1u32..=16, Just(8), Just(16), 17u32..40]),
        replacement in prop::sample::select(REPLACEMENTS.to_vec()),
        scope in prop::sample::select(SCOPES.to_vec()),
        mixed: bool,
        (spread, repeats) in (1u64..400, prop_oneof![Just(0), 0u64..100]),
        shift in prop_oneof![Just(0u32), 0u32..64],
        seed: u64,
    ) {
        let layout = Layout { samples, streams, positions };
        let index = if mixed { SetIndex::Mixed } else { SetIndex::LowBits };
        let config = McacheConfig { entries: sets * ways, ways, index, replacement, ..McacheConfig::default() };
        check(layout, &signatures(layout.vectors(), seed, spread, shift, repeats), &config, scope)?;
    }

    #[test]
    fn without_a_limit_the_first_of_all_earlier_ones_is_found(
        (samples, streams, positions) in (1usize..4, 1usize..4, 1usize..300),
        replacement in prop::sample::select(REPLACEMENTS.to_vec()),
        scope in prop::sample::select(SCOPES.to_vec()),
        (spread, repeats) in (1u64..2000, 0u64..100),
        shift in 0u32..64,
        ways in 1u32..40,
        seed: u64,
    ) {
        let layout = Layout { samples, streams, positions };
        let config = McacheConfig { entries: 0, ways, replacement, ..McacheConfig::default() };
        check(layout, &signatures(layout.vectors(), seed, spread, shift, repeats), &config, scope)?;
    }
}

/// The default shape, with sets that fill up; and caches with more sets than a scope has vectors,
/// whose sets are flushed one by one.
#[test]
fn large_streams_are_exact() {
    for (entries, ways) in [(1024, 16), (1008, 16), (768, 8), (1 << 18, 1), (1 << 18, 16), (1024, 1024), (1 << 18, 64)]
    {
        for (replacement, scope) in REPLACEMENTS.into_iter().zip(SCOPES) {
            let layout = Layout { samples: 3, streams: 3, positions: 900 };
            let signatures = signatures(layout.vectors(), 5, 3000, 20, 20);
            let config = McacheConfig { entries, ways, replacement, ..McacheConfig::default() };
            check(layout, &signatures, &config, scope).unwrap();
        }
    }
}

/// More vectors than a thread takes at a time, so that one cache or table serves several blocks. No
/// block may find entries of an earlier one.
#[test]
fn many_blocks_share_caches_and_leave_nothing_in_them() {
    let layout = Layout { samples: 4, streams: 5, positions: 3000 };
    let signatures = signatures(layout.vectors(), 11, 2500, 13, 30);
    let check_all = || {
        for (entries, ways) in [(1024, 16), (768, 8), (1024, 1024), (0, 16)] {
            for (replacement, scope) in REPLACEMENTS.into_iter().flat_map(|r| SCOPES.map(|scope| (r, scope))) {
                check_many(
                    layout,
                    &signatures,
                    &McacheConfig { entries, ways, replacement, ..McacheConfig::default() },
                    scope,
                );
            }
        }
    };
    for threads in [1, 3] {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(check_all);
    }
}

/// [`check`] for so many vectors that comparing all pairs would take too long.
fn check_many(layout: Layout, signatures: &[u64], config: &McacheConfig, scope: Scope) {
    if config.entries > 0 {
        check(layout, signatures, config, scope).unwrap();
    } else {
        check_unlimited(layout, signatures, config, scope);
    }
}

/// Checks an unlimited cache against a `HashMap`.
fn check_unlimited(layout: Layout, signatures: &[u64], config: &McacheConfig, scope: Scope) {
    let mut first = std::collections::HashMap::new();
    let expected: Vec<usize> = (0..layout.vectors())
        .map(|vector| {
            let (sample, stream, _) = layout.locate(vector);
            let scope = if scope == Scope::Batch { 0 } else { sample };
            *first.entry((scope, stream, signatures[vector])).or_insert(vector)
        })
        .collect();
    for isa in Isa::available() {
        let hitmap = Outcomes::look_up_with(layout, signatures, config, scope, isa);
        assert!((0..layout.vectors()).all(|vector| hitmap.representative(vector) == expected[vector]), "{isa:?}");
        let hits = expected.iter().enumerate().filter(|&(vector, &first)| vector != first).count() as u64;
        assert_eq!(hitmap.counts().iter().map(|counts| counts.hit).sum::<u64>(), hits);
    }
}

/// The inverse of [`mix`]: reverts its steps one by one.
fn unmix(key: u64) -> u64 {
    // The inverse of an odd factor modulo 2^64, by Newton's iteration.
    let inverse =
        |factor: u64| (0..6).fold(factor, |x: u64, _| x.wrapping_mul(2u64.wrapping_sub(factor.wrapping_mul(x))));
    let unshift = |key: u64| key ^ (key >> 33);
    let key = unshift(key).wrapping_mul(inverse(0xc4ce_b9fe_1a85_ec53));
    unshift(unshift(key).wrapping_mul(inverse(0xff51_afd7_ed55_8ccd)))
}

/// Signatures that differ only in bits outside the tag and the set index. After mixing, the highest
/// 16 bits have one or two values, and the lowest bits have three.
#[test]
fn signatures_with_equal_tags_are_distinguished() {
    let layout = Layout { samples: 3, streams: 2, positions: 1500 };
    let mut drawn = signatures(layout.vectors(), 3, 60, 0, 10);
    // Some new signatures late in the stream, when insertions are rare.
    for (number, late) in drawn.iter_mut().skip(700).step_by(64).enumerate() {
        *late = 100 + number as u64;
    }
    for kinds in [1, 2] {
        let mut signatures = Vec::with_capacity(drawn.len());
        for &number in &drawn {
            let key = ((0xABCD + number % kinds) << 48) | (number << 20) | (number % 3);
            signatures.push(unmix(key));
            assert_eq!(mix(unmix(key)), key);
        }
        for (entries, ways) in
            [(1024, 16), (1 << 16, 16), (192, 12), (128, 8), (64, 4), (16, 2), (4, 1), (0, 16), (1024, 64)]
        {
            for (replacement, scope) in REPLACEMENTS.into_iter().flat_map(|r| SCOPES.map(|scope| (r, scope))) {
                check_many(
                    layout,
                    &signatures,
                    &McacheConfig { entries, ways, replacement, ..McacheConfig::default() },
                    scope,
                );
            }
        }
    }
}

/// The unlimited table grows several times and keeps its entries.
#[test]
fn unlimited_tables_grow() {
    let layout = Layout { samples: 2, streams: 1, positions: 40_000 };
    let signatures: Vec<u64> = (0..layout.vectors() as u64).map(|vector| vector % 30_000).collect();
    let config = McacheConfig { entries: 0, ..McacheConfig::default() };
    for (scope, first) in [(Scope::Batch, 0), (Scope::Channel, 40_000)] {
        let hitmap = Outcomes::look_up(layout, &signatures, &config, scope);
        let mut seen = std::collections::HashMap::new();
        for (vector, &signature) in signatures.iter().enumerate() {
            if vector == first {
                seen.clear();
            }
            assert_eq!(hitmap.representative(vector), *seen.entry(signature).or_insert(vector));
        }
    }
}

#[test]
fn without_vectors_there_is_nothing_to_look_up() {
    for (samples, streams, positions) in [(0, 2, 3), (2, 0, 3), (2, 3, 0)] {
        let layout = Layout { samples, streams, positions };
        for scope in SCOPES {
            for entries in [0, 1024] {
                let config = McacheConfig { entries, ..McacheConfig::default() };
                let hitmap = Outcomes::look_up(layout, &[], &config, scope);
                assert_eq!(hitmap.counts(), vec![Counts::default(); layout.runs()]);
                assert_eq!(hitmap.iter().len(), 0);
            }
        }
    }
}
