//! The Hitmap of an operand: for each vector HIT, MAU or MNU, and its representative.

use crate::config::{McacheConfig, Rpq, Scope};
use crate::mcache::{Mcache, Outcome};
use crate::projection::Projection;
use crate::vectors::{Layout, VectorView};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Signatures of all vectors, in the layout's order.
pub fn signatures(view: &VectorView, rpq: &Rpq) -> Vec<u64> {
    let layout = view.layout();
    let lengths = view.streams().iter().map(|stream| stream.length);
    // A handful at most: only the last sub-vector of a row differs.
    let projections: BTreeMap<usize, Projection> =
        lengths.map(|length| (length, Projection::new(rpq.seed, length, rpq.bits))).collect();
    let mut signatures = vec![0; layout.vectors()];
    signatures.par_chunks_mut(layout.positions.max(1)).enumerate().for_each_init(
        || vec![0.0; view.max_length()],
        |buffer, (run, signatures)| {
            let (sample, stream) = (run / layout.streams, run % layout.streams);
            let projection = &projections[&view.streams()[stream].length];
            for (position, signature) in signatures.iter_mut().enumerate() {
                *signature = projection.signature(view.gather(sample, stream, position, buffer));
            }
        },
    );
    signatures
}

/// How many vectors of a run (one sample, one stream) had each outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// HIT: found.
    pub hit: u64,
    /// MAU: missed, inserted.
    pub mau: u64,
    /// MNU: missed, not inserted.
    pub mnu: u64,
}

impl Counts {
    /// Vectors in all.
    pub fn vectors(&self) -> u64 {
        self.hit + self.mau + self.mnu
    }

    /// Vectors whose products are computed.
    pub fn computed(&self) -> u64 {
        self.mau + self.mnu
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.hit += other.hit;
        self.mau += other.mau;
        self.mnu += other.mnu;
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |mut sum, counts| {
            sum += counts;
            sum
        })
    }
}

/// The outcome of every vector of an operand, in the layout's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hitmap {
    layout: Layout,
    outcomes: Vec<Outcome>,
}

impl Hitmap {
    /// Runs the signatures through an MCACHE that is flushed as `scope` says. Scopes are
    /// independent and so run in parallel; the result does not depend on how many do.
    ///
    /// # Panics
    /// If there are not as many signatures as the layout has vectors, or 2^32 or more.
    pub fn new(layout: Layout, signatures: &[u64], config: &McacheConfig, scope: Scope) -> Self {
        assert_eq!(signatures.len(), layout.vectors(), "signatures of the layout");
        assert!(u32::try_from(layout.vectors()).is_ok(), "vectors are numbered in 32 bits");
        let length = match scope {
            Scope::Channel => layout.positions,
            Scope::Sample => layout.positions * layout.streams,
            Scope::Batch => layout.vectors(),
        };
        let mut outcomes = vec![Outcome::Mnu; layout.vectors()];
        // A cache for each run of scopes, few runs: a cache may be large.
        let scopes = outcomes.len().div_ceil(length.max(1)) / (4 * rayon::current_num_threads());
        outcomes.par_chunks_mut(length.max(1)).enumerate().with_min_len(scopes.max(1)).for_each_init(
            || Mcache::new(config),
            |mcache, (chunk, outcomes)| {
                mcache.flush();
                let first = chunk * length;
                for (offset, outcome) in outcomes.iter_mut().enumerate() {
                    let vector = first + offset;
                    let stream = vector / layout.positions % layout.streams;
                    *outcome = mcache.access(signatures[vector], stream as u32, vector as u32);
                }
            },
        );
        Self { layout, outcomes }
    }

    /// How many vectors there are.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The outcome of each vector.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// The vector whose results a vector gets: of a HIT the one that inserted the signature,
    /// otherwise itself.
    pub fn representative(&self, vector: usize) -> usize {
        match self.outcomes[vector] {
            Outcome::Hit(representative) => representative as usize,
            Outcome::Mau | Outcome::Mnu => vector,
        }
    }

    /// Counts of each run, `[samples][streams]`.
    pub fn counts(&self) -> Vec<Counts> {
        let count = |run: &[Outcome]| {
            let mut counts = Counts::default();
            for outcome in run {
                match outcome {
                    Outcome::Hit(_) => counts.hit += 1,
                    Outcome::Mau => counts.mau += 1,
                    Outcome::Mnu => counts.mnu += 1,
                }
            }
            counts
        };
        self.outcomes.chunks(self.layout.positions.max(1)).map(count).collect()
    }
}
