//! Sums over a result's elements, and what they tell of the whole batch where some were left out.

use mercury_reuse::Deviation;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Sums of some elements: |Y|², |Y' - Y|², <Y, Y' - Y> and <dY, Y' - Y>.
pub type Moments = [f64; 4];

/// Variances and covariances of estimates of [`Moments`].
pub type Covariance = [[f64; 4]; 4];

pub const EXACT: usize = 0;
pub const CHANGE: usize = 1;
const LOSS: usize = 3;

/// Standard normal quantile of a two-sided 95 % interval.
pub const NORMAL: f64 = 1.959_964;

pub(super) fn add(sum: &mut Moments, more: &Moments) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

pub(super) fn add_covariance(sum: &mut Covariance, more: &Covariance, factor: f64) {
    for (sum, more) in sum.iter_mut().flatten().zip(more.iter().flatten()) {
        *sum += factor * more;
    }
}

/// Sample covariance of values; zero of less than two.
pub(super) fn covariance(values: &[Moments]) -> Covariance {
    let n = values.len() as f64;
    let mut covariance = Covariance::default();
    if values.len() < 2 {
        return covariance;
    }
    let mut mean = Moments::default();
    for value in values {
        add(&mut mean, value);
    }
    for mean in &mut mean {
        *mean /= n;
    }
    for value in values {
        for (i, row) in covariance.iter_mut().enumerate() {
            for (j, sum) in row.iter_mut().enumerate() {
                *sum += (value[i] - mean[i]) * (value[j] - mean[j]) / (n - 1.0);
            }
        }
    }
    covariance
}

/// The sums of a sample from some of its parts (output positions), of which it has `all`; and their
/// covariances, zero where all were summed.
///
/// Parts are drawn without replacement and their sums scaled up (Cochran, Sampling Techniques, 1977,
/// sections 2.5 and 2.6).
pub fn of_parts(parts: &[Moments], all: usize) -> (Moments, Covariance) {
    let mut sum = Moments::default();
    for part in parts {
        add(&mut sum, part);
    }
    let mut spread = Covariance::default();
    if parts.len() < all {
        let (n, all) = (parts.len() as f64, all as f64);
        for sum in &mut sum {
            *sum *= all / n;
        }
        add_covariance(&mut spread, &covariance(parts), all * (all - n) / n);
    }
    (sum, spread)
}

/// Sums of a batch's result, as they are told from samples that add up to it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OfBatch {
    /// The estimates, as those of so many samples as were kept.
    pub moments: Moments,
    /// Their covariances.
    pub covariance: Covariance,
    /// Kept samples.
    pub samples: usize,
}

/// A result's sums, by kept sample of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorSums {
    /// Of each kept sample, or estimated from some of its positions; of a weight gradient, to which samples
    /// add up, of all together.
    samples: Vec<Moments>,
    /// Covariances of these estimates, added up.
    within: Covariance,
    /// Of a result to which samples add up: what is known of the batch's.
    batch: Option<OfBatch>,
    /// Samples of the batch for each kept one.
    of_each: f64,
    /// Whether dY was there, too.
    has_loss: bool,
}

impl ErrorSums {
    /// Of no sample yet; each stands for `of_each` of the batch.
    pub fn new(of_each: f64, has_loss: bool) -> Self {
        Self { samples: Vec::new(), within: Covariance::default(), batch: None, of_each, has_loss }
    }

    /// Of a result to which samples add up, so that nothing is known of one by itself.
    pub fn of_all((moments, within): (Moments, Covariance), of_each: f64) -> Self {
        Self { samples: vec![moments], within, batch: None, of_each, has_loss: false }
    }

    /// The same, with what is known of the batch's.
    #[must_use]
    pub fn with_batch(self, batch: Option<OfBatch>) -> Self {
        Self { batch, ..self }
    }

    /// Adds the next sample.
    pub fn push(&mut self, (moments, within): (Moments, Covariance)) {
        self.samples.push(moments);
        add_covariance(&mut self.within, &within, 1.0);
    }

    /// Adds another result of the same samples: of a product or layer beside.
    pub fn add(&mut self, other: &Self) {
        self.samples.resize(self.samples.len().max(other.samples.len()), Moments::default());
        self.samples.iter_mut().zip(&other.samples).for_each(|(sum, more)| add(sum, more));
        add_covariance(&mut self.within, &other.within, 1.0);
        // Known of the sum where it is known of both.
        self.batch = self.batch.zip(other.batch).map(|(mut sum, more)| {
            add(&mut sum.moments, &more.moments);
            add_covariance(&mut sum.covariance, &more.covariance, 1.0);
            sum
        });
        self.has_loss &= other.has_loss;
    }

    /// Whether there is nothing to speak of: where nothing of what was kept meets (channels and filters of
    /// other groups), nothing is known.
    pub fn is_empty(&self) -> bool {
        self.samples.iter().all(|moments| moments[EXACT] == 0.0 && moments[CHANGE] == 0.0)
    }

    /// The same result without reuse.
    #[must_use]
    pub fn without_reuse(mut self) -> Self {
        self.samples.iter_mut().for_each(|moments| moments[CHANGE..].fill(0.0));
        let variance = self.within[EXACT][EXACT];
        self.within = Covariance::default();
        self.within[EXACT][EXACT] = variance;
        if let Some(OfBatch { moments, covariance, .. }) = &mut self.batch {
            moments[CHANGE..].fill(0.0);
            let variance = covariance[EXACT][EXACT];
            *covariance = Covariance::default();
            covariance[EXACT][EXACT] = variance;
        }
        self
    }

    /// What they tell of the batch: samples are drawn from it, positions from each of them (Cochran,
    /// section 10.3).
    pub fn estimate(&self) -> Estimate {
        let mut totals = Moments::default();
        self.samples.iter().for_each(|moments| add(&mut totals, moments));
        let mut spread = Covariance::default();
        let drawn = self.of_each > 1.0 && self.samples.len() > 1;
        if drawn {
            let kept = self.samples.len() as f64;
            add_covariance(&mut spread, &covariance(&self.samples), kept * (1.0 - 1.0 / self.of_each));
        }
        add_covariance(&mut spread, &self.within, if drawn { 1.0 / self.of_each } else { 1.0 });
        let mut freedom = if drawn { self.samples.len() as f64 - 1.0 } else { f64::INFINITY };
        let mut center = totals;
        if let Some(OfBatch { moments, covariance, samples }) = &self.batch {
            center = *moments;
            add_covariance(&mut spread, covariance, 1.0);
            freedom = *samples as f64 - 1.0;
        }
        Estimate {
            totals,
            center,
            covariance: spread,
            freedom,
            bounded: drawn || self.batch.is_some() || self.of_each <= 1.0,
            of_each: self.of_each,
            has_loss: self.has_loss,
        }
    }
}

/// A value and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The estimate.
    pub value: f64,
    /// Where the interval begins and ends; none where nothing is known of what was left out.
    pub bounds: Option<[f64; 2]>,
}

/// Sums over the kept samples with the covariances with which they stand for the batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    totals: Moments,
    /// What intervals are around: the totals, but of a result to which samples add up those of the batch's.
    center: Moments,
    covariance: Covariance,
    /// Degrees of freedom of Student's t.
    freedom: f64,
    of_each: f64,
    /// Whether something is known of other samples of the batch.
    bounded: bool,
    has_loss: bool,
}

impl std::iter::Sum for Estimate {
    /// Of results of samples of their own, such as those of several steps.
    fn sum<I: Iterator<Item = Self>>(mut iter: I) -> Self {
        let mut sum = iter.next().unwrap_or_else(|| ErrorSums::new(1.0, false).estimate());
        for other in iter {
            add(&mut sum.totals, &other.totals);
            add(&mut sum.center, &other.center);
            add_covariance(&mut sum.covariance, &other.covariance, 1.0);
            sum.freedom += other.freedom;
            sum.bounded &= other.bounded;
            sum.has_loss &= other.has_loss;
        }
        sum
    }
}

impl Estimate {
    /// The mean over so many steps: of the change of the loss, as nothing else depends on their number.
    #[must_use]
    pub fn mean_of(self, steps: usize) -> Self {
        let mut mean = self;
        let scale = 1.0 / steps.max(1) as f64;
        mean.totals[LOSS] *= scale;
        mean.center[LOSS] *= scale;
        for i in 0..4 {
            mean.covariance[i][LOSS] *= scale;
            mean.covariance[LOSS][i] *= scale;
        }
        mean
    }

    /// The same, without a change of the loss unless it is known.
    #[must_use]
    pub fn with_loss_if(self, known: bool) -> Self {
        Self { has_loss: self.has_loss && known, ..self }
    }

    /// |Y|² of the kept samples.
    pub fn exact(&self) -> f64 {
        self.totals[EXACT]
    }

    /// |Y' - Y|² of the kept samples.
    pub fn change(&self) -> f64 {
        self.totals[CHANGE]
    }

    fn deviation(&self) -> Deviation {
        deviation(&self.totals)
    }

    /// Relative error |Y' - Y| / |Y|; the interval is that of its square, by linearisation.
    pub fn relative(&self) -> Interval {
        let Deviation { exact, change, .. } = deviation(&self.center);
        let ratio = change / exact;
        self.root(self.deviation().relative(), ratio, [-ratio / exact, 1.0 / exact, 0.0, 0.0])
    }

    /// |Y'| / |Y|, likewise.
    pub fn norm_ratio(&self) -> Interval {
        let Deviation { exact, change, cross } = deviation(&self.center);
        let ratio = (exact + 2.0 * cross + change) / exact;
        let slope = [(1.0 - ratio) / exact, 1.0 / exact, 2.0 / exact, 0.0];
        self.root(self.deviation().norm_ratio(), ratio, slope)
    }

    /// Cosine of the angle between Y and Y', by linearisation.
    pub fn cosine(&self) -> Interval {
        let around = deviation(&self.center);
        let Deviation { exact, change, cross } = around;
        let (dot, reused) = (exact + cross, exact + 2.0 * cross + change);
        let norms = (exact * reused).sqrt();
        let cube = norms * norms * norms;
        let slope = [
            1.0 / norms - dot * (reused + exact) / (2.0 * cube),
            -dot * exact / (2.0 * cube),
            1.0 / norms - dot * exact / cube,
            0.0,
        ];
        let (value, around) = (self.deviation().cosine(), around.cosine());
        let bounds = self.half(slope).map(|half| [(around - half).max(-1.0), (around + half).min(1.0)]);
        Interval { value, bounds: bounds.map(|bounds| with(bounds, value)) }
    }

    /// First-order change of the batch's mean loss, in nats: <dY, Y' - Y>; none where dY is missing.
    pub fn loss_change(&self) -> Option<Interval> {
        let value = self.totals[LOSS] * self.of_each;
        let bounds = self.half([0.0, 0.0, 0.0, self.of_each]).map(|half| [value - half, value + half]);
        self.has_loss.then_some(Interval { value, bounds })
    }

    /// The interval of the root of a ratio, cut off at 0.
    fn root(&self, value: f64, ratio: f64, slope: Moments) -> Interval {
        let bounds = self.half(slope).map(|half| {
            if half == 0.0 { [value; 2] } else { with([(ratio - half).max(0.0).sqrt(), (ratio + half).sqrt()], value) }
        });
        Interval { value, bounds }
    }

    /// Half the width of the interval of what has this slope in the sums: 0 where all was summed; none where
    /// nothing is known of what was not, and where the slope is no number, as of a result that vanishes.
    fn half(&self, slope: Moments) -> Option<f64> {
        if !self.bounded {
            return None;
        }
        if self.covariance.iter().flatten().all(|&entry| entry == 0.0) {
            return Some(0.0);
        }
        if slope.iter().any(|slope| !slope.is_finite()) {
            return None;
        }
        let mut variance = 0.0;
        for (i, row) in self.covariance.iter().enumerate() {
            for (j, entry) in row.iter().enumerate() {
                variance += slope[i] * entry * slope[j];
            }
        }
        let quantile = if self.freedom.is_finite() {
            StudentsT::new(0.0, 1.0, self.freedom).map_or(NORMAL, |t| t.inverse_cdf(0.975))
        } else {
            NORMAL
        };
        // Below this, logarithms of the distribution differ between machines.
        let quantile = (quantile * 1e6).round() / 1e6;
        Some(quantile * variance.max(0.0).sqrt())
    }
}

fn deviation(&[exact, change, cross, _]: &Moments) -> Deviation {
    Deviation { exact, change, cross }
}

/// An interval that holds the value, too, which is of the kept samples where the interval is around the batch's.
fn with([low, high]: [f64; 2], value: f64) -> [f64; 2] {
    [low.min(value), high.max(value)]
}

#[cfg(test)]
#[path = "sums_tests.rs"]
mod tests;
