//! Deals the outcomes of planes to PE sets.

use crate::timing::row_stationary::{Mapping, RowCost, RowCounts, ScopeWork};
use mercury_reuse::{Hitmap, Loops, RunOutcomes, simd_dispatch};
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

/// What the PE sets of one lane do with a run, under each of some caches.
#[derive(Debug)]
pub struct LaneWork {
    strip: usize,
    /// Words of a column's bits; none where nobody waits for others.
    words: usize,
    /// Of each cache the cycles of each column of PEs, and then, by column, a bit for each (and, at the end, for elsewhere)
    /// that it copies from.
    values: Vec<u64>,
}

impl LaneWork {
    fn new(dealer: &Dealer, caches: usize) -> Self {
        let (strip, words) = (dealer.strip, dealer.words());
        Self { strip, words, values: vec![0; caches * strip * (1 + words)] }
    }

    /// Cycles and bits under a cache.
    fn of(&self, cache: usize) -> (&[u64], &[u64]) {
        let length = self.strip * (1 + self.words);
        self.values[cache * length..][..length].split_at(self.strip)
    }

    fn of_mut(&mut self, cache: usize) -> (&mut [u64], &mut [u64]) {
        let length = self.strip * (1 + self.words);
        self.values[cache * length..][..length].split_at_mut(self.strip)
    }
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

    /// Bytes of what a lane does with a run under so many caches.
    pub fn bytes(&self, caches: usize) -> usize {
        size_of::<LaneWork>() + size_of::<u64>() * caches * self.strip * (1 + self.words())
    }

    /// A round: one plane a lane.
    pub(super) fn deal(&self, planes: &[Plane]) -> ScopeWork {
        let lanes: Vec<LaneWork> = planes.iter().map(|plane| self.plane(plane)).collect();
        let mut round = ScopeWork::default();
        self.round(lanes.iter().map(|lanes| (lanes, 0)), &mut round);
        round
    }

    /// A round of what each lane does, under a cache, in memory of another.
    pub(super) fn round<'l>(&self, lanes: impl Iterator<Item = (&'l LaneWork, usize)>, round: &mut ScopeWork) {
        let Self { strip, sets, .. } = *self;
        let ScopeWork { work, reuses } = round;
        work.clear();
        reuses.clear();
        for (lane, (done, cache)) in lanes.enumerate() {
            let (cycles, copies) = done.of(cache);
            work.extend_from_slice(cycles);
            let number = |column: usize| (lane * strip + column) as u32;
            for (column, copies) in copies.chunks(done.words.max(1)).enumerate() {
                for (word, &copies) in copies.iter().enumerate() {
                    let mut left = copies;
                    while left != 0 {
                        let from = 64 * word + left.trailing_zeros() as usize;
                        left &= left - 1;
                        // Not of itself, nor of another scope.
                        if from != column && from < strip {
                            reuses.push((number(column), number(from)));
                        }
                    }
                }
            }
        }
        work.resize(sets, 0);
    }

    fn plane(&self, plane: &Plane) -> LaneWork {
        let mut lanes = LaneWork::new(self, 1);
        let (work, copies) = lanes.of_mut(0);
        simd_dispatch(OfPlane { dealer: self, plane, work, copies });
        lanes
    }

    /// What a lane does with a run under each of so many caches, on each of some mappings.
    ///
    /// # Panics
    /// If their rows are of different lengths.
    pub fn deal_run(dealers: &[Self], outcomes: &RunOutcomes, caches: usize) -> Vec<LaneWork> {
        let mut lanes: Vec<LaneWork> = dealers.iter().map(|dealer| LaneWork::new(dealer, caches)).collect();
        if let Some(Self { row_length, .. }) = dealers.first() {
            assert!(dealers.iter().all(|dealer| dealer.row_length == *row_length), "rows of one plane");
            simd_dispatch(OfRun { dealers, row_length: *row_length, outcomes, caches, lanes: &mut lanes });
        }
        lanes
    }
}

/// The plane of a lane, to be dealt to the columns of its strip.
struct OfPlane<'a> {
    dealer: &'a Dealer,
    plane: &'a Plane<'a>,
    work: &'a mut [u64],
    copies: &'a mut [u64],
}

impl Loops for OfPlane<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "registers are those of the function that it is inlined into")]
    fn run(self) {
        let Self { dealer, plane, work, copies } = self;
        let &Dealer { strip, cost, row_length, ref columns, .. } = dealer;
        let words = dealer.words();
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

/// Vectors that are looked at together.
const TOGETHER: usize = 16;

/// The run of a lane, to be dealt to the columns of its strips under many caches.
struct OfRun<'a, 'o> {
    dealers: &'a [Dealer],
    row_length: usize,
    outcomes: &'a RunOutcomes<'o>,
    caches: usize,
    lanes: &'a mut [LaneWork],
}

impl Loops for OfRun<'_, '_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "registers are those of the function that it is inlined into")]
    fn run(self) {
        let Self { dealers, row_length, outcomes, caches, lanes } = self;
        // Of each vector of a row the caches in which it hits, and a bit for the column that it copies from.
        let mut hits = vec![0; row_length.next_multiple_of(TOGETHER)];
        let mut from = hits.clone();
        // Of each column the caches in which something of it is copied: for strips with too many for a bit each.
        let mut copied = vec![0_u32; dealers.iter().map(|dealer| dealer.strip).max().unwrap_or(0)];
        let mut counts = [0; RunOutcomes::CACHES];
        for (slice, held_by) in outcomes.held_by.iter().enumerate() {
            let first_cache = slice * RunOutcomes::CACHES;
            let counts = &mut counts[..(caches - first_cache).min(RunOutcomes::CACHES)];
            for (row, firsts) in outcomes.firsts.chunks(row_length).enumerate() {
                find_hits(firsts, row * row_length, held_by, &mut hits);
                for (cache, count) in (0..).zip(&mut *counts) {
                    *count = count_hits(&hits, cache);
                }
                for (dealer, lanes) in dealers.iter().zip(&mut *lanes) {
                    let (column, words) = (row % dealer.strip, dealer.words());
                    for (cache, &hit) in (first_cache..).zip(&*counts) {
                        let counts = RowCounts { computed: firsts.len() as u64 - u64::from(hit), hit: hit.into() };
                        lanes.of_mut(cache).0[column] += dealer.cost.row(counts);
                    }
                    if words == 0 {
                        continue;
                    }
                    if dealer.strip <= 32 {
                        find_columns(firsts, &dealer.columns, &mut from);
                        for cache in 0..counts.len() {
                            let copies = lanes.of_mut(first_cache + cache).1;
                            copies[column * words] |= u64::from(of_hits(&hits, &from, cache as u32));
                        }
                        continue;
                    }
                    for (&first, hits) in firsts.iter().zip(&hits) {
                        copied[dealer.columns[first as usize] as usize] |= hits;
                    }
                    for (from, caches) in copied.iter_mut().enumerate().filter(|(_, caches)| **caches != 0) {
                        let caches = std::mem::take(caches);
                        for cache in (0..counts.len()).filter(|cache| caches >> cache & 1 == 1) {
                            lanes.of_mut(first_cache + cache).1[column * words + from / 64] |= 1 << (from % 64);
                        }
                    }
                }
            }
        }
    }
}

/// The caches in which each vector of a row, from place `first` on, hits; none behind the row.
#[inline(always)]
#[expect(clippy::inline_always, reason = "registers are those of the function that it is inlined into")]
fn find_hits(firsts: &[u32], first: usize, held_by: &[u32], hits: &mut [u32]) {
    let (row, behind) = hits.split_at_mut(firsts.len());
    let Some(last) = held_by.len().checked_sub(1) else { return };
    for (place, (&of, hits)) in firsts.iter().zip(row).enumerate() {
        // Never beyond; said so that no check breaks the loop up.
        let held_by = held_by[(of as usize).min(last)];
        *hits = if of == (first as u32).wrapping_add(place as u32) { 0 } else { held_by };
    }
    behind.fill(0);
}

/// A bit for the column of each one's first vector, 32 at most.
#[inline(always)]
#[expect(clippy::inline_always, reason = "registers are those of the function that it is inlined into")]
fn find_columns(firsts: &[u32], columns: &[u32], from: &mut [u32]) {
    let Some(last) = columns.len().checked_sub(1) else { return };
    for (&first, from) in firsts.iter().zip(from) {
        *from = 1_u32.wrapping_shl(columns[(first as usize).min(last)]);
    }
}

/// How many vectors of a row hit in a cache.
#[inline(always)]
#[expect(clippy::inline_always, reason = "registers are those of the function that it is inlined into")]
fn count_hits(hits: &[u32], cache: u32) -> u32 {
    hits.iter().map(|hits| hits >> cache & 1).sum()
}

/// What is in `from` of any of a row's vectors that hit in a cache.
#[inline(always)]
#[expect(clippy::inline_always, reason = "registers are those of the function that it is inlined into")]
fn of_hits(hits: &[u32], from: &[u32], cache: u32) -> u32 {
    hits.iter().zip(from).fold(0, |bits, (hits, from)| bits | from & (hits >> cache & 1).wrapping_neg())
}
