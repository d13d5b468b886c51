//! Look-ups with AVX-512.

use super::blocks::for_blocks;
use super::leaders::{self, Leaders};
use super::narrow::{LANES, confirm};
use super::number::Place;
use super::sets::{Sets, Shape};
use super::table::Table;
use super::{Isa, KnownSignatures, LookupRun, MNU, policy};
use crate::caching::counts::Counts;
#[allow(clippy::wildcard_imports, reason = "a page of intrinsics")]
use std::arch::x86_64::*;
use std::hint::select_unpredictable;

/// [`Table::run_as_compiled`], compiled for AVX-512, which computes the keys of eight signatures at
/// once.
pub(crate) fn run_table(table: &mut Table, run: LookupRun) -> Counts {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn compiled(table: &mut Table, run: LookupRun) -> Counts {
        table.run_as_compiled(run)
    }
    // SAFETY: `Isa::available` lists AVX-512 only if the CPU has these features.
    unsafe { compiled(table, run) }
}

/// Looks up the vectors of a run.
pub(crate) fn run(cache: &mut Sets, run: LookupRun) -> Counts {
    debug_assert!(Isa::available().contains(&Isa::Avx512));
    macro_rules! kernel {
        ($policy:expr, $streamed:literal) => {
            match cache.shape.stride {
                // SAFETY: `Isa::available` lists AVX-512 only if the CPU has the features.
                16 => unsafe { run_as::<{ $policy }, $streamed, 16>(cache, run) },
                // SAFETY: as above.
                8 => unsafe { run_as::<{ $policy }, $streamed, 8>(cache, run) },
                // SAFETY: as above.
                4 => unsafe { run_as::<{ $policy }, $streamed, 4>(cache, run) },
                // SAFETY: as above.
                2 => unsafe { run_as::<{ $policy }, $streamed, 2>(cache, run) },
                // SAFETY: as above.
                _ => unsafe { run_as::<{ $policy }, $streamed, 1>(cache, run) },
            }
        };
    }
    match (cache.policy, cache.streamed) {
        (policy::LRU, false) => kernel!(policy::LRU, false),
        (policy::LRU, true) => kernel!(policy::LRU, true),
        (policy::FIFO, false) => kernel!(policy::FIFO, false),
        (policy::FIFO, true) => kernel!(policy::FIFO, true),
        (_, false) => kernel!(policy::NONE, false),
        (_, true) => kernel!(policy::NONE, true),
    }
}

/// The entries of a set in registers.
#[derive(Clone, Copy)]
struct Set {
    tags: __m256i,
    vectors: __m512i,
    streams: __m512i,
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
fn run_as<const POLICY: u8, const STREAMED: bool, const STRIDE: usize>(cache: &mut Sets, run: LookupRun) -> Counts {
    let shape = const { Shape::new(STRIDE, STREAMED) };
    assert!(cache.shape == shape, "the cache has the shape of this engine");
    let (number, fetch) = (cache.number, cache.fetch);
    let context = RunContext { start: cache.start(), ways: cache.full as u16, known: run.known, stream: run.stream };
    for_blocks(
        run,
        |found: &mut Leaders, signatures: &[u64], first| leaders::find_by_avx2(found, signatures, first),
        |signatures, places| number.find_places(signatures, shape.size as u32, places),
        |places, codes, settled| {
            if fetch {
                for place in places {
                    let set = context.start.wrapping_add(place.start());
                    _mm_prefetch::<_MM_HINT_T0>(set.cast());
                    _mm_prefetch::<_MM_HINT_T0>(set.wrapping_add(shape.tags).cast());
                }
            }
            // SAFETY: `number` returns existing sets. [`Sets::run`] has checked that the signatures
            // of all vectors since the flush are known.
            unsafe {
                if POLICY == policy::NONE && settled {
                    look_up::<POLICY, STREAMED, STRIDE, true>(context, places, codes);
                } else {
                    look_up::<POLICY, STREAMED, STRIDE, false>(context, places, codes);
                }
            }
        },
    )
}

/// The arguments that all look-ups of a run share.
#[derive(Clone, Copy)]
struct RunContext<'a> {
    /// The first set.
    start: *mut u32,
    /// The mask of all ways.
    ways: u16,
    known: KnownSignatures<'a>,
    stream: u32,
}

/// Looks up vectors.
///
/// The CPU could not predict a branch on the outcome of a look-up, so there is none, except where
/// sets are `SETTLED` and insertions are rare.
///
/// Without replacement, a new entry goes into the lowest free way. With replacement, a set is
/// ordered: the newest entry first, under LRU the latest used first. Each look-up is one shift.
/// Under LRU the entries before the one that was found move back by one, and that entry moves to
/// the front. If none was found, all entries move back, the last one leaves the set, and the new
/// one goes to the front.
///
/// Sets are stored as they are loaded, in whole registers. A load that covers a recent narrower
/// store would wait until that store has reached the cache.
///
/// # Safety
/// Places must be those of existing sets of this shape, which 32 words follow. The signatures of
/// `codes` and of all vectors in these sets must be `known`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn look_up<const POLICY: u8, const STREAMED: bool, const STRIDE: usize, const SETTLED: bool>(
    RunContext { start, ways, known, stream }: RunContext,
    places: &[Place],
    codes: &mut [u32],
) {
    let shape = const { Shape::new(STRIDE, STREAMED) };
    let streams = _mm512_set1_epi32(stream as i32);
    // SAFETY: the caller guarantees that the signature is known.
    let signature = |vector: u32| unsafe { known.get_unchecked(vector) };
    for (code, place) in codes.iter_mut().zip(places) {
        let vector = *code;
        // SAFETY: the caller guarantees that the set exists.
        let (set, entries, free) = unsafe {
            let set = start.add(place.start());
            (set, load::<STREAMED, STRIDE>(shape, set), &mut *set.add(shape.free))
        };
        let wanted = _mm256_set1_epi16(place.tag() as i16);
        let mut found = u32::from(_mm256_mask_cmpeq_epi16_mask(ways, entries.tags, wanted)) & !*free;
        if STREAMED {
            found &= u32::from(_mm512_cmpeq_epi32_mask(entries.streams, streams));
        }
        // SAFETY: a way of the set; for an empty mask the word 32 words on, which exists.
        let resident = unsafe { *set.add(found.trailing_zeros() as usize) };
        let mut holder = select_unpredictable(found != 0, resident, vector);
        if signature(holder) != signature(vector) {
            // SAFETY: a set begins with its vectors.
            let vectors = unsafe { std::slice::from_raw_parts(set, STRIDE) };
            found = confirm(found, vectors, known, vector);
            holder = if found == 0 { vector } else { vectors[found.trailing_zeros() as usize] };
        }
        let new = if POLICY == policy::NONE {
            let (hit, full) = (found != 0, *free == 0);
            *code = select_unpredictable(!hit & full, MNU, holder);
            if SETTLED && (hit | full) {
                continue;
            }
            let next = select_unpredictable(hit, 0, _blsi_u32(*free));
            *free ^= next;
            Set {
                tags: _mm256_mask_mov_epi16(entries.tags, next as u16, wanted),
                vectors: _mm512_mask_set1_epi32(entries.vectors, next as u16, vector as i32),
                streams: _mm512_mask_mov_epi32(entries.streams, next as u16, streams),
            }
        } else {
            *code = holder;
            let moved = match POLICY {
                policy::LRU => _blsmsk_u32(found),
                _ => u32::from(found != 0).wrapping_sub(1),
            };
            // The lowest ways are taken. If nothing was found, one more is.
            *free &= *free << u32::from(found == 0);
            let front = Set { tags: wanted, vectors: _mm512_set1_epi32(holder as i32), streams };
            shift(entries, front, moved as u16)
        };
        // SAFETY: as for the load.
        unsafe { store::<STREAMED, STRIDE>(shape, set, new) };
    }
}

/// Loads a set.
///
/// # Safety
/// `set` must point to a set of this shape.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn load<const STREAMED: bool, const STRIDE: usize>(shape: Shape, set: *const u32) -> Set {
    let lanes = ((1u32 << STRIDE) - 1) as u16;
    // SAFETY: the caller guarantees the set. Lanes beyond it are masked and not read.
    unsafe {
        let wide = |at: usize| {
            let at = set.add(at);
            if STRIDE == LANES { _mm512_loadu_si512(at.cast()) } else { _mm512_maskz_loadu_epi32(lanes, at.cast()) }
        };
        let tags = set.add(shape.tags);
        Set {
            tags: if STRIDE == LANES {
                _mm256_loadu_si256(tags.cast())
            } else {
                _mm256_maskz_loadu_epi16(lanes, tags.cast())
            },
            vectors: wide(0),
            streams: if STREAMED { wide(shape.streams) } else { _mm512_setzero_si512() },
        }
    }
}

/// Moves the lanes in the mask `moved`, which are the lowest, back by one, and `front` into the
/// first.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn shift(set: Set, front: Set, moved: u16) -> Set {
    let back = _mm256_setr_epi16(15, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14);
    let front_last = _mm256_mask_mov_epi16(set.tags, 1 << 15, front.tags);
    Set {
        tags: _mm256_mask_permutexvar_epi16(set.tags, moved, back, front_last),
        vectors: _mm512_mask_alignr_epi32::<15>(set.vectors, moved, set.vectors, front.vectors),
        streams: _mm512_mask_alignr_epi32::<15>(set.streams, moved, set.streams, front.streams),
    }
}

/// Stores a set.
///
/// # Safety
/// As for [`load`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn store<const STREAMED: bool, const STRIDE: usize>(shape: Shape, set: *mut u32, new: Set) {
    let lanes = ((1u32 << STRIDE) - 1) as u16;
    // SAFETY: the caller guarantees the set. Lanes beyond it are masked and not written.
    unsafe {
        let wide = |at: usize, value| {
            let at = set.add(at);
            if STRIDE == LANES {
                _mm512_storeu_si512(at.cast(), value);
            } else {
                _mm512_mask_storeu_epi32(at.cast(), lanes, value);
            }
        };
        let tags = set.add(shape.tags);
        if STRIDE == LANES {
            _mm256_storeu_si256(tags.cast(), new.tags);
        } else {
            _mm256_mask_storeu_epi16(tags.cast(), lanes, new.tags);
        }
        wide(0, new.vectors);
        if STREAMED {
            wide(shape.streams, new.streams);
        }
    }
}
