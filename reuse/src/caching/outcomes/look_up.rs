//! Look-ups of signatures, scope by scope.

use super::Outcomes;
use crate::caching::counts::Counts;
use crate::caching::mcache::table::Table;
use crate::caching::mcache::{Isa, KnownSignatures, LookupRun, Mcache};
use crate::caching::pool::Pool;
use crate::config::{McacheConfig, Scope};
use crate::vectors::Layout;
use crate::vectors::peers::Peers;
use rayon::prelude::*;

impl Outcomes {
    /// Looks signatures up in an MCACHE that is flushed as `scope` says. Scopes are independent and looked up in
    /// parallel; the result does not depend on the number of threads.
    ///
    /// # Panics
    /// If there are not as many signatures as the layout has vectors, or 2^32 or more.
    pub fn look_up(layout: Layout, signatures: &[u64], config: &McacheConfig, scope: Scope) -> Self {
        Self::look_up_with(layout, signatures, config, scope, Isa::best())
    }

    /// [`Outcomes::look_up`] by given instructions, which must be among the processor's: for tests.
    #[doc(hidden)]
    pub fn look_up_with(layout: Layout, signatures: &[u64], config: &McacheConfig, scope: Scope, isa: Isa) -> Self {
        layout.check(signatures);
        assert!(Isa::available().contains(&isa), "{isa:?} is not what this processor has");
        let mut codes = vec![0; layout.vectors()];
        let mut counts = vec![Counts::default(); layout.runs()];
        if !codes.is_empty() {
            if config.entries == 0 {
                look_up_unlimited(layout, signatures, scope, isa, &mut codes, &mut counts);
            } else {
                look_up(layout, signatures, config, scope, isa, &mut codes, &mut counts);
            }
        }
        Self::new(layout, codes, counts)
    }
}

/// Vectors that a thread looks up at a time, about.
pub(super) const PIECE: usize = 1 << 13;

/// Runs between two flushes.
pub(super) fn runs_of_scope(scope: Scope, layout: Layout) -> usize {
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
    let runs = runs_of_scope(scope, layout);
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
                let scope_signatures = &signatures[run * layout.positions..][..codes.len()];
                for (codes, counts) in codes.chunks_mut(layout.positions).zip(counts) {
                    let (first, stream) = (run * layout.positions, run % layout.streams);
                    let known = KnownSignatures { first: 0, signatures };
                    *counts = mcache.run(LookupRun { known, first: first as u32, stream: stream as u32, codes });
                    run += 1;
                }
                mcache.flush(scope_signatures);
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
    for (run, run_slices) in codes.chunks_mut(layout.positions).zip(counts).enumerate() {
        let (sample, stream) = (run / layout.streams, run % layout.streams);
        groups[sample / peers.samples * layout.streams + stream].push((run, run_slices));
    }
    // Few tables, as each takes a while to grow.
    let size = ((peers.samples - 1) * layout.streams + 1) * layout.positions;
    let tables = Pool::new(|| Table::new(size, isa));
    let block = PIECE.div_ceil(peers.samples * layout.positions);
    groups.par_chunks_mut(block).with_max_len(1).for_each(|groups| {
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
