//! Row-stationary cycles of a layer's pass: its mapping, and its outcomes dealt to PE sets.

mod deal;

use super::MercuryCycles;
use super::dataflow::{Dataflow, Dealing, LayerProduct, ProductModel};
use super::memory::{MemoryModel, ProductWords, Traffic};
use super::row_stationary::{Discipline, Mapping, PeArray, Schedule, ScopeWork, Scratch, Shape};
use crate::timing::Work;
use deal::{Dealer, Plane};
use mercury_reuse::config::{Granularity, Scope};
use mercury_reuse::{Outcomes, VectorView};
use mercury_trace::geometry::{Geometry, Pass};
use rayon::prelude::*;
use std::any::Any;

/// A row-stationary array and how its PE sets wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowArray {
    /// The array.
    pub array: PeArray,
    /// Cycles of a HIT.
    pub hit_cycles: u64,
    /// When a PE set may begin its next filter.
    pub discipline: Discipline,
    /// Whether a fully connected layer's MCACHE is flushed after each sample.
    pub per_sample: bool,
}

impl Dataflow for RowArray {
    fn name(&self) -> &'static str {
        "row stationary"
    }

    fn check(&self, granularity: Granularity, scope: Scope) -> Result<(), String> {
        if scope == Scope::Batch {
            return Err("mcache.scope: is batch, but a row-stationary array ends all filters of one sample's channel \
                        before the next, when an entry holds results of the last mcache.versions filters alone; set it \
                        to channel or sample"
                .to_owned());
        }
        if granularity != Granularity::ChannelPatch {
            return Err(format!(
                "rpq.granularity: is {granularity}, but a row-stationary array runs one channel at a time; set it to \
                 channel-patch"
            ));
        }
        Ok(())
    }

    fn is_equal(&self, other: &dyn Dataflow) -> bool {
        (other as &dyn Any).downcast_ref::<Self>().is_some_and(|other| other == self)
    }

    fn model(&self, product: &LayerProduct) -> Box<dyn ProductModel> {
        Box::new(RowProduct::new(*self, product))
    }
}

/// One product of a layer's pass on a row-stationary array.
#[derive(Debug, Clone)]
pub struct RowProduct {
    array: RowArray,
    product: LayerProduct,
    /// Of the whole batch.
    mapping: Mapping,
}

impl ProductModel for RowProduct {
    fn baseline(&self) -> u64 {
        self.mapping.baseline().total()
    }

    fn mercury(&self, _: &Work, dealt: Option<u64>) -> MercuryCycles {
        let compute = dealt.expect("outcomes are dealt to the PE sets of a row-stationary array");
        let baseline = self.mapping.baseline();
        let signature = match self.product.pass {
            Pass::WeightGrad => 0,
            Pass::Forward | Pass::InputGrad => self.signatures().baseline().total(),
        };
        MercuryCycles {
            signature,
            compute: compute + baseline.overhead(),
            stall: baseline.network.saturating_sub(compute),
            extra: 0,
        }
    }

    fn baseline_traffic(&self, memory: &MemoryModel) -> Traffic {
        memory.dense_rows(&self.mapping, &ProductWords::new(&self.product), self.baseline())
    }

    fn traffic(&self, memory: &MemoryModel, work: &Work, cycles: MercuryCycles) -> Traffic {
        let mappings = [self.mapping, self.signatures()];
        memory.reused_rows(&mappings, &ProductWords::new(&self.product), work, cycles.total())
    }

    fn dealing(&self) -> Option<Box<dyn Dealing>> {
        Some(Box::new(RowDealing::new(self.clone())))
    }
}

/// Outcomes of samples dealt to PE sets, and the time that they took so far.
#[derive(Debug, Clone)]
struct RowDealing {
    product: RowProduct,
    dealt: Dealt,
}

#[derive(Debug, Clone)]
enum Dealt {
    /// Of a convolution, sample by sample.
    Planes {
        schedule: Box<Schedule>,
        /// Cycles by which each sample's rounds advance the schedule.
        advances: Vec<u64>,
        /// Rounds of a sample.
        rounds: u64,
    },
    /// Of a matrix product, once it was dealt: compute cycles of the batch, estimated from all kept samples and from
    /// all but each of them.
    Rows(Option<(u64, Vec<u64>)>),
}

impl RowDealing {
    fn new(product: RowProduct) -> Self {
        let dealt = if product.is_convolution() {
            let schedule = Box::new(product.schedule(&product.mapping));
            Dealt::Planes { schedule, advances: Vec::new(), rounds: 0 }
        } else {
            Dealt::Rows(None)
        };
        Self { product, dealt }
    }
}

impl Dealing for RowDealing {
    fn add(&mut self, view: &VectorView, outcomes: &Outcomes) {
        match &mut self.dealt {
            Dealt::Planes { schedule, advances, rounds } => {
                let samples = self.product.deal_planes(view, outcomes);
                *rounds = samples.first().map_or(*rounds, |sample| sample.len() as u64);
                advances.extend(advance(schedule, samples.iter().map(Vec::as_slice)));
            }
            Dealt::Rows(cycles) => {
                assert!(cycles.is_none(), "a matrix product's samples come all at once");
                *cycles = Some(self.product.deal_matrix(outcomes));
            }
        }
    }

    /// The kept samples represent the batch: a convolution by the number of rounds, a matrix product by the part of their
    /// own baseline that its kept vectors save. Without one of a convolution's samples, the schedule is taken to be
    /// shorter by the cycles that this sample's rounds advance it. That is exact if all sets meet at their end.
    fn compute_cycles(&self, without: Option<usize>) -> u64 {
        match &self.dealt {
            Dealt::Planes { advances, rounds, .. } => {
                let kept = || advances.iter().enumerate().filter(|&(sample, _)| Some(sample) != without);
                let cycles = kept().map(|(_, cycles)| cycles).sum();
                scale(cycles, self.product.mapping.rounds(), rounds * kept().count() as u64)
            }
            Dealt::Rows(cycles) => {
                let (all, others) = cycles.as_ref().expect("a product is dealt before it is timed");
                without.map_or(*all, |sample| others[sample])
            }
        }
    }

    fn takes_all_samples(&self) -> bool {
        matches!(self.dealt, Dealt::Rows(_))
    }

    fn bytes(&self) -> u64 {
        // A time for each PE set, and for each version of an entry.
        let versions = match self.product.array.discipline {
            Discipline::Synchronous => 1,
            Discipline::Asynchronous { versions, .. } => versions,
        };
        self.product.mapping.sets().saturating_add(versions).saturating_mul(size_of::<u64>() as u64)
    }

    fn boxed_clone(&self) -> Box<dyn Dealing> {
        Box::new(self.clone())
    }
}

/// The cycles by which each group of rounds advances the schedule, in turn.
fn advance<'r>(schedule: &mut Schedule, groups: impl Iterator<Item = &'r [ScopeWork]>) -> Vec<u64> {
    let (mut before, mut scratch) = (schedule.timeline().cycles, Scratch::default());
    groups
        .map(|rounds| {
            for round in rounds {
                schedule.scope_in(round, &mut scratch);
            }
            let now = schedule.timeline().cycles;
            now - std::mem::replace(&mut before, now)
        })
        .collect()
}

impl RowProduct {
    /// A product on an array.
    pub fn new(array: RowArray, product: &LayerProduct) -> Self {
        let LayerProduct { geometry, pass, number, batch, .. } = product;
        let shape = Shape::from_layer(geometry, *pass, *batch, array.per_sample)[*number];
        Self { array, product: *product, mapping: Mapping::new(&shape, &array.array) }
    }

    /// How the product of the whole batch is laid on the array.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// How the product that computes its signatures is.
    pub fn signatures(&self) -> Mapping {
        Mapping::new(&self.mapping.shape().signatures(u64::from(self.product.bits)), &self.array.array)
    }

    fn is_convolution(&self) -> bool {
        matches!(self.product.geometry, Geometry::Conv2d(_))
    }

    fn schedule(&self, mapping: &Mapping) -> Schedule {
        Schedule::new(self.array.discipline, mapping.sets() as usize, mapping.filters_per_set())
    }

    /// The rounds of each sample of a convolution: consecutive channels of a sample are on the array at once.
    fn deal_planes(&self, view: &VectorView, outcomes: &Outcomes) -> Vec<Vec<ScopeWork>> {
        let layout = outcomes.layout();
        let dealer = self.dealer(&self.mapping, view.windows().x.positions as usize, layout.positions);
        let lanes = self.mapping.choice().channel_lanes as usize;
        let rounds_per_sample = layout.streams.div_ceil(lanes);
        let deal_round = |round: usize| {
            let (sample, lane) = (round / rounds_per_sample, round % rounds_per_sample * lanes);
            let streams = lane..(lane + lanes).min(layout.streams);
            let plane = |stream: usize| {
                Plane::new(outcomes, [(sample * layout.streams + stream) * layout.positions], layout.positions)
            };
            dealer.deal(&streams.map(plane).collect::<Vec<_>>())
        };
        let rounds: Vec<ScopeWork> = (0..layout.samples * rounds_per_sample).into_par_iter().map(deal_round).collect();
        let mut rounds = rounds.into_iter();
        (0..layout.samples).map(|_| rounds.by_ref().take(rounds_per_sample).collect()).collect()
    }

    /// Compute cycles of a matrix product of the whole batch, estimated from all kept samples and from all but each.
    fn deal_matrix(&self, outcomes: &Outcomes) -> (u64, Vec<u64>) {
        let samples = outcomes.layout().samples;
        let estimate = |without: Option<usize>| {
            let samples: Vec<usize> = (0..samples).filter(|&sample| Some(sample) != without).collect();
            let LayerProduct { geometry, pass, number, .. } = &self.product;
            let kept = Shape::from_layer(geometry, *pass, samples.len() as u32, self.array.per_sample)[*number];
            let kept = Mapping::new(&kept, &self.array.array);
            let cycles = self.time_matrix(&kept, outcomes, &samples);
            scale(cycles, self.mapping.baseline().compute, kept.baseline().compute)
        };
        let without = if samples > 1 {
            (0..samples).into_par_iter().map(|sample| estimate(Some(sample))).collect()
        } else {
            Vec::new()
        };
        (estimate(None), without)
    }

    /// Compute cycles of a matrix product's samples: a plane is one head of a sample, a sample's rows, or
    /// the rows of all samples.
    fn time_matrix(&self, mapping: &Mapping, outcomes: &Outcomes, samples: &[usize]) -> u64 {
        let layout = outcomes.layout();
        let sample_length = layout.streams * layout.positions;
        let planes: Vec<Plane> = match self.product.geometry {
            Geometry::Linear(_) if !self.array.per_sample => {
                vec![Plane::new(outcomes, samples.iter().map(|sample| sample * sample_length), sample_length)]
            }
            _ => {
                let firsts = samples.iter().flat_map(|&sample| {
                    (0..layout.streams).map(move |stream| sample * sample_length + stream * layout.positions)
                });
                firsts.map(|first| Plane::new(outcomes, [first], layout.positions)).collect()
            }
        };
        let longest = planes.iter().map(Plane::vectors).max().unwrap_or(0);
        let dealer = self.dealer(mapping, mapping.shape().output[1] as usize, longest);
        let lanes = mapping.choice().channel_lanes as usize;
        let rounds: Vec<ScopeWork> = planes.chunks(lanes.max(1)).map(|planes| dealer.deal(planes)).collect();
        advance(&mut self.schedule(mapping), std::iter::once(rounds.as_slice())).iter().sum()
    }

    fn dealer(&self, mapping: &Mapping, row_length: usize, places: usize) -> Dealer {
        let waits = self.product.pass != Pass::WeightGrad;
        Dealer::new(mapping, self.array.hit_cycles, waits, row_length, places)
    }
}

fn scale(cycles: u64, all: u64, fed: u64) -> u64 {
    (u128::from(cycles) * u128::from(all) / u128::from(fed.max(1))) as u64
}

#[cfg(test)]
mod tests;
