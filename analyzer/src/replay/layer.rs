//! One layer of a captured step under any number of configurations, from samples as they come.

use super::measure::{BoundsMeasure, Bytes, Measure, Samples};
use super::outcomes::{self, Found, OutcomeFinder, find_arrivals};
use super::place::Place;
use super::plan::{LayerPlan, LengthPlan, ProjectionPlan};
use super::sign::{self, Signed};
use super::tally::Tallies;
use crate::config::BoundsConfig;
use crate::error::Result;
use crate::limits::Bounded;
use crate::operand::{Kept, LayerData};
use crate::request::Measures;
use crate::stop::Stop;
use mercury_reuse::config::{Rpq, Scope};
use mercury_reuse::{Cut, Outcomes};
use std::sync::Arc;

/// A layer of a step, and what was measured of the samples that came so far.
pub struct LayerReplay<'a> {
    pub(super) kept: Arc<Kept>,
    pub(super) plan: LayerPlan,
    pub(super) measures: &'a Measures,
    pub(super) place: Place,
    /// By projection of the plan.
    pub(super) projections: Vec<ProjectionReplay>,
}

/// What was measured under the configurations of a projection.
pub struct ProjectionReplay {
    /// How vectors are cut, by product.
    pub cuts: Vec<Cut>,
    /// By length of the plan.
    pub lengths: Vec<LengthReplay>,
}

/// What was measured under the caches of a length.
pub struct LengthReplay {
    pub tallies: Tallies,
    pub bounds: Vec<BoundsMeasure>,
}

impl<'a> LayerReplay<'a> {
    /// A layer before its first sample.
    ///
    /// # Errors
    /// If vectors cannot be cut as a configuration asks.
    pub fn new(kept: Arc<Kept>, plan: LayerPlan, measures: &'a Measures, place: Place) -> Result<Self> {
        let projections = plan.projections.iter();
        let projections = projections
            .map(|projection| ProjectionReplay::new(&kept, &plan, projection, measures, place.batch))
            .collect::<Result<_>>()?;
        Ok(Self { kept, plan, measures, place, projections })
    }

    /// Evaluates the samples that come next.
    pub fn add(&mut self, data: &LayerData, stop: &Stop) -> Result<()> {
        let projections = self.plan.projections.iter().zip(&mut self.projections);
        projections.into_iter().try_for_each(|(plan, projection)| projection.add(plan, data, stop))
    }

    /// Whether all samples have to be evaluated at once: an MCACHE outlives a sample, or an array deals all at once.
    pub fn takes_all_samples(&self) -> bool {
        let lengths = self.plan.projections.iter().flat_map(|projection| &projection.lengths);
        let outlives = lengths.into_iter().any(|length| length.scope == Scope::Batch);
        let mut tallies = self.projections.iter().flat_map(|projection| &projection.lengths);
        outlives || tallies.any(|length| length.tallies.takes_all_samples())
    }

    /// Memory of signatures, outcomes and measures.
    pub fn bytes(&self) -> Bytes {
        let mut bytes = Bytes::default();
        for projection in &self.projections {
            for length in &projection.lengths {
                bytes += length.tallies.bytes();
                bytes += length.bounds.iter().map(Measure::bytes).sum();
            }
        }
        // Projections are evaluated one after the other.
        let vectors = self.projections.iter().map(|projection| projection.vectors_per_sample(&self.kept));
        let vectors = vectors.max().unwrap_or(0);
        bytes.per_sample += vectors.saturating_mul(sign::BYTES_PER_VECTOR + outcomes::BYTES_PER_VECTOR);
        bytes
    }
}

impl LengthReplay {
    fn new(
        kept: &Kept,
        layer: &LayerPlan,
        projection: &ProjectionPlan,
        length: &LengthPlan,
        cuts: &[Cut],
        measures: &Measures,
        batch: u32,
    ) -> Self {
        let bits = length.bits - projection.rpq.variant.magnitude_bits();
        let rpq = Rpq { bits, ..projection.rpq.clone() };
        let bound = |options: &BoundsConfig| {
            let (pass, scope, rpq) = (projection.source, length.scope, rpq.clone());
            BoundsMeasure::new(Bounded { pass, scope, rpq, options: options.clone() })
        };
        let bounds = length.bounds.iter().map(bound);
        Self { tallies: Tallies::new(layer, length, kept, cuts, batch, measures.errors), bounds: bounds.collect() }
    }
}

impl ProjectionReplay {
    fn new(kept: &Kept, layer: &LayerPlan, plan: &ProjectionPlan, measures: &Measures, batch: u32) -> Result<Self> {
        let cuts = kept.cuts(plan.source, plan.rpq.granularity, kept.samples)?;
        let lengths = plan.lengths.iter();
        let lengths =
            lengths.map(|length| LengthReplay::new(kept, layer, plan, length, &cuts, measures, batch)).collect();
        Ok(Self { cuts, lengths })
    }

    /// Vectors of a sample, in the product that has most.
    fn vectors_per_sample(&self, kept: &Kept) -> u64 {
        let vectors = self.cuts.iter().map(|cut| (cut.layout.vectors() / kept.samples) as u64);
        vectors.max().unwrap_or(0)
    }

    /// Signs vectors, finds their outcomes and measures them.
    fn add(&mut self, plan: &ProjectionPlan, data: &LayerData, stop: &Stop) -> Result<()> {
        stop.check()?;
        if let Some((cache, scope)) = plan.single_cache() {
            let (signed, outcomes) = Signed::look_up(data, plan.source, &plan.rpq, &cache.config(), scope)?;
            let found = vec![Found { caches: vec![0], outcomes }];
            return self.lengths[0].tallies.add(&plan.lengths[0], Samples { data, signed: &signed }, found, stop);
        }
        let signed = Signed::new(data, plan.source, &plan.rpq)?;
        let samples = Samples { data, signed: &signed };
        for (length, LengthReplay { tallies, bounds }) in plan.lengths.iter().zip(&mut self.lengths) {
            let signatures = signed.shorten(length.bits);
            let arrivals = find_arrivals(&signed, &signatures, length.scope);
            if !bounds.is_empty() {
                let unlimited: Vec<Outcomes> = arrivals.iter().map(|arrivals| arrivals.outcomes().clone()).collect();
                for bounds in bounds {
                    stop.check()?;
                    bounds.add(samples, &unlimited);
                }
            }
            for found in OutcomeFinder::new(&signed, &signatures, &arrivals, length) {
                tallies.add(length, samples, found, stop)?;
            }
        }
        Ok(())
    }
}
