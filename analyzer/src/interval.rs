//! Confidence intervals of speed-ups: only some samples of a step are captured.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// 95 % interval of a step's speed-up, the ratio of its total baseline and MERCURY cycles.
///
/// The n captured samples are a random draw from the samples of the step. The interval is the
/// delete-one jackknife (Efron 1982) with Student's t of n - 1 degrees of freedom: the ratio is
/// recomputed without each sample in turn. `None` for fewer than two samples. The finite-population
/// correction (Cochran, Sampling Techniques, 1977, section 2.6) shrinks the interval to a point if
/// all samples of the step were captured. Where MCACHE lives longer than a sample, leaving a sample
/// out removes its counts but not its entries in the cache. Bounds are rounded to 1e-6: below that,
/// logarithms differ between machines.
pub fn speed_up(step: &Step) -> Option<[f64; 2]> {
    stratified(step.total, std::slice::from_ref(step))
}

/// 95 % interval of the speed-up over several steps, whose cycles sum to `total`.
///
/// Every step has its own samples (a stratum), so the steps' jackknife variances add up, and so do
/// their degrees of freedom. `None` if a step has fewer than two samples; see [`speed_up`].
pub fn stratified(total: [u64; 2], steps: &[Step]) -> Option<[f64; 2]> {
    let without = |step: &Step| -> Vec<[u64; 2]> {
        let rest = |which: usize| total[which] - step.total[which];
        step.leave_one_out.iter().map(|left| [rest(0) + left[0], rest(1) + left[1]]).collect()
    };
    interval(total, steps.iter().map(|step| (without(step), step.left_out)))
}

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

/// The interval around the ratio of `total`. Each stratum is a list of the totals without one of
/// its samples, and the share of its samples that were not captured.
fn interval(total: [u64; 2], strata: impl Iterator<Item = (Vec<[u64; 2]>, f64)>) -> Option<[f64; 2]> {
    let ratio = |[baseline, mercury]: [u64; 2]| baseline as f64 / mercury as f64;
    let round = |bound: f64| (bound * 1e6).round() / 1e6;
    let (mut variance, mut freedom) = (0.0, 0);
    let mut is_known = false;
    for (stratum, left_out) in strata {
        let n = stratum.len();
        if left_out <= 0.0 {
            is_known = true;
            continue;
        }
        if n < 2 {
            return None;
        }
        let ratios: Vec<f64> = stratum.iter().copied().map(ratio).collect();
        let mean = ratios.iter().sum::<f64>() / n as f64;
        let squares: f64 = ratios.iter().map(|ratio| (ratio - mean).powi(2)).sum();
        variance += left_out * squares * (n - 1) as f64 / n as f64;
        freedom += n - 1;
    }
    if freedom == 0 {
        return is_known.then(|| [round(ratio(total)); 2]);
    }
    let quantile = StudentsT::new(0.0, 1.0, freedom as f64).ok()?.inverse_cdf(0.975);
    let half = quantile * variance.sqrt();
    Some([round(ratio(total) - half), round(ratio(total) + half)])
}

#[cfg(test)]
mod tests {
    use super::*;

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
