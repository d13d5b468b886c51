//! Look-ups in [`Narrow`] caches without explicit vector instructions. Compiled for AVX2 and with
//! an AVX2 search, they also serve the caches for which [`sets`](super::sets) has no AVX2 look-ups.

use super::blocks::for_blocks;
use super::leaders;
use super::narrow::{LANES, Narrow, confirm};
use super::{LookupRun, MNU, policy};
use crate::caching::counts::Counts;

/// Looks up the vectors of a run, without explicit vector instructions.
pub(crate) fn run(cache: &mut Narrow, run: LookupRun) -> Counts {
    run_with(cache, run, find)
}

/// Finds the ways with this tag; the result has a bit for each.
#[inline(always)]
#[expect(clippy::inline_always, reason = "called for each look-up")]
pub(crate) fn find(tags: &[u16], tag: u16) -> u32 {
    let ways = tags.iter().enumerate();
    ways.fold(0, |found, (way, &other)| found | (u32::from(other == tag) << way))
}

/// Looks up the vectors of a run, with a given search for tags.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
pub(crate) fn run_with(cache: &mut Narrow, run: LookupRun, find: impl Fn(&[u16], u16) -> u32) -> Counts {
    match (cache.policy, cache.streamed) {
        (policy::LRU, false) => run_as::<{ policy::LRU }, false>(cache, run, find),
        (policy::LRU, true) => run_as::<{ policy::LRU }, true>(cache, run, find),
        (policy::FIFO, false) => run_as::<{ policy::FIFO }, false>(cache, run, find),
        (policy::FIFO, true) => run_as::<{ policy::FIFO }, true>(cache, run, find),
        (_, false) => run_as::<{ policy::NONE }, false>(cache, run, find),
        (_, true) => run_as::<{ policy::NONE }, true>(cache, run, find),
    }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
fn run_as<const POLICY: u8, const STREAMED: bool>(
    cache: &mut Narrow,
    run: LookupRun,
    find: impl Fn(&[u16], u16) -> u32,
) -> Counts {
    let number = cache.number;
    let (stride, full) = (cache.stride, cache.full);
    let LookupRun { known, stream, .. } = run;
    for_blocks(
        run,
        leaders::find,
        |signatures, places| number.find_places(signatures, 1, places),
        |places, codes, _| {
            for (place, code) in places.iter().zip(codes) {
                let (set, base) = (place.start(), place.start() * stride);
                let vector = *code;
                let valid = u32::from(cache.valid[set]);
                let mut found = find(&cache.tags[base..base + stride], place.tag()) & valid;
                if STREAMED {
                    let streams = cache.streams[base..base + stride].iter().enumerate();
                    found &= streams.fold(0, |same, (way, &other)| same | (u32::from(other == stream) << way));
                }
                found = confirm(found, &cache.vectors[base..base + stride], known, vector);
                cache.clock += u32::from(POLICY == policy::LRU);
                if found != 0 {
                    let way = found.trailing_zeros() as usize;
                    *code = cache.vectors[base + way];
                    if POLICY == policy::LRU {
                        cache.used[base + way] = cache.clock;
                    }
                    continue;
                }
                if valid == full && POLICY == policy::NONE {
                    *code = MNU;
                    continue;
                }
                let way =
                    if valid == full { choose_victim::<POLICY>(cache, set) } else { valid.trailing_ones() as usize };
                cache.tags[base + way] = place.tag();
                cache.vectors[base + way] = vector;
                if STREAMED {
                    cache.streams[base + way] = stream;
                }
                if POLICY == policy::LRU {
                    cache.used[base + way] = cache.clock;
                }
                cache.valid[set] |= 1 << way;
            }
        },
    )
}

/// Chooses the way of a full set that is replaced.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
fn choose_victim<const POLICY: u8>(cache: &mut Narrow, set: usize) -> usize {
    if POLICY == policy::FIFO {
        let way = cache.next[set];
        cache.next[set] = if usize::from(way) + 1 == cache.ways { 0 } else { way + 1 };
        return usize::from(way);
    }
    let used = &cache.used[set * cache.stride..][..cache.ways];
    // With a fixed length the compiler unrolls both passes of the search.
    match <&[u32; LANES]>::try_from(used) {
        Ok(used) => find_oldest(used),
        Err(_) => find_oldest(used),
    }
}

/// Finds the lowest way with the least time of use.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
fn find_oldest(used: &[u32]) -> usize {
    let oldest = used.iter().copied().fold(u32::MAX, u32::min);
    let ways = used.iter().enumerate();
    ways.fold(0u32, |found, (way, &used)| found | (u32::from(used == oldest) << way)).trailing_zeros() as usize
}
