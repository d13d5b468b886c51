//! Row-stationary cycles of a layer's pass: its mapping, and its Hitmap dealt to PE sets.

use super::MercuryCycles;
use super::row_stationary::{Discipline, Mapping, PeArray, RowCost, RowCounts, Schedule, ScopeWork, Shape};
use mercury_reuse::{Hitmap, Outcome, VectorView};
use mercury_trace::geometry::{Geometry, Pass};
use rayon::prelude::*;
use std::cell::OnceCell;
use std::ops::Range;

/// A row-stationary array and how its PE sets wait for each other.
#[derive(Debug, Clone, Copy)]
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
pub struct RowProduct<'a> {
    model: &'a RowArray,
    geometry: Geometry,
    pass: Pass,
    number: usize,
    batch: Mapping,
    bits: u32,
    /// Of a convolution, the schedule of all samples, made when it is first asked for.
    dealt: OnceCell<Dealt>,
}

impl<'a> RowProduct<'a> {
    /// The product of this number, as [`Geometry::gemms`] counts them.
    pub fn new(model: &'a RowArray, geometry: &Geometry, pass: Pass, product: usize, batch: u32, bits: u32) -> Self {
        let shape = Shape::of_layer(geometry, pass, batch, model.per_sample)[product];
        let batch = Mapping::new(&shape, &model.array);
        Self { model, geometry: *geometry, pass, number: product, batch, bits, dealt: OnceCell::new() }
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

    /// Cycles with reuse, from the outcomes of the kept samples but `without`.
    ///
    /// What was kept stands for the batch: rounds of a convolution in proportion to their number, a
    /// matrix product by what its kept vectors gain over their own baseline. Without one of a
    /// convolution's samples its schedule is taken to be shorter by as much as it advances over that
    /// sample's rounds: exact where all sets meet at their end, else nearly so.
    pub fn mercury(&self, view: &VectorView, hitmap: &Hitmap, without: Option<usize>) -> MercuryCycles {
        let layout = hitmap.layout();
        let samples: Vec<usize> = (0..layout.samples).filter(|&sample| Some(sample) != without).collect();
        let baseline = self.batch.baseline();
        let compute = if let Geometry::Conv2d(_) = self.geometry {
            let dealt = self.dealt.get_or_init(|| self.convolution(view, hitmap));
            let cycles = samples.iter().map(|&sample| dealt.advances[sample]).sum();
            scale(cycles, self.batch.rounds(), dealt.rounds_of_sample * samples.len() as u64)
        } else {
            let kept = Shape::of_layer(&self.geometry, self.pass, samples.len() as u32, self.model.per_sample);
            let kept = Mapping::new(&kept[self.number], &self.model.array);
            scale(self.product(&kept, hitmap, &samples), baseline.compute, kept.baseline().compute)
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

    /// How far the schedule advances over each group of rounds, in turn.
    fn advances<'r>(&self, mapping: &Mapping, groups: impl Iterator<Item = &'r [ScopeWork]>) -> Vec<u64> {
        let mut schedule = Schedule::new(self.model.discipline, mapping.sets() as usize, mapping.filters_per_set());
        let mut before = 0;
        groups
            .map(|rounds| {
                for round in rounds {
                    schedule.scope(round);
                }
                let now = schedule.timeline().cycles;
                now - std::mem::replace(&mut before, now)
            })
            .collect()
    }

    /// Consecutive channels of a sample are on the array at once.
    fn convolution(&self, view: &VectorView, hitmap: &Hitmap) -> Dealt {
        let layout = hitmap.layout();
        let dealer = Dealer::new(self, &self.batch, view.windows().x.positions as usize, layout.positions);
        let lanes = self.batch.choice().channel_lanes as usize;
        let of_sample = |sample: usize| -> Vec<ScopeWork> {
            let first = |stream: usize| (sample * layout.streams + stream) * layout.positions;
            let streams: Vec<usize> = (0..layout.streams).collect();
            let planes = streams.chunks(lanes).map(|lanes| {
                lanes
                    .iter()
                    .map(|&stream| Plane::Whole(first(stream)..first(stream) + layout.positions))
                    .collect::<Vec<_>>()
            });
            planes.map(|planes| dealer.deal(hitmap, &planes)).collect()
        };
        let rounds: Vec<Vec<ScopeWork>> = (0..layout.samples).into_par_iter().map(of_sample).collect();
        let advances = self.advances(&self.batch, rounds.iter().map(Vec::as_slice));
        Dealt { advances, rounds_of_sample: rounds.first().map_or(0, Vec::len) as u64 }
    }

    /// Compute cycles of a matrix product's samples: a plane is one head of a sample, a sample's rows, or
    /// the rows of all samples.
    fn product(&self, mapping: &Mapping, hitmap: &Hitmap, samples: &[usize]) -> u64 {
        let layout = hitmap.layout();
        let of_sample = layout.streams * layout.positions;
        let planes: Vec<Plane> = match self.geometry {
            Geometry::Linear(_) if !self.model.per_sample => {
                let rows = samples.iter().flat_map(|&sample| sample * of_sample..(sample + 1) * of_sample);
                vec![Plane::Some(rows.collect())]
            }
            _ => samples
                .iter()
                .flat_map(|&sample| {
                    (0..layout.streams).map(move |stream| {
                        let first = sample * of_sample + stream * layout.positions;
                        Plane::Whole(first..first + layout.positions)
                    })
                })
                .collect(),
        };
        let longest = planes.iter().map(Plane::vectors).max().unwrap_or(0);
        let dealer = Dealer::new(self, mapping, mapping.shape().output[1] as usize, longest);
        let lanes = mapping.choice().channel_lanes as usize;
        let rounds: Vec<ScopeWork> = planes.chunks(lanes.max(1)).map(|planes| dealer.deal(hitmap, planes)).collect();
        self.advances(mapping, std::iter::once(rounds.as_slice())).iter().sum()
    }
}

/// A convolution's schedule.
struct Dealt {
    /// Cycles that it advances over each sample's rounds.
    advances: Vec<u64>,
    rounds_of_sample: u64,
}

/// The vectors of a scope that one lane works on, in order.
enum Plane {
    Whole(Range<usize>),
    Some(Vec<usize>),
}

impl Plane {
    fn vectors(&self) -> usize {
        match self {
            Plane::Whole(vectors) => vectors.len(),
            Plane::Some(vectors) => vectors.len(),
        }
    }
}

/// Deals the outcomes of planes to PE sets.
struct Dealer<'a> {
    mapping: &'a Mapping,
    cost: RowCost,
    /// Whether a HIT waits for the set that computes its result; additions of gradients wait for nobody.
    waits: bool,
    row_length: usize,
    /// The column of PEs, of a strip's, that takes the vector at each place of a plane.
    columns: Vec<u32>,
}

impl<'a> Dealer<'a> {
    fn new(product: &RowProduct, mapping: &'a Mapping, row_length: usize, places: usize) -> Self {
        let strip = mapping.choice().strip as usize;
        Self {
            mapping,
            cost: mapping.row_cost(product.model.hit_cycles),
            waits: product.pass != Pass::WeightGrad,
            row_length,
            columns: (0..places).map(|place| (place / row_length % strip) as u32).collect(),
        }
    }

    /// A round: one plane a lane.
    fn deal(&self, hitmap: &Hitmap, planes: &[Plane]) -> ScopeWork {
        let strip = self.mapping.choice().strip as usize;
        let mut work = vec![0; self.mapping.sets() as usize];
        let mut reuses = Vec::new();
        // Whether a column of the lane's strip copies from another.
        let mut copies = vec![false; strip * strip];
        for (lane, plane) in planes.iter().enumerate() {
            let work = &mut work[lane * strip..][..strip];
            match plane {
                Plane::Whole(vectors) => {
                    let place = |vector: usize| (vectors.contains(&vector)).then(|| vector - vectors.start);
                    self.lane(hitmap, vectors.clone(), place, work, &mut copies);
                }
                Plane::Some(vectors) => {
                    let place = |vector: usize| vectors.binary_search(&vector).ok();
                    self.lane(hitmap, vectors.iter().copied(), place, work, &mut copies);
                }
            }
            for (pair, copies) in copies.iter_mut().enumerate().filter(|(_, copies)| **copies) {
                *copies = false;
                let (set, from) = (pair / strip, pair % strip);
                if set != from {
                    reuses.push(((lane * strip + set) as u32, (lane * strip + from) as u32));
                }
            }
        }
        ScopeWork { work, reuses }
    }

    /// One lane; `place` finds a vector of the plane.
    fn lane(
        &self,
        hitmap: &Hitmap,
        vectors: impl Iterator<Item = usize>,
        place: impl Fn(usize) -> Option<usize>,
        work: &mut [u64],
        copies: &mut [bool],
    ) {
        let strip = work.len();
        let mut counts = RowCounts::default();
        let mut last = 0;
        for (at, vector) in vectors.enumerate() {
            if at > 0 && at % self.row_length == 0 {
                work[self.columns[at - 1] as usize] += self.cost.row(std::mem::take(&mut counts));
            }
            last = at;
            let Outcome::Hit(representative) = hitmap.outcome(vector) else {
                counts.computed += 1;
                continue;
            };
            counts.hit += 1;
            // What an earlier scope computed is there already.
            if self.waits
                && let Some(from) = place(representative as usize)
            {
                copies[self.columns[at] as usize * strip + self.columns[from] as usize] = true;
            }
        }
        if counts != RowCounts::default() {
            work[self.columns[last] as usize] += self.cost.row(counts);
        }
    }
}

fn scale(cycles: u64, all: u64, fed: u64) -> u64 {
    (u128::from(cycles) * u128::from(all) / u128::from(fed.max(1))) as u64
}

#[cfg(test)]
mod tests;
