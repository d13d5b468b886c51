//! The caches of several configurations over the same signatures, with few look-ups for all.

use super::grouped::grouped;
use super::similarity::{Signed, Spare};
use crate::config::Config;
use mercury_reuse::config::{McacheConfig, Replacement, Scope, SetIndex};
use mercury_reuse::{Hitmap, Limited, Ranks};
use mercury_trace::geometry::Geometry;
use rayon::prelude::*;
use std::borrow::Cow;

/// What a Hitmap depends on beside the vectors and their longest signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cache {
    /// Bits of the whole signature.
    pub bits: u32,
    pub scope: Scope,
    pub entries: u32,
    pub ways: u32,
    pub index: SetIndex,
    pub replacement: Replacement,
}

impl Cache {
    pub fn of(config: &Config, geometry: &Geometry) -> Self {
        let McacheConfig { entries, ways, index, replacement, .. } = config.mcache;
        let scope = config.mcache.scope_of(geometry);
        let cache = Self { bits: config.rpq.signature_bits(), scope, entries, ways, index, replacement };
        if entries == 0 { cache.unlimited() } else { cache }
    }

    /// A cache of which nothing matters, as it has room for all.
    pub fn unlimited(self) -> Self {
        Self { entries: 0, ways: 1, index: SetIndex::Mixed, replacement: Replacement::None, ..self }
    }

    /// Sets; 0 without limit.
    fn sets(self) -> u32 {
        self.entries / self.ways
    }

    pub fn config(self) -> McacheConfig {
        let Self { entries, ways, index, replacement, .. } = self;
        McacheConfig { entries, ways, index, replacement, ..McacheConfig::default() }
    }
}

/// The Hitmaps of a cache, by product of a pass.
pub type Found = (Cache, Vec<Hitmap>);

/// Caches of one number of sets that are there at once: few, as each takes four bytes a vector.
const WAYS_AT_ONCE: usize = 2;
/// Numbers of sets at the same time: few, as each takes four bytes a vector beside its caches.
const SETS_AT_ONCE: usize = 2;

/// The Hitmaps of caches over signatures of one length in one scope, some at a time, in `memory` of earlier ones.
pub fn look_up(
    signed: &Signed,
    (bits, scope): (u32, Scope),
    caches: &[Cache],
    memory: &Spare,
    mut found: impl FnMut(&[Found]),
) {
    if caches.is_empty() {
        return;
    }
    let signatures: Cow<[Vec<u64>]> =
        if bits == signed.bits { signed.signatures.as_slice().into() } else { signed.shortened(bits).into() };
    let mut hand_on = |some: Vec<Found>| {
        found(&some);
        for (_, hitmaps) in some {
            memory.give_hitmaps(hitmaps);
        }
    };
    let (alone, others): (Vec<Cache>, Vec<Cache>) =
        caches.iter().partition(|cache| cache.replacement != Replacement::None || caches.len() == 1);
    for cache in alone {
        hand_on(vec![(cache, signed.look_up(&signatures, &cache.config(), scope, memory))]);
    }
    // What room was found for stays, so one look-up without limit answers for all others.
    let Some(unlimited) = others.first().map(|cache| cache.unlimited()) else { return };
    let of_all = signed.look_up(&signatures, &unlimited.config(), scope, memory);
    for (index, caches) in grouped(others.iter().copied().filter(|cache| cache.entries > 0), |cache| cache.index) {
        let products = of_all.iter().zip(&*signatures);
        let limited: Vec<Limited> =
            products.map(|(unlimited, signatures)| Limited::new(unlimited, signatures, scope, index)).collect();
        let by_sets = grouped(caches, Cache::sets);
        let some_of_sets: Vec<(u32, &[Cache])> =
            by_sets.iter().flat_map(|(sets, caches)| caches.chunks(WAYS_AT_ONCE).map(|some| (*sets, some))).collect();
        for some in some_of_sets.chunks(SETS_AT_ONCE) {
            let of_sets = |&(sets, caches): &(u32, &[Cache])| -> Vec<Found> {
                let ranks: Vec<Ranks> = limited.iter().map(|limited| limited.ranks(sets, memory.take())).collect();
                let of = |cache: &Cache| {
                    (*cache, ranks.iter().map(|ranks| ranks.hitmap(cache.ways, memory.take())).collect())
                };
                let found = caches.par_iter().map(of).collect();
                for ranks in ranks {
                    memory.give(ranks.into_memory());
                }
                found
            };
            hand_on(some.par_iter().flat_map(of_sets).collect());
        }
    }
    if others.contains(&unlimited) {
        hand_on(vec![(unlimited, of_all)]);
    } else {
        memory.give_hitmaps(of_all);
    }
}
