//! Look-ups with AVX2.

use super::blocks::for_blocks;
use super::leaders::{self, Leaders};
use super::narrow::{LANES, Narrow, confirm};
use super::number::Place;
use super::sets::{Sets, Shape};
use super::table::Table;
use super::{Isa, KnownSignatures, LookupRun, MNU, plain, policy};
use crate::caching::counts::Counts;
#[allow(clippy::wildcard_imports, reason = "a page of intrinsics")]
use std::arch::x86_64::*;
use std::hint::select_unpredictable;

/// The first of the two bits of each way.
const EVEN: u32 = 0x5555_5555;

/// A load from index `LANES - w` is a lane mask that selects way w. A load from index 0 selects
/// none.
static CHOICE: [u16; 2 * LANES] = {
    let mut lanes = [0; 2 * LANES];
    lanes[LANES] = u16::MAX;
    lanes
};

/// The layout of the sets.
const SHAPE: Shape = Shape::new(LANES, false);
const _: () = assert!(SHAPE.free > LANES, "the word behind the vectors is unused");

/// Looks up the vectors of a run in a cache of 9 to 16 ways without replacement.
pub(crate) fn run(cache: &mut Sets, run: LookupRun) -> Counts {
    debug_assert!(Isa::available().contains(&Isa::Avx2));
    assert!(cache.shape == SHAPE && cache.policy == policy::NONE, "the cache has the shape of this engine");
    // SAFETY: `Isa::available` lists AVX2 only if the CPU has these features.
    unsafe { run_without_replacement(cache, run) }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn run_without_replacement(cache: &mut Sets, run: LookupRun) -> Counts {
    let (number, known) = (cache.number, run.known);
    let (start, ways) = (cache.start(), cache.full);
    for_blocks(
        run,
        |found: &mut Leaders, signatures: &[u64], first| leaders::find_by_avx2(found, signatures, first),
        |signatures, places| number.find_places(signatures, SHAPE.size as u32, places),
        // SAFETY: `number` returns existing sets. [`Sets::run`] has checked that the signatures of
        // all vectors since the flush are known.
        |places, codes, settled| unsafe {
            if settled {
                look_up::<true>((start, ways), known, places, codes);
            } else {
                look_up::<false>((start, ways), known, places, codes);
            }
        },
    )
}

/// Looks up vectors in the sets from `start` on, which have the given `ways`. Masks of ways have
/// two bits for each way, as comparisons of tags return them.
///
/// A look-up finds an entry, or inserts one in the lowest free way, or fails in a full set. The CPU
/// could not predict a branch on these outcomes, so there is none, except where sets are `SETTLED`
/// and insertions are rare. The look-up stores all tags of the set again, with the new tag if it
/// inserts. It always stores the vector, in the lowest free way (in a full set, behind the last
/// way). The address of this store does not depend on the comparison. Otherwise the CPU could not
/// read further sets until the comparison is done.
///
/// # Safety
/// Places must be those of existing sets. The signatures of `codes` and of all vectors in these
/// sets must be `known`. A vector must not be in a set when it is looked up.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn look_up<const SETTLED: bool>(
    (start, ways): (*mut u32, u32),
    known: KnownSignatures,
    places: &[Place],
    codes: &mut [u32],
) {
    // SAFETY: the caller guarantees that the signature is known.
    let signature = |vector: u32| unsafe { known.get_unchecked(vector) };
    for (code, place) in codes.iter_mut().zip(places) {
        let vector = *code;
        // SAFETY: the caller guarantees that the set exists.
        let (set, tags, left) = unsafe {
            let set = start.add(place.start());
            (set, set.add(SHAPE.tags).cast(), &mut *set.add(SHAPE.free))
        };
        // SAFETY: these are the tags of a set; the load needs no alignment.
        let (free, old) = (*left, unsafe { _mm256_loadu_si256(tags) });
        // SAFETY: the low 16 bits of a place are its tag.
        let wanted = _mm256_broadcastw_epi16(unsafe { _mm_loadu_si16(std::ptr::from_ref(place).cast()) });
        let found = _mm256_movemask_epi8(_mm256_cmpeq_epi16(old, wanted)) as u32 & !free & ways;
        // SAFETY: a way of the set; for an empty mask the word behind the vectors, which is unused.
        // A way has two bits in a mask and four bytes in the set.
        let (resident, next) = unsafe {
            let lowest_way = |mask: u32| set.byte_add(2 * mask.trailing_zeros() as usize);
            (*lowest_way(found), lowest_way(free))
        };
        // The holder of the signature, and the ways where it may be inserted if there is no holder.
        let mut holder = select_unpredictable(found != 0, resident, vector);
        let mut open = select_unpredictable(found != 0, 0, free);
        if signature(holder) != signature(vector) {
            // SAFETY: a set begins with its vectors.
            let vectors = unsafe { std::slice::from_raw_parts(set, LANES) };
            let found = confirm(_pext_u32(found, EVEN), vectors, known, vector);
            (holder, open) = if found == 0 { (vector, free) } else { (vectors[found.trailing_zeros() as usize], 0) };
        }
        *code = select_unpredictable(((holder ^ vector) | free) != 0, holder, MNU);
        if SETTLED && open == 0 {
            continue;
        }
        // SAFETY: the load is within `CHOICE`, because it starts 0 to 32 bytes before index `LANES`
        // and has 32 bytes. Tags and vectors as above.
        unsafe {
            let chosen = CHOICE.as_ptr().add(LANES).byte_sub(open.trailing_zeros() as usize);
            _mm256_storeu_si256(tags, _mm256_blendv_epi8(old, wanted, _mm256_loadu_si256(chosen.cast())));
            *next = vector;
        }
        *left = free ^ (3 * _blsi_u32(open));
    }
}

/// [`plain::run`] with an AVX2 search for tags.
pub(crate) fn run_narrow(cache: &mut Narrow, run: LookupRun) -> Counts {
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn compiled(cache: &mut Narrow, run: LookupRun) -> Counts {
        // For all 16 ways the search is one comparison.
        plain::run_with(cache, run, |tags, tag| match <&[u16; LANES]>::try_from(tags) {
            Ok(tags) => find(tags, tag),
            Err(_) => plain::find(tags, tag),
        })
    }
    // SAFETY: `Isa::available` lists AVX2 only if the CPU has these features.
    unsafe { compiled(cache, run) }
}

/// [`plain::find`] for 16 ways.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn find(tags: &[u16; LANES], tag: u16) -> u32 {
    // SAFETY: the array has 16 values; the load needs no alignment.
    let tags = unsafe { _mm256_loadu_si256(tags.as_ptr().cast()) };
    let equal = _mm256_cmpeq_epi16(tags, _mm256_set1_epi16(tag as i16));
    // One byte per way: packing leaves two copies of each half, and the permutation joins one of
    // each.
    let bytes = _mm256_permute4x64_epi64::<0b10_00_10_00>(_mm256_packs_epi16(equal, equal));
    _mm_movemask_epi8(_mm256_castsi256_si128(bytes)) as u32 & 0xFFFF
}

/// [`Table::run_as_compiled`], compiled for AVX2.
pub(crate) fn run_table(table: &mut Table, run: LookupRun) -> Counts {
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn compiled(table: &mut Table, run: LookupRun) -> Counts {
        table.run_as_compiled(run)
    }
    // SAFETY: `Isa::available` lists AVX2 only if the CPU has these features.
    unsafe { compiled(table, run) }
}
