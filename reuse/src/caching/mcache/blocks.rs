//! Look-ups of a run in blocks: work that many signatures can share comes first, then the
//! signatures are looked up one by one.

use super::leaders::Leaders;
use super::number::BLOCK;
use super::{LookupRun, MNU};
use crate::caching::counts::Counts;

/// If at least one in this many vectors of a block repeats the signature before, repeats are
/// skipped.
const REPEATS: usize = 8;

/// A block is settled if at most one in this many of its vectors was inserted.
const SETTLED: u64 = 64;

/// Looks up the vectors of a run, block by block.
///
/// - `find_leaders` finds the leaders of a block, and returns their number.
/// - `make_keys` computes a key for each signature: where to look for it.
/// - `look_up` gets keys and the numbers of their vectors, and replaces each number by its code.
///   Its last argument says whether the previous block was settled. If so, few insertions are to be
///   expected.
///
/// A signature that equals the one before has the same code: it finds the same entry or the one
/// just inserted, or its set is still full. It changes nothing, not even the order of use. In
/// blocks with many such repeats only the leaders are looked up, because each look-up in a set
/// waits for the one before in that set.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
pub(crate) fn for_blocks<K: Copy + Default>(
    run: LookupRun,
    find_leaders: impl Fn(&mut Leaders, &[u64], u32) -> usize,
    make_keys: impl Fn(&[u64], &mut [K; BLOCK]),
    mut look_up: impl FnMut(&[K], &mut [u32], bool),
) -> Counts {
    let run_signatures = run.signatures();
    let LookupRun { first, codes, .. } = run;
    let mut keys = [K::default(); BLOCK];
    let mut leaders = Leaders::new();
    let (mut counts, mut settled) = (Counts::default(), false);
    let firsts = (first..).step_by(BLOCK);
    for ((signatures, codes), first) in run_signatures.chunks(BLOCK).zip(codes.chunks_mut(BLOCK)).zip(firsts) {
        let length = signatures.len();
        let repeats: u32 = signatures.iter().zip(&signatures[1..]).map(|(a, b)| u32::from(a == b)).sum();
        if (repeats as usize) < length / REPEATS || length == 1 {
            make_keys(signatures, &mut keys);
            codes.iter_mut().zip(first..).for_each(|(code, vector)| *code = vector);
            look_up(&keys[..length], codes, settled);
        } else {
            let count = find_leaders(&mut leaders, signatures, first);
            let Leaders { signatures, vectors, ranks } = &mut leaders;
            make_keys(&signatures[..count], &mut keys);
            look_up(&keys[..count], &mut vectors[..count], settled);
            codes.iter_mut().zip(&*ranks).for_each(|(code, &rank)| *code = vectors[usize::from(rank) % BLOCK]);
        }
        let block_counts = count_outcomes(codes, first);
        settled = block_counts.mau <= length as u64 / SETTLED;
        counts += block_counts;
    }
    counts
}

/// Counts the outcomes of a block. `first` is the number of its first vector.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
fn count_outcomes(codes: &[u32], first: u32) -> Counts {
    let (mut mau, mut mnu) = (0, 0);
    for (&code, own) in codes.iter().zip(first..) {
        mau += u32::from(code == own);
        mnu += u32::from(code == MNU);
    }
    let (mau, mnu) = (u64::from(mau), u64::from(mnu));
    Counts { hit: codes.len() as u64 - mau - mnu, mau, mnu }
}
