//! Vectors signed and looked up in one go.

use super::{Counts, Hitmap, PIECE};
use crate::config::{McacheConfig, Rpq, Scope};
use crate::kernel::Kernel;
use crate::mcache::table::Table;
use crate::mcache::{Isa, Known, Mcache, Run};
use crate::pool::Pool;
use crate::signatures::{OfStrip, Signatures, signatures_with};
use crate::vectors::VectorView;
use rayon::prelude::*;

/// Blocks for each thread, from which on none waits long for another at the end.
const BLOCKS: usize = 4;

impl Hitmap {
    /// [`Hitmap::new`] of a view's vectors, whose signatures nobody else wants, in `memory` as
    /// [`Hitmap::with_memory`].
    ///
    /// Where the cache is flushed after each channel, a thread signs a few channels, looks them up and forgets their
    /// signatures, which so never leave its core. The outcomes are the same.
    ///
    /// # Panics
    /// If there are 2^32 vectors or more.
    pub fn of(view: &VectorView, rpq: &Rpq, config: &McacheConfig, scope: Scope, memory: Vec<u32>) -> Self {
        let (layout, kernel) = (view.layout(), Kernel::best());
        assert!(u32::try_from(layout.vectors()).is_ok(), "fewer than 2^32 vectors");
        let signatures = Signatures::new(kernel, view, rpq);
        let runs = PIECE.div_ceil(layout.positions.max(1));
        let are_enough = layout.runs() >= BLOCKS * runs * rayon::current_num_threads();
        if scope != Scope::Channel || !signatures.has_strips() || !are_enough {
            let mut found = vec![0; layout.vectors()];
            signatures_with(kernel, view, rpq, &mut found);
            return Self::with_memory(layout, &found, config, scope, memory);
        }
        let mut codes = memory;
        codes.resize(layout.vectors(), 0);
        let mut counts = vec![Counts::default(); layout.runs()];
        let threads = Pool::new(|| Thread::new(config, layout.positions));
        let blocks = codes.par_chunks_mut(runs * layout.positions).zip(counts.par_chunks_mut(runs));
        blocks.enumerate().with_max_len(1).for_each(|(block, (codes, counts))| {
            threads.with(|thread| {
                let runs = (block * runs..).zip(codes.chunks_mut(layout.positions)).zip(counts);
                for ((run, codes), counts) in runs {
                    signatures.run(run, &mut thread.buffers, &mut thread.signatures);
                    *counts = thread.look_up((run * layout.positions) as u32, run % layout.streams, codes);
                }
            });
        });
        Self { layout, codes, counts }
    }
}

/// What a thread needs.
struct Thread {
    buffers: OfStrip,
    signatures: Vec<u64>,
    cache: Cache,
}

enum Cache {
    Limited(Mcache),
    Unlimited(Table),
}

impl Thread {
    fn new(config: &McacheConfig, positions: usize) -> Self {
        let isa = Isa::best();
        let cache = match config.entries {
            0 => Cache::Unlimited(Table::new(positions, isa)),
            _ => Cache::Limited(Mcache::new(config, false, isa)),
        };
        Self { buffers: OfStrip::default(), signatures: vec![0; positions], cache }
    }

    /// Looks up the run whose signatures are there, in the cache while it is empty.
    fn look_up(&mut self, first: u32, stream: usize, codes: &mut [u32]) -> Counts {
        let run = Run { known: Known { first, signatures: &self.signatures }, first, stream: stream as u32, codes };
        match &mut self.cache {
            Cache::Unlimited(table) => {
                table.begin(first as usize);
                table.run(run)
            }
            Cache::Limited(mcache) => {
                let counts = mcache.run(run);
                mcache.flush(&self.signatures);
                counts
            }
        }
    }
}
