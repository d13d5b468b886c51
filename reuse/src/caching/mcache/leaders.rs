//! Leaders: the vectors of a block whose signature differs from the one before. Only these are
//! looked up.

use super::number::BLOCK;
#[cfg(target_arch = "x86_64")]
#[allow(clippy::wildcard_imports, reason = "a page of intrinsics")]
use std::arch::x86_64::*;

/// The leaders of a block.
pub(crate) struct Leaders {
    /// The signatures of the leaders.
    pub signatures: [u64; BLOCK],
    /// The numbers of the leaders.
    pub vectors: [u32; BLOCK],
    /// For each vector of the block, the index of the leader that it is or repeats.
    pub ranks: [u8; BLOCK],
}

impl Leaders {
    pub fn new() -> Self {
        Self { signatures: [0; BLOCK], vectors: [0; BLOCK], ranks: [0; BLOCK] }
    }

    /// Finds the leaders from vector `from` of the block on, after `count` leaders among the
    /// vectors before. Returns the number of leaders in the block. The first vector of a block is a
    /// leader; its number is `first`.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
    fn continue_from(&mut self, signatures: &[u64], first: u32, from: usize, mut count: usize) -> usize {
        let mut before = if from == 0 { !signatures[0] } else { signatures[from - 1] };
        let rest = signatures.iter().zip(&mut self.ranks).zip(first..).skip(from);
        for ((&signature, rank), vector) in rest {
            // Repeats are written, too, which avoids a branch. The next leader overwrites them.
            self.signatures[count % BLOCK] = signature;
            self.vectors[count % BLOCK] = vector;
            count += usize::from(signature != before);
            before = signature;
            *rank = count as u8 - 1;
        }
        count
    }
}

/// Finds the leaders of a block and returns their number. `first` is the number of the block's
/// first vector.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
pub(crate) fn find(leaders: &mut Leaders, signatures: &[u64], first: u32) -> usize {
    leaders.continue_from(signatures, first, 0, 0)
}

/// Shuffles that move the leaders among four vectors to the front. The index has a bit for each
/// vector, which is set for leaders.
#[cfg(target_arch = "x86_64")]
struct Moves {
    /// Indices of 32-bit words of the signatures.
    signatures: [[u32; 8]; 16],
    /// Indices of bytes of the numbers.
    vectors: [[u8; 16]; 16],
    /// For each vector, the number of leaders up to and including it: a byte each.
    leading: [u32; 16],
}

#[cfg(target_arch = "x86_64")]
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

/// [`find`], four vectors at a time.
///
/// # Panics
/// If there are no signatures, or more than [`BLOCK`].
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(crate) fn find_by_avx2(leaders: &mut Leaders, signatures: &[u64], first: u32) -> usize {
    assert!((1..=BLOCK).contains(&signatures.len()), "vectors of a block");
    leaders.signatures[0] = signatures[0];
    leaders.vectors[0] = first;
    leaders.ranks[0] = 0;
    let (mut at, mut count) = (1, 1);
    let mut numbers = _mm_add_epi32(_mm_set1_epi32(first as i32), _mm_setr_epi32(1, 2, 3, 4));
    while at + 4 <= signatures.len() {
        // SAFETY: there are four signatures from `at` on, and from `at - 1` on. `leaders` has room
        // for four more elements at `count`, because `count <= at` and `at + 4 <= BLOCK`. The
        // elements behind the new leaders are overwritten later or not read. `ranks` has room for
        // four bytes at `at`.
        unsafe {
            let own = _mm256_loadu_si256(signatures.as_ptr().add(at).cast());
            let before = _mm256_loadu_si256(signatures.as_ptr().add(at - 1).cast());
            let repeat = _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(own, before)));
            let lead = !repeat as usize % 16;
            let moves = _mm256_loadu_si256(MOVES.signatures[lead].as_ptr().cast());
            let moved = _mm256_permutevar8x32_epi32(own, moves);
            _mm256_storeu_si256(leaders.signatures.as_mut_ptr().add(count).cast(), moved);
            let moved = _mm_shuffle_epi8(numbers, _mm_loadu_si128(MOVES.vectors[lead].as_ptr().cast()));
            _mm_storeu_si128(leaders.vectors.as_mut_ptr().add(count).cast(), moved);
            let ranks = (count as u32 - 1) * 0x0101_0101 + MOVES.leading[lead];
            leaders.ranks.as_mut_ptr().add(at).cast::<u32>().write_unaligned(ranks);
            count += lead.count_ones() as usize;
        }
        numbers = _mm_add_epi32(numbers, _mm_set1_epi32(4));
        at += 4;
    }
    leaders.continue_from(signatures, first, at, count)
}
