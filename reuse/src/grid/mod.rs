//! Counts and outcomes of many configurations from one sort of the signatures, with no cache pass for each.

mod outcomes;
mod stream;
mod walk;

pub use self::outcomes::RunOutcomes;
use self::stream::Stream;
use self::walk::{Arrival, Size, Walk};
use crate::config::{MAX_BITS, Scope, SetIndex};
use crate::counts::Counts;
use crate::hitmap::runs_of;
use crate::peers::Peers;
use crate::repeats::check;
use crate::vectors::Layout;
use rayon::prelude::*;
use std::ops::Range;

/// Counts of each run for every combination of signature length and cache, without replacement:
/// what [`Hitmap::counts`](crate::Hitmap::counts) gives for each, exactly.
///
/// `signatures` are in the layout's order, as long as the longest length at least; `caches` are pairs of entries and ways. The
/// result is `[bits.len() * caches.len()][samples * streams]`: of the lengths in their order, under
/// each the caches in theirs.
///
/// Signatures are sorted once by scope and stream; equal ones of b bits are neighbours, so those of
/// the next shorter length are found by joining neighbours. Of each group of equal signatures the
/// first arrival alone reaches the cache. As nothing is replaced it is resident if fewer than
/// `ways` first arrivals reached its set before it, and then its group hits, otherwise its group is
/// MNU: one walk over first arrivals for each number of sets answers all numbers of ways, and ends
/// where every set is full. O(n log n), and for each length and number of sets at most as many
/// steps as there are distinct signatures. Memory beside the result: about 70
/// bytes a vector of the scopes in hand, one a thread.
///
/// # Panics
/// If there are not as many signatures as the layout has vectors, or 2^32 or more; if a length is
/// not within 1 to 64; if a cache's entries are no positive multiple of its ways.
pub fn counts_grid(
    layout: Layout,
    signatures: &[u64],
    bits: &[u32],
    caches: &[(u32, u32)],
    index: SetIndex,
    scope: Scope,
) -> Vec<Vec<Counts>> {
    let none = None::<&fn(&RunOutcomes)>;
    let request = Request { layout, signatures, index, scope };
    request.evaluate(&Plan::new(bits, caches), none).0
}

/// [`counts_grid`], and beside it what `each` makes of every run's outcomes, for signatures of each length under all caches at
/// once: `[bits.len()][samples * streams]`. It is called from several threads, in no order.
///
/// O(vectors) more for each length, and O(first arrivals that are held) for each length, number of sets and 32 caches. Memory
/// beside the result: 8 bytes more a vector of the scopes in hand, about one a thread, and 4 for each 32 caches; 8 for each
/// first arrival that is held and number of sets.
///
/// ```
/// use mercury_reuse::config::{Scope, SetIndex};
/// use mercury_reuse::{Layout, RunOutcomes, outcomes_grid};
/// let layout = Layout { samples: 1, streams: 1, positions: 4 };
/// let hits = |outcomes: &RunOutcomes| {
///     let is_hit = |cache: usize, place: usize| outcomes.holds(cache, place) && outcomes.firsts[place] as usize != place;
///     [0, 1].map(|cache| (0..4).map(|place| is_hit(cache, place)).collect::<Vec<_>>())
/// };
/// // Caches of one entry, and of two in one set.
/// let caches = [(1, 1), (2, 2)];
/// let (counts, found) =
///     outcomes_grid(layout, &[7, 5, 5, 7], &[3], &caches, SetIndex::Mixed, Scope::Channel, hits);
/// assert_eq!(found[0][0], [[false, false, false, true], [false, false, true, true]]);
/// assert_eq!((counts[0][0].hit, counts[1][0].hit), (1, 2));
/// ```
///
/// # Panics
/// As [`counts_grid`]; if the scope is `batch` and there are several samples, whose runs share signatures.
pub fn outcomes_grid<T: Send>(
    layout: Layout,
    signatures: &[u64],
    bits: &[u32],
    caches: &[(u32, u32)],
    index: SetIndex,
    scope: Scope,
    each: impl Fn(&RunOutcomes) -> T + Sync,
) -> (Vec<Vec<Counts>>, Vec<Vec<T>>) {
    assert!(scope != Scope::Batch || layout.samples <= 1, "runs whose signatures are of others cannot be told alone");
    Request { layout, signatures, index, scope }.evaluate(&Plan::new(bits, caches), Some(&each))
}

/// Vectors, their signatures and what is the same for all caches.
struct Request<'a> {
    layout: Layout,
    signatures: &'a [u64],
    index: SetIndex,
    scope: Scope,
}

/// The part of the results that a block of scopes has.
struct Block<'a, T> {
    /// By length and cache.
    counts: Vec<&'a mut [Counts]>,
    /// What was made of outcomes, by length, where that is asked for.
    found: Vec<&'a mut [Option<T>]>,
}

impl Request<'_> {
    /// Counts by length and cache, and what `each` makes of outcomes by length.
    fn evaluate<T: Send, F: Fn(&RunOutcomes) -> T + Sync>(
        &self,
        plan: &Plan,
        each: Option<&F>,
    ) -> (Vec<Vec<Counts>>, Vec<Vec<T>>) {
        let Self { layout, signatures, scope, .. } = *self;
        check(layout, signatures);
        let (lengths, caches) = (plan.levels.len(), plan.caches);
        let mut counts = vec![vec![Counts::default(); layout.runs()]; lengths * caches];
        let mut found: Vec<Vec<Option<T>>> = Vec::new();
        if each.is_some() {
            found.resize_with(lengths, || std::iter::repeat_with(|| None).take(layout.runs()).collect());
        }
        let runs = runs_of(scope, layout).max(1);
        let scopes = layout.runs() / runs;
        // Blocks of scopes, few of them: each has a slice of every combination's counts.
        let runs_of_block = scopes.div_ceil(8 * rayon::current_num_threads()).max(1) * runs;
        let mut blocks: Vec<Block<T>> = Vec::new();
        blocks.resize_with(layout.runs().div_ceil(runs_of_block), || Block { counts: Vec::new(), found: Vec::new() });
        for counts in &mut counts {
            for (block, counts) in blocks.iter_mut().zip(counts.chunks_mut(runs_of_block)) {
                block.counts.push(counts);
            }
        }
        for found in &mut found {
            for (block, found) in blocks.iter_mut().zip(found.chunks_mut(runs_of_block)) {
                block.found.push(found);
            }
        }
        blocks.into_par_iter().enumerate().for_each(|(number, mut block)| {
            let first = number * runs_of_block;
            let in_block = runs_of_block.min(layout.runs() - first);
            let held = each.map(|_| plan.caches);
            let mut walks: Vec<Walk> = plan.sizes.iter().map(|size| Walk::new(size, runs, held)).collect();
            for start in (0..in_block).step_by(runs) {
                self.add_scope(plan, each, (first, start..start + runs), &mut walks, &mut block);
            }
        });
        let found = found.into_iter().map(|runs| runs.into_iter().map(|run| run.expect("of every run")).collect());
        (counts, found.collect())
    }

    /// Evaluates the scope of these runs, which are counted from the block's first run on.
    fn add_scope<T: Send, F: Fn(&RunOutcomes) -> T + Sync>(
        &self,
        plan: &Plan,
        each: Option<&F>,
        (first_run, runs): (usize, Range<usize>),
        walks: &mut [Walk],
        block: &mut Block<T>,
    ) {
        let Self { layout, signatures, index, scope } = *self;
        let peers = Peers::new(layout, scope);
        let (start, longest) = (first_run + runs.start, plan.longest());
        let mut arrivals = ScopeArrivals::new(peers, signatures, start, runs.len(), longest, each.is_some());
        for level in &plan.levels {
            arrivals.shorten(level.bits);
            arrivals.walk(signatures, index, walks);
            for walk in &*walks {
                walk.write(layout.positions, |cache, run, value| {
                    block.counts[level.at * plan.caches + cache][runs.start + run] = value;
                });
            }
            if let Some(each) = each {
                let found = &mut block.found[level.at][runs.clone()];
                arrivals.outcomes(plan, walks, found, |stream, firsts, held_by| {
                    each(&RunOutcomes { length: level.at, run: start + stream, firsts, held_by })
                });
            }
        }
    }
}

/// Arrivals, or vectors, from which on work is split over threads.
const IN_ONE_GO: usize = 1 << 15;

/// What is asked, in the order in which it is answered.
struct Plan {
    /// From the longest.
    levels: Vec<Level>,
    sizes: Vec<Size>,
    /// Caches in all.
    caches: usize,
}

struct Level {
    bits: u32,
    /// Place in the caller's list.
    at: usize,
}

impl Plan {
    fn new(bits: &[u32], caches: &[(u32, u32)]) -> Self {
        assert!(bits.iter().all(|bits| (1..=MAX_BITS).contains(bits)), "signatures have 1 to {MAX_BITS} bits");
        let mut levels: Vec<Level> = bits.iter().enumerate().map(|(at, &bits)| Level { bits, at }).collect();
        levels.sort_by_key(|level| std::cmp::Reverse(level.bits));
        let mut sizes: Vec<Size> = Vec::new();
        for (at, &(entries, ways)) in caches.iter().enumerate() {
            assert!(ways > 0 && entries > 0 && entries % ways == 0, "{entries} entries in {ways} ways");
            let sets = u64::from(entries / ways);
            match sizes.iter_mut().find(|size| size.sets == sets) {
                Some(size) => size.ways.push((ways, at)),
                None => sizes.push(Size { sets, ways: vec![(ways, at)] }),
            }
        }
        for size in &mut sizes {
            size.ways.sort_unstable();
        }
        Self { levels, sizes, caches: caches.len() }
    }

    fn longest(&self) -> u32 {
        self.levels.first().map_or(MAX_BITS, |level| level.bits)
    }
}

/// All first arrivals of one scope.
struct ScopeArrivals {
    peers: Peers,
    /// Length of the signatures that count as equal.
    bits: u32,
    /// Streams of the layout that the scope holds.
    streams: Vec<Stream>,
}

impl ScopeArrivals {
    fn new(peers: Peers, signatures: &[u64], first_run: usize, runs: usize, bits: u32, keeps_firsts: bool) -> Self {
        let streams = runs / peers.samples;
        // Under `batch` the groups of peers are the streams, otherwise the runs.
        let new = |stream| Stream::new(peers, first_run + stream, signatures, bits, keeps_firsts);
        let least = if streams * peers.members() < IN_ONE_GO { usize::MAX } else { 1 };
        let streams = (0..streams).into_par_iter().with_min_len(least).map(new).collect();
        Self { peers, bits, streams }
    }

    fn shorten(&mut self, bits: u32) {
        if bits == self.bits {
            return;
        }
        self.bits = bits;
        let arrivals: usize = self.streams.iter().map(|stream| stream.arrivals.len()).sum();
        let least = if arrivals < IN_ONE_GO { usize::MAX } else { 1 };
        self.streams.par_iter_mut().with_min_len(least).for_each(|stream| stream.shorten(bits));
    }

    /// Leads the first arrivals past all caches in order, sample by sample and in it stream by
    /// stream, until nothing more finds room.
    fn walk(&self, signatures: &[u64], index: SetIndex, walks: &mut [Walk]) {
        walks.iter_mut().for_each(Walk::flush);
        let positions = self.peers.positions();
        if positions == 0 {
            return;
        }
        let mut next = vec![0; self.streams.len()];
        let mut arrivals = Vec::new();
        for slot in 0..self.peers.samples {
            for (number, (stream, next)) in self.streams.iter().zip(&mut next).enumerate() {
                let first = slot * positions;
                let of_run = &signatures[self.peers.vector(stream.peers, first)..][..positions];
                let rest = &stream.arrivals[*next..];
                let members = &rest[..rest.partition_point(|&member| (member as usize) < first + positions)];
                *next += members.len();
                let run = (slot * self.streams.len() + number) as u32;
                arrivals.extend(members.iter().map(|&member| {
                    let key = self.key(of_run[member as usize - first], index);
                    let group = stream.group_of[member as usize];
                    let vectors = if self.peers.samples == 1 { stream.parts(group)[0].vectors } else { 0 };
                    Arrival { key, run, group, vectors, place: (number * self.peers.members()) as u32 + member }
                }));
                if arrivals.len() >= IN_ONE_GO {
                    self.pass(&mut arrivals, walks);
                    if walks.iter().all(|walk| walk.room == 0) {
                        return;
                    }
                }
            }
        }
        self.pass(&mut arrivals, walks);
    }

    fn pass(&self, arrivals: &mut Vec<Arrival>, walks: &mut [Walk]) {
        // A walk may take less time than starting it on another thread.
        let least = if arrivals.len() < IN_ONE_GO { usize::MAX } else { 1 };
        walks.par_iter_mut().with_min_len(least).for_each(|walk| walk.run(&self.streams, arrivals));
        arrivals.clear();
    }

    /// What `of_run` makes of each run: of its number in the scope, the first member with each one's signature and the
    /// caches that hold that one.
    fn outcomes<T: Send>(
        &self,
        plan: &Plan,
        walks: &[Walk],
        found: &mut [Option<T>],
        of_run: impl Fn(usize, &[u32], &[Vec<u32>]) -> T + Sync,
    ) {
        let positions = self.peers.positions();
        let none = || vec![vec![0; positions]; plan.caches.div_ceil(RunOutcomes::CACHES)];
        let least = if found.len() * positions < IN_ONE_GO { usize::MAX } else { 1 };
        let runs = found.par_iter_mut().zip(&self.streams).enumerate().with_min_len(least);
        runs.for_each_init(none, |held_by, (number, (found, stream))| {
            for held_by in &mut *held_by {
                stream.arrivals.iter().for_each(|&member| held_by[member as usize] = 0);
            }
            for walk in walks {
                walk.hold(number * positions..(number + 1) * positions, held_by);
            }
            *found = Some(of_run(number, &stream.firsts, held_by));
        });
    }

    /// What a cache chooses the set by.
    fn key(&self, signature: u64, index: SetIndex) -> u64 {
        index.key(signature & (u64::MAX >> (MAX_BITS - self.bits)))
    }
}
