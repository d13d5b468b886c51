//! What became of every vector of an operand in one MCACHE: the scheme's Hitmap, and whose result a HIT takes.

mod first_arrivals;
mod look_up;
mod signed;

pub use first_arrivals::{FirstArrivals, Ranks};

use crate::caching::counts::Counts;
use crate::caching::mcache::{MNU, Outcome, decode};
use crate::simd::simd_dispatch;
use crate::vectors::Layout;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// The outcome of every vector of an operand, in the layout's order.
///
/// A vector's *holder* is the vector whose entry holds its signature: for a HIT the one that inserted it, for a MAU
/// itself, for an MNU none ([`Outcomes::NONE`]). Holders come from look-ups one after another ([`Outcomes::look_up`]) or,
/// for caches that replace nothing, from first arrivals and their ranks ([`FirstArrivals`]).
#[derive(Debug, Clone)]
pub struct Outcomes {
    layout: Layout,
    holders: Arc<Vec<u32>>,
    limit: Option<Limit>,
    /// By run, `[samples][streams]`.
    counts: Vec<Counts>,
}

/// Which of the first arrivals a cache that replaces nothing holds.
#[derive(Debug, Clone)]
struct Limit {
    /// Of each first arrival, how many reached its set before it; of other vectors anything.
    ranks: Arc<Vec<u32>>,
    ways: u32,
}

/// Whether a set of this many ways holds the first arrival of this rank: nothing is replaced, so the first ones stay.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
fn is_resident(rank: u32, ways: u32) -> bool {
    rank < ways
}

/// Calls `each` with the holder of each vector, given the first arrivals of their signatures.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
fn for_each_holder(first_arrivals: &[u32], ranks: &[u32], ways: u32, mut each: impl FnMut(usize, u32)) {
    let Some(last) = ranks.len().checked_sub(1) else { return };
    for (place, &first) in first_arrivals.iter().enumerate() {
        // Never beyond the last; saying so spares the loop its bounds checks.
        let rank = ranks[(first as usize).min(last)];
        each(place, if is_resident(rank, ways) { first } else { MNU });
    }
}

impl Outcomes {
    /// The holder of a vector whose signature no entry holds. No vector has this number: there are fewer than 2^32.
    pub const NONE: u32 = MNU;

    fn new(layout: Layout, holders: Vec<u32>, counts: Vec<Counts>) -> Self {
        Self { layout, holders: Arc::new(holders), limit: None, counts }
    }

    /// How many vectors there are.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Counts of each run, `[samples][streams]`.
    pub fn counts(&self) -> &[Counts] {
        &self.counts
    }

    /// The vector whose entry holds a vector's signature, or [`Outcomes::NONE`].
    #[inline]
    pub fn holder(&self, vector: usize) -> u32 {
        let holder = self.holders[vector];
        match &self.limit {
            Some(Limit { ranks, ways }) if !is_resident(ranks[holder as usize], *ways) => Self::NONE,
            _ => holder,
        }
    }

    /// The holders of consecutive vectors.
    pub fn holders(&self, vectors: Range<usize>) -> Cow<'_, [u32]> {
        let holders = &self.holders[vectors];
        let Some(Limit { ranks, ways }) = &self.limit else { return holders.into() };
        let mut resolved = vec![0; holders.len()];
        simd_dispatch(|| for_each_holder(holders, ranks, *ways, |place, holder| resolved[place] = holder));
        resolved.into()
    }

    /// The outcome of a vector.
    pub fn outcome(&self, vector: usize) -> Outcome {
        decode(self.holder(vector), vector)
    }

    /// The outcome of each vector.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Outcome> + '_ {
        (0..self.holders.len()).map(|vector| self.outcome(vector))
    }

    /// The vector whose result a vector takes: of a HIT the one that inserted the signature, otherwise itself.
    #[inline]
    pub fn representative(&self, vector: usize) -> usize {
        match self.holder(vector) {
            Self::NONE => vector,
            holder => holder as usize,
        }
    }
}

impl PartialEq for Outcomes {
    fn eq(&self, other: &Self) -> bool {
        self.layout == other.layout && self.counts == other.counts && self.iter().eq(other.iter())
    }
}

impl Eq for Outcomes {}
