//! A run in blocks: what can be done for many signatures at once, before they go past the cache one
//! by one.

use super::leaders::Leaders;
use super::number::BLOCK;
use super::{LookupRun, MNU};
use crate::counts::Counts;

/// From this share of a block on, one in so many, vectors that repeat the one before are left out.
const REPEATS: usize = 8;

/// A block of which no more than one in so many were inserted is settled.
const SETTLED: u64 = 64;

/// Leads a run past a cache; `lead` finds the leaders of a block and says how many there are, `number` says of
/// signatures where to look for each, and `step` looks up vectors, of which it gets these keys and their numbers, in
/// place of which it puts their codes. It is also told whether the block before was settled: whether hardly anything
/// was inserted there, and will be here.
///
/// A signature that equals the one before finds what that one found or inserted, or else no room
/// either, and changes nothing, not even an order of use: it is given the same code. Where there are
/// many, only the others are looked up: each look-up of a set waits for the one before of that set.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
pub(crate) fn for_blocks<K: Copy + Default>(
    run: LookupRun,
    lead: impl Fn(&mut Leaders, &[u64], u32) -> usize,
    number: impl Fn(&[u64], &mut [K; BLOCK]),
    mut step: impl FnMut(&[K], &mut [u32], bool),
) -> Counts {
    let of_run = run.signatures();
    let LookupRun { first, codes, .. } = run;
    let mut keys = [K::default(); BLOCK];
    let mut leaders = Leaders::new();
    let (mut counts, mut settled) = (Counts::default(), false);
    let firsts = (first..).step_by(BLOCK);
    for ((signatures, codes), first) in of_run.chunks(BLOCK).zip(codes.chunks_mut(BLOCK)).zip(firsts) {
        let length = signatures.len();
        let repeats: u32 = signatures.iter().zip(&signatures[1..]).map(|(a, b)| u32::from(a == b)).sum();
        if (repeats as usize) < length / REPEATS || length == 1 {
            number(signatures, &mut keys);
            codes.iter_mut().zip(first..).for_each(|(code, vector)| *code = vector);
            step(&keys[..length], codes, settled);
        } else {
            let leading = lead(&mut leaders, signatures, first);
            let Leaders { signatures, vectors, ranks } = &mut leaders;
            number(&signatures[..leading], &mut keys);
            step(&keys[..leading], &mut vectors[..leading], settled);
            codes.iter_mut().zip(&*ranks).for_each(|(code, &rank)| *code = vectors[usize::from(rank) % BLOCK]);
        }
        let of_block = counted(codes, first);
        settled = of_block.mau <= length as u64 / SETTLED;
        counts += of_block;
    }
    counts
}

/// The outcomes of a block whose first vector has this number.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
fn counted(codes: &[u32], first: u32) -> Counts {
    let (mut mau, mut mnu) = (0, 0);
    for (&code, own) in codes.iter().zip(first..) {
        mau += u32::from(code == own);
        mnu += u32::from(code == MNU);
    }
    let (mau, mnu) = (u64::from(mau), u64::from(mnu));
    Counts { hit: codes.len() as u64 - mau - mnu, mau, mnu }
}
