//! Deals the outcomes of planes to PE sets.

use crate::timing::row_stationary::{DealingRule, Fraction, Mapping, RowCost, RowCounts, ScopeWork};
use crate::timing::rows::RowArray;
use mercury_reuse::{Loops, Outcomes, simd_dispatch};
use std::borrow::Cow;

/// What one lane works on: a channel of the vectors of a scope, in order.
pub struct Plane<'a> {
    /// Lanes of the same round that hold earlier channels of the same vectors.
    lanes_before: usize,
    /// Whether this is the vectors' last channel, which takes the results of HITs for all channels.
    takes_hits: bool,
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
            return Self { lanes_before: 0, takes_hits: true, first: first as u32, holders: run(first) };
        }
        // Vectors are numbered anew, without gaps. A holder in an earlier scope gets a number beyond them all.
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
        Self { lanes_before: 0, takes_hits: true, first: 0, holders: holders.into() }
    }

    /// The same as a channel of several: the number of lanes in its round that have earlier channels of the same
    /// vectors, and whether it is their last channel.
    #[must_use]
    pub fn with_channel(self, lanes_before: usize, is_last: bool) -> Self {
        Self { lanes_before, takes_hits: is_last, ..self }
    }

    /// How many there are.
    pub fn vectors(&self) -> usize {
        self.holders.len()
    }
}

/// Deals planes to the PE sets of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dealer {
    rule: DealingRule,
    /// Output rows at once, and so columns of PEs of a lane.
    strip: usize,
    /// PE sets in all.
    sets: usize,
    cost: RowCost,
    waits: bool,
    row_length: usize,
    /// The columns of PEs if rows are dealt statically.
    columns: Columns,
}

/// The column of PEs, of a strip's, that takes the vector at each place of a plane; at the end one more for vectors that
/// are not of the plane.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Columns(Vec<u32>);

impl Columns {
    /// From the columns of rows, of planes of at most so many places.
    fn new(rows: impl Iterator<Item = u32>, row_length: usize, places: usize, strip: usize) -> Self {
        let mut columns = Vec::with_capacity(places + 1);
        for column in rows.take(places.div_ceil(row_length)) {
            columns.resize(places.min(columns.len() + row_length), column);
        }
        columns.push(strip as u32);
        Self(columns)
    }
}

/// A round: what the PE sets do while one plane is in each lane.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Work of the sets.
    pub work: ScopeWork,
    /// HITs that take results.
    pub hits: u64,
    /// Vectors, by channel.
    pub vectors: u64,
}

/// The work of the PE sets of one lane.
#[derive(Debug)]
struct LaneWork<'a> {
    /// Cycles of each column of PEs.
    cycles: Vec<u64>,
    columns: Cow<'a, Columns>,
    hits: u64,
}

impl Dealer {
    /// For planes of rows of this length and at most so many places. `waits` says whether a HIT waits for
    /// the set that computes its result; additions of gradients wait for nobody.
    pub(super) fn new(mapping: &Mapping, array: &RowArray, waits: bool, row_length: usize, places: usize) -> Self {
        let strip = mapping.choice().strip as usize;
        let rows = (0..strip as u32).cycle();
        Self {
            rule: array.dealing,
            strip,
            sets: mapping.sets() as usize,
            cost: mapping.row_cost(array.hit_cycles),
            waits,
            row_length,
            columns: Columns::new(rows, row_length, places, strip),
        }
    }

    /// A round: one plane a lane.
    pub(super) fn deal(&self, planes: &[Plane]) -> Round {
        let lanes: Vec<LaneWork> = planes.iter().map(|plane| self.deal_plane(plane)).collect();
        let mut round = Round::default();
        for (lane, (plane, work)) in planes.iter().zip(&lanes).enumerate() {
            round.work.work.extend(&work.cycles);
            round.hits += work.hits;
            round.vectors += plane.vectors() as u64;
            if self.waits && plane.takes_hits {
                let earlier = lanes.iter().enumerate().take(lane + 1).skip(lane - plane.lanes_before);
                for source in earlier {
                    self.add_reuses(&mut round.work, plane, (lane, work), source);
                }
            }
        }
        round.work.work.resize(self.sets, 0);
        round
    }

    /// Adds the reuses of results by a lane, which has a number, from another, or from itself.
    fn add_reuses(
        &self,
        round: &mut ScopeWork,
        plane: &Plane,
        (lane, own): (usize, &LaneWork),
        (source, from): (usize, &LaneWork),
    ) {
        let strip = self.strip;
        // A set has its own results.
        if lane == source && strip == 1 {
            return;
        }
        let words = strip / 64 + 1;
        let mut copies = vec![0; strip * words];
        let [own, from] = [own, from].map(|work| work.columns.0.as_slice());
        simd_dispatch(CopyLoops { row_length: self.row_length, words, plane, own, from, copies: &mut copies });
        let number = |lane: usize, column: usize| (lane * strip + column) as u32;
        for (column, copies) in copies.chunks(words).enumerate() {
            // Results of the set itself, or of another scope, are there already.
            let sources = set_bits(copies).filter(|&from| from < strip && (lane, column) != (source, from));
            round.reuses.extend(sources.map(|from| (number(lane, column), number(source, from))));
        }
    }

    fn deal_plane(&self, plane: &Plane) -> LaneWork<'_> {
        let mut hits = Vec::with_capacity(plane.vectors().div_ceil(self.row_length));
        simd_dispatch(CountLoops { row_length: self.row_length, plane, hits: &mut hits });
        let cost = if plane.takes_hits { self.cost } else { RowCost { hit: Fraction::new(0, 1), ..self.cost } };
        let lengths = plane.holders.chunks(self.row_length).map(<[u32]>::len);
        let row = |(length, &hit): (usize, &u32)| {
            cost.row(RowCounts { computed: length as u64 - u64::from(hit), hit: hit.into() })
        };
        let rows = lengths.zip(&hits).map(row);
        let mut cycles = vec![0; self.strip];
        let columns = match self.rule {
            DealingRule::Static => {
                for (number, row) in rows.enumerate() {
                    cycles[number % self.strip] += row;
                }
                Cow::Borrowed(&self.columns)
            }
            DealingRule::Dynamic => {
                let columns = list_schedule(rows, &mut cycles);
                Cow::Owned(Columns::new(columns.into_iter(), self.row_length, plane.vectors(), self.strip))
            }
        };
        let hits = if plane.takes_hits { hits.iter().map(|&hits| u64::from(hits)).sum() } else { 0 };
        LaneWork { cycles, columns, hits }
    }
}

/// Deals rows in turn to the column that is free first, to that with the fewest rows among several, to the first of
/// these. Adds to the cycles of the columns, and returns the column of each row.
fn list_schedule(rows: impl Iterator<Item = u64>, cycles: &mut [u64]) -> Vec<u32> {
    let mut count = vec![0_u32; cycles.len()];
    let mut columns = Vec::with_capacity(rows.size_hint().0);
    for row in rows {
        let free = (0..cycles.len()).min_by_key(|&column| (cycles[column], count[column]));
        let free = free.expect("a strip has columns");
        cycles[free] += row;
        count[free] += 1;
        columns.push(free as u32);
    }
    columns
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

/// Counts the HITs of each row of a plane.
struct CountLoops<'a> {
    row_length: usize,
    plane: &'a Plane<'a>,
    hits: &'a mut Vec<u32>,
}

impl Loops for CountLoops<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "registers are those of the function that it is inlined into")]
    fn run<const FUSED: bool>(self) {
        let Self { row_length, plane, hits } = self;
        for (row, holders) in plane.holders.chunks(row_length).enumerate() {
            let first = plane.first + (row * row_length) as u32;
            let is_hit = |(place, &holder): (usize, &u32)| {
                let (own, none) = (first.wrapping_add(place as u32), Outcomes::NONE);
                u32::from(holder != own) & u32::from(holder != none)
            };
            hits.push(holders.iter().enumerate().map(is_hit).sum());
        }
    }
}

/// Finds the columns of a lane from which the columns of a plane's lane copy results.
struct CopyLoops<'a> {
    row_length: usize,
    /// Words of bits for each column.
    words: usize,
    plane: &'a Plane<'a>,
    /// By place the column that takes a vector, and the column that computes it.
    own: &'a [u32],
    from: &'a [u32],
    /// By column, a bit for each column that it copies results from, and at the end one for vectors elsewhere.
    copies: &'a mut [u64],
}

impl Loops for CopyLoops<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "registers are those of the function that it is inlined into")]
    fn run<const FUSED: bool>(self) {
        let Self { row_length, words, plane, own, from, copies } = self;
        let outside = from.len() - 1;
        for (row, holders) in plane.holders.chunks(row_length).enumerate() {
            let column = own[row * row_length] as usize;
            let first = plane.first + (row * row_length) as u32;
            let source = |(place, &holder): (usize, &u32)| {
                let is_own = holder == first.wrapping_add(place as u32);
                let place = (holder.wrapping_sub(plane.first) as usize).min(outside);
                from[if is_own { outside } else { place }]
            };
            let from = holders.iter().enumerate().map(source);
            let copies = &mut copies[column * words..][..words];
            if let [word] = copies {
                *word |= from.fold(0, |word, from| word | 1_u64.wrapping_shl(from));
            } else {
                from.for_each(|from| copies[from as usize / 64] |= 1 << (from % 64));
            }
        }
    }
}
