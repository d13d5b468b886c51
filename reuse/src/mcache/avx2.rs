//! Look-ups by AVX2.

use super::blocks::{Leaders, for_blocks};
use super::narrow::{LANES, Narrow, confirmed};
use super::number::{BLOCK, Place};
use super::sets::{Sets, Shape};
use super::table::Table;
use super::{Isa, Known, MNU, Run, plain, policy};
use crate::hitmap::Counts;
#[allow(clippy::wildcard_imports, reason = "a page of intrinsics")]
use std::arch::x86_64::*;
use std::hint::select_unpredictable;

/// Bits of which each is a way's first of two.
const EVEN: u32 = 0x5555_5555;

/// Lanes of which one is chosen: those from `LANES - w` on choose way w, the first ones none.
static CHOICE: [u16; 2 * LANES + 1] = {
    let mut lanes = [0; 2 * LANES + 1];
    lanes[LANES] = u16::MAX;
    lanes
};

/// Sets that are looked up in.
const SHAPE: Shape = Shape::new(LANES, false);

/// Leads a run past a cache of 9 to 16 ways without replacement.
pub(crate) fn run(cache: &mut Sets, run: Run) -> Counts {
    debug_assert!(Isa::available().contains(&Isa::Avx2));
    assert!(cache.shape == SHAPE && cache.policy == policy::NONE, "sets are of the kernel's shape");
    // SAFETY: `Isa::available` names AVX2 only where the processor has these features.
    unsafe { run_without_replacement(cache, run) }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn run_without_replacement(cache: &mut Sets, run: Run) -> Counts {
    let (number, start, ways, known) = (cache.number, cache.start(), cache.full, run.known);
    for_blocks(
        run,
        |leaders: &mut Leaders, signatures: &[u64], first| find_leaders(leaders, signatures, first),
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

/// Of four vectors that follow one another, a bit each that leads: the words of 32 bits of those signatures moved to the
/// front, the bytes of those numbers, and how many lead up to each vector, in a byte each.
struct Moves {
    signatures: [[u32; 8]; 16],
    vectors: [[u8; 16]; 16],
    leading: [u32; 16],
}

static MOVES: Moves = {
    let mut moves = Moves { signatures: [[0; 8]; 16], vectors: [[0; 16]; 16], leading: [0; 16] };
    let mut bits = 0;
    while bits < 16 {
        let (mut vector, mut to) = (0, 0);
        while vector < 4 {
            if bits >> vector & 1 == 1 {
                moves.signatures[bits][2 * to] = 2 * vector as u32;
                moves.signatures[bits][2 * to + 1] = 2 * vector as u32 + 1;
                let mut byte = 0;
                while byte < 4 {
                    moves.vectors[bits][4 * to + byte] = (4 * vector + byte) as u8;
                    byte += 1;
                }
                to += 1;
            }
            moves.leading[bits] |= (to as u32) << (8 * vector);
            vector += 1;
        }
        bits += 1;
    }
    moves
};

/// [`find_leaders`](super::blocks::find_leaders), four vectors at a time.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn find_leaders(leaders: &mut Leaders, signatures: &[u64], first: u32) -> usize {
    assert!((1..=BLOCK).contains(&signatures.len()), "vectors of a block");
    (leaders.signatures[0], leaders.vectors[0], leaders.ranks[0]) = (signatures[0], first, 0);
    let (mut at, mut leading) = (1, 1);
    let mut numbers = _mm_add_epi32(_mm_set1_epi32(first as i32), _mm_setr_epi32(1, 2, 3, 4));
    while at + 4 <= signatures.len() {
        // SAFETY: four signatures from `at` on, and from the one before, are there. There is room for four, as no more
        // lead than were seen: what is behind the leaders among them is overwritten or left alone.
        unsafe {
            let own = _mm256_loadu_si256(signatures.as_ptr().add(at).cast());
            let before = _mm256_loadu_si256(signatures.as_ptr().add(at - 1).cast());
            let repeat = _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(own, before)));
            let lead = !repeat as usize % 16;
            let moves = _mm256_loadu_si256(MOVES.signatures[lead].as_ptr().cast());
            let moved = _mm256_permutevar8x32_epi32(own, moves);
            _mm256_storeu_si256(leaders.signatures.as_mut_ptr().add(leading).cast(), moved);
            let moved = _mm_shuffle_epi8(numbers, _mm_loadu_si128(MOVES.vectors[lead].as_ptr().cast()));
            _mm_storeu_si128(leaders.vectors.as_mut_ptr().add(leading).cast(), moved);
            let ranks = (leading as u32 - 1) * 0x0101_0101 + MOVES.leading[lead];
            leaders.ranks.as_mut_ptr().add(at).cast::<u32>().write_unaligned(ranks);
            leading += lead.count_ones() as usize;
        }
        numbers = _mm_add_epi32(numbers, _mm_set1_epi32(4));
        at += 4;
    }
    leaders.find_from(signatures, first, at, leading)
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
/// Places must be of sets that exist; `codes` and all vectors in these sets must be `known`.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
unsafe fn look_up<const SETTLED: bool>(
    (start, ways): (*mut u32, u32),
    known: Known,
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
        // SAFETY: a way of the set, or, where there is none, the word behind: a way has two bits and four bytes.
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
        *code = select_unpredictable((holder ^ vector) | free != 0, holder, MNU);
        if SETTLED && open == 0 {
            continue;
        }
        // SAFETY: lanes of the choice, a byte for each bit; tags and vectors as above.
        unsafe {
            let chosen = CHOICE.as_ptr().add(LANES).byte_sub(open.trailing_zeros() as usize);
            _mm256_storeu_si256(tags, _mm256_blendv_epi8(old, wanted, _mm256_loadu_si256(chosen.cast())));
            *next = vector;
        }
        *left = free ^ (3 * _blsi_u32(open));
    }
}

/// Leads a run past the cache: [`plain::run`] with its search by AVX2.
pub(crate) fn run_narrow(cache: &mut Narrow, run: Run) -> Counts {
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn compiled(cache: &mut Narrow, run: Run) -> Counts {
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
pub(crate) fn run_table(table: &mut Table, run: Run) -> Counts {
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn compiled(table: &mut Table, run: Run) -> Counts {
        table.run_as_compiled(run)
    }
    // SAFETY: `Isa::available` names AVX2 only where the processor has these features.
    unsafe { compiled(table, run) }
}
