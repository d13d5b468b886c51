//! Row-stationary cycles of a layer's pass: its mapping, and its Hitmap dealt to PE sets.
//!
//! Samples may come a few at a time: [`RowProduct::deal`] turns a Hitmap into rounds of the PE sets,
//! [`Dealt::add`] times them, [`RowProduct::mercury`] says what it comes to. Of a convolution under many caches
//! [`Dealer::deal_run`] says what a lane does with a run, for all at once, and [`RowProduct::add_runs`] times that.

mod deal;

use super::MercuryCycles;
use super::row_stationary::{Discipline, Mapping, PeArray, Schedule, ScopeWork, Scratch, Shape};
use deal::Plane;
pub use deal::{Dealer, LaneWork};
use mercury_reuse::{Hitmap, Layout, VectorView};
use mercury_trace::geometry::{Geometry, Pass};
use rayon::prelude::*;

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

/// One product of a layer's pass, for the whole batch.
#[derive(Debug, Clone)]
pub struct RowProduct {
    model: RowArray,
    geometry: Geometry,
    pass: Pass,
    number: usize,
    batch: Mapping,
    bits: u32,
}

/// What the PE sets do for some samples.
#[derive(Debug, Clone)]
pub enum Rounds {
    /// The rounds of each sample of a convolution.
    Planes(Vec<Vec<ScopeWork>>),
    /// Compute cycles of a matrix product of the whole batch, by what all kept samples gain and by what
    /// all but each of them do.
    Rows(u64, Vec<u64>),
}

/// The time of the samples that were dealt so far.
#[derive(Debug, Clone)]
pub enum Dealt {
    /// Of a convolution.
    Planes {
        /// Where the PE sets are.
        schedule: Box<Schedule>,
        /// Cycles that they advanced over each sample's rounds.
        advances: Vec<u64>,
        /// Rounds of a sample.
        rounds: u64,
    },
    /// Of a matrix product, once it was dealt; see [`Rounds::Rows`].
    Rows(Option<(u64, Vec<u64>)>),
}

impl Dealt {
    /// Adds the samples that come next.
    ///
    /// # Panics
    /// If the rounds are of another product, or of a matrix product that was dealt already: its samples come
    /// all at once.
    pub fn add(&mut self, more: &Rounds) {
        match (self, more) {
            (Self::Planes { schedule, advances, rounds }, Rounds::Planes(samples)) => {
                advances.extend(advance(schedule, samples.iter().map(Vec::as_slice)));
                *rounds = samples.first().map_or(*rounds, |sample| sample.len() as u64);
            }
            (Self::Rows(cycles), Rounds::Rows(all, without)) => {
                assert!(cycles.is_none(), "a matrix product's samples come all at once");
                *cycles = Some((*all, without.clone()));
            }
            _ => unreachable!("rounds are of the product that they are added to"),
        }
    }
}

/// How far the schedule advances over each group of rounds, in turn.
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
    /// The product of this number, as [`Geometry::gemms`] counts them.
    pub fn new(model: RowArray, geometry: &Geometry, pass: Pass, product: usize, batch: u32, bits: u32) -> Self {
        let shape = Shape::of_layer(geometry, pass, batch, model.per_sample)[product];
        let batch = Mapping::new(&shape, &model.array);
        Self { model, geometry: *geometry, pass, number: product, batch, bits }
    }

    /// How the product of the whole batch is laid on the array.
    pub fn mapping(&self) -> &Mapping {
        &self.batch
    }

    /// How the product that computes its signatures is.
    pub fn signatures(&self) -> Mapping {
        Mapping::new(&self.batch.shape().signatures(u64::from(self.bits)), &self.model.array)
    }

    /// Cycles of the baseline.
    pub fn baseline(&self) -> u64 {
        self.batch.baseline().total()
    }

    /// Cycles with reuse, from the kept samples but `without`.
    ///
    /// What was kept stands for the batch: rounds of a convolution in proportion to their number, a
    /// matrix product by what its kept vectors gain over their own baseline. Without one of a
    /// convolution's samples its schedule is taken to be shorter by as much as it advances over that
    /// sample's rounds: exact where all sets meet at their end, else nearly so.
    pub fn mercury(&self, dealt: &Dealt, without: Option<usize>) -> MercuryCycles {
        let baseline = self.batch.baseline();
        let compute = match dealt {
            Dealt::Planes { advances, rounds, .. } => {
                let kept = || advances.iter().enumerate().filter(|&(sample, _)| Some(sample) != without);
                let cycles = kept().map(|(_, cycles)| cycles).sum();
                scale(cycles, self.batch.rounds(), rounds * kept().count() as u64)
            }
            Dealt::Rows(cycles) => {
                let (all, of_others) = cycles.as_ref().expect("a product is dealt before it is timed");
                without.map_or(*all, |sample| of_others[sample])
            }
        };
        let signature = match self.pass {
            Pass::WeightGrad => 0,
            _ => self.signatures().baseline().total(),
        };
        MercuryCycles {
            signature,
            compute: compute + baseline.overhead(),
            stall: baseline.network.saturating_sub(compute),
            extra: 0,
        }
    }

    /// Before any sample.
    pub fn begin(&self) -> Dealt {
        if let Geometry::Conv2d(_) = self.geometry {
            Dealt::Planes { schedule: Box::new(self.schedule(&self.batch)), advances: Vec::new(), rounds: 0 }
        } else {
            Dealt::Rows(None)
        }
    }

    /// What the PE sets do for samples: of a convolution any, of a matrix product all that were kept.
    pub fn deal(&self, view: &VectorView, hitmap: &Hitmap) -> Rounds {
        if let Geometry::Conv2d(_) = self.geometry {
            return Rounds::Planes(self.convolution(view, hitmap));
        }
        let samples = hitmap.layout().samples;
        let compute = |without: Option<usize>| {
            let samples: Vec<usize> = (0..samples).filter(|&sample| Some(sample) != without).collect();
            let kept = Shape::of_layer(&self.geometry, self.pass, samples.len() as u32, self.model.per_sample);
            let kept = Mapping::new(&kept[self.number], &self.model.array);
            scale(self.product(&kept, hitmap, &samples), self.batch.baseline().compute, kept.baseline().compute)
        };
        let without = if samples > 1 {
            (0..samples).into_par_iter().map(|sample| compute(Some(sample))).collect()
        } else {
            Vec::new()
        };
        Rounds::Rows(compute(None), without)
    }

    fn schedule(&self, mapping: &Mapping) -> Schedule {
        Schedule::new(self.model.discipline, mapping.sets() as usize, mapping.filters_per_set())
    }

    /// Consecutive channels of a sample are on the array at once.
    fn convolution(&self, view: &VectorView, hitmap: &Hitmap) -> Vec<Vec<ScopeWork>> {
        let layout = hitmap.layout();
        let dealer = self.dealer(&self.batch, view.windows().x.positions as usize, layout.positions);
        let lanes = self.batch.choice().channel_lanes as usize;
        let rounds_of_sample = layout.streams.div_ceil(lanes);
        let round = |round: usize| {
            let (sample, lane) = (round / rounds_of_sample, round % rounds_of_sample * lanes);
            let streams = lane..(lane + lanes).min(layout.streams);
            let plane = |stream: usize| {
                Plane::new(hitmap, [(sample * layout.streams + stream) * layout.positions], layout.positions)
            };
            dealer.deal(&streams.map(plane).collect::<Vec<_>>())
        };
        let rounds: Vec<ScopeWork> = (0..layout.samples * rounds_of_sample).into_par_iter().map(round).collect();
        let mut rounds = rounds.into_iter();
        (0..layout.samples).map(|_| rounds.by_ref().take(rounds_of_sample).collect()).collect()
    }

    /// What deals a convolution's runs one by one; none of a matrix product.
    pub fn run_dealer(&self, view: &VectorView) -> Option<Dealer> {
        let Geometry::Conv2d(_) = self.geometry else { return None };
        Some(self.dealer(&self.batch, view.windows().x.positions as usize, view.layout().positions))
    }

    /// Adds samples of a convolution to `dealt`, as [`Dealt::add`] does what [`RowProduct::deal`] gives, from what each
    /// run's lane does, and under which of its caches.
    ///
    /// # Panics
    /// If it is that of a matrix product.
    pub fn add_runs<'l>(
        &self,
        dealt: &mut Dealt,
        dealer: &Dealer,
        layout: Layout,
        lanes: impl Fn(usize) -> (&'l LaneWork, usize),
    ) {
        let Dealt::Planes { schedule, advances, rounds } = dealt else { unreachable!("runs are a convolution's") };
        let at_once = self.batch.choice().channel_lanes as usize;
        *rounds = layout.streams.div_ceil(at_once) as u64;
        let (mut round, mut scratch) = (ScopeWork::default(), Scratch::default());
        for sample in 0..layout.samples {
            let before = schedule.timeline().cycles;
            for first in (0..layout.streams).step_by(at_once) {
                let streams = first..layout.streams.min(first + at_once);
                dealer.round(streams.map(|stream| lanes(sample * layout.streams + stream)), &mut round);
                schedule.scope_in(&round, &mut scratch);
            }
            advances.push(schedule.timeline().cycles - before);
        }
    }

    /// Compute cycles of a matrix product's samples: a plane is one head of a sample, a sample's rows, or
    /// the rows of all samples.
    fn product(&self, mapping: &Mapping, hitmap: &Hitmap, samples: &[usize]) -> u64 {
        let layout = hitmap.layout();
        let of_sample = layout.streams * layout.positions;
        let planes: Vec<Plane> = match self.geometry {
            Geometry::Linear(_) if !self.model.per_sample => {
                vec![Plane::new(hitmap, samples.iter().map(|sample| sample * of_sample), of_sample)]
            }
            _ => {
                let firsts = samples.iter().flat_map(|&sample| {
                    (0..layout.streams).map(move |stream| sample * of_sample + stream * layout.positions)
                });
                firsts.map(|first| Plane::new(hitmap, [first], layout.positions)).collect()
            }
        };
        let longest = planes.iter().map(Plane::vectors).max().unwrap_or(0);
        let dealer = self.dealer(mapping, mapping.shape().output[1] as usize, longest);
        let lanes = mapping.choice().channel_lanes as usize;
        let rounds: Vec<ScopeWork> = planes.chunks(lanes.max(1)).map(|planes| dealer.deal(planes)).collect();
        advance(&mut self.schedule(mapping), std::iter::once(rounds.as_slice())).iter().sum()
    }

    fn dealer(&self, mapping: &Mapping, row_length: usize, places: usize) -> Dealer {
        let waits = self.pass != Pass::WeightGrad;
        Dealer::new(mapping, self.model.hit_cycles, waits, row_length, places)
    }
}

fn scale(cycles: u64, all: u64, fed: u64) -> u64 {
    (u128::from(cycles) * u128::from(all) / u128::from(fed.max(1))) as u64
}

#[cfg(test)]
mod tests;
