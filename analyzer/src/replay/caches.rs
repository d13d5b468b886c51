//! The caches of several configurations over the same signatures, with few look-ups for all.

use super::grouped::grouped;
use super::similarity::Signed;
use crate::config::Config;
use mercury_reuse::config::{McacheConfig, Replacement, Scope, SetIndex};
use mercury_reuse::{Counts, Hitmap, Limited, counts_grid};
use mercury_trace::geometry::Geometry;
use std::borrow::Cow;
use std::collections::HashMap;

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
    fn unlimited(self) -> Self {
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

/// The Hitmaps of caches, by product of a pass, over signatures of one length in one scope. Caches of one
/// number of sets are found together.
pub fn look_up(
    signed: &Signed,
    (bits, scope): (u32, Scope),
    caches: &[Cache],
    memory: &mut Vec<Vec<u32>>,
    mut found: impl FnMut(Cache, &[Hitmap]),
) {
    if caches.is_empty() {
        return;
    }
    let signatures: Cow<[Vec<u64>]> =
        if bits == signed.bits { signed.signatures.as_slice().into() } else { signed.shortened(bits).into() };
    if let [cache] = *caches {
        signed.look_up(&signatures, &cache.config(), scope, memory, |hitmaps| found(cache, hitmaps));
        return;
    }
    let (replacing, others): (Vec<Cache>, Vec<Cache>) =
        caches.iter().partition(|cache| cache.replacement != Replacement::None);
    for cache in replacing {
        signed.look_up(&signatures, &cache.config(), scope, memory, |hitmaps| found(cache, hitmaps));
    }
    // What room was found for stays, so one look-up without limit answers for all others.
    let Some(unlimited) = others.first().map(|cache| cache.unlimited().config()) else { return };
    signed.look_up(&signatures, &unlimited, scope, memory, |unlimited| {
        for (index, caches) in grouped(others, |cache| cache.index) {
            let products = unlimited.iter().zip(&*signatures);
            let mut limited: Vec<Limited> =
                products.map(|(unlimited, signatures)| Limited::new(unlimited, signatures, scope, index)).collect();
            for (sets, caches) in grouped(caches, Cache::sets) {
                if sets == 0 {
                    for cache in caches {
                        found(cache, unlimited);
                    }
                    continue;
                }
                for limited in &mut limited {
                    limited.set_sets(sets);
                }
                for &cache in &caches {
                    let hitmaps: Vec<Hitmap> = limited.iter_mut().map(|limited| limited.hitmap(cache.ways)).collect();
                    found(cache, &hitmaps);
                    limited.iter_mut().zip(hitmaps).for_each(|(limited, hitmap)| limited.take_back(hitmap));
                }
            }
        }
    });
}

/// The cache that stands for each, and counts of some of them: from one sort, where there are several;
/// those in which everything finds room become one.
pub fn grid(signed: &Signed, caches: &[Cache]) -> (Vec<Cache>, HashMap<Cache, Vec<Vec<Counts>>>) {
    let (mut standing, mut known) = (caches.to_vec(), HashMap::new());
    let limited: Vec<usize> = (0..caches.len()).filter(|&number| caches[number].entries > 0).collect();
    if limited.len() < 2 {
        return (standing, known);
    }
    for ((scope, index), members) in grouped(limited, |number| (caches[number].scope, caches[number].index)) {
        let of = |number: usize| caches[number];
        let bits: Vec<u32> = grouped(members.iter().copied(), |number| of(number).bits).into_keys().collect();
        let size = |number: usize| (of(number).entries, of(number).ways);
        let sizes: Vec<(u32, u32)> = grouped(members.iter().copied(), size).into_keys().collect();
        let products: Vec<Vec<Vec<Counts>>> = signed
            .views
            .iter()
            .zip(&signed.signatures)
            .map(|(view, signatures)| counts_grid(view.layout(), signatures, &bits, &sizes, index, scope))
            .collect();
        for number in members {
            let cache = of(number);
            let length = bits.iter().position(|&bits| bits == cache.bits).expect("a length of the list");
            let size = sizes.iter().position(|&known| known == size(number)).expect("a size of it");
            let counts = products.iter().map(|product| &product[length * sizes.len() + size]);
            let roomy = counts.clone().flatten().all(|counts| counts.mnu == 0);
            standing[number] = if roomy { cache.unlimited() } else { cache };
            // The grid's caches never replace anything.
            if roomy || cache.replacement == Replacement::None {
                known.entry(standing[number]).or_insert_with(|| counts.cloned().collect());
            }
        }
    }
    (standing, known)
}
