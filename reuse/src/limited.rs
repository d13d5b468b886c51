//! Hitmaps of caches that replace nothing, from that of a cache with room for all.

use crate::config::{Scope, SetIndex};
use crate::counts::Counts;
use crate::hitmap::{Hitmap, runs_of};
use crate::mcache::MNU;
use crate::pool::room;
use crate::repeats::check;
use crate::widest::simd_dispatch;
use rayon::prelude::*;

/// What caches that replace nothing hold of what one with room for all holds.
///
/// A signature that room was found for stays until the flush, so a cache of some ways holds it exactly if
/// fewer others than that were inserted into its set before it, in its scope; with it all vectors of
/// that signature hit, without it they are MNU. O(inserted vectors) for each number of sets, O(vectors)
/// for each cache, with no look-up.
pub struct Limited<'a> {
    unlimited: &'a Hitmap,
    /// Vectors of a scope.
    of_scope: usize,
    /// Vectors that were inserted, and what chooses their sets, scope by scope.
    inserted: Vec<Vec<(u32, u64)>>,
}

/// What caches of one number of sets hold, see [`Limited::ranks`].
pub struct Ranks<'a> {
    unlimited: &'a Hitmap,
    /// Of each inserted vector, how many were inserted before it into its set; of others anything.
    before: Vec<u32>,
}

/// The outcomes of a run from vector `first` on, in a cache of so many ways, from those in one with room for all.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
fn clip(first: u32, holders: &[u32], before: &[u32], ways: u32, codes: &mut [u32]) -> Counts {
    let Some(last) = before.len().checked_sub(1) else { return Counts::default() };
    let (mut mau, mut mnu) = (0, 0);
    for (place, (code, &holder)) in codes.iter_mut().zip(holders).enumerate() {
        // Never beyond; said so that no check breaks the loop up.
        let stays = before[(holder as usize).min(last)] < ways;
        *code = if stays { holder } else { MNU };
        mau += u32::from(stays & (holder == first.wrapping_add(place as u32)));
        mnu += u32::from(!stays);
    }
    let (mau, mnu) = (u64::from(mau), u64::from(mnu));
    Counts { hit: codes.len() as u64 - mau - mnu, mau, mnu }
}

impl<'a> Limited<'a> {
    /// From the Hitmap of a cache with room for all (`mcache.entries = 0`), the signatures and the scope
    /// that it was made with.
    ///
    /// # Panics
    /// If there are not as many signatures as vectors.
    pub fn new(unlimited: &'a Hitmap, signatures: &[u64], scope: Scope, index: SetIndex) -> Self {
        let layout = unlimited.layout();
        check(layout, signatures);
        let of_scope = (runs_of(scope, layout) * layout.positions).max(1);
        let find = |(scope, holders): (usize, &[u32])| -> Vec<(u32, u64)> {
            let own = ((scope * of_scope) as u32..).zip(holders).filter(|&(vector, &holder)| vector == holder);
            own.map(|(vector, _)| (vector, index.key(signatures[vector as usize]))).collect()
        };
        let inserted = unlimited.holders().par_chunks(of_scope).enumerate().map(find).collect();
        Self { unlimited, of_scope, inserted }
    }

    /// Turns to caches of so many sets, in memory that a Hitmap or another one of these had.
    ///
    /// # Panics
    /// If there are none.
    pub fn ranks(&self, sets: u32, memory: Vec<u32>) -> Ranks<'a> {
        assert!(sets > 0, "a cache has sets");
        let mut before = room(memory, self.unlimited.layout().vectors());
        // Most numbers of sets are powers of two, and a division takes longer than all the rest.
        let low = sets.is_power_of_two().then(|| u64::from(sets) - 1);
        let scopes = before.par_chunks_mut(self.of_scope).enumerate().zip(&self.inserted);
        scopes.for_each_init(
            || (vec![0; sets as usize], Vec::new()),
            |(arrived, used), ((scope, before), inserted)| {
                for &(vector, key) in inserted {
                    let set = low.map_or_else(|| key % u64::from(sets), |low| key & low) as usize;
                    used.push(set);
                    before[vector as usize - scope * self.of_scope] = arrived[set];
                    arrived[set] += 1;
                }
                // A cache may be much larger than a scope.
                used.drain(..).for_each(|set| arrived[set] = 0);
            },
        );
        Ranks { unlimited: self.unlimited, before }
    }
}

impl Ranks<'_> {
    /// The Hitmap of a cache of so many ways: what [`Hitmap::with_memory`] gives.
    pub fn hitmap(&self, ways: u32, memory: Vec<u32>) -> Hitmap {
        let (layout, holders) = (self.unlimited.layout(), self.unlimited.holders());
        let mut codes = room(memory, holders.len());
        let mut counts = vec![Counts::default(); layout.runs()];
        let positions = layout.positions.max(1);
        let runs = codes.par_chunks_mut(positions).zip(holders.par_chunks(positions)).zip(&mut counts);
        runs.enumerate().for_each(|(run, ((codes, holders), counts))| {
            *counts = simd_dispatch(|| clip((run * positions) as u32, holders, &self.before, ways, codes));
        });
        Hitmap::of_parts(layout, codes, counts)
    }

    /// Gives its memory up, for others.
    pub fn into_memory(self) -> Vec<u32> {
        self.before
    }
}
