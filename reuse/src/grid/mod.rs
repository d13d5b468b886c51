//! Counts of many configurations from one sort of the signatures, with no cache pass for each.

mod stream;
mod walk;

use self::stream::Stream;
use self::walk::{Arrival, Size, Walk};
use crate::config::{MAX_BITS, Scope, SetIndex};
use crate::hitmap::{Counts, runs_of};
use crate::peers::Peers;
use crate::repeats::check;
use crate::vectors::Layout;
use rayon::prelude::*;

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
    check(layout, signatures);
    let plan = Plan::new(bits, caches);
    let mut result = vec![vec![Counts::default(); layout.runs()]; bits.len() * caches.len()];
    if layout.vectors() == 0 {
        return result;
    }
    let runs = runs_of(scope, layout);
    let scopes = layout.runs() / runs;
    // Blocks of scopes, few of them: each has a slice of every combination's counts.
    let scopes_per_block = scopes.div_ceil(8 * rayon::current_num_threads());
    let mut blocks: Vec<Vec<&mut [Counts]>> = Vec::new();
    blocks.resize_with(scopes.div_ceil(scopes_per_block), Vec::new);
    for counts in &mut result {
        for (block, counts) in blocks.iter_mut().zip(counts.chunks_mut(scopes_per_block * runs)) {
            block.push(counts);
        }
    }
    let peers = Peers::new(layout, scope);
    blocks.into_par_iter().enumerate().for_each(|(block, mut counts)| {
        let mut walks: Vec<Walk> = plan.sizes.iter().map(|size| Walk::new(size, runs)).collect();
        for start in (0..counts.first().map_or(0, |counts| counts.len())).step_by(runs) {
            let first_run = block * scopes_per_block * runs + start;
            let mut scope = ScopeArrivals::new(layout, peers, signatures, first_run, runs, plan.longest());
            for level in &plan.levels {
                scope.shorten(level.bits);
                scope.walk(signatures, index, &mut walks);
                for walk in &walks {
                    walk.write(layout.positions, |cache, run, value| {
                        counts[level.at * caches.len() + cache][start + run] = value;
                    });
                }
            }
        }
    });
    result
}

/// Arrivals, or vectors, from which on work is split over threads.
const IN_ONE_GO: usize = 1 << 15;

/// What is asked, in the order in which it is answered.
struct Plan {
    /// From the longest.
    levels: Vec<Level>,
    sizes: Vec<Size>,
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
        Self { levels, sizes }
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
    fn new(layout: Layout, peers: Peers, signatures: &[u64], first_run: usize, runs: usize, bits: u32) -> Self {
        let streams = runs.min(layout.streams);
        // Under `batch` the groups of peers are the streams, otherwise the runs.
        let new = |stream| Stream::new(peers, first_run + stream, signatures, bits);
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
                    Arrival { key, run, group, vectors }
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

    /// What a cache chooses the set by.
    fn key(&self, signature: u64, index: SetIndex) -> u64 {
        index.key(signature & (u64::MAX >> (MAX_BITS - self.bits)))
    }
}
