//! Look-ups with vector instructions: all tags of a set compared at once.

use super::blocks::{Block, Missed, for_blocks};
use super::narrow::{LANES, Narrow};
use super::table::Table;
use super::{Isa, MNU, Run, plain, policy};
use crate::hitmap::Counts;
#[allow(clippy::wildcard_imports, reason = "a page of intrinsics")]
use std::arch::x86_64::*;
use std::hint::select_unpredictable;

/// Leads a run past the cache by AVX2.
pub(crate) fn run_avx2(cache: &mut Narrow, run: Run) -> Counts {
    debug_assert!(Isa::available().contains(&Isa::Avx2));
    // SAFETY: `Isa::available` names AVX2 only where the processor has these features.
    unsafe {
        match (cache.policy, cache.streamed, cache.stride) {
            (policy::NONE, false, LANES) => run_without_replacement(cache, run),
            _ => run_with_avx2(cache, run),
        }
    }
}

/// A cache of 16 ways without replacement. Entries stay where they were put, the lowest ways first: a look-up
/// either finds one, or puts one into the next way, or there is none left. Which of these it will be the processor
/// could not guess, so there is no branch: the next way is written in any case, behind the last set where there is
/// none, and counts only where something was inserted. Where to write does not depend on the comparison, as the
/// processor reads no further sets before it knows. `valid` holds numbers of entries here.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn run_without_replacement(cache: &mut Narrow, run: Run) -> Counts {
    let (ways, number) = (cache.ways as u32, cache.number);
    let nowhere = cache.valid.len() * LANES;
    assert!(cache.signatures.len() > nowhere && cache.vectors.len() > nowhere, "room behind the last set");
    let (entries, vectors_of, held) =
        (cache.signatures.as_mut_ptr(), cache.vectors.as_mut_ptr(), cache.valid.as_mut_ptr());
    for_blocks(
        run,
        |signatures, sets| number.block(signatures, sets),
        |block| {
            let Block { signatures, keys: sets, vectors, codes } = block;
            // Of this block alone, so that they stay in registers.
            let (entries, vectors_of, held) = (entries, vectors_of, held);
            let mut missed = Missed::default();
            for (((&signature, code), &set), &vector) in signatures.iter().zip(codes).zip(sets).zip(vectors) {
                let at = set as usize * LANES;
                // SAFETY: `number` gives sets that exist: there is a number of entries for each, and `LANES`
                // values in each array.
                let (held, of_set) =
                    unsafe { (&mut *held.add(set as usize), &*entries.add(at).cast::<[u64; LANES]>()) };
                let count = u32::from(*held);
                let found = _bzhi_u32(find_in_order(of_set, signature), 2 * count);
                let (hit, open) = (found != 0, count < ways);
                let inserts = usize::from(!hit & open);
                // SAFETY: a way of the set.
                let resident = unsafe { *vectors_of.add(at + (found.trailing_zeros() as usize / 2) % LANES) };
                *code = select_unpredictable(hit, resident, select_unpredictable(open, vector, MNU));
                let next = count as usize;
                let places = select_unpredictable(open, [at + slot_of(next), at + next], [nowhere; 2]);
                // SAFETY: `next` is a way of the set if it is open; otherwise these are the values behind the last
                // set.
                unsafe {
                    *entries.add(places[0]) = signature;
                    *vectors_of.add(places[1]) = vector;
                }
                *held += inserts as u16;
                missed.all += u64::from(!hit);
                missed.inserted += inserts as u64;
            }
            missed
        },
    )
}

/// Bits 2 w and 2 w + 1 of the ways whose signature this is, way w lying at [`slot_of`].
#[inline]
#[target_feature(enable = "avx2")]
fn find_in_order(signatures: &[u64; LANES], signature: u64) -> u32 {
    let wanted = _mm256_set1_epi64x(signature as i64);
    let equal = |four: usize| {
        // SAFETY: four values lie there; the load needs no alignment.
        let ways = unsafe { _mm256_loadu_si256(signatures.as_ptr().add(4 * four).cast()) };
        _mm256_cmpeq_epi64(ways, wanted)
    };
    let [low, high] = [_mm256_packs_epi32(equal(0), equal(1)), _mm256_packs_epi32(equal(2), equal(3))];
    _mm256_movemask_epi8(_mm256_packs_epi16(low, high)) as u32
}

/// Where a way lies in its set, so that [`find_in_order`] need not put its bits in order.
#[inline]
const fn slot_of(way: usize) -> usize {
    (way & 1) | ((way & 6) << 1) | ((way >> 3) << 1)
}

/// [`plain::run`] with its search by AVX2.
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn run_with_avx2(cache: &mut Narrow, run: Run) -> Counts {
    // Of a fixed length the compiler unrolls the search.
    plain::run_with(cache, run, |signatures, signature| match <&[u64; LANES]>::try_from(signatures) {
        Ok(signatures) => find_avx2(signatures, signature),
        Err(_) => find_avx2(signatures, signature),
    })
}

/// [`plain::find`] for up to 16 ways.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn find_avx2(signatures: &[u64], signature: u64) -> u32 {
    let (fours, rest) = signatures.as_chunks::<4>();
    let wanted = _mm256_set1_epi64x(signature as i64);
    let mut found = 0;
    for (four, ways) in fours.iter().enumerate() {
        // SAFETY: four values lie there; the load needs no alignment.
        let ways = unsafe { _mm256_loadu_si256(ways.as_ptr().cast()) };
        let equal = _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(ways, wanted)));
        found |= (equal as u32) << (4 * four);
    }
    found | (plain::find(rest, signature) << (4 * fours.len()))
}

/// [`Table::run_as_compiled`] for AVX2.
pub(crate) fn run_table_avx2(table: &mut Table, signatures: &[u64], run: Run) -> Counts {
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn compiled(table: &mut Table, signatures: &[u64], run: Run) -> Counts {
        table.run_as_compiled(signatures, run)
    }
    // SAFETY: `Isa::available` names AVX2 only where the processor has these features.
    unsafe { compiled(table, signatures, run) }
}

/// [`Table::run_as_compiled`] for AVX-512: the keys of eight signatures at once.
pub(crate) fn run_table_avx512(table: &mut Table, signatures: &[u64], run: Run) -> Counts {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn compiled(table: &mut Table, signatures: &[u64], run: Run) -> Counts {
        table.run_as_compiled(signatures, run)
    }
    // SAFETY: `Isa::available` names AVX-512 only where the processor has these features.
    unsafe { compiled(table, signatures, run) }
}

/// Leads a run past the cache by AVX-512.
pub(crate) fn run_avx512(cache: &mut Narrow, run: Run) -> Counts {
    debug_assert!(Isa::available().contains(&Isa::Avx512));
    macro_rules! kernel {
        ($policy:expr, $streamed:literal) => {
            match cache.stride {
                // SAFETY: `Isa::available` names AVX-512 only where the processor has the features.
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

/// A set's entries in registers.
#[derive(Clone, Copy)]
struct Set {
    low: __m512i,
    high: __m512i,
    vectors: __m512i,
    streams: __m512i,
}

/// Where a set's entries lie.
#[derive(Clone, Copy)]
struct Place {
    signatures: *mut i64,
    vectors: *mut i32,
    streams: *mut i32,
}

/// A set is kept newest first, under LRU in order of use: then what becomes of it at a look-up is
/// one shift, without a branch that the processor would have to guess. Entries before the one that
/// was found move back by one and it comes to the front; where none was found, all move back, the
/// last one out of the set, and the new one comes to the front.
///
/// Sets are stored as they are loaded, whole vectors: a load of a vector that a narrower store has
/// just changed would wait until that store has reached the cache.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
fn run_as<const POLICY: u8, const STREAMED: bool, const STRIDE: usize>(cache: &mut Narrow, run: Run) -> Counts {
    let (full, number, fetch, stream) = (cache.full, cache.number, cache.fetch, run.stream);
    let valid = cache.valid.as_mut_slice();
    let place = Place {
        signatures: cache.signatures.as_mut_ptr().cast(),
        vectors: cache.vectors.as_mut_ptr().cast(),
        streams: cache.streams.as_mut_ptr().cast(),
    };
    let streams = _mm512_set1_epi32(stream as i32);
    for_blocks(
        run,
        |signatures, sets| number.block(signatures, sets),
        |block| {
            let Block { signatures, keys: sets, vectors, codes } = block;
            let mut missed = Missed::default();
            if fetch {
                for &set in sets {
                    let at = place.signatures.wrapping_add(set as usize * STRIDE);
                    _mm_prefetch::<_MM_HINT_T0>(at.cast());
                    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(LANES / 2).cast());
                    _mm_prefetch::<_MM_HINT_T0>(place.vectors.wrapping_add(set as usize * STRIDE).cast());
                }
            }
            for (((&signature, code), &set), &vector) in signatures.iter().zip(codes).zip(sets).zip(vectors) {
                let at = set as usize * STRIDE;
                // SAFETY: `number` gives sets that exist, and there is a mask of valid ways for each.
                let held = unsafe { valid.get_unchecked_mut(set as usize) };
                // SAFETY: as above; each array has `STRIDE` values for each set, `streams` if `STREAMED`.
                let place = unsafe {
                    Place {
                        signatures: place.signatures.add(at),
                        vectors: place.vectors.add(at),
                        streams: if STREAMED { place.streams.add(at) } else { place.streams },
                    }
                };
                // SAFETY: `place` is a set's.
                let entries = unsafe { load::<STREAMED, STRIDE>(place) };
                let wanted = _mm512_set1_epi64(signature as i64);
                let mut found = u32::from(_mm512_cmpeq_epi64_mask(entries.low, wanted));
                if STRIDE == 16 {
                    found |= u32::from(_mm512_cmpeq_epi64_mask(entries.high, wanted)) << 8;
                }
                if STREAMED {
                    found &= u32::from(_mm512_cmpeq_epi32_mask(entries.streams, streams));
                }
                found &= u32::from(*held);
                let hit = found != 0;
                let way = found.trailing_zeros() as usize % STRIDE;
                // SAFETY: a way of the set.
                let resident = unsafe { *place.vectors.add(way) } as u32;
                missed.all += u64::from(!hit);
                let open = u32::from(*held) != full;
                let miss = if POLICY == policy::NONE && !open { MNU } else { vector };
                *code = select_unpredictable(hit, resident, miss);
                if POLICY != policy::NONE || open {
                    let moved = match POLICY {
                        policy::LRU => _blsmsk_u32(found),
                        _ => u32::from(hit).wrapping_sub(1),
                    };
                    let front = Set { low: wanted, high: wanted, vectors: _mm512_set1_epi32(*code as i32), streams };
                    // SAFETY: `place` is a set's.
                    unsafe { store::<STREAMED, STRIDE>(place, shift::<STRIDE>(entries, front, moved as u16)) };
                    // The lowest ways: one more where nothing was found.
                    *held |= ((u32::from(*held) << u32::from(!hit)) | 1) as u16 & full as u16;
                    missed.inserted += u64::from(!hit);
                }
            }
            missed
        },
    )
}

/// # Safety
/// `place` must be a set's, `STRIDE` values in each array, `streams` if `STREAMED`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn load<const STREAMED: bool, const STRIDE: usize>(place: Place) -> Set {
    let lanes = ((1u32 << STRIDE) - 1) as u16;
    let zero = _mm512_setzero_si512();
    // SAFETY: the caller's promise; lanes beyond the set are masked, and not read.
    unsafe {
        let narrow = |at: *mut i32| {
            if STRIDE == 16 { _mm512_loadu_si512(at.cast()) } else { _mm512_maskz_loadu_epi32(lanes, at) }
        };
        Set {
            low: if STRIDE >= 8 {
                _mm512_loadu_si512(place.signatures.cast())
            } else {
                _mm512_maskz_loadu_epi64(lanes as u8, place.signatures)
            },
            high: if STRIDE == 16 { _mm512_loadu_si512(place.signatures.add(8).cast()) } else { zero },
            vectors: narrow(place.vectors),
            streams: if STREAMED { narrow(place.streams) } else { zero },
        }
    }
}

/// Moves the lanes of `moved`, the lowest ones, back by one, and `front` into the first.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn shift<const STRIDE: usize>(set: Set, front: Set, moved: u16) -> Set {
    let (low, high) = (moved as u8, (moved >> 8) as u8);
    Set {
        low: _mm512_mask_alignr_epi64::<7>(set.low, low, set.low, front.low),
        high: if STRIDE == 16 { _mm512_mask_alignr_epi64::<7>(set.high, high, set.high, set.low) } else { set.high },
        vectors: _mm512_mask_alignr_epi32::<15>(set.vectors, moved, set.vectors, front.vectors),
        streams: _mm512_mask_alignr_epi32::<15>(set.streams, moved, set.streams, front.streams),
    }
}

/// # Safety
/// As of [`load`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn store<const STREAMED: bool, const STRIDE: usize>(place: Place, set: Set) {
    let lanes = ((1u32 << STRIDE) - 1) as u16;
    // SAFETY: the caller's promise; lanes beyond the set are masked, and not written.
    unsafe {
        let narrow = |at: *mut i32, value| {
            if STRIDE == 16 {
                _mm512_storeu_si512(at.cast(), value);
            } else {
                _mm512_mask_storeu_epi32(at, lanes, value);
            }
        };
        if STRIDE >= 8 {
            _mm512_storeu_si512(place.signatures.cast(), set.low);
        } else {
            _mm512_mask_storeu_epi64(place.signatures, lanes as u8, set.low);
        }
        if STRIDE == 16 {
            _mm512_storeu_si512(place.signatures.add(8).cast(), set.high);
        }
        narrow(place.vectors, set.vectors);
        if STREAMED {
            narrow(place.streams, set.streams);
        }
    }
}
