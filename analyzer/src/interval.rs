//! How sure a speed-up is, given that only some samples were captured.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// 95 % interval of the ratio of totals (baseline over MERCURY cycles), from the totals without each
/// one of n samples: the delete-one jackknife (Efron 1982) with Student's t of n - 1 degrees of
/// freedom. `None` for fewer than two samples.
///
/// It says how much the ratio would vary with other samples of the same step. Where MCACHE lives
/// longer than a sample, a sample is left out of the counts but stays in the cache's history.
/// Bounds are rounded to 1e-6, below which logarithms differ between machines.
pub fn speed_up(total: [u64; 2], leave_one_out: &[[u64; 2]]) -> Option<[f64; 2]> {
    let n = leave_one_out.len();
    if n < 2 {
        return None;
    }
    let ratio = |[baseline, mercury]: [u64; 2]| baseline as f64 / mercury as f64;
    let ratios: Vec<f64> = leave_one_out.iter().copied().map(ratio).collect();
    let mean = ratios.iter().sum::<f64>() / n as f64;
    let squares: f64 = ratios.iter().map(|ratio| (ratio - mean).powi(2)).sum();
    let error = (squares * (n - 1) as f64 / n as f64).sqrt();
    let quantile = StudentsT::new(0.0, 1.0, (n - 1) as f64).expect("n is at least 2").inverse_cdf(0.975);
    let round = |bound: f64| (bound * 1e6).round() / 1e6;
    Some([round(ratio(total) - quantile * error), round(ratio(total) + quantile * error)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_samples_leave_no_doubt_and_one_sample_no_interval() {
        assert_eq!(speed_up([400, 200], &[[300, 150]; 4]), Some([2.0, 2.0]));
        assert_eq!(speed_up([400, 200], &[]), None);
        assert_eq!(speed_up([400, 200], &[[0, 0]]), None);
    }

    #[test]
    fn of_a_mean_it_is_the_ordinary_t_interval() {
        // With the same MERCURY cycles for each sample the ratio is a mean, whose jackknife error is
        // its standard error: baselines 1, 2, 3, 6 over 1 each: mean 3, s = 2.160247, s / sqrt 4 =
        // 1.080123, t = 3.182446.
        let baselines = [1u64, 2, 3, 6];
        let total = baselines.iter().sum::<u64>();
        let leave_one_out: Vec<[u64; 2]> = baselines.iter().map(|b| [total - b, 3]).collect();
        let [low, high] = speed_up([total, 4], &leave_one_out).unwrap();
        assert!((low - (3.0 - 3.437_434)).abs() < 2e-6, "{low}");
        assert!((high - (3.0 + 3.437_434)).abs() < 2e-6, "{high}");
    }
}
