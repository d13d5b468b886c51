//! The Hitmap of an operand: for each vector HIT, MAU or MNU, and its representative.

mod signed;

use crate::config::{McacheConfig, Scope};
use crate::counts::Counts;
use crate::mcache::table::Table;
use crate::mcache::{Isa, KnownSignatures, LookupRun, MNU, Mcache, Outcome, decode};
use crate::peers::Peers;
use crate::pool::{Pool, room};
use crate::repeats::check;
use crate::vectors::Layout;
use rayon::prelude::*;

/// The outcome of every vector of an operand, in the layout's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hitmap {
    layout: Layout,
    /// Four bytes an outcome: see [`decode`].
    codes: Vec<u32>,
    counts: Vec<Counts>,
}

impl Hitmap {
    /// Number of no vector, see [`Hitmap::holders`].
    pub const NONE: u32 = MNU;

    /// Runs the signatures through an MCACHE that is flushed as `scope` says. Scopes are
    /// independent and so run in parallel; the result does not depend on how many do.
    ///
    /// # Panics
    /// If there are not as many signatures as the layout has vectors, or 2^32 or more.
    pub fn new(layout: Layout, signatures: &[u64], config: &McacheConfig, scope: Scope) -> Self {
        Self::with_memory(layout, signatures, config, scope, Vec::new())
    }

    /// [`Hitmap::new`] in memory that another one had, see [`Hitmap::into_memory`]: the system takes its time to give
    /// new memory for many vectors.
    pub fn with_memory(
        layout: Layout,
        signatures: &[u64],
        config: &McacheConfig,
        scope: Scope,
        memory: Vec<u32>,
    ) -> Self {
        Self::with_isa(layout, signatures, config, scope, memory, Isa::best())
    }

    /// [`Hitmap::with_memory`] by given instructions, which must be among the processor's: for tests.
    #[doc(hidden)]
    pub fn with_isa(
        layout: Layout,
        signatures: &[u64],
        config: &McacheConfig,
        scope: Scope,
        memory: Vec<u32>,
        isa: Isa,
    ) -> Self {
        check(layout, signatures);
        assert!(Isa::available().contains(&isa), "{isa:?} is not what this processor has");
        let mut codes = room(memory, layout.vectors());
        let mut counts = vec![Counts::default(); layout.runs()];
        if !codes.is_empty() {
            if config.entries == 0 {
                look_up_unlimited(layout, signatures, scope, isa, &mut codes, &mut counts);
            } else {
                look_up(layout, signatures, config, scope, isa, &mut codes, &mut counts);
            }
        }
        Self { layout, codes, counts }
    }

    pub(crate) fn of_parts(layout: Layout, codes: Vec<u32>, counts: Vec<Counts>) -> Self {
        Self { layout, codes, counts }
    }

    /// Gives its memory up, for another one.
    pub fn into_memory(self) -> Vec<u32> {
        self.codes
    }

    /// How many vectors there are.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The outcome of a vector.
    pub fn outcome(&self, vector: usize) -> Outcome {
        decode(self.codes[vector], vector)
    }

    /// The outcome of each vector.
    pub fn outcomes(&self) -> impl ExactSizeIterator<Item = Outcome> + '_ {
        self.codes.iter().enumerate().map(|(vector, &code)| decode(code, vector))
    }

    /// For each vector the one that holds its signature afterwards: of a HIT the one that inserted it, of
    /// a MAU itself, of an MNU none, [`Hitmap::NONE`].
    pub fn holders(&self) -> &[u32] {
        &self.codes
    }

    /// The vector whose results a vector gets: of a HIT the one that inserted the signature,
    /// otherwise itself.
    pub fn representative(&self, vector: usize) -> usize {
        match self.codes[vector] {
            MNU => vector,
            code => code as usize,
        }
    }

    /// Counts of each run, `[samples][streams]`.
    pub fn counts(&self) -> &[Counts] {
        &self.counts
    }
}

/// Vectors that a thread looks up at a time, about.
const PIECE: usize = 1 << 13;

/// Runs between two flushes.
pub(crate) fn runs_of(scope: Scope, layout: Layout) -> usize {
    match scope {
        Scope::Channel => 1,
        Scope::Sample => layout.streams,
        Scope::Batch => layout.runs(),
    }
}

/// Looks up the runs of each scope in order.
fn look_up(
    layout: Layout,
    signatures: &[u64],
    config: &McacheConfig,
    scope: Scope,
    isa: Isa,
    codes: &mut [u32],
    counts: &mut [Counts],
) {
    let runs = runs_of(scope, layout);
    let streamed = runs > 1 && layout.streams > 1;
    // Few caches, as one may be large, but small blocks, so that no thread waits long for another.
    let caches = Pool::new(|| Mcache::new(config, streamed, isa));
    let scopes = PIECE.div_ceil(runs * layout.positions);
    let blocks = codes.par_chunks_mut(scopes * runs * layout.positions).zip(counts.par_chunks_mut(scopes * runs));
    blocks.enumerate().with_max_len(1).for_each(|(block, (codes, counts))| {
        caches.with(|mcache| {
            let mut run = block * scopes * runs;
            let codes = codes.chunks_mut(runs * layout.positions);
            for (codes, counts) in codes.zip(counts.chunks_mut(runs)) {
                let of_scope = &signatures[run * layout.positions..][..codes.len()];
                for (codes, counts) in codes.chunks_mut(layout.positions).zip(counts) {
                    let (first, stream) = (run * layout.positions, run % layout.streams);
                    let known = KnownSignatures { first: 0, signatures };
                    *counts = mcache.run(LookupRun { known, first: first as u32, stream: stream as u32, codes });
                    run += 1;
                }
                mcache.flush(of_scope);
            }
        });
    });
}

/// Looks up each group of peers by itself: where nothing takes up another's place, they know nothing
/// of each other.
fn look_up_unlimited(
    layout: Layout,
    signatures: &[u64],
    scope: Scope,
    isa: Isa,
    codes: &mut [u32],
    counts: &mut [Counts],
) {
    let peers = Peers::new(layout, scope);
    let mut groups: Vec<Vec<_>> = Vec::new();
    groups.resize_with(peers.groups(), || Vec::with_capacity(peers.samples));
    for (run, of_run) in codes.chunks_mut(layout.positions).zip(counts).enumerate() {
        let (sample, stream) = (run / layout.streams, run % layout.streams);
        groups[sample / peers.samples * layout.streams + stream].push((run, of_run));
    }
    // Few tables, as each takes a while to grow.
    let size = ((peers.samples - 1) * layout.streams + 1) * layout.positions;
    let tables = Pool::new(|| Table::new(size, isa));
    let of_block = PIECE.div_ceil(peers.samples * layout.positions);
    groups.par_chunks_mut(of_block).with_max_len(1).for_each(|groups| {
        tables.with(|table| {
            for group in groups {
                table.begin(group[0].0 * layout.positions);
                for (run, (codes, counts)) in group {
                    let (first, stream) = (*run * layout.positions, *run % layout.streams);
                    let known = KnownSignatures { first: 0, signatures };
                    **counts = table.run(LookupRun { known, first: first as u32, stream: stream as u32, codes });
                }
            }
        });
    });
}
