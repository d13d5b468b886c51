//! Outcomes dealt to PE sets, and the time of the rounds that they make.

use super::deal::{Dealer, Plane, Round};
use super::{RowProduct, scale};
use crate::timing::row_stationary::{Discipline, Mapping, Schedule, Scratch, Shape};
use crate::timing::{Dealing, DealtCycles, LayerProduct, SigningUnit};
use mercury_reuse::{Outcomes, VectorView};
use mercury_trace::geometry::{Geometry, Pass};
use rayon::prelude::*;

/// Outcomes of samples dealt to PE sets, and the time that they took so far.
#[derive(Debug, Clone)]
pub struct RowDealing {
    product: RowProduct,
    dealt: Dealt,
}

#[derive(Debug, Clone)]
enum Dealt {
    /// Of a convolution, sample by sample.
    Planes {
        schedule: Box<Schedule>,
        /// The rounds of each sample.
        samples: Vec<RoundsCycles>,
        /// Rounds of a sample.
        rounds: u64,
    },
    /// Of a matrix product, once it was dealt: cycles of the batch, estimated from all kept samples and from all but
    /// each of them.
    Rows(Option<(DealtCycles, Vec<DealtCycles>)>),
}

/// Cycles of consecutive rounds. Rounds like the first follow the last.
#[derive(Debug, Clone, Copy, Default)]
struct RoundsCycles {
    /// By which they advance the schedule.
    compute: u64,
    /// In addition, as MCACHE delivers results more slowly.
    delivery: u64,
    /// In addition, as the unit signs the next round more slowly than this one is computed.
    waiting: u64,
    /// The part of `waiting` in the last round.
    last_waiting: u64,
    /// Of signing the first round.
    first_signing: u64,
}

impl RowDealing {
    /// Begins without samples.
    pub(super) fn new(product: RowProduct) -> Self {
        let dealt = if product.is_convolution() {
            let schedule = Box::new(product.schedule(&product.mapping));
            Dealt::Planes { schedule, samples: Vec::new(), rounds: 0 }
        } else {
            Dealt::Rows(None)
        };
        Self { product, dealt }
    }
}

impl Dealing for RowDealing {
    fn add(&mut self, view: &VectorView, outcomes: &Outcomes) {
        match &mut self.dealt {
            Dealt::Planes { schedule, samples, rounds } => {
                for sample in self.product.deal_planes(view, outcomes) {
                    *rounds = sample.len() as u64;
                    samples.push(self.product.time_rounds(schedule, &sample, view.windows().taps() as u64));
                }
            }
            Dealt::Rows(cycles) => {
                assert!(cycles.is_none(), "a matrix product's samples come all at once");
                *cycles = Some(self.product.deal_matrix(outcomes, view.max_length() as u64));
            }
        }
    }

    /// The kept samples represent the batch: a convolution by the number of rounds, a matrix product by the part of their
    /// own baseline that its kept vectors save. Without one of a convolution's samples, the schedule is taken to be
    /// shorter by the cycles that this sample's rounds advance it. That is exact if all sets meet at their end.
    fn cycles(&self, without: Option<usize>) -> DealtCycles {
        match &self.dealt {
            Dealt::Planes { samples, rounds, .. } => {
                let kept = || samples.iter().enumerate().filter(|&(sample, _)| Some(sample) != without);
                let (all, fed) = (self.product.mapping.rounds(), rounds * kept().count() as u64);
                let sum =
                    |part: fn(&RoundsCycles) -> u64| scale(kept().map(|(_, rounds)| part(rounds)).sum(), all, fed);
                let ends = kept().map(|(_, rounds)| (rounds.first_signing, rounds.last_waiting)).next_back();
                let (first_signing, last_waiting) = ends.unwrap_or_default();
                DealtCycles {
                    compute: sum(|rounds| rounds.compute),
                    delivery: sum(|rounds| rounds.delivery),
                    // The batch's first round waits for its signatures; nothing follows its last.
                    signature: (first_signing + sum(|rounds| rounds.waiting)).saturating_sub(last_waiting),
                }
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

/// A channel of a stream's vectors.
struct Channel {
    stream: usize,
    /// Its number among the vectors' channels.
    number: usize,
    is_last: bool,
}

impl RowProduct {
    /// The rounds of each sample of a convolution: consecutive channels of a sample are on the array at once, whether
    /// they belong to one vector or to several.
    fn deal_planes(&self, view: &VectorView, outcomes: &Outcomes) -> Vec<Vec<Round>> {
        let layout = outcomes.layout();
        let dealer = self.dealer(&self.mapping, view.windows().x.positions as usize, layout.positions);
        let taps = view.windows().taps();
        let streams = view.streams().iter().map(|stream| stream.length / taps).enumerate();
        let channels: Vec<Channel> = streams
            .flat_map(|(stream, count)| {
                (0..count).map(move |number| Channel { stream, number, is_last: number + 1 == count })
            })
            .collect();
        let rounds: Vec<&[Channel]> = channels.chunks(self.mapping.choice().channel_lanes as usize).collect();
        let deal_round = |round: usize| {
            let (sample, channels) = (round / rounds.len(), rounds[round % rounds.len()]);
            let plane = |(lane, channel): (usize, &Channel)| {
                let first = (sample * layout.streams + channel.stream) * layout.positions;
                let plane = Plane::new(outcomes, [first], layout.positions);
                plane.with_channel(channel.number.min(lane), channel.is_last)
            };
            dealer.deal(&channels.iter().enumerate().map(plane).collect::<Vec<_>>())
        };
        let all = layout.samples * rounds.len();
        let mut dealt = (0..all).into_par_iter().map(deal_round).collect::<Vec<Round>>().into_iter();
        (0..layout.samples).map(|_| dealt.by_ref().take(rounds.len()).collect()).collect()
    }

    /// Cycles of a matrix product of the whole batch, estimated from all kept samples and from all but each.
    fn deal_matrix(&self, outcomes: &Outcomes, length: u64) -> (DealtCycles, Vec<DealtCycles>) {
        let samples = outcomes.layout().samples;
        let estimate = |without: Option<usize>| {
            let samples: Vec<usize> = (0..samples).filter(|&sample| Some(sample) != without).collect();
            let LayerProduct { geometry, pass, number, .. } = &self.product;
            let kept = Shape::from_layer(geometry, *pass, samples.len() as u32, self.array.per_sample)[*number];
            let kept = Mapping::new(&kept, &self.array.array);
            let cycles = self.time_matrix(&kept, outcomes, &samples, length);
            let all = |cycles: u64| scale(cycles, self.mapping.baseline().compute, kept.baseline().compute);
            DealtCycles {
                compute: all(cycles.compute),
                delivery: all(cycles.delivery),
                signature: all(cycles.first_signing + cycles.waiting - cycles.last_waiting),
            }
        };
        let without = if samples > 1 {
            (0..samples).into_par_iter().map(|sample| estimate(Some(sample))).collect()
        } else {
            Vec::new()
        };
        (estimate(None), without)
    }

    /// Cycles of a matrix product's samples: a plane is one head of a sample, a sample's rows, or the rows of all
    /// samples.
    fn time_matrix(&self, mapping: &Mapping, outcomes: &Outcomes, samples: &[usize], length: u64) -> RoundsCycles {
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
        let rounds: Vec<Round> = planes.chunks(lanes.max(1)).map(|planes| dealer.deal(planes)).collect();
        self.time_rounds(&mut self.schedule(mapping), &rounds, length)
    }

    /// Runs rounds whose vectors have `elements` elements in a channel. A round takes the longest of computing, of
    /// delivering its results, and of signing the next round beside the array.
    fn time_rounds(&self, schedule: &mut Schedule, rounds: &[Round], elements: u64) -> RoundsCycles {
        let mut scratch = Scratch::default();
        let signing = |round: &Round| self.sign(round.vectors * elements);
        let mut sum = RoundsCycles { first_signing: rounds.first().map_or(0, signing), ..RoundsCycles::default() };
        let mut before = schedule.timeline().cycles;
        for (number, round) in rounds.iter().enumerate() {
            schedule.scope_in(&round.work, &mut scratch);
            let now = schedule.timeline().cycles;
            let compute = now - std::mem::replace(&mut before, now);
            let delivery = self.deliver(round.hits).saturating_sub(compute);
            let next = signing(&rounds[(number + 1) % rounds.len()]);
            sum.last_waiting = next.saturating_sub(compute + delivery);
            sum.compute += compute;
            sum.delivery += delivery;
            sum.waiting += sum.last_waiting;
        }
        sum
    }

    /// Cycles in which a unit beside the array signs vectors of so many elements.
    fn sign(&self, elements: u64) -> u64 {
        match self.product.pass {
            // The forward pass's signatures are kept.
            Pass::WeightGrad => 0,
            Pass::Forward | Pass::InputGrad => self.array.signing.cycles(elements * u64::from(self.product.bits)),
        }
    }

    /// Cycles in which MCACHE delivers the results of HITs, of all filters.
    fn deliver(&self, hits: u64) -> u64 {
        match (self.product.pass, self.array.results_per_cycle) {
            // Gradients are added to sums in the buffer.
            (Pass::WeightGrad, _) | (_, 0) => 0,
            (_, results) => (hits * self.mapping.shape().filters).div_ceil(results),
        }
    }

    pub(super) fn is_convolution(&self) -> bool {
        matches!(self.product.geometry, Geometry::Conv2d(_))
    }

    fn schedule(&self, mapping: &Mapping) -> Schedule {
        Schedule::new(self.array.discipline, mapping.sets() as usize, mapping.filters_per_set())
    }

    fn dealer(&self, mapping: &Mapping, row_length: usize, places: usize) -> Dealer {
        let waits = self.product.pass != Pass::WeightGrad;
        Dealer::new(mapping, &self.array, waits, row_length, places)
    }

    /// Whether signatures take time of the array.
    pub(super) fn signs_on_array(&self) -> bool {
        self.product.pass != Pass::WeightGrad && self.array.signing == SigningUnit::Array
    }
}
