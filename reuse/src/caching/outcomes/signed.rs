//! Vectors signed and looked up in one go.

use super::Outcomes;
use super::look_up::PIECE;
use crate::caching::counts::Counts;
use crate::caching::mcache::table::Table;
use crate::caching::mcache::{Isa, KnownSignatures, LookupRun, Mcache};
use crate::caching::pool::Pool;
use crate::config::{McacheConfig, Rpq, Scope};
use crate::signing::kernel::Kernel;
use crate::signing::signatures::{Signatures, StripBuffers};
use crate::vectors::{Layout, VectorView};
use rayon::prelude::*;

/// Blocks for each thread, from which on none waits long for another at the end.
const BLOCKS: usize = 4;

impl Outcomes {
    /// Signs a view's vectors and looks them up, where their signatures are not needed again.
    ///
    /// If the cache is flushed after each channel, a thread signs a few channels, looks them up and drops their
    /// signatures, so that these never leave its core. The outcomes are those of [`Outcomes::look_up`].
    ///
    /// # Panics
    /// If there are 2^32 vectors or more.
    pub fn sign_and_look_up(view: &VectorView, rpq: &Rpq, config: &McacheConfig, scope: Scope) -> Self {
        Self::sign_and_look_up_with(view, rpq, config, scope, Isa::best())
    }

    /// [`Outcomes::sign_and_look_up`] with given instructions for look-ups, which the CPU must have: for tests.
    #[doc(hidden)]
    pub fn sign_and_look_up_with(view: &VectorView, rpq: &Rpq, config: &McacheConfig, scope: Scope, isa: Isa) -> Self {
        let signing = Signatures::new(Kernel::best(), view, rpq);
        if scope == Scope::Channel && signing.has_strips() && Self::has_enough_runs(view.layout()) {
            return Self::sign_and_look_up_blocks(&signing, view.layout(), config, isa);
        }
        let mut signatures = vec![0; view.layout().vectors()];
        signing.all(&mut signatures);
        Self::look_up_with(view.layout(), &signatures, config, scope, isa)
    }

    /// Whether there are enough blocks of runs for all threads.
    #[doc(hidden)]
    pub fn has_enough_runs(layout: Layout) -> bool {
        layout.positions > 0
            && layout.runs() >= BLOCKS * PIECE.div_ceil(layout.positions) * rayon::current_num_threads()
    }

    /// Signs and looks up a block of runs at a time; all streams have plans.
    fn sign_and_look_up_blocks(signing: &Signatures, layout: Layout, config: &McacheConfig, isa: Isa) -> Self {
        assert!(u32::try_from(layout.vectors()).is_ok(), "fewer than 2^32 vectors");
        // By all threads, because it is megabytes of fresh memory.
        let mut codes: Vec<u32> = rayon::iter::repeat_n(0, layout.vectors()).collect();
        let mut counts = vec![Counts::default(); layout.runs()];
        let threads = Pool::new(|| Thread::new(config, layout.positions, isa));
        let runs = PIECE.div_ceil(layout.positions);
        let blocks = codes.par_chunks_mut(runs * layout.positions).zip(counts.par_chunks_mut(runs));
        blocks.enumerate().with_max_len(1).for_each(|(block, (codes, counts))| {
            threads.with(|thread| {
                let runs = (block * runs..).zip(codes.chunks_mut(layout.positions)).zip(counts);
                for ((run, codes), counts) in runs {
                    signing.run(run, &mut thread.buffers, &mut thread.signatures);
                    *counts = thread.look_up((run * layout.positions) as u32, run % layout.streams, codes);
                }
            });
        });
        Self::new(layout, codes, counts)
    }
}

/// What a thread needs.
struct Thread {
    buffers: StripBuffers,
    signatures: Vec<u64>,
    cache: Cache,
}

enum Cache {
    Limited(Mcache),
    Unlimited(Table),
}

impl Thread {
    fn new(config: &McacheConfig, positions: usize, isa: Isa) -> Self {
        let cache = match config.entries {
            0 => Cache::Unlimited(Table::new(positions, isa)),
            _ => Cache::Limited(Mcache::new(config, false, isa)),
        };
        Self { buffers: StripBuffers::default(), signatures: vec![0; positions], cache }
    }

    /// Looks up the run whose signatures are there, in the cache while it is empty.
    fn look_up(&mut self, first: u32, stream: usize, codes: &mut [u32]) -> Counts {
        let run = LookupRun {
            known: KnownSignatures { first, signatures: &self.signatures },
            first,
            stream: stream as u32,
            codes,
        };
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
