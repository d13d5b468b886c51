//! The configurations that project a pass's vectors alike, with as little done twice as the mathematics
//! allows: vectors are signed once at the longest length, shorter signatures are their prefixes, caches
//! in which everything finds room have one Hitmap among them, errors depend on Hitmap and substitution
//! alone, and caches that had the same outcomes so far have one tally.

use super::caches::{Cache, grid, look_up};
use super::grouped::{distinct, grouped};
use super::similarity::{Memory, Signed};
use super::tally::{RowPass, Substituted, Tally};
use super::{Measures, Place};
use crate::accuracy::{self, ErrorSums};
use crate::config::{BoundsConfig, Config};
use crate::error::Result;
use crate::limits::Limits;
use crate::operand::{Kept, LayerData};
use crate::timing::rows::{Rounds, RowProduct};
use mercury_reuse::config::{Rpq, Scope};
use mercury_reuse::{Counts, Hitmap, MatchOptions, Substitutes, match_quality};
use mercury_trace::geometry::{Geometry, Pass};

/// Configurations that differ in no more than the length of their projection.
pub struct Projected {
    source: Pass,
    /// Samples of the step.
    batch: u32,
    rpq: Rpq,
    /// Of each product's streams, the length of their vectors.
    lengths: Vec<Vec<u64>>,
    caches: Vec<(Cache, Vec<usize>)>,
    alike: Vec<Alike>,
    rows: Vec<(RowPass, Vec<RowProduct>)>,
    limits: Vec<(Bounded, Limits)>,
}

/// What bounds depend on: bits, scope and their own options.
type Bounded = (u32, Scope, BoundsConfig);

fn bounded(config: &Config, geometry: &Geometry) -> Bounded {
    let Cache { bits, scope, .. } = Cache::of(config, geometry);
    (bits, scope, config.bounds.clone())
}

/// Caches that had the same outcomes so far.
#[derive(Clone)]
struct Alike {
    caches: Vec<usize>,
    tally: Tally,
}

impl Projected {
    /// Of no samples; `source` is the pass whose vectors are signed, `passes` those that they decide,
    /// `members` numbers of configurations.
    pub fn new(
        kept: &Kept,
        source: Pass,
        passes: &[Pass],
        members: &[usize],
        configs: &[Config],
        measures: &Measures,
        place: Place,
    ) -> Self {
        let bits = members.iter().map(|&number| configs[number].rpq.bits).max().unwrap_or(1);
        let rpq = Rpq { bits, ..configs[members[0]].rpq.clone() };
        let geometry = &kept.layer.geometry;
        let products = geometry.gemms(source, place.batch).len();
        let caches: Vec<(Cache, Vec<usize>)> =
            grouped(members.iter().copied(), |number| Cache::of(&configs[number], geometry)).into_iter().collect();

        let reusing = |pass: Pass| {
            members.iter().map(|&number| &configs[number]).filter(move |config| config.reuse.passes.contains(&pass))
        };
        let (mut rows, mut substituted): (Vec<(RowPass, Vec<RowProduct>)>, Vec<Substituted>) = Default::default();
        for &pass in passes {
            for config in reusing(pass).filter(|config| config.dataflow().is_none()) {
                let array = config.row_array();
                if rows.iter().all(|(known, _)| *known != (pass, array)) {
                    // How rows are dealt does not depend on the signature's length.
                    let product = |product| RowProduct::new(array, geometry, pass, product, place.batch, bits);
                    rows.push(((pass, array), (0..products).map(product).collect()));
                }
            }
            if !measures.errors.is_none() {
                substituted.extend(distinct(reusing(pass).map(|config| (pass, config.substitution()))));
            }
        }
        let mut limits: Vec<(Bounded, Limits)> = Vec::new();
        if measures.bounds && passes.contains(&source) {
            for config in reusing(source) {
                let key = bounded(config, geometry);
                if limits.iter().all(|(known, _)| *known != key) {
                    limits.push((key, Limits::default()));
                }
            }
        }
        let tally = Tally::new(products, substituted, rows.iter().map(|(of, rows)| (*of, rows.as_slice())).collect());
        let alike = vec![Alike { caches: (0..caches.len()).collect(), tally }];
        Self { source, batch: place.batch, rpq, lengths: Vec::new(), caches, alike, rows, limits }
    }

    /// The pass whose vectors are signed.
    pub fn source(&self) -> Pass {
        self.source
    }

    /// Of each product's streams, the length of their vectors.
    pub fn lengths(&self) -> &[Vec<u64>] {
        &self.lengths
    }

    /// Each tally with the configurations that it is of.
    pub fn tallies(&self) -> impl Iterator<Item = (&Tally, impl Iterator<Item = usize>)> {
        let members = |alike: &Alike| alike.caches.clone().into_iter().flat_map(|cache| self.caches[cache].1.clone());
        self.alike.iter().map(move |alike| (&alike.tally, members(alike)))
    }

    /// What bounds reuse under a configuration; the weight gradient has the forward pass's.
    pub fn limits(&self, pass: Pass, config: &Config, kept: &Kept) -> Option<&Limits> {
        let key = (pass == self.source).then(|| bounded(config, &kept.layer.geometry))?;
        self.limits.iter().find(|(known, _)| *known == key).map(|(_, limits)| limits)
    }

    /// Evaluates the samples that come next, in `memory` of earlier ones.
    pub fn add(
        &mut self,
        data: &LayerData,
        configs: &[Config],
        measures: &Measures,
        memory: &mut Memory,
    ) -> Result<()> {
        let (signed, hitmaps) = match self.only() {
            Some(cache) => {
                let mcache = (&cache.config(), cache.scope);
                Signed::looked_up(data, self.source, &self.rpq, mcache, std::mem::take(&mut memory.hitmaps))?
            }
            None => {
                let signatures = std::mem::take(&mut memory.signatures);
                (Signed::of(data, self.source, &self.rpq, signatures)?, Vec::new())
            }
        };
        if data.first_sample == 0 {
            let lengths = |view: &mercury_reuse::VectorView| view.streams().iter().map(|s| s.length as u64).collect();
            self.lengths = signed.views.iter().map(lengths).collect();
        }
        if !hitmaps.is_empty() {
            let all: Vec<usize> = (0..self.alike.len()).collect();
            self.tally(data, &signed, &hitmaps, &all, measures);
            memory.hitmaps = hitmaps.into_iter().map(Hitmap::into_memory).collect();
            return Ok(());
        }
        for ((bits, scope, bounds), limits) in &mut self.limits {
            let rpq = Rpq { bits: *bits - self.rpq.variant.magnitude_bits(), ..self.rpq.clone() };
            limits.add(data, self.source, &signed, *scope, &rpq, bounds);
        }
        let caches: Vec<Cache> = self.caches.iter().map(|(cache, _)| *cache).collect();
        let (caches, mut known) = grid(&signed, &caches);
        self.split(&caches, configs);
        let by_cache = grouped(0..self.alike.len(), |number| caches[self.alike[number].caches[0]]);
        for ((bits, scope), caches) in grouped(by_cache.keys().copied(), |cache| (cache.bits, cache.scope)) {
            let (sums, looked_up): (Vec<Cache>, Vec<Cache>) = caches.into_iter().partition(|cache| {
                let needs_hitmap = |&number: &usize| self.alike[number].tally.needs_hitmap();
                known.contains_key(cache) && !by_cache[cache].iter().any(needs_hitmap)
            });
            for cache in sums {
                let counts = known.remove(&cache).expect("looked for just now");
                by_cache[&cache].iter().for_each(|&number| self.alike[number].tally.add_counts(&counts));
            }
            look_up(&signed, (bits, scope), &looked_up, &mut memory.hitmaps, |cache, hitmaps| {
                self.tally(data, &signed, hitmaps, &by_cache[&cache], measures);
            });
        }
        memory.signatures = signed.signatures;
        Ok(())
    }

    /// The one cache that is asked for, if nothing else wants signatures.
    fn only(&self) -> Option<Cache> {
        let [(cache, _)] = *self.caches.as_slice() else { return None };
        self.limits.is_empty().then_some(cache)
    }

    /// Parts caches that were alike so far but are not in these samples, for each of which `caches` has
    /// the one that stands for it.
    fn split(&mut self, caches: &[Cache], configs: &[Config]) {
        for Alike { caches: alike, tally } in std::mem::take(&mut self.alike) {
            if distinct(alike.iter().map(|&cache| caches[cache])).len() == 1 {
                self.alike.push(Alike { caches: alike, tally });
                continue;
            }
            let parts = grouped(alike, |cache| caches[cache]);
            for alike in parts.into_values() {
                let members = alike.iter().flat_map(|&cache| &self.caches[cache].1);
                let tally = tally.of(&members.map(|&number| &configs[number]).collect::<Vec<_>>());
                self.alike.push(Alike { caches: alike, tally });
            }
        }
    }

    /// Adds the outcomes to tallies, all of which have them.
    fn tally(&mut self, data: &LayerData, signed: &Signed, hitmaps: &[Hitmap], alike: &[usize], measures: &Measures) {
        let counts: Vec<Vec<Counts>> = hitmaps.iter().map(|hitmap| hitmap.counts().to_vec()).collect();
        for &number in alike {
            self.alike[number].tally.add_counts(&counts);
        }
        let wanted = alike.iter().flat_map(|&number| self.alike[number].tally.row_passes());
        for of in distinct(wanted) {
            let (_, products) = self.rows.iter().find(|(known, _)| *known == of).expect("made for all configurations");
            let deal = |((product, view), hitmap): ((&RowProduct, _), _)| product.deal(view, hitmap);
            let rounds: Vec<Rounds> = products.iter().zip(&signed.views).zip(hitmaps).map(deal).collect();
            for &number in alike {
                self.alike[number].tally.add_rounds(of, &rounds);
            }
        }
        let wanted = alike.iter().flat_map(|&number| self.alike[number].tally.substituted());
        let most = measures.errors.most();
        for (substitution, of) in grouped(wanted, |(_, substitution)| substitution) {
            let substitutes =
                |(view, hitmap)| Substitutes::new(view, hitmap, substitution.variant, substitution.representative);
            let substitutes: Vec<Substitutes> = signed.views.iter().zip(hitmaps).map(substitutes).collect();
            let of_each = f64::from(self.batch) / data.kept.samples as f64;
            for pass in distinct(of.into_iter().map(|(pass, _)| pass)) {
                if pass == Pass::WeightGrad {
                    for &number in alike {
                        let tally = &mut self.alike[number].tally;
                        tally.add_gradients(substitution, data, signed, &substitutes, most, of_each);
                    }
                    continue;
                }
                let of_product = |substitutes: &Substitutes| {
                    let quality = match_quality(substitutes, &MatchOptions::default());
                    (accuracy::output_error(data, pass, substitutes, most), quality)
                };
                let found: Vec<_> = substitutes.iter().map(of_product).collect();
                let none = ErrorSums::new(of_each, pass == Pass::Forward && data.grad_output.is_some());
                for &number in alike {
                    self.alike[number].tally.add_errors((pass, substitution), &found, &none);
                }
            }
        }
    }
}
