//! When enough of a result was evaluated: the rule that ends sampling.

use super::sums::{CHANGE, Covariance, EXACT, Moments, NORMAL, estimate_total};

/// Positions that a sample begins with.
pub const PILOT: usize = 64;

/// Positions that reuse changes before a variance is believed: of fewer, the largest may not have been seen.
const LEAST_CHANGED: usize = 30;

/// Most by which a draw multiplies the positions looked at, as the variance that it is planned by is an estimate.
const GROWTH: f64 = 4.0;

/// The squared error |Y' - Y|² / |Y|² is a ratio of sums, so to first order its variance is that of
/// |Y' - Y|² - ratio * |Y|², over |Y|⁴ (Cochran, Sampling Techniques, 1977, section 2.11).
pub fn residual_variance(covariance: &Covariance, ratio: f64) -> f64 {
    let [exact, change, both] = [covariance[EXACT][EXACT], covariance[CHANGE][CHANGE], covariance[EXACT][CHANGE]];
    (change - 2.0 * ratio * both + ratio * ratio * exact).max(0.0)
}

/// The residual variance up to which an estimate with these sums is as precise as asked for: half the interval of the
/// squared error is within twice the precision of it, so that of the error itself is within the precision.
pub fn allowed_variance(change: f64, precision: f64) -> f64 {
    (2.0 * precision * change / NORMAL).powi(2)
}

/// Sums of the samples of a result that were evaluated so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunningSums {
    exact: f64,
    change: f64,
}

impl RunningSums {
    /// Adds the estimate of a sample.
    pub fn add(&mut self, moments: &Moments) {
        self.exact += moments[EXACT];
        self.change += moments[CHANGE];
    }

    /// Estimates a sample's sums from as many of its positions, in this random order, as are needed, and adds the
    /// estimate. `evaluate` gives the moments at positions; without HITs reuse changes none of them.
    pub fn draw(
        &mut self,
        order: &[u32],
        precision: f64,
        has_hits: bool,
        mut evaluate: impl FnMut(&[u32]) -> Vec<Moments>,
    ) -> (Moments, Covariance) {
        let all = order.len();
        let mut parts: Vec<Moments> = Vec::new();
        let mut needed = PILOT.min(all);
        loop {
            parts.extend(evaluate(&order[parts.len()..needed]));
            let estimate = estimate_total(&parts, all);
            let changed = parts.iter().filter(|moments| moments[CHANGE] > 0.0).count();
            needed = self.positions_needed(&estimate, precision, changed, parts.len(), all);
            if needed <= parts.len() || !has_hits {
                self.add(&estimate.0);
                return estimate;
            }
        }
    }

    /// How many of a sample's `all` positions should be evaluated, given estimates from `drawn` of them, `changed` of
    /// which reuse changes: no more than `drawn` if these suffice.
    ///
    /// Let e be the sample's |Y' - Y|² and E that of the samples up to it. The sample's variance has to stay within the
    /// part e E of what is allowed for 1. These parts add up to less than the square of the last E, so the layer's
    /// estimate is precise for any number of samples, and no sample needs to know those after it.
    fn positions_needed(
        &self,
        (moments, covariance): &(Moments, Covariance),
        precision: f64,
        changed: usize,
        drawn: usize,
        all: usize,
    ) -> usize {
        if drawn >= all {
            return all;
        }
        let mut sums = *self;
        sums.add(moments);
        if changed < LEAST_CHANGED {
            return all.min(2 * drawn);
        }
        let variance = residual_variance(covariance, sums.change / sums.exact);
        let allowed = allowed_variance((moments[CHANGE] * sums.change).sqrt(), precision);
        if variance <= allowed {
            return drawn;
        }
        // The variance is in proportion to 1 / n - 1 / N.
        let (n, most) = (drawn as f64, all as f64);
        let needed = 1.0 / ((1.0 / n - 1.0 / most) * allowed / variance + 1.0 / most);
        (needed.min(GROWTH * n).ceil() as usize).clamp(drawn + 1, all)
    }
}

/// How many of each stream's `all` columns should be drawn, given the variance of a column's residual within streams,
/// added up over the streams, and what the variance of their sums may be.
pub fn columns_needed(variance: f64, allowed: f64, all: usize) -> usize {
    // Of n drawn from N columns of each stream the sums vary by N (N - n) / n times the variance.
    let most = all as f64;
    let needed = most * most * variance / (allowed + most * variance);
    if needed.is_finite() { (needed.ceil() as usize).min(all) } else { all }
}

#[cfg(test)]
mod tests {
    use super::super::ErrorSums;
    use super::*;

    const PRECISION: f64 = 0.02;

    fn estimate(change: f64, variance: f64) -> (Moments, Covariance) {
        let mut covariance = Covariance::default();
        covariance[CHANGE][CHANGE] = variance;
        ([100.0, change, 0.0, 0.0], covariance)
    }

    #[test]
    fn sampling_ends_at_the_precision_asked_for() {
        let sums = RunningSums::default();
        let precise = (0.04 * 10.0 / NORMAL).powi(2);
        assert_eq!(sums.positions_needed(&estimate(10.0, 0.99 * precise), PRECISION, 40, 100, 1000), 100);
        // Without replacement 1 / n - 1 / N has to halve: 1 / (0.009 / 2 + 0.001).
        assert_eq!(sums.positions_needed(&estimate(10.0, 2.0 * precise), PRECISION, 40, 100, 1000), 182);
        assert_eq!(sums.positions_needed(&estimate(10.0, 1e9), PRECISION, 40, 100, 1000), 400);
        assert_eq!(sums.positions_needed(&estimate(10.0, 1e9), PRECISION, 40, 400, 1000), 1000);
        assert_eq!(sums.positions_needed(&estimate(10.0, 1e9), PRECISION, 40, 1000, 1000), 1000);
    }

    #[test]
    fn a_variance_from_few_changed_positions_is_not_believed() {
        let sums = RunningSums::default();
        assert_eq!(sums.positions_needed(&estimate(0.0, 0.0), PRECISION, 0, 64, 1000), 128);
        assert_eq!(sums.positions_needed(&estimate(0.0, 0.0), PRECISION, 29, 512, 1000), 1000);
    }

    /// The parts of all samples together allow no more than the whole.
    #[test]
    fn samples_share_what_is_allowed() {
        let changes = [3.0, 0.5, 8.0, 1.0, 2.0];
        let (mut sums, mut variance) = (RunningSums::default(), 0.0);
        for change in changes {
            sums.add(&[1.0, change, 0.0, 0.0]);
            variance += allowed_variance((change * sums.change).sqrt(), PRECISION);
        }
        assert!(variance <= allowed_variance(changes.iter().sum(), PRECISION));
    }

    /// Moments of a sample's positions: reuse changes a third, a few of them very much.
    fn population(sample: u64, positions: u64) -> Vec<Moments> {
        let position = |i: u64| {
            let noise = (i + 1000 * sample + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let exact = 1.0 + f64::from(noise as u32 % 100) / 50.0;
            let change = if noise.is_multiple_of(3) {
                f64::from(noise as u32 % 37) * if noise.is_multiple_of(101) { 20.0 } else { 1.0 }
            } else {
                0.0
            };
            [exact, exact * change / 100.0, 0.0, 0.0]
        };
        (0..positions).map(position).collect()
    }

    /// Stopping by the estimates does not make intervals too narrow, nor the error less precise than asked for.
    #[test]
    fn intervals_hold_the_error_about_as_often_as_they_say() {
        let samples: Vec<Vec<Moments>> = (0..3).map(|sample| population(sample, 40_000)).collect();
        let mut truth = ErrorSums::new(1.0, false);
        for sample in &samples {
            truth.push(estimate_total(sample, sample.len()));
        }
        let truth = truth.estimate().relative().value;
        let (mut held, mut precise) = (0, 0);
        let (mut drawn, seeds) = (0, 200);
        for seed in 0..seeds {
            let (mut sums, mut errors) = (RunningSums::default(), ErrorSums::new(1.0, false));
            for (number, sample) in (0..).zip(&samples) {
                let order = mercury_reuse::shuffle(sample.len(), 1000 * seed + number);
                errors.push(sums.draw(&order, PRECISION, true, |positions| {
                    drawn += positions.len();
                    positions.iter().map(|&position| sample[position as usize]).collect()
                }));
            }
            let found = errors.estimate().relative();
            let [low, high] = found.bounds.expect("an interval");
            held += u32::from((low..=high).contains(&truth));
            precise += u32::from((found.value / truth - 1.0).abs() <= PRECISION);
            assert!(high - found.value <= 1.05 * PRECISION * found.value, "{found:?}");
        }
        assert!((180..=200).contains(&held), "{held} of {seeds} hold the error");
        assert!(precise >= 180, "{precise} of {seeds} are as precise as asked for");
        // A part of the 120,000 positions.
        let mean = drawn / seeds as usize;
        assert!((1000..60_000).contains(&mean), "{mean} positions");
    }

    #[test]
    fn columns_are_planned_by_their_variance() {
        // Of 10 from 100: 100 * 90 / 10 times the variance.
        assert_eq!(columns_needed(1.0, 900.0, 100), 10);
        assert_eq!(columns_needed(0.0, 900.0, 100), 0);
        assert_eq!(columns_needed(1.0, 0.0, 100), 100);
        assert_eq!(columns_needed(f64::NAN, 0.0, 100), 100);
    }
}
