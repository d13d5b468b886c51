//! One layer of a captured step under any number of configurations, from samples as they come.

use super::Place;
use super::measure::{BoundsMeasure, Bytes, Measure, Samples};
use super::outcomes::{self, Found, find_outcomes};
use super::plan::{LayerPlan, ProjectionPlan};
use super::sign::{self, Signed};
use super::tally::Tallies;
use crate::config::Config;
use crate::error::Result;
use crate::operand::{Kept, LayerData};
use crate::request::Measures;
use mercury_reuse::Cut;
use mercury_reuse::config::{Rpq, Scope};
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
    /// A layer before its first sample. `configs` have the signature length in force at the step.
    ///
    /// # Errors
    /// If vectors cannot be cut as a configuration asks.
    pub fn new(kept: Arc<Kept>, configs: Vec<Config>, measures: &'a Measures, place: Place) -> Result<Self> {
        let plan = LayerPlan::new(&kept, configs, measures);
        let new = |projection| ProjectionReplay::new(&kept, &plan, projection, measures, place.batch);
        let projections = plan.projections.iter().map(new).collect::<Result<_>>()?;
        Ok(Self { kept, plan, measures, place, projections })
    }

    /// Evaluates the samples that come next.
    pub fn add(&mut self, data: &LayerData) -> Result<()> {
        let projections = self.plan.projections.iter().zip(&mut self.projections);
        projections.into_iter().try_for_each(|(plan, projection)| projection.add(plan, data))
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

impl ProjectionReplay {
    fn new(kept: &Kept, layer: &LayerPlan, plan: &ProjectionPlan, measures: &Measures, batch: u32) -> Result<Self> {
        let cuts = kept.cuts(plan.source, plan.rpq.granularity, kept.samples)?;
        let new = |length: &super::plan::LengthPlan| {
            let tallies = Tallies::new(layer, length, kept, &cuts, batch, measures.errors);
            let bits = length.bits - plan.rpq.variant.magnitude_bits();
            let rpq = Rpq { bits, ..plan.rpq.clone() };
            let bound = |config: &_| BoundsMeasure::new(plan.source, length.scope, rpq.clone(), Clone::clone(config));
            LengthReplay { tallies, bounds: length.bounds.iter().map(bound).collect() }
        };
        let lengths = plan.lengths.iter().map(new).collect();
        Ok(Self { cuts, lengths })
    }

    /// Vectors of a sample, in the product that has most.
    fn vectors_per_sample(&self, kept: &Kept) -> u64 {
        let vectors = self.cuts.iter().map(|cut| (cut.layout.vectors() / kept.samples) as u64);
        vectors.max().unwrap_or(0)
    }

    /// Signs vectors, finds their outcomes and measures them.
    fn add(&mut self, plan: &ProjectionPlan, data: &LayerData) -> Result<()> {
        if let Some((cache, scope)) = plan.single_cache() {
            let (signed, outcomes) = Signed::look_up(data, plan.source, &plan.rpq, &cache.config(), scope)?;
            let found = vec![Found { canonical: cache, caches: vec![0], outcomes }];
            self.lengths[0].tallies.add(&plan.lengths[0], Samples { data, signed: &signed }, found);
            return Ok(());
        }
        let signed = Signed::new(data, plan.source, &plan.rpq)?;
        let samples = Samples { data, signed: &signed };
        for (length, LengthReplay { tallies, bounds }) in plan.lengths.iter().zip(&mut self.lengths) {
            find_outcomes(
                &signed,
                length,
                |unlimited| bounds.iter_mut().for_each(|bounds| bounds.add(samples, unlimited)),
                |found| tallies.add(length, samples, found),
            );
        }
        Ok(())
    }
}
