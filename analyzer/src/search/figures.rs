//! What each candidate does to each layer: the figures that a search chooses and judges by.

use crate::accuracy::{ErrorSums, Estimate};
use crate::result::PassResult;
use mercury_trace::geometry::Pass;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

/// Figures of a pass over some captured steps; they add up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Cycles without and with reuse.
    pub cycles: [u64; 2],
    /// Cycles without reuse on an array with the multiply-accumulates of a unit for signatures as well.
    pub equal_macs: u64,
    /// Cycles of waiting for DRAM, without and with reuse.
    pub stalls: [u64; 2],
    /// Energy without and with reuse.
    pub energy: [f64; 2],
    /// Squared norms of the result's change and of the exact result; 0 where no error was computed.
    pub squares: [f64; 2],
    /// Upper 95 % limit of the absolute change of the loss, nats; infinite if it is not known.
    pub loss_limit: f64,
    /// Captured vectors, and HITs among them.
    pub vectors: [u64; 2],
    /// Multiply-accumulates of the exact result.
    pub macs: u64,
    /// Those of them that reuse saves, net of what HITs and variants compute.
    pub macs_saved: i64,
    /// Whether the cycles are a bound.
    pub is_bound: bool,
}

impl Figures {
    /// Those of a result.
    pub fn new(result: &PassResult) -> Self {
        let estimate = result.error.as_ref().map(ErrorSums::estimate);
        let squares = estimate.map_or([0.0; 2], |estimate| [estimate.change().max(0.0), estimate.exact()]);
        Self {
            cycles: [result.baseline, result.mercury.total()],
            equal_macs: result.demand.baseline_equal_macs,
            stalls: [result.baseline_traffic.stall, result.traffic.stall],
            energy: result.energy,
            squares,
            loss_limit: if result.pass == Pass::Forward { limit_loss(result.reuse, estimate) } else { 0.0 },
            vectors: [result.vectors, result.counts.hit],
            macs: result.macs,
            macs_saved: result.macs_saved_net,
            is_bound: result.demand.is_bound,
        }
    }

    /// Relative error of the pass's result.
    pub fn error(&self) -> f64 {
        let [change, exact] = self.squares;
        if change > 0.0 { (change / exact).sqrt() } else { 0.0 }
    }

    /// Cycles divided by those with reuse.
    pub fn speed_up(&self) -> f64 {
        self.cycles[0] as f64 / self.cycles[1] as f64
    }

    /// Share of the multiply-accumulates that reuse saves, net; `None` without any.
    pub fn computations_saved(&self) -> Option<f64> {
        (self.macs > 0).then(|| self.macs_saved as f64 / self.macs as f64)
    }

    /// Share of the vectors that hit; `None` without vectors.
    pub fn hit_rate(&self) -> Option<f64> {
        let [vectors, hits] = self.vectors;
        (vectors > 0).then(|| hits as f64 / vectors as f64)
    }
}

/// Upper limit of the absolute change of the loss.
fn limit_loss(reuse: bool, estimate: Option<Estimate>) -> f64 {
    if !reuse {
        return 0.0;
    }
    let bounds = estimate.and_then(|estimate| estimate.loss_change()).and_then(|change| change.bounds);
    bounds.map_or(f64::INFINITY, |[low, high]| low.abs().max(high.abs()))
}

impl AddAssign for Figures {
    fn add_assign(&mut self, more: Self) {
        for side in 0..2 {
            self.cycles[side] += more.cycles[side];
            self.stalls[side] += more.stalls[side];
            self.energy[side] += more.energy[side];
            self.squares[side] += more.squares[side];
            self.vectors[side] += more.vectors[side];
        }
        self.equal_macs += more.equal_macs;
        self.macs += more.macs;
        self.macs_saved += more.macs_saved;
        self.loss_limit += more.loss_limit;
        self.is_bound |= more.is_bound;
    }
}

impl Add for Figures {
    type Output = Self;

    fn add(mut self, more: Self) -> Self {
        self += more;
        self
    }
}

impl Sum for Figures {
    fn sum<I: Iterator<Item = Self>>(figures: I) -> Self {
        figures.fold(Self::default(), Add::add)
    }
}

/// A pass of a layer in a part, under a configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PassFigures {
    /// Sums.
    pub figures: Figures,
    /// Cycles without each one of the samples in turn.
    pub leave_one_out: Vec<[u64; 2]>,
}

/// Figures of all candidates in a part of what was captured: a step, or some samples of one; with one projection.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Number of the projection.
    pub seed: usize,
    /// The captured step.
    pub step: u64,
    /// Share of the step's samples that were not captured.
    pub left_out: f64,
    /// `[layers][configurations][passes]`; `None` where a layer was not captured or has no such pass.
    passes: Vec<Vec<[Option<PassFigures>; 3]>>,
}

impl Part {
    /// A part without results, of so many layers and configurations.
    pub fn new(seed: usize, layers: usize, configurations: usize) -> Self {
        Self { seed, step: 0, left_out: 0.0, passes: vec![vec![[None, None, None]; configurations]; layers] }
    }

    /// Adds the result of a configuration, by its number here.
    pub fn add(&mut self, configuration: usize, result: &PassResult) {
        self.step = result.step;
        self.left_out = 1.0 - result.samples as f64 / f64::from(result.batch);
        let pass = PassFigures { figures: Figures::new(result), leave_one_out: result.leave_one_out.clone() };
        self.passes[result.layer_index][configuration][result.pass as usize] = Some(pass);
    }

    /// The figures of a pass.
    pub fn pass(&self, layer: usize, configuration: usize, pass: Pass) -> Option<&PassFigures> {
        self.passes[layer][configuration][pass as usize].as_ref()
    }
}
