//! Sums over a result's elements, and estimates for the whole batch from sampled positions and
//! samples.

use mercury_reuse::Deviation;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Sums over some elements of a result Y and its counterpart with reuse Y':
/// |Y|², |Y' - Y|², <Y, Y' - Y> and <dY, Y' - Y>.
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

/// Sample covariance of values; zero for fewer than two.
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

/// Estimates the sums of a sample from the sums of some of its parts (output positions); the sample
/// has `all` parts. Also returns the covariances of the estimates, which are zero if all parts are
/// given.
///
/// The parts are drawn without replacement, and their sums are scaled up (Cochran, Sampling
/// Techniques, 1977, sections 2.5 and 2.6).
pub fn estimate_total(parts: &[Moments], all: usize) -> (Moments, Covariance) {
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

/// Estimated sums of a batch's result that is a sum over samples, such as a weight gradient.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BatchEstimate {
    /// The estimates, scaled to the number of kept samples.
    pub moments: Moments,
    /// Their covariances.
    pub covariance: Covariance,
    /// Number of kept samples.
    pub samples: usize,
}

/// The sums of a result in one step, by kept sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorSums {
    /// One entry per kept sample, possibly estimated from some of its positions. A weight gradient
    /// is a sum over samples and has one entry for all samples together.
    samples: Vec<Moments>,
    /// Sum of the covariances of these estimates.
    within: Covariance,
    /// Estimate for the batch, for a result that is a sum over samples.
    batch: Option<BatchEstimate>,
    /// Number of samples of the batch per kept sample.
    samples_per_kept: f64,
    /// Whether dY was captured, so that the change of the loss is known.
    has_loss: bool,
}

impl ErrorSums {
    /// Begins without samples. Each sample will represent `samples_per_kept` samples of the batch.
    pub fn new(samples_per_kept: f64, has_loss: bool) -> Self {
        Self { samples: Vec::new(), within: Covariance::default(), batch: None, samples_per_kept, has_loss }
    }

    /// The sums of a result that is a sum over samples, so that single samples have no sums.
    pub fn from_total((moments, within): (Moments, Covariance), samples_per_kept: f64) -> Self {
        Self { samples: vec![moments], within, batch: None, samples_per_kept, has_loss: false }
    }

    /// Adds the estimate for the batch.
    #[must_use]
    pub fn with_batch(self, batch: Option<BatchEstimate>) -> Self {
        Self { batch, ..self }
    }

    /// Adds the next sample.
    pub fn push(&mut self, (moments, within): (Moments, Covariance)) {
        self.samples.push(moments);
        add_covariance(&mut self.within, &within, 1.0);
    }

    /// Adds the sums of another result for the same samples, such as another product or layer.
    pub fn add(&mut self, other: &Self) {
        self.samples.resize(self.samples.len().max(other.samples.len()), Moments::default());
        self.samples.iter_mut().zip(&other.samples).for_each(|(sum, more)| add(sum, more));
        add_covariance(&mut self.within, &other.within, 1.0);
        // The sum is known only if both are known.
        self.batch = self.batch.zip(other.batch).map(|(mut sum, more)| {
            add(&mut sum.moments, &more.moments);
            add_covariance(&mut sum.covariance, &more.covariance, 1.0);
            sum
        });
        self.has_loss &= other.has_loss;
    }

    /// Whether all sums are zero. They are if no kept channel is connected to a kept filter
    /// (different groups of a convolution); then nothing is known of the result.
    pub fn is_empty(&self) -> bool {
        self.samples.iter().all(|moments| moments[EXACT] == 0.0 && moments[CHANGE] == 0.0)
    }

    /// The sums of the same result without reuse: Y' = Y.
    #[must_use]
    pub fn without_reuse(mut self) -> Self {
        self.samples.iter_mut().for_each(|moments| moments[CHANGE..].fill(0.0));
        let variance = self.within[EXACT][EXACT];
        self.within = Covariance::default();
        self.within[EXACT][EXACT] = variance;
        if let Some(BatchEstimate { moments, covariance, .. }) = &mut self.batch {
            moments[CHANGE..].fill(0.0);
            let variance = covariance[EXACT][EXACT];
            *covariance = Covariance::default();
            covariance[EXACT][EXACT] = variance;
        }
        self
    }

    /// Estimates the batch's values by two-stage sampling: samples are drawn from the batch,
    /// positions from each sample (Cochran, section 10.3).
    pub fn estimate(&self) -> Estimate {
        let mut totals = Moments::default();
        self.samples.iter().for_each(|moments| add(&mut totals, moments));
        let mut spread = Covariance::default();
        let drawn = self.samples_per_kept > 1.0 && self.samples.len() > 1;
        if drawn {
            let kept = self.samples.len() as f64;
            add_covariance(&mut spread, &covariance(&self.samples), kept * (1.0 - 1.0 / self.samples_per_kept));
        }
        // The estimate of a batch has covariances of its own.
        if self.batch.is_none() {
            add_covariance(&mut spread, &self.within, if drawn { 1.0 / self.samples_per_kept } else { 1.0 });
        }
        let mut freedom = if drawn { self.samples.len() as f64 - 1.0 } else { f64::INFINITY };
        let mut center = totals;
        if let Some(BatchEstimate { moments, covariance, samples }) = &self.batch {
            center = *moments;
            add_covariance(&mut spread, covariance, 1.0);
            freedom = *samples as f64 - 1.0;
        }
        Estimate {
            totals,
            center,
            covariance: spread,
            freedom,
            bounded: drawn || self.batch.is_some() || self.samples_per_kept <= 1.0,
            samples_per_kept: self.samples_per_kept,
            has_loss: self.has_loss,
        }
    }
}

/// A value and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The estimate.
    pub value: f64,
    /// Lower and upper bound; `None` if nothing is known of the samples that were left out.
    pub bounds: Option<[f64; 2]>,
}

/// Sums over the kept samples, and their covariances as estimates for the batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    totals: Moments,
    /// Centre of the intervals: `totals`, or the estimate for the batch if the result is a sum over
    /// samples.
    center: Moments,
    covariance: Covariance,
    /// Degrees of freedom of Student's t.
    freedom: f64,
    samples_per_kept: f64,
    /// Whether intervals are known: from several samples, or because all samples were kept.
    bounded: bool,
    has_loss: bool,
}

impl std::iter::Sum for Estimate {
    /// Sums estimates with independent samples, such as those of several steps.
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
    /// Turns the change of the loss into a mean over `steps`. All other values are ratios of sums
    /// and stay.
    #[must_use]
    pub fn average_over(self, steps: usize) -> Self {
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

    /// Removes the change of the loss unless it is `known`.
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

    /// Relative error |Y' - Y| / |Y|. Its interval is the root of the linearised interval of its
    /// square.
    pub fn relative(&self) -> Interval {
        let Deviation { exact, change, .. } = deviation(&self.center);
        let ratio = change / exact;
        self.root(self.deviation().relative(), ratio, [-ratio / exact, 1.0 / exact, 0.0, 0.0])
    }

    /// Degrees of freedom of Student's t in the intervals.
    pub fn freedom(&self) -> f64 {
        self.freedom
    }

    /// Norm ratio |Y'| / |Y|, with an interval as in [`Estimate::relative`].
    pub fn norm_ratio(&self) -> Interval {
        let Deviation { exact, change, cross } = deviation(&self.center);
        let ratio = (exact + 2.0 * cross + change) / exact;
        let slope = [(1.0 - ratio) / exact, 1.0 / exact, 2.0 / exact, 0.0];
        self.root(self.deviation().norm_ratio(), ratio, slope)
    }

    /// Cosine of the angle between Y and Y', with a linearised interval.
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
        let bounds = self.half_width(slope).map(|half| [(around - half).max(-1.0), (around + half).min(1.0)]);
        Interval { value, bounds: bounds.map(|bounds| extend_to(bounds, value)) }
    }

    /// First-order change of the batch's mean loss, <dY, Y' - Y>, in nats; `None` if dY was not
    /// captured.
    pub fn loss_change(&self) -> Option<Interval> {
        let value = self.totals[LOSS] * self.samples_per_kept;
        let bounds = self.half_width([0.0, 0.0, 0.0, self.samples_per_kept]).map(|half| [value - half, value + half]);
        self.has_loss.then_some(Interval { value, bounds })
    }

    /// The interval of the root of a ratio, cut off at 0. `slope` is the gradient of the ratio.
    fn root(&self, value: f64, ratio: f64, slope: Moments) -> Interval {
        let bounds = self.half_width(slope).map(|half| {
            if half == 0.0 {
                return [value; 2];
            }
            extend_to([(ratio - half).max(0.0).sqrt(), (ratio + half).sqrt()], value)
        });
        Interval { value, bounds }
    }

    /// Half the width of the interval of a value with this gradient by the [`Moments`].
    ///
    /// It is 0 if everything was summed. It is `None` if nothing is known of the parts that were
    /// left out, or if the gradient is not finite, as for an all-zero result.
    fn half_width(&self, slope: Moments) -> Option<f64> {
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
        // Logarithms in the distribution differ between machines below 1e-6.
        let quantile = (quantile * 1e6).round() / 1e6;
        Some(quantile * variance.max(0.0).sqrt())
    }
}

fn deviation(&[exact, change, cross, _]: &Moments) -> Deviation {
    Deviation { exact, change, cross }
}

/// Extends an interval to contain `value`: the value is that of the kept samples, but the interval
/// may be centred on the estimate for the batch.
fn extend_to([low, high]: [f64; 2], value: f64) -> [f64; 2] {
    [low.min(value), high.max(value)]
}

#[cfg(test)]
#[path = "sums_tests.rs"]
mod tests;
