//! Deals the outcomes of planes to PE sets.

use crate::timing::row_stationary::{Mapping, RowCost, RowCounts, ScopeWork};
use mercury_reuse::{Hitmap, Loops, widest};
use std::borrow::Cow;

/// The vectors of a scope that one lane works on, in order.
pub struct Plane<'a> {
    /// Number of the first vector.
    first: u32,
    /// Of each vector the number of the one that holds its signature; see [`Hitmap::holders`].
    holders: Cow<'a, [u32]>,
}

impl<'a> Plane<'a> {
    /// Runs of so many vectors, of which these are the first, ascending.
    pub fn new(hitmap: &'a Hitmap, firsts: impl IntoIterator<Item = usize>, length: usize) -> Self {
        let firsts: Vec<usize> = firsts.into_iter().collect();
        let run = |first: usize| &hitmap.holders()[first..first + length];
        if let [first] = *firsts {
            return Self { first: first as u32, holders: run(first).into() };
        }
        // Numbered anew, without gaps; what an earlier scope holds, and nobody here, is far beyond.
        let beyond = Hitmap::NONE - 1;
        let place = |holder: u32| {
            let at = firsts.partition_point(|&first| first <= holder as usize);
            let first = at.checked_sub(1).map(|run| (run, firsts[run]));
            let within = first.filter(|(_, first)| holder as usize - first < length);
            within.map_or(beyond, |(run, first)| (run * length + holder as usize - first) as u32)
        };
        let renumber = |&holder: &u32| if holder == Hitmap::NONE { holder } else { place(holder) };
        Self { first: 0, holders: firsts.iter().flat_map(|&first| run(first)).map(renumber).collect() }
    }

    /// How many there are.
    pub fn vectors(&self) -> usize {
        self.holders.len()
    }
}

/// Deals planes to the PE sets of a mapping.
pub struct Dealer<'a> {
    mapping: &'a Mapping,
    cost: RowCost,
    waits: bool,
    row_length: usize,
    /// The column of PEs, of a strip's, that takes the vector at each place of a plane; at the end one more
    /// for vectors that are not of the plane.
    columns: Vec<u32>,
}

impl<'a> Dealer<'a> {
    /// For planes of rows of this length and at most so many places. `waits` says whether a HIT waits for
    /// the set that computes its result; additions of gradients wait for nobody.
    pub fn new(mapping: &'a Mapping, hit_cycles: u64, waits: bool, row_length: usize, places: usize) -> Self {
        let strip = mapping.choice().strip as usize;
        let mut columns = Vec::with_capacity(places + 1);
        for row in 0..places.div_ceil(row_length) {
            columns.resize(places.min((row + 1) * row_length), (row % strip) as u32);
        }
        columns.push(strip as u32);
        Self { mapping, cost: mapping.row_cost(hit_cycles), waits, row_length, columns }
    }

    /// A round: one plane a lane.
    pub fn deal(&self, planes: &[Plane]) -> ScopeWork {
        let strip = self.mapping.choice().strip as usize;
        let mut work = vec![0; self.mapping.sets() as usize];
        let mut reuses = Vec::new();
        // By column of the lane's strip, a bit for each column (and, at the end, for elsewhere) that it copies from.
        let words = strip / 64 + 1;
        let mut copies = vec![0; strip * words];
        for (lane, plane) in planes.iter().enumerate() {
            copies.fill(0);
            let work = &mut work[lane * strip..][..strip];
            widest(Lane { dealer: self, plane, work, copies: &mut copies });
            for (set, copies) in copies.chunks(words).enumerate() {
                let is_copied = |from: &usize| copies[from / 64] >> (from % 64) & 1 == 1;
                let others = (0..strip).filter(|from| *from != set && is_copied(from));
                reuses.extend(others.map(|from| ((lane * strip + set) as u32, (lane * strip + from) as u32)));
            }
        }
        ScopeWork { work, reuses }
    }
}

/// The plane of a lane, to be dealt to the columns of its strip.
struct Lane<'a> {
    dealer: &'a Dealer<'a>,
    plane: &'a Plane<'a>,
    work: &'a mut [u64],
    copies: &'a mut [u64],
}

impl Loops for Lane<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "registers are those of the function that it is inlined into")]
    fn run(self) {
        let Self { dealer: &Dealer { cost, waits, row_length, ref columns, .. }, plane, work, copies } = self;
        let (strip, words) = (work.len(), copies.len() / work.len());
        let (columns, outside) = (columns.as_slice(), columns.len() - 1);
        for (row, holders) in plane.holders.chunks(row_length).enumerate() {
            let column = row % strip;
            let first = plane.first + (row * row_length) as u32;
            let is_hit = |(place, &holder): (usize, &u32)| {
                let (own, none) = (first.wrapping_add(place as u32), Hitmap::NONE);
                u32::from(holder != own) & u32::from(holder != none)
            };
            let hit = u64::from(holders.iter().enumerate().map(is_hit).sum::<u32>());
            work[column] += cost.row(RowCounts { computed: holders.len() as u64 - hit, hit });
            // What an earlier scope computed is there already. A MAU copies from its own column: nothing.
            if waits && strip > 1 {
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
