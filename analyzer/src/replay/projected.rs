//! The configurations that project a pass's vectors alike, with as little done twice as the mathematics
//! allows: vectors are signed once at the longest length, shorter signatures are their prefixes, caches
//! in which everything finds room have one outcome among them, sorted signatures tell counts and rounds of most
//! others, errors depend on Hitmap and substitution alone, and caches that had the same outcomes so far have
//! one tally.

use super::Place;
use super::alike::{Alike, Samples};
use super::caches::{Cache, look_up};
use super::grid::{CacheGrid, PartWork};
use super::grouped::{Grouped, distinct, grouped};
use super::similarity::{Memory, Signed, Spare};
use super::tally::{RowPass, Substituted, Tally};
use crate::config::{BoundsConfig, Config};
use crate::error::Result;
use crate::limits::Limits;
use crate::operand::{Kept, LayerData};
use crate::request::Measures;
use crate::timing::rows::RowProduct;
use indexmap::IndexMap;
use mercury_reuse::VectorView;
use mercury_reuse::config::{Rpq, Scope};
use mercury_trace::geometry::{Geometry, Pass};
use rayon::prelude::*;

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
        if let Some(cache) = self.only() {
            return self.add_only(cache, data, measures, memory);
        }
        let signed = Signed::of(data, self.source, &self.rpq, std::mem::take(&mut memory.signatures))?;
        self.know_lengths(&signed);
        for ((bits, scope, bounds), limits) in &mut self.limits {
            let rpq = Rpq { bits: *bits - self.rpq.variant.magnitude_bits(), ..self.rpq.clone() };
            limits.add(data, self.source, &signed, *scope, &rpq, bounds);
        }
        let caches: Vec<Cache> = self.caches.iter().map(|(cache, _)| *cache).collect();
        let rows = std::mem::take(&mut self.rows);
        let samples = Samples { data, signed: &signed, batch: self.batch, rows: &rows, measures };
        let others = self.add_told(samples, &caches, configs, memory.lanes);
        let mut lengths = Length::all(others);
        // Errors take too much memory for more than one at a time.
        for some in lengths.chunks_mut(if measures.errors.is_none() { LENGTHS } else { 1 }) {
            some.par_iter_mut().for_each(|length| length.add(samples, &memory.hitmaps));
        }
        self.alike.extend(lengths.into_iter().flat_map(|length| length.alike.into_values().flatten()));
        self.rows = rows;
        memory.signatures = signed.signatures;
        Ok(())
    }

    /// Adds what sorted signatures tell, and gives the caches of which more is asked for.
    fn add_told(&mut self, samples: Samples, caches: &[Cache], configs: &[Config], lanes: usize) -> Vec<OfCache> {
        // Errors are computed from Hitmaps, and with these dealing takes little more.
        let rows = if samples.measures.errors.is_none() { samples.rows } else { &[] };
        let by_rows = |&number: &usize| configs[number].dataflow().is_none();
        let grid =
            CacheGrid::new(samples.signed, caches, rows, |cache| self.caches[cache].1.iter().any(by_rows), lanes);
        self.split(&grid.standing, configs);
        let mut by_cache: Grouped<Cache, Alike> = Grouped::new();
        for alike in std::mem::take(&mut self.alike) {
            by_cache.entry(grid.standing[alike.caches[0]]).or_default().push(alike);
        }
        let (mut told, mut others): (Grouped<Option<usize>, OfCache>, Vec<OfCache>) = Default::default();
        for (cache, alike) in by_cache {
            let tallies = || alike.iter().map(|alike| &alike.tally);
            let passes = distinct(tallies().flat_map(Tally::row_passes));
            let part = if passes.is_empty() { Some(None) } else { grid.part(&cache, passes).map(Some) };
            let is_told = grid.counts(&cache).is_some() && tallies().all(|tally| tally.substituted().next().is_none());
            match part.filter(|_| is_told) {
                Some(part) => told.entry(part).or_default().push((cache, alike)),
                None => others.push((cache, alike)),
            }
        }
        for (part, mut told) in told {
            let mut add = |work: Option<(usize, &PartWork)>| {
                let caches = told.par_iter_mut().with_max_len(1);
                caches.for_each(|(cache, alike)| samples.add_told(&grid, work, cache, alike));
            };
            match part {
                Some(part) => grid.with_work(part, |work| add(Some((part, work)))),
                None => add(None),
            }
            self.alike.extend(told.into_iter().flat_map(|(_, alike)| alike));
        }
        others
    }

    /// As [`Projected::add`], where outcomes of one cache are all that is asked for.
    fn add_only(&mut self, cache: Cache, data: &LayerData, measures: &Measures, memory: &mut Memory) -> Result<()> {
        let mcache = (&cache.config(), cache.scope);
        let (signed, hitmaps) = Signed::looked_up(data, self.source, &self.rpq, mcache, memory)?;
        self.know_lengths(&signed);
        let samples = Samples { data, signed: &signed, batch: self.batch, rows: &self.rows, measures };
        let mut alike: Grouped<Cache, Alike> = [(cache, std::mem::take(&mut self.alike))].into();
        let found = [(cache, hitmaps)];
        samples.add(&found, &mut alike);
        self.alike = alike.into_values().flatten().collect();
        let [(_, hitmaps)] = found;
        memory.hitmaps.give_hitmaps(hitmaps);
        Ok(())
    }

    /// The lengths of vectors, which are the same for all samples.
    fn know_lengths(&mut self, signed: &Signed) {
        if self.lengths.is_empty() {
            let lengths = |view: &VectorView| view.streams().iter().map(|stream| stream.length as u64).collect();
            self.lengths = signed.views.iter().map(lengths).collect();
        }
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
}

/// Lengths of signatures that are evaluated at the same time, where there are several and no errors: few, as each takes
/// some memory, but so that no thread waits at the many ends of their steps.
const LENGTHS: usize = 2;

/// A cache and what had its outcomes so far.
type OfCache = (Cache, Vec<Alike>);

/// The caches over signatures of one length in one scope.
struct Length {
    key: (u32, Scope),
    alike: Grouped<Cache, Alike>,
}

impl Length {
    fn all(caches: Vec<OfCache>) -> Vec<Self> {
        let mut lengths: IndexMap<(u32, Scope), Grouped<Cache, Alike>> = IndexMap::new();
        for (cache, alike) in caches {
            lengths.entry((cache.bits, cache.scope)).or_default().insert(cache, alike);
        }
        lengths.into_iter().map(|(key, alike)| Self { key, alike }).collect()
    }

    /// Adds samples.
    fn add(&mut self, samples: Samples, memory: &Spare) {
        let caches: Vec<Cache> = self.alike.keys().copied().collect();
        look_up(samples.signed, self.key, &caches, memory, |found| samples.add(found, &mut self.alike));
    }
}
