//! A run in blocks: what can be done for many signatures at once, before they go past the cache one
//! by one.

use super::number::BLOCK;
use super::{MNU, Run};
use crate::hitmap::Counts;

/// Signatures on their way past a cache, in order: at most [`BLOCK`].
pub(crate) struct Block<'a, K> {
    pub signatures: &'a [u64],
    /// The set, or the key, of each.
    pub keys: &'a [K],
    /// The vector of each.
    pub vectors: &'a [u32],
    /// Receives the code of each.
    pub codes: &'a mut [u32],
}

/// What came of a block.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Missed {
    /// Signatures that were not found.
    pub all: u64,
    /// Those of them that were inserted.
    pub inserted: u64,
}

/// From this share of a block on, one in so many, vectors that repeat the one before are left out.
const REPEATS: usize = 8;

/// Leads a run past a cache, whose look-ups `step` does; `number` gives the keys of a block.
///
/// A signature that equals the one before finds what that one found or inserted, or else no room
/// either, and changes nothing, not even an order of use: it is given the same code. Where there are
/// many, only the others are looked up: each look-up of a set waits for the one before of that set.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
pub(crate) fn for_blocks<K: Copy + Default>(
    run: Run,
    number: impl Fn(&[u64], &mut [K; BLOCK]),
    mut step: impl FnMut(Block<K>) -> Missed,
) -> Counts {
    let Run { signatures: all, first, codes, .. } = run;
    let (mut keys, mut vectors) = ([K::default(); BLOCK], [0; BLOCK]);
    let (mut leaders, mut ranks, mut found) = ([0; BLOCK], [0; BLOCK], [0; BLOCK]);
    let mut missed = Missed::default();
    let firsts = (first..).step_by(BLOCK);
    for ((signatures, codes), first) in all.chunks(BLOCK).zip(codes.chunks_mut(BLOCK)).zip(firsts) {
        let length = signatures.len();
        let repeats: u32 = signatures.iter().zip(&signatures[1..]).map(|(a, b)| u32::from(a == b)).sum();
        if (repeats as usize) < length / REPEATS || length == 1 {
            number(signatures, &mut keys);
            vectors[..length].iter_mut().zip(first..).for_each(|(vector, number)| *vector = number);
            let of_block = step(Block { signatures, keys: &keys[..length], vectors: &vectors[..length], codes });
            missed.all += of_block.all;
            missed.inserted += of_block.inserted;
            continue;
        }
        let (mut leading, mut before) = (0, !signatures[0]);
        for ((&signature, rank), vector) in signatures.iter().zip(&mut ranks).zip(first..) {
            // Repeats are written, too, rather than guessed: the next leader overwrites them.
            leaders[leading % BLOCK] = signature;
            vectors[leading % BLOCK] = vector;
            leading += usize::from(signature != before);
            before = signature;
            *rank = leading as u8 - 1;
        }
        number(&leaders[..leading], &mut keys);
        let of_block = step(Block {
            signatures: &leaders[..leading],
            keys: &keys[..leading],
            vectors: &vectors[..leading],
            codes: &mut found[..leading],
        });
        let mut full = 0;
        for (code, &rank) in codes.iter_mut().zip(&ranks) {
            *code = found[usize::from(rank) % BLOCK];
            full += u32::from(*code == MNU);
        }
        missed.all += of_block.inserted + u64::from(full);
        missed.inserted += of_block.inserted;
    }
    Counts { hit: all.len() as u64 - missed.all, mau: missed.inserted, mnu: missed.all - missed.inserted }
}
