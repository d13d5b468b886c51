//! Estimates the weight gradient of a batch from some of its samples.
//!
//! A weight gradient is a sum over samples, so squared norms do not add up over samples. The
//! squared norm of a sum of n of the B samples contains the norm of the batch's sum and the scatter
//! of the samples. With f = n / B, m the mean share of a sample and S² the scatter of all B shares,
//! sampling without replacement gives, for each weight, E |m over n|² = |m over B|² + (1 - f) S²/n
//! (Cochran, Sampling Techniques, 1977, section 2.5). The n samples give an estimate of S², and
//! [`unbiased`] subtracts its term.
//!
//! [`jackknife`] estimates the variance of that result by leaving out each sample in turn (Wolter,
//! Introduction to Variance Estimation, 2007, section 4.3). It needs the product of each sample's
//! share with the sum, which is known only at the end. So a [`sketch`] of each share is kept, whose
//! products approximate those of the shares (count sketch; Charikar, Chen and Farach-Colton, ICALP
//! 2002).

use super::sums::{Covariance, Moments};

/// Numbers in the sketch of one sample's share of a layer. The parts of a layer divide them, with a
/// minimum per part.
pub const SKETCH: usize = 1 << 14;

/// Sketches of the samples' shares of a gradient and its change: `[samples][numbers]` of
/// `[exact, change]`.
pub type Shares = Vec<Vec<[f64; 2]>>;

/// Sketches a share in `length` numbers: each weight is added to or subtracted from one of them. A
/// share of at most `length` weights is returned unchanged.
pub fn sketch(exact: &[f64], change: &[f64], length: usize) -> Vec<[f64; 2]> {
    let values = exact.iter().zip(change).map(|(&exact, &change)| [exact, change]);
    if length >= exact.len() {
        return values.collect();
    }
    let mut sketch = vec![[0.0; 2]; length];
    // Often a power of two; a mask avoids the division, which would take longer than the rest of
    // the loop.
    let mask = length.is_power_of_two().then(|| length - 1);
    for (weight, [exact, change]) in values.enumerate() {
        let hash = mix(weight as u64);
        let sign = if hash & 1 == 0 { 1.0 } else { -1.0 };
        let index = (hash >> 1) as usize;
        let sum = &mut sketch[mask.map_or_else(|| index % length, |mask| index & mask)];
        *sum = [sum[0] + sign * exact, sum[1] + sign * change];
    }
    sketch
}

/// The finaliser of `SplitMix64` (Steele, Lea and Flood, OOPSLA 2014).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Whether estimated moments can be the moments of vectors; `kept` are those of the kept samples'
/// sum.
///
/// A square must be positive unless it is zero for the kept samples, and the product must satisfy
/// the Cauchy-Schwarz inequality.
pub fn is_possible(&[exact, change, cross, _]: &Moments, kept: &Moments) -> bool {
    let is_square = |estimate: f64, kept: f64| estimate > 0.0 || kept == 0.0;
    let reused = |[exact, change, cross, _]: &Moments| exact + 2.0 * cross + change;
    is_square(exact, kept[0])
        && is_square(change, kept[1])
        && is_square(reused(&[exact, change, cross, 0.0]), reused(kept))
        && cross * cross <= exact * change * (1.0 + 1e-9)
}

/// |x|², |y|² and <x, y> of the vectors of pairs, as [`Moments`]; the last moment is 0.
fn squares(values: impl Iterator<Item = [f64; 2]>) -> Moments {
    values.fold(Moments::default(), |[exact, change, cross, loss], [x, y]| {
        [exact + x * x, change + y * y, cross + x * y, loss]
    })
}

/// Estimates without bias the moments of `n` times the batch's mean share.
///
/// `sum` are the moments of the sum of `n` shares, `own` is the sum of the moments of each share,
/// and `fraction` is n / B. Returns `sum` if no sample was left out, or if `n < 2` leaves the
/// scatter unknown.
pub fn unbiased(sum: Moments, own: Moments, n: usize, fraction: f64) -> Moments {
    if n < 2 || fraction >= 1.0 {
        return sum;
    }
    let n = n as f64;
    let mut moments = sum;
    for (moment, own) in moments.iter_mut().zip(own) {
        let scatter = (own - *moment / n) / (n - 1.0);
        *moment -= (1.0 - fraction) * n * scatter;
    }
    moments
}

/// Covariances of the moments that [`unbiased`] estimates from these shares. `None` for fewer than
/// three samples: without one of them, the scatter needs at least two others.
pub fn jackknife(shares: &Shares, fraction: f64) -> Option<Covariance> {
    let n = shares.len();
    if n < 3 {
        return None;
    }
    let weights = shares[0].len();
    let mut sum = vec![[0.0; 2]; weights];
    for share in shares {
        for (sum, share) in sum.iter_mut().zip(share) {
            *sum = [sum[0] + share[0], sum[1] + share[1]];
        }
    }
    let share_moments: Vec<Moments> = shares.iter().map(|share| squares(share.iter().copied())).collect();
    let mut own = Moments::default();
    for moments in &share_moments {
        super::sums::add(&mut own, moments);
    }
    let scale = (n as f64 / (n as f64 - 1.0)).powi(2);
    let mut values = Vec::new();
    for (left_out, left_out_moments) in shares.iter().zip(&share_moments) {
        let rest = sum.iter().zip(left_out).map(|(sum, share)| [sum[0] - share[0], sum[1] - share[1]]);
        let mut own = own;
        own.iter_mut().zip(left_out_moments).for_each(|(own, less)| *own -= less);
        values.push(unbiased(squares(rest), own, n - 1, fraction).map(|moment| scale * moment));
    }
    let mut covariance = super::sums::covariance(&values);
    // The jackknife's factor for the sample covariance of n leave-one-out values is (n - 1)² / n.
    let factor = (1.0 - fraction) * (n as f64 - 1.0).powi(2) / n as f64;
    covariance.iter_mut().flatten().for_each(|entry| *entry *= factor);
    Some(covariance)
}

#[cfg(test)]
mod tests {
    use super::super::sums::BatchEstimate;
    use super::super::{ErrorSums, Estimate, Interval};
    use super::*;
    use mercury_reuse::draw;

    /// The shares of a batch. As in gradients, the mean is small compared with the scatter, and the
    /// change is correlated with the exact share.
    fn batch(samples: usize, weights: usize) -> Shares {
        (1..=samples).map(|i| (0..weights).map(|j| draw_share(i, j)).collect()).collect()
    }

    /// The share of sample `i` in weight `j`, and its change.
    fn draw_share(i: usize, j: usize) -> [f64; 2] {
        let exact = 0.4 * draw_noise(0, j, 5) + draw_noise(i, j, 1);
        [exact, 0.3 * draw_noise(0, j, 6) + 0.2 * exact + 0.5 * draw_noise(i, j, 2)]
    }

    /// A number that depends on its arguments. The number of set bits of a mixed number is
    /// approximately normal.
    fn draw_noise(i: usize, j: usize, k: usize) -> f64 {
        let mixed = ((i * 1_000_003 + j * 7919 + k * 104_729 + 1) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        f64::from((mixed ^ (mixed >> 32)).count_ones()) / 4.0 - 8.0
    }

    fn moments(shares: &[&Vec<[f64; 2]>]) -> (Moments, Moments) {
        let sum = (0..shares[0].len()).map(|j| shares.iter().fold([0.0; 2], |s, w| [s[0] + w[j][0], s[1] + w[j][1]]));
        let mut own = Moments::default();
        for share in shares {
            super::super::sums::add(&mut own, &squares(share.iter().copied()));
        }
        (squares(sum), own)
    }

    #[test]
    fn nothing_is_subtracted_if_all_samples_were_kept() {
        let batch = batch(5, 10);
        let (sum, own) = moments(&batch.iter().collect::<Vec<_>>());
        assert_eq!(unbiased(sum, own, 5, 1.0).map(f64::to_bits), sum.map(f64::to_bits));
        assert!(jackknife(&batch, 1.0).unwrap().iter().flatten().all(|&entry| entry == 0.0));
        assert_eq!(jackknife(&batch[..2].to_vec(), 0.4), None);
    }

    #[test]
    fn sketches_follow_their_definition_for_all_lengths() {
        let exact: Vec<f64> = (1..400).map(f64::from).collect();
        let change: Vec<f64> = exact.iter().map(|exact| -0.5 * exact).collect();
        for length in [1, 3, 64, 150, 256] {
            let mut expected = vec![[0.0; 2]; length];
            for (weight, (&exact, &change)) in exact.iter().zip(&change).enumerate() {
                let hash = mix(weight as u64);
                let sign = if hash.is_multiple_of(2) { 1.0 } else { -1.0 };
                let [sum, sum_of_change] = &mut expected[(hash / 2) as usize % length];
                *sum += sign * exact;
                *sum_of_change += sign * change;
            }
            assert_eq!(sketch(&exact, &change, length), expected, "{length}");
        }
        let whole: Shares = vec![exact.iter().zip(&change).map(|(&exact, &change)| [exact, change]).collect()];
        assert_eq!(vec![sketch(&exact, &change, 399)], whole);
    }

    #[test]
    fn impossible_moments_are_recognised() {
        let kept = [4.0, 1.0, -1.0, 0.0];
        assert!(is_possible(&[4.0, 1.0, -2.0 + 1e-3, 0.0], &kept));
        assert!(is_possible(&[4.0, 0.0, 0.0, 0.0], &[4.0, 0.0, 0.0, 0.0]));
        // A negative square; a zero change although the samples change; a violated Cauchy-Schwarz
        // inequality; a zero Y'.
        for impossible in [[-1.0, 1.0, 0.0, 0.0], [4.0, 0.0, 0.0, 0.0], [4.0, 1.0, 2.1, 0.0], [1.0, 1.0, -1.0, 0.0]] {
            assert!(!is_possible(&impossible, &kept), "{impossible:?}");
        }
    }

    type Measure = fn(&Estimate) -> Interval;
    const MEASURES: [(&str, Measure); 3] =
        [("relative", Estimate::relative), ("cosine", Estimate::cosine), ("norm ratio", Estimate::norm_ratio)];

    #[test]
    fn estimates_of_a_batch_are_unbiased_and_intervals_have_their_nominal_coverage() {
        let (all, kept) = (64, 12);
        let batch = batch(all, 400);
        let (sum, _) = moments(&batch.iter().collect::<Vec<_>>());
        let truth = ErrorSums::from_total((sum, Covariance::default()), 1.0).estimate();
        let fraction = kept as f64 / all as f64;
        let seeds = 500u32;
        let mut held = [0u32; 3];
        let mut mean = [0.0; 3];
        let mut biased = 0.0;
        for seed in 0..seeds {
            let chosen: Shares = draw(all, kept, u64::from(seed)).into_iter().map(|i| batch[i].clone()).collect();
            let (sum, own) = moments(&chosen.iter().collect::<Vec<_>>());
            let moments = unbiased(sum, own, kept, fraction);
            assert!(is_possible(&moments, &sum));
            let part = |share: &Vec<[f64; 2]>, which: usize| share.iter().map(|w| w[which]).collect::<Vec<f64>>();
            let sketches = chosen.iter().map(|share| sketch(&part(share, 0), &part(share, 1), 150)).collect();
            let covariance = jackknife(&sketches, fraction).unwrap();
            let estimate = ErrorSums::from_total((moments, Covariance::default()), all as f64 / kept as f64)
                .with_batch(Some(BatchEstimate { moments, covariance, samples: kept }))
                .estimate();
            biased += ErrorSums::from_total((sum, Covariance::default()), 1.0).estimate().cosine().value;
            for (number, (_, measure)) in MEASURES.into_iter().enumerate() {
                let Interval { value, bounds } = measure(&estimate);
                let [low, high] = bounds.unwrap();
                mean[number] += value / f64::from(seeds);
                held[number] += u32::from((low..=high).contains(&measure(&truth).value));
            }
        }
        for (number, (name, measure)) in MEASURES.into_iter().enumerate() {
            let truth = measure(&truth).value;
            assert!((mean[number] - truth).abs() < 0.03 * truth, "{name}: {} of {truth}", mean[number]);
            assert!((440..=498).contains(&held[number]), "{name}: {} of {seeds}", held[number]);
        }
        // Without the correction, the sum of the kept samples would be biased.
        let truth = truth.cosine().value;
        assert!((biased / f64::from(seeds) - truth).abs() > 0.01, "{biased} {truth}");
    }
}
