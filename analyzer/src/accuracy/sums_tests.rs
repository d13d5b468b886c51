use super::*;
use mercury_reuse::draw;

/// Parts with the distribution seen in layers: most contribute little, some much, and error and
/// result are related.
fn parts(count: usize) -> Vec<Moments> {
    let part = |i: usize| {
        let (a, b) = ((i * 7919 % 101) as f64 / 101.0, (i * 104_729 % 97) as f64 / 97.0);
        let (exact, change) = (2.0 + 5.0 * a * b, a * a * a * (1.0 + b));
        [exact, change, 0.3 * (b - 0.7) * change, 0.1 * (a - 0.3) + 0.02 * b]
    };
    (0..count).map(part).collect()
}

fn whole(parts: &[Moments]) -> Estimate {
    let mut sums = ErrorSums::new(1.0, true);
    sums.push(estimate_total(parts, parts.len()));
    sums.estimate()
}

type Measure = fn(&Estimate) -> Interval;
const MEASURES: [(&str, Measure); 4] = [
    ("relative", Estimate::relative),
    ("cosine", Estimate::cosine),
    ("norm ratio", Estimate::norm_ratio),
    ("loss", |estimate| estimate.loss_change().unwrap()),
];

#[test]
fn all_parts_give_intervals_of_zero_width() {
    let estimate = whole(&parts(600));
    for (name, measure) in MEASURES {
        let Interval { value, bounds } = measure(&estimate);
        assert_eq!(bounds.unwrap().map(f64::to_bits), [value.to_bits(); 2], "{name}");
    }
}

#[test]
fn intervals_from_drawn_positions_have_their_nominal_coverage() {
    let parts = parts(600);
    let whole = whole(&parts);
    for (name, measure) in MEASURES {
        let truth = measure(&whole).value;
        let (mut held, seeds) = (0, 1000);
        for seed in 0..seeds {
            // Two samples, both kept, with different sampling rates.
            let sampled = |from: usize, count: usize| {
                let chosen: Vec<_> = draw(300, count, seed).into_iter().map(|part| parts[from + part]).collect();
                estimate_total(&chosen, 300)
            };
            let mut sums = ErrorSums::new(1.0, true);
            sums.push(sampled(0, 60));
            sums.push(sampled(300, 30));
            let Interval { value, bounds } = measure(&sums.estimate());
            let [low, high] = bounds.unwrap();
            assert!(low <= value && value <= high, "{name}");
            held += u32::from((low..=high).contains(&truth));
        }
        // The nominal coverage is 95 %; the normal approximation deviates from it.
        assert!((900..=990).contains(&held), "{name}: {held} of {seeds}");
    }
}

#[test]
fn intervals_from_drawn_samples_have_their_nominal_coverage() {
    // A batch of 64 samples with 20 positions each: 12 samples are drawn, and 8 positions of each.
    let parts = parts(64 * 20);
    let truth = whole(&parts);
    for (name, measure) in MEASURES {
        let seeds = 1000;
        let mut held = 0;
        let mut width = 0.0;
        for seed in 0..seeds {
            let mut sums = ErrorSums::new(64.0 / 12.0, true);
            for sample in draw(64, 12, seed) {
                let positions = draw(20, 8, seed * 64 + sample as u64);
                let chosen: Vec<_> = positions.into_iter().map(|position| parts[sample * 20 + position]).collect();
                sums.push(estimate_total(&chosen, 20));
            }
            let [low, high] = measure(&sums.estimate()).bounds.unwrap();
            width += (high - low) / f64::from(seeds as u32);
            held += u32::from((low..=high).contains(&measure(&truth).value));
        }
        assert!((890..=990).contains(&held), "{name}: {held} of {seeds}, mean width {width}");
    }
}

#[test]
fn a_single_sample_of_many_gives_no_interval() {
    let mut sums = ErrorSums::new(32.0, true);
    sums.push(estimate_total(&parts(20), 20));
    let gradient = ErrorSums::from_total(estimate_total(&parts(20), 20), 4.0);
    for (name, measure) in MEASURES {
        assert_eq!(measure(&sums.estimate()).bounds, None, "{name}");
        if name != "loss" {
            assert_eq!(measure(&gradient.estimate()).bounds, None, "{name}");
            assert!(
                measure(&ErrorSums::from_total(estimate_total(&parts(20), 20), 1.0).estimate()).bounds.is_some(),
                "{name}"
            );
        }
    }
}

/// Sums of six samples, all multiplied by `scale`.
fn scaled_sums(scale: f64) -> ErrorSums {
    let mut sums = ErrorSums::new(4.0, true);
    for part in &parts(6) {
        sums.push((part.map(|value| scale * value), Covariance::default()));
    }
    sums
}

#[test]
fn layers_of_a_step_share_samples_and_steps_do_not() {
    let half = |estimate: &Estimate| {
        let loss = estimate.loss_change().unwrap();
        loss.bounds.unwrap()[1] - loss.value
    };
    // The same samples twice: their errors are fully correlated.
    let mut twice = scaled_sums(1.0);
    twice.add(&scaled_sums(1.0));
    assert!((half(&twice.estimate()) / half(&scaled_sums(2.0).estimate()) - 1.0).abs() < 1e-12);
    // Two steps: variances add up, and so do degrees of freedom.
    let steps: Estimate = [scaled_sums(1.0).estimate(), scaled_sums(1.0).estimate()].into_iter().sum();
    assert!(half(&steps) < 0.71 * half(&twice.estimate()));
    let change = scaled_sums(1.0).estimate().loss_change().unwrap().value;
    assert!((steps.loss_change().unwrap().value - 2.0 * change).abs() < 1e-12);
}

#[test]
fn a_result_without_reuse_does_not_change() {
    let mut sums = ErrorSums::new(4.0, true);
    for part in &parts(6) {
        sums.push((*part, [[1.0; 4]; 4]));
    }
    let estimate = sums.without_reuse().estimate();
    let values = MEASURES.map(|(_, measure)| measure(&estimate).value);
    assert_eq!(values.map(f64::to_bits), [0.0f64, 1.0, 1.0, 0.0].map(f64::to_bits));
}
