use super::super::{Discipline, Schedule, ScopeWork, Timeline};
use proptest::prelude::*;

/// For each set, the sets that it waits for: itself and those that it reuses from, directly or not.
fn find_waits(scope: &ScopeWork) -> Vec<Vec<bool>> {
    let sets = scope.work.len();
    let mut waits: Vec<Vec<bool>> = (0..sets).map(|set| (0..sets).map(|from| from == set).collect()).collect();
    for &(set, from) in &scope.reuses {
        waits[set as usize][from as usize] = true;
    }
    for via in 0..sets {
        for set in 0..sets {
            for from in 0..sets {
                waits[set][from] |= waits[set][via] && waits[via][from];
            }
        }
    }
    waits
}

/// Times scopes by the recurrence in the module's documentation, filter by filter.
fn time_by_recurrence(scopes: &[ScopeWork], filters: usize, versions: usize, banks: usize) -> u64 {
    let sets = scopes[0].work.len();
    let mut ends = vec![0; sets];
    // all[j] is the time when all sets had finished j filters.
    let mut all: Vec<u64> = vec![0];
    for (index, scope) in scopes.iter().enumerate() {
        let waits = find_waits(scope);
        for filter in 0..filters {
            let number = all.len();
            let mut bound = all[number.saturating_sub(versions)];
            if filter == 0 && index >= banks {
                bound = bound.max(all[(index + 1 - banks) * filters]);
            }
            let worked: Vec<u64> = (0..sets).map(|set| bound.max(ends[set]) + scope.work[set]).collect();
            for set in 0..sets {
                ends[set] = (0..sets).filter(|&from| waits[set][from]).map(|from| worked[from]).max().unwrap();
            }
            all.push(*ends.iter().max().unwrap());
        }
    }
    *all.last().unwrap()
}

/// Times scopes by a simulation of each cycle, from the rules of a single set.
fn time_by_cycles(scopes: &[ScopeWork], filters: usize, versions: usize, banks: usize) -> u64 {
    #[derive(Clone, Copy, Default)]
    struct Set {
        /// Number of filters begun.
        begun: usize,
        /// Number of filters whose own work is done.
        worked: usize,
        /// Number of filters that ended with the last copy.
        ended: usize,
        /// The time when the work of the current filter is done.
        until: u64,
    }
    let waits: Vec<_> = scopes.iter().map(find_waits).collect();
    let in_all = scopes.len() * filters;
    let mut sets = vec![Set::default(); scopes[0].work.len()];
    for now in 0.. {
        // Within a cycle, events without duration cause one another.
        loop {
            let before: Vec<_> = sets.iter().map(|set| (set.begun, set.worked, set.ended)).collect();
            for index in 0..sets.len() {
                let slowest = sets.iter().map(|set| set.ended).min().unwrap();
                let mut set = sets[index];
                if set.begun == set.ended && set.begun < in_all {
                    let (scope, filter) = (set.begun / filters, set.begun % filters);
                    let flushed = filter > 0 || slowest / filters + banks > scope;
                    if set.begun - slowest < versions && flushed {
                        set.begun += 1;
                        set.until = now + scopes[scope].work[index];
                    }
                }
                if set.begun > set.worked && now >= set.until {
                    set.worked = set.begun;
                }
                sets[index] = set;
                if set.worked > set.ended {
                    let waits = &waits[set.ended / filters][index];
                    let there = |from: usize| !waits[from] || sets[from].worked >= set.worked;
                    if (0..sets.len()).all(there) {
                        sets[index].ended = set.worked;
                    }
                }
            }
            if before.iter().eq(sets.iter().map(|set| (set.begun, set.worked, set.ended)).collect::<Vec<_>>().iter()) {
                break;
            }
        }
        if sets.iter().all(|set| set.ended == in_all) {
            return now;
        }
    }
    unreachable!("time does not end")
}

fn time(scopes: &[ScopeWork], filters: u64, discipline: Discipline) -> Timeline {
    let mut schedule = Schedule::new(discipline, scopes[0].work.len(), filters);
    for scope in scopes {
        schedule.scope(scope);
    }
    schedule.timeline()
}

fn asynchronous(versions: u64, banks: u64) -> Discipline {
    Discipline::Asynchronous { versions, banks }
}

fn plain(work: &[u64]) -> ScopeWork {
    ScopeWork { work: work.to_vec(), reuses: Vec::new() }
}

/// Scopes of a few sets, some with reuses between sets.
fn scopes() -> impl Strategy<Value = Vec<ScopeWork>> {
    (1usize..6, any::<bool>()).prop_flat_map(|(sets, reuse)| {
        let set = 0..sets as u32;
        let reuses = prop::collection::vec((set.clone(), set), 0..if reuse { 6 } else { 1 });
        let scope = (prop::collection::vec(0u64..12, sets), reuses);
        prop::collection::vec(scope.prop_map(|(work, reuses)| ScopeWork { work, reuses }), 1..7)
    })
}

#[test]
fn the_same_hitmap_over_and_over_gains_nothing() {
    let same = vec![plain(&[9, 3, 3]); 10];
    assert_eq!(time(&same, 64, asynchronous(8, 2)).cycles, time(&same, 64, Discipline::Synchronous).cycles);
    assert_eq!(time(&same, 64, Discipline::Synchronous).cycles, 10 * 64 * 9);
}

#[test]
fn imbalance_evens_out_across_channels() {
    // The heavy row moves from channel to channel. A set that finishes early is up to 7 filters
    // into the next channel when the slow one finishes.
    let turns: Vec<_> =
        (0..9).map(|channel| plain(&[0, 1, 2].map(|set| if set == channel % 3 { 9 } else { 3 }))).collect();
    let synchronous = time(&turns, 64, Discipline::Synchronous);
    assert_eq!(synchronous.cycles, 9 * 64 * 9);
    assert_eq!(synchronous.idle(), 9 * 64 * (9 + 9 + 9 - 15));
    let ahead = time(&turns, 64, asynchronous(8, 2));
    // At each of the 8 borders the next heavy row has already finished 7 filters.
    assert_eq!(ahead.cycles, 9 * 64 * 9 - 8 * 7 * 9);
    assert_eq!(time(&turns, 64, asynchronous(8, 1)), synchronous);
    // There is no gain if the other rows reuse results of the heavy row.
    let waiting: Vec<_> = turns
        .iter()
        .cloned()
        .enumerate()
        .map(|(channel, scope)| {
            let heavy = channel as u32 % 3;
            ScopeWork { reuses: vec![((heavy + 1) % 3, heavy), ((heavy + 2) % 3, heavy)], ..scope }
        })
        .collect();
    assert_eq!(time(&waiting, 64, asynchronous(8, 2)).cycles, synchronous.cycles);
}

#[test]
fn large_layers_do_not_overflow() {
    let scopes = vec![plain(&[1 << 28, 1 << 27]); 1 << 10];
    let cycles = time(&scopes, 1 << 20, asynchronous(16, 2)).cycles;
    assert_eq!(cycles, 1 << 58);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn closed_form_is_the_recurrence(
        scopes in scopes(), filters in 1u64..30, versions in 1u64..20, banks in 1u64..4,
    ) {
        let expected = time_by_recurrence(&scopes, filters as usize, versions as usize, banks as usize);
        prop_assert_eq!(time(&scopes, filters, asynchronous(versions, banks)).cycles, expected);
    }

    #[test]
    fn many_scopes_are_the_recurrence(
        work in prop::collection::vec(prop::collection::vec(0u64..1000, 8), 1..80),
        filters in 1u64..100, versions in 1u64..40,
    ) {
        let scopes: Vec<_> = work.iter().map(|work| plain(work)).collect();
        let expected = time_by_recurrence(&scopes, filters as usize, versions as usize, 2);
        prop_assert_eq!(time(&scopes, filters, asynchronous(versions, 2)).cycles, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn closed_form_is_the_simulation_by_cycles(
        scopes in scopes(), filters in 1u64..7, versions in 1u64..9, banks in 1u64..4,
    ) {
        let expected = time_by_cycles(&scopes, filters as usize, versions as usize, banks as usize);
        prop_assert_eq!(time(&scopes, filters, asynchronous(versions, banks)).cycles, expected);
        let expected = time_by_cycles(&scopes, filters as usize, 1, 1);
        prop_assert_eq!(time(&scopes, filters, Discipline::Synchronous).cycles, expected);
    }

    #[test]
    fn bounds_hold(scopes in scopes(), filters in 1u64..40, versions in 1u64..20, banks in 1u64..4) {
        let synchronous = time(&scopes, filters, Discipline::Synchronous);
        let longest = |scope: &ScopeWork| *scope.work.iter().max().unwrap();
        prop_assert_eq!(synchronous.cycles, filters * scopes.iter().map(longest).sum::<u64>());
        prop_assert_eq!(time(&scopes, filters, asynchronous(1, banks)), synchronous);
        prop_assert_eq!(time(&scopes, filters, asynchronous(versions, 1)), synchronous);

        let free = time(&scopes, filters, asynchronous(versions, banks));
        prop_assert!(free.cycles <= synchronous.cycles);
        prop_assert!(u128::from(free.cycles) * u128::from(free.sets) >= free.busy);
        for set in 0..scopes[0].work.len() {
            prop_assert!(free.cycles >= filters * scopes.iter().map(|scope| scope.work[set]).sum::<u64>());
        }
        prop_assert!(time(&scopes, filters, asynchronous(versions + 1, banks)).cycles <= free.cycles);
        prop_assert!(time(&scopes, filters, asynchronous(versions, banks + 1)).cycles <= free.cycles);
        let unbound: Vec<_> = scopes.iter().map(|scope| plain(&scope.work)).collect();
        prop_assert!(time(&unbound, filters, asynchronous(versions, banks)).cycles <= free.cycles);
    }

    #[test]
    fn equal_rows_gain_nothing(
        work in prop::collection::vec(0u64..50, 1..8), sets in 1usize..8, filters in 1u64..40, versions in 1u64..20,
    ) {
        let scopes: Vec<_> = work.iter().map(|&work| plain(&vec![work; sets])).collect();
        let synchronous = time(&scopes, filters, Discipline::Synchronous);
        prop_assert_eq!(time(&scopes, filters, asynchronous(versions, 2)), synchronous);
        prop_assert_eq!(synchronous.idle(), 0);
    }
}
