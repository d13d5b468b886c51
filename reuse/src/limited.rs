//! Hitmaps of caches that replace nothing, from that of a cache with room for all.

use crate::config::{Scope, SetIndex};
use crate::hitmap::{Counts, Hitmap, runs_of};
use crate::mcache::MNU;
use crate::repeats::check;
use crate::widest::widest;
use rayon::prelude::*;

/// What caches that replace nothing hold of what one with room for all holds.
///
/// A signature that room was found for stays until the flush, so a cache of some ways holds it exactly if
/// fewer others than that were inserted into its set before it, in its scope; with it all vectors of
/// that signature hit, without it they are MNU. O(inserted vectors) for each number of sets, O(vectors)
/// for each cache, with no look-up.
pub struct Limited<'a> {
    unlimited: &'a Hitmap,
    /// 0 before the first [`Limited::set_sets`].
    sets: u32,
    /// Vectors of a scope.
    of_scope: usize,
    /// Vectors that were inserted, and what chooses their sets, scope by scope.
    inserted: Vec<Vec<(u32, u64)>>,
    /// Of each of them, how many were inserted before it into its set.
    before: Vec<u32>,
    /// Memory for outcomes.
    codes: Vec<u32>,
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
        Self { unlimited, sets: 0, of_scope, inserted, before: vec![0; signatures.len()], codes: Vec::new() }
    }

    /// Turns to caches of so many sets.
    ///
    /// # Panics
    /// If there are none.
    pub fn set_sets(&mut self, sets: u32) {
        assert!(sets > 0, "a cache has sets");
        self.sets = sets;
        // Most numbers of sets are powers of two, and a division takes longer than all the rest.
        let low = sets.is_power_of_two().then(|| u64::from(sets) - 1);
        let scopes = self.before.par_chunks_mut(self.of_scope).enumerate().zip(&self.inserted);
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
    }

    /// The Hitmap of a cache of as many sets as [`Limited::set_sets`] has said, and so many ways: what
    /// [`Hitmap::new`] gives.
    ///
    /// # Panics
    /// If nothing was said.
    pub fn hitmap(&mut self, ways: u32) -> Hitmap {
        assert!(self.sets > 0, "of a number of sets");
        let (layout, holders) = (self.unlimited.layout(), self.unlimited.holders());
        let mut codes = std::mem::take(&mut self.codes);
        codes.resize(holders.len(), 0);
        let mut counts = vec![Counts::default(); layout.runs()];
        let positions = layout.positions.max(1);
        let runs = codes.par_chunks_mut(positions).zip(holders.par_chunks(positions)).zip(&mut counts);
        runs.enumerate().for_each(|(run, ((codes, holders), counts))| {
            *counts = widest(|| clip((run * positions) as u32, holders, &self.before, ways, codes));
        });
        Hitmap::of_parts(layout, codes, counts)
    }

    /// Takes a Hitmap that is not needed any more, for its memory.
    pub fn take_back(&mut self, hitmap: Hitmap) {
        self.codes = hitmap.into_memory();
    }
}
