//! Look-ups by AVX2.

use super::blocks::for_blocks;
use super::leaders::{self, Leaders};
use super::narrow::{LANES, Narrow, confirmed};
use super::number::Place;
use super::sets::{Sets, Shape};
use super::table::Table;
use super::{Isa, KnownSignatures, LookupRun, MNU, plain, policy};
use crate::counts::Counts;
#[allow(clippy::wildcard_imports, reason = "a page of intrinsics")]
use std::arch::x86_64::*;
use std::hint::select_unpredictable;

/// Bits of which each is a way's first of two.
const EVEN: u32 = 0x5555_5555;

/// Lanes of which one is chosen: those from `LANES - w` on choose way w, the first ones none.
static CHOICE: [u16; 2 * LANES] = {
    let mut lanes = [0; 2 * LANES];
    lanes[LANES] = u16::MAX;
    lanes
};

/// Sets that are looked up in.
const SHAPE: Shape = Shape::new(LANES, false);
const _: () = assert!(SHAPE.free > LANES, "a word behind the vectors is nothing else");

/// Leads a run past a cache of 9 to 16 ways without replacement.
pub(crate) fn run(cache: &mut Sets, run: LookupRun) -> Counts {
    debug_assert!(Isa::available().contains(&Isa::Avx2));
    assert!(cache.shape == SHAPE && cache.policy == policy::NONE, "sets are of the kernel's shape");
    // SAFETY: `Isa::available` names AVX2 only where the processor has these features.
    unsafe { run_without_replacement(cache, run) }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn run_without_replacement(cache: &mut Sets, run: LookupRun) -> Counts {
    let (number, start, ways, known) = (cache.number, cache.start(), cache.full, run.known);
    for_blocks(
        run,
        |found: &mut Leaders, signatures: &[u64], first| leaders::find_by_avx2(found, signatures, first),
        |signatures, places| number.block(signatures, SHAPE.size as u32, places),
        // SAFETY: `number` gives sets that exist, and [`Sets::run`] has seen that all vectors since the flush have
        // signatures.
        |places, codes, settled| unsafe {
            if settled {
                look_up::<true>((start, ways), known, places, codes);
            } else {
                look_up::<false>((start, ways), known, places, codes);
            }
        },
    )
}

/// Looks vectors up in the sets from `start` on, which have these `ways`: in masks two bits each, as a comparison of
/// tags gives.
///
/// A look-up either finds an entry, or puts one into the lowest free way, or there is none. Which of these it will be
/// the processor could not guess, so there is no branch, but where sets are `SETTLED` and hardly anything is put: all
/// tags of the set are stored again, the new one among them if one is inserted, and the vector in any case, in the
/// free way (behind the last way where there is none). Where to write does not depend on the comparison: the processor
/// would read no further sets before it knew.
///
/// # Safety
/// Places must be of sets that exist; `codes` and all vectors in these sets must be `known`. No vector may be in a set
/// when it is looked up.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn look_up<const SETTLED: bool>(
    (start, ways): (*mut u32, u32),
    known: KnownSignatures,
    places: &[Place],
    codes: &mut [u32],
) {
    // SAFETY: the caller's promise.
    let signature = |vector: u32| unsafe { known.of_unchecked(vector) };
    for (code, place) in codes.iter_mut().zip(places) {
        let vector = *code;
        // SAFETY: the caller's promise.
        let (set, tags, left) = unsafe {
            let set = start.add(place.start());
            (set, set.add(SHAPE.tags).cast(), &mut *set.add(SHAPE.free))
        };
        // SAFETY: a set's tags; the load needs no alignment.
        let (free, old) = (*left, unsafe { _mm256_loadu_si256(tags) });
        // SAFETY: a place begins with its tag.
        let wanted = _mm256_broadcastw_epi16(unsafe { _mm_loadu_si16(std::ptr::from_ref(place).cast()) });
        let found = _mm256_movemask_epi8(_mm256_cmpeq_epi16(old, wanted)) as u32 & !free & ways;
        // SAFETY: a way of the set, or, where there is none, the word behind, which is nothing else: a way has two bits
        // and four bytes.
        let (resident, next) = unsafe {
            let way = |of: u32| set.byte_add(2 * of.trailing_zeros() as usize);
            (*way(found), way(free))
        };
        // The holder of the signature, and where it may be put if there is none.
        let mut holder = select_unpredictable(found != 0, resident, vector);
        let mut open = select_unpredictable(found != 0, 0, free);
        if signature(holder) != signature(vector) {
            // SAFETY: a set's vectors.
            let vectors = unsafe { std::slice::from_raw_parts(set, LANES) };
            let found = confirmed(_pext_u32(found, EVEN), vectors, known, vector);
            (holder, open) = if found == 0 { (vector, free) } else { (vectors[found.trailing_zeros() as usize], 0) };
        }
        *code = select_unpredictable(((holder ^ vector) | free) != 0, holder, MNU);
        if SETTLED && open == 0 {
            continue;
        }
        // SAFETY: as many lanes of the choice, from 0 to 32 bytes before the chosen one's place; tags and vectors as above.
        unsafe {
            let chosen = CHOICE.as_ptr().add(LANES).byte_sub(open.trailing_zeros() as usize);
            _mm256_storeu_si256(tags, _mm256_blendv_epi8(old, wanted, _mm256_loadu_si256(chosen.cast())));
            *next = vector;
        }
        *left = free ^ (3 * _blsi_u32(open));
    }
}

/// Leads a run past the cache: [`plain::run`] with its search by AVX2.
pub(crate) fn run_narrow(cache: &mut Narrow, run: LookupRun) -> Counts {
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn compiled(cache: &mut Narrow, run: LookupRun) -> Counts {
        // Of a fixed length it is one comparison.
        plain::run_with(cache, run, |tags, tag| match <&[u16; LANES]>::try_from(tags) {
            Ok(tags) => find(tags, tag),
            Err(_) => plain::find(tags, tag),
        })
    }
    // SAFETY: `Isa::available` names AVX2 only where the processor has these features.
    unsafe { compiled(cache, run) }
}

/// [`plain::find`] for 16 ways.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn find(tags: &[u16; LANES], tag: u16) -> u32 {
    // SAFETY: 16 values lie there; the load needs no alignment.
    let tags = unsafe { _mm256_loadu_si256(tags.as_ptr().cast()) };
    let equal = _mm256_cmpeq_epi16(tags, _mm256_set1_epi16(tag as i16));
    // A byte a way, those of the upper half behind both copies of the lower half's.
    let bytes = _mm256_permute4x64_epi64::<0b10_00_10_00>(_mm256_packs_epi16(equal, equal));
    _mm_movemask_epi8(_mm256_castsi256_si128(bytes)) as u32 & 0xFFFF
}

/// [`Table::run_as_compiled`] for AVX2.
pub(crate) fn run_table(table: &mut Table, run: LookupRun) -> Counts {
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn compiled(table: &mut Table, run: LookupRun) -> Counts {
        table.run_as_compiled(run)
    }
    // SAFETY: `Isa::available` names AVX2 only where the processor has these features.
    unsafe { compiled(table, run) }
}
