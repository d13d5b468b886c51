//! Confidence intervals of speed-ups: only some samples of a step are captured.

use crate::accuracy::NORMAL;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Degrees of freedom from which on Student's t is taken to be normal: quantiles differ by 1e-6.
const NEARLY_NORMAL: f64 = 1e6;

/// Cycles of a step, each pair `[baseline, MERCURY]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// Sum over all captured samples.
    pub total: [u64; 2],
    /// For each captured sample, the sum over the others.
    pub leave_one_out: Vec<[u64; 2]>,
    /// Share of the step's samples that were not captured, 0 to 1.
    pub left_out: f64,
}

/// A speed-up, and how far that of the captured samples may lie from it.
///
/// The n captured samples are a random draw from the samples of a step. The variance is that of the delete-one jackknife
/// (Efron 1982): the ratio is recomputed without each sample in turn. Student's t has n - 1 degrees of freedom. The
/// finite-population correction (Cochran, Sampling Techniques, 1977, section 2.6) makes the variance 0 if all samples of
/// the step were captured. Every step has its own samples (a stratum), so the steps' variances add up, and so do their
/// degrees of freedom. Where MCACHE lives longer than a sample, leaving a sample out removes its counts but not its
/// entries in the cache.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampled {
    /// The ratio of baseline and MERCURY cycles.
    pub value: f64,
    variance: f64,
    /// Degrees of freedom; 0 if all samples were captured.
    freedom: f64,
}

impl Sampled {
    /// The speed-up of steps whose cycles sum to `total`. `None` if fewer than two samples of a step were captured, unless
    /// these are all.
    pub fn new(total: [u64; 2], steps: &[Step]) -> Option<Self> {
        let ratio = |[baseline, mercury]: [u64; 2]| baseline as f64 / mercury as f64;
        let (mut variance, mut freedom) = (0.0, 0.0);
        for step in steps.iter().filter(|step| step.left_out > 0.0) {
            let n = step.leave_one_out.len();
            if n < 2 {
                return None;
            }
            let without =
                |left: &[u64; 2]| ratio([total[0] - step.total[0] + left[0], total[1] - step.total[1] + left[1]]);
            let ratios: Vec<f64> = step.leave_one_out.iter().map(without).collect();
            variance += step.left_out * sum_squares(&ratios) * (n - 1) as f64 / n as f64;
            freedom += (n - 1) as f64;
        }
        (!steps.is_empty()).then(|| Self { value: ratio(total), variance, freedom })
    }

    /// From a 95 % interval that was found otherwise, by Student's t of `freedom` degrees.
    pub fn from_interval(value: f64, [low, high]: [f64; 2], freedom: f64) -> Self {
        Self { value, variance: ((high - low) / 2.0 / find_quantile(freedom)).powi(2), freedom }
    }

    /// 95 % interval over samples.
    pub fn interval(&self) -> [f64; 2] {
        bounds(self.value, self.variance, self.freedom)
    }
}

/// 95 % interval for the speed-up under a further projection, from those under some: a prediction interval (the mean, and
/// the variance of a further draw around it) to which the variance over samples is added. All projections see the same
/// samples, so their variances over samples are averaged, with the degrees of freedom of one. Degrees of freedom are Welch and Satterthwaite's
/// (Satterthwaite 1946). `None` for fewer than two projections.
pub fn over_projections(projections: &[Sampled]) -> Option<[f64; 2]> {
    let n = projections.len() as f64;
    if projections.len() < 2 {
        return None;
    }
    let mean = projections.iter().map(|sampled| sampled.value).sum::<f64>() / n;
    let squares = sum_squares(&projections.iter().map(|sampled| sampled.value).collect::<Vec<_>>());
    let further = squares / (n - 1.0) * (1.0 + 1.0 / n);
    let sampling = projections.iter().map(|sampled| sampled.variance).sum::<f64>() / n;
    let terms = [(further, n - 1.0), (sampling, projections[0].freedom)];
    Some(bounds(mean, further + sampling, join_freedom(&terms)))
}

/// 95 % interval of the mean speed-up over training steps and projections, from a draw of each: `cycles[projection][step]`
/// are pairs `[baseline, MERCURY]`, and all projections see the same steps.
///
/// Steps differ in their batches, so this interval covers batches even where all samples of a step were captured. The
/// variance between steps is that of the delete-one jackknife (Efron 1982) of the mean over projections, that between
/// projections their sample variance divided by their number. Their sum has the degrees of freedom of Satterthwaite
/// (1946). What varies with step and projection together counts twice, so the interval is too wide rather than too narrow.
/// `None` for fewer than two steps.
pub fn over_steps(cycles: &[Vec<[u64; 2]>]) -> Option<[f64; 2]> {
    let steps = cycles.first()?.len();
    if steps < 2 {
        return None;
    }
    let projections = cycles.len() as f64;
    let by_projection: Vec<f64> = cycles.iter().map(|steps| divide_sums(steps, None)).collect();
    let by_step: Vec<f64> = (0..steps).map(|step| average_without(cycles, step)).collect();
    let between_steps = sum_squares(&by_step) * (steps - 1) as f64 / steps as f64;
    let between_projections = sum_squares(&by_projection) / (projections - 1.0).max(1.0) / projections;
    let terms = [(between_steps, steps as f64 - 1.0), (between_projections, projections - 1.0)];
    let mean = by_projection.iter().sum::<f64>() / projections;
    Some(bounds(mean, between_steps + between_projections, join_freedom(&terms)))
}

/// The mean speed-up over projections without a step.
fn average_without(cycles: &[Vec<[u64; 2]>], step: usize) -> f64 {
    cycles.iter().map(|steps| divide_sums(steps, Some(step))).sum::<f64>() / cycles.len() as f64
}

/// The sum of baseline cycles divided by that of cycles with reuse, over all steps but one.
fn divide_sums(steps: &[[u64; 2]], left_out: Option<usize>) -> f64 {
    let mut sums = [0; 2];
    for (_, cycles) in steps.iter().enumerate().filter(|(number, _)| Some(*number) != left_out) {
        sums = [sums[0] + cycles[0], sums[1] + cycles[1]];
    }
    sums[0] as f64 / sums[1] as f64
}

/// Sum of squared differences from the mean.
fn sum_squares(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| (value - mean).powi(2)).sum()
}

/// Degrees of freedom of a sum of variances, each with its own (Satterthwaite 1946).
fn join_freedom(terms: &[(f64, f64)]) -> f64 {
    let spread: f64 = terms.iter().map(|(variance, _)| variance).sum();
    let parts = terms.iter().filter(|(variance, _)| *variance > 0.0);
    spread.powi(2) / parts.map(|(variance, freedom)| variance.powi(2) / freedom).sum::<f64>()
}

/// The quantile of a two-sided 95 % interval.
fn find_quantile(freedom: f64) -> f64 {
    match StudentsT::new(0.0, 1.0, freedom) {
        Ok(distribution) if freedom < NEARLY_NORMAL => distribution.inverse_cdf(0.975),
        _ => NORMAL,
    }
}

/// The interval over samples of one projection, or over samples and projections of several.
pub fn cover(projections: &[Sampled]) -> Option<[f64; 2]> {
    match projections {
        [one] => Some(one.interval()),
        several => over_projections(several),
    }
}

/// Bounds of a 95 % interval by Student's t, rounded to 1e-6: below that, logarithms differ between machines.
fn bounds(value: f64, variance: f64, freedom: f64) -> [f64; 2] {
    let round = |bound: f64| (bound * 1e6).round() / 1e6;
    let half = if variance > 0.0 { find_quantile(freedom) * variance.sqrt() } else { 0.0 };
    [round(value - half), round(value + half)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speed_up(step: &Step) -> Option<[f64; 2]> {
        stratified(step.total, std::slice::from_ref(step))
    }

    fn stratified(total: [u64; 2], steps: &[Step]) -> Option<[f64; 2]> {
        Some(Sampled::new(total, steps)?.interval())
    }

    #[test]
    fn equal_samples_give_a_point_and_one_sample_gives_no_interval() {
        let step = |leave_one_out: &[[u64; 2]], left_out| Step {
            total: [400, 200],
            leave_one_out: leave_one_out.to_vec(),
            left_out,
        };
        assert_eq!(speed_up(&step(&[[300, 150]; 4], 1.0)), Some([2.0, 2.0]));
        assert_eq!(speed_up(&step(&[], 1.0)), None);
        assert_eq!(speed_up(&step(&[[0, 0]], 1.0)), None);
        // All samples of the step were captured.
        assert_eq!(speed_up(&step(&[[300, 100], [100, 100]], 0.0)), Some([2.0, 2.0]));
        assert_eq!(speed_up(&step(&[], 0.0)), Some([2.0, 2.0]));
    }

    #[test]
    fn steps_add_their_variances() {
        let step =
            |left: [u64; 2]| Step { total: [3, 2], leave_one_out: left.map(|base| [base, 1]).to_vec(), left_out: 1.0 };
        // The total is [6, 4]. Without a sample of the first step the ratios are (3 + 1) / 3 and (3
        // + 2) / 3, and likewise for the second step.
        let [low, high] = stratified([6, 4], &[step([1, 2]), step([1, 2])]).unwrap();
        // Each variance is 2 (1/6)^2 / 2; Student's t of 2 degrees of freedom is 4.302653.
        let half = 4.302_653 * (2.0f64 / 36.0).sqrt();
        assert!((low - (1.5 - half)).abs() < 2e-6 && (high - (1.5 + half)).abs() < 2e-6, "{low} {high}");
        assert_eq!(stratified([6, 4], &[step([1, 2]), Step { left_out: 1.0, ..Step::default() }]), None);
        assert_eq!(stratified([6, 4], &[]), None);
    }

    #[test]
    fn a_further_projection_adds_its_variance() {
        let sampled = |value, variance| Sampled { value, variance, freedom: 3.0 };
        // Mean 1.2, variance 0.01 between projections, 4/3 of it for a further one; t of 2 degrees is 4.302653.
        let [low, high] = over_projections(&[1.1, 1.2, 1.3].map(|value| sampled(value, 0.0))).unwrap();
        let half = 4.302_653 * (0.01 * 4.0 / 3.0_f64).sqrt();
        assert!((low - (1.2 - half)).abs() < 2e-6 && (high - (1.2 + half)).abs() < 2e-6, "{low} {high}");
        // Equal projections: the interval over samples, of 3 degrees.
        let [low, high] = over_projections(&[sampled(1.2, 0.01); 4]).unwrap();
        assert!((high - low - 2.0 * 3.182_446 * 0.1).abs() < 4e-6, "{low} {high}");
        assert_eq!(over_projections(&[sampled(1.2, 0.0); 2]), Some([1.2, 1.2]));
        assert_eq!(over_projections(&[sampled(1.2, 0.01)]), None);
    }

    /// Of many draws of three projections, 95 % of the intervals hold a fourth.
    #[test]
    fn a_further_projection_lies_within() {
        let mut state = 1_u64;
        let mut normal = || {
            // The sum of 12 uniform numbers, less 6.
            let uniform = |state: &mut u64| {
                *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (*state >> 11) as f64 / (1_u64 << 53) as f64
            };
            (0..12).map(|_| uniform(&mut state)).sum::<f64>() - 6.0
        };
        let within = (0..4000).filter(|_| {
            let drawn = [0; 4].map(|_| 1.5 + 0.1 * normal());
            let known = [drawn[0], drawn[1], drawn[2]].map(|value| Sampled { value, variance: 0.0, freedom: 0.0 });
            let [low, high] = over_projections(&known).unwrap();
            (low..=high).contains(&drawn[3])
        });
        let share = within.count() as f64 / 4000.0;
        assert!((0.94..0.96).contains(&share), "{share}");
    }

    #[test]
    fn steps_and_projections_add_their_variances() {
        // Equal MERCURY cycles: the ratio is the mean of 1, 2, 3, 6, with standard error 1.080123 (see below).
        let steps = |scale: u64| [1u64, 2, 3, 6].map(|base| [base * scale, 100]).to_vec();
        let [low, high] = over_steps(&[steps(100)]).unwrap();
        let half = 3.182_446 * 1.080_123;
        assert!((low - (3.0 - half)).abs() < 1e-5 && (high - (3.0 + half)).abs() < 1e-5, "{low} {high}");
        // Projections of 2.7 and 3.3: variance 0.18 / 2 with one degree of freedom beside 1.080123² with three.
        let variances = [1.080_123f64.powi(2), 0.09];
        let freedom = (variances[0] + variances[1]).powi(2) / (variances[0].powi(2) / 3.0 + variances[1].powi(2));
        let [low, high] = over_steps(&[steps(90), steps(110)]).unwrap();
        let half = find_quantile(freedom) * (variances[0] + variances[1]).sqrt();
        assert!((low - (3.0 - half)).abs() < 1e-5 && (high - (3.0 + half)).abs() < 1e-5, "{low} {high}");
        assert_eq!(over_steps(&[vec![[3, 2]]]), None);
        assert_eq!(over_steps(&[]), None);
        assert_eq!(over_steps(&[vec![[3, 2], [6, 4]]]), Some([1.5, 1.5]));
    }

    #[test]
    fn the_interval_of_a_mean_is_the_ordinary_t_interval() {
        // With equal MERCURY cycles per sample the ratio is a mean, and its jackknife error is the
        // standard error. Baselines 1, 2, 3, 6 over 1 cycle each have mean 3, s = 2.160247,
        // s / sqrt 4 = 1.080123, and t = 3.182446.
        let baselines = [1u64, 2, 3, 6];
        let total = baselines.iter().sum::<u64>();
        let leave_one_out: Vec<[u64; 2]> = baselines.iter().map(|b| [total - b, 3]).collect();
        let [low, high] = speed_up(&Step { total: [total, 4], leave_one_out, left_out: 1.0 }).unwrap();
        assert!((low - (3.0 - 3.437_434)).abs() < 2e-6, "{low}");
        assert!((high - (3.0 + 3.437_434)).abs() < 2e-6, "{high}");
    }
}
