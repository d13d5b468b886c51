//! Deals the outcomes of planes to PE sets.

use crate::timing::row_stationary::{Mapping, RowCost, RowCounts, ScopeWork};
use mercury_reuse::{Loops, Outcomes, simd_dispatch};
use std::borrow::Cow;

/// The vectors of a scope that one lane works on, in order.
pub struct Plane<'a> {
    /// Number of the first vector.
    first: u32,
    /// Of each vector the number of the one that holds its signature; see [`Outcomes::holders`].
    holders: Cow<'a, [u32]>,
}

impl<'a> Plane<'a> {
    /// Runs of so many vectors, of which these are the first, ascending.
    pub fn new(outcomes: &'a Outcomes, firsts: impl IntoIterator<Item = usize>, length: usize) -> Self {
        let firsts: Vec<usize> = firsts.into_iter().collect();
        let run = |first: usize| outcomes.holders(first..first + length);
        if let [first] = *firsts {
            return Self { first: first as u32, holders: run(first) };
        }
        // Numbered anew, without gaps; what an earlier scope holds, and nobody here, is far beyond.
        let beyond = Outcomes::NONE - 1;
        let place = |holder: u32| {
            let at = firsts.partition_point(|&first| first <= holder as usize);
            let first = at.checked_sub(1).map(|run| (run, firsts[run]));
            let within = first.filter(|(_, first)| holder as usize - first < length);
            within.map_or(beyond, |(run, first)| (run * length + holder as usize - first) as u32)
        };
        let renumber = |&holder: &u32| if holder == Outcomes::NONE { holder } else { place(holder) };
        let mut holders = Vec::with_capacity(firsts.len() * length);
        for &first in &firsts {
            holders.extend(run(first).iter().map(renumber));
        }
        Self { first: 0, holders: holders.into() }
    }

    /// How many there are.
    pub fn vectors(&self) -> usize {
        self.holders.len()
    }
}

/// Deals planes to the PE sets of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dealer {
    /// Output rows at once, and so columns of PEs of a lane.
    strip: usize,
    /// PE sets in all.
    sets: usize,
    cost: RowCost,
    waits: bool,
    row_length: usize,
    /// The column of PEs, of a strip's, that takes the vector at each place of a plane; at the end one more
    /// for vectors that are not of the plane.
    columns: Vec<u32>,
}

/// The work of the PE sets of one lane.
#[derive(Debug)]
struct LaneWork {
    /// Cycles of each column of PEs.
    cycles: Vec<u64>,
    /// By column, a bit for each column that it copies results from, and at the end one for vectors elsewhere; empty if
    /// no column waits for another.
    copies: Vec<u64>,
}

impl Dealer {
    /// For planes of rows of this length and at most so many places. `waits` says whether a HIT waits for
    /// the set that computes its result; additions of gradients wait for nobody.
    pub(super) fn new(mapping: &Mapping, hit_cycles: u64, waits: bool, row_length: usize, places: usize) -> Self {
        let strip = mapping.choice().strip as usize;
        let mut columns = Vec::with_capacity(places + 1);
        for row in 0..places.div_ceil(row_length) {
            columns.resize(places.min((row + 1) * row_length), (row % strip) as u32);
        }
        columns.push(strip as u32);
        Self { strip, sets: mapping.sets() as usize, cost: mapping.row_cost(hit_cycles), waits, row_length, columns }
    }

    /// Words of the bits of a column that waits for others.
    fn words(&self) -> usize {
        if self.waits && self.strip > 1 { self.strip / 64 + 1 } else { 0 }
    }

    /// A round: one plane a lane.
    pub(super) fn deal(&self, planes: &[Plane]) -> ScopeWork {
        let Self { strip, sets, .. } = *self;
        let mut round = ScopeWork::default();
        for (lane, plane) in planes.iter().enumerate() {
            let LaneWork { cycles, copies } = self.deal_plane(plane);
            round.work.extend(cycles);
            let number = |column: usize| (lane * strip + column) as u32;
            for (column, copies) in copies.chunks(self.words().max(1)).enumerate() {
                let sources = set_bits(copies);
                // Results of a column itself, or of another scope, are there already.
                let sources = sources.filter(|&from| from != column && from < strip);
                round.reuses.extend(sources.map(|from| (number(column), number(from))));
            }
        }
        round.work.resize(sets, 0);
        round
    }

    fn deal_plane(&self, plane: &Plane) -> LaneWork {
        let mut lane = LaneWork { cycles: vec![0; self.strip], copies: vec![0; self.strip * self.words()] };
        simd_dispatch(PlaneLoops { dealer: self, plane, lane: &mut lane });
        lane
    }
}

/// Numbers of the bits that are set, ascending.
fn set_bits(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(word, &bits)| {
        let mut left = bits;
        std::iter::from_fn(move || {
            let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(64 * word + bit)
        })
    })
}

/// The plane of a lane, to be dealt to the columns of its strip.
struct PlaneLoops<'a> {
    dealer: &'a Dealer,
    plane: &'a Plane<'a>,
    lane: &'a mut LaneWork,
}

impl Loops for PlaneLoops<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "registers are those of the function that it is inlined into")]
    fn run<const FUSED: bool>(self) {
        let Self { dealer, plane, lane } = self;
        let LaneWork { cycles, copies } = lane;
        let &Dealer { strip, cost, row_length, ref columns, .. } = dealer;
        let words = dealer.words();
        let (columns, outside) = (columns.as_slice(), columns.len() - 1);
        for (row, holders) in plane.holders.chunks(row_length).enumerate() {
            let column = row % strip;
            let first = plane.first + (row * row_length) as u32;
            let is_hit = |(place, &holder): (usize, &u32)| {
                let (own, none) = (first.wrapping_add(place as u32), Outcomes::NONE);
                u32::from(holder != own) & u32::from(holder != none)
            };
            let hit = u64::from(holders.iter().enumerate().map(is_hit).sum::<u32>());
            cycles[column] += cost.row(RowCounts { computed: holders.len() as u64 - hit, hit });
            // What an earlier scope computed is there already. A MAU copies from its own column: nothing.
            if words > 0 {
                let from =
                    holders.iter().map(|holder| columns[(holder.wrapping_sub(plane.first) as usize).min(outside)]);
                let copies = &mut copies[column * words..][..words];
                if let [word] = copies {
                    *word |= from.fold(0, |word, from| word | 1_u64.wrapping_shl(from));
                } else {
                    from.for_each(|from| copies[from as usize / 64] |= 1 << (from % 64));
                }
            }
        }
    }
}
