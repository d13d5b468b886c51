//! Collisions of signatures against the prediction from angles, and their bookkeeping.

use mercury_reuse::analytic::{AngleBin, CollisionOptions, Collisions, collisions};
use mercury_reuse::bounds::{CosineOptions, ideal_cosine};
use mercury_reuse::config::{Granularity, McacheConfig, Representative, Rpq, Scope, Variant};
use mercury_reuse::{MatchOptions, Outcomes, SampleRange, Substitutes, VectorView, match_quality, signatures};

const SCOPES: [Scope; 3] = [Scope::Channel, Scope::Sample, Scope::Batch];

/// Rows around a centre and its opposite, near and far, so that all angles occur.
fn make_rows(count: usize, length: usize) -> Vec<f32> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let centre: Vec<f32> = (0..length).map(|_| random()).collect();
    let mut row = |_| {
        let (side, spread) = (random().signum(), random().abs());
        let around: Vec<f32> = centre.iter().map(|&x| side * x + spread * spread * 2.0 * random()).collect();
        around
    };
    (0..count).flat_map(&mut row).collect()
}

fn rpq(seed: u64) -> Rpq {
    Rpq { bits: 64, seed, granularity: Granularity::Patch, ..Rpq::default() }
}

/// The mean of the measured frequency over many matrices equals the prediction, in every bin and at
/// every length.
#[test]
fn collisions_are_as_frequent_as_angles_predict() {
    let values = make_rows(400, 12);
    let view = VectorView::from_rows(&values, 1, 1, 400, 12, Granularity::Patch);
    let bits = [1, 4, 16, 64];
    let options = CollisionOptions { pairs: 20_000, bins: 12, seed: 4, ..CollisionOptions::default() };
    let collide = |seed| collisions(&view, &signatures(&view, &rpq(seed)), Scope::Batch, &bits, &options).iter().sum();
    let matrices: Vec<Collisions> = (0..60).map(collide).collect();
    let mut compared = 0;
    for bin in 0..options.bins {
        for length in 0..bits.len() {
            let found = |matrix: &Collisions| matrix.bins[bin].probabilities(length);
            let Some((predicted, _)) = found(&matrices[0]) else { continue };
            let measured: Vec<f64> = matrices.iter().map(|matrix| found(matrix).expect("the same pairs").1).collect();
            let mean = measured.iter().sum::<f64>() / 60.0;
            let variance = measured.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 59.0;
            // 5 standard errors of the mean over matrices. The constant is for bins where
            // collisions are so rare that the standard error itself is uncertain.
            let tolerance = 5.0 * (variance / 60.0).sqrt() + 2e-4;
            assert!((mean - predicted).abs() < tolerance, "bin {bin}, {length}: {mean} {predicted} {tolerance}");
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared}");
}

#[test]
fn bins_add_up_and_do_not_depend_on_the_number_of_threads() {
    let values = make_rows(3 * 500 * 2, 4);
    let view = VectorView::from_rows(&values, 3, 2, 500, 4, Granularity::SubVector(3));
    let rpq = Rpq { granularity: Granularity::SubVector(3), ..rpq(1) };
    let signatures = signatures(&view, &rpq);
    let options = CollisionOptions { pairs: 30_000, ..CollisionOptions::default() };
    for scope in SCOPES {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| collisions(&view, &signatures, scope, &[8, 20], &options))
        };
        let sample_collisions = run(1);
        assert_eq!(sample_collisions, run(4));
        assert_eq!(sample_collisions.len(), if scope == Scope::Batch { 1 } else { 3 });
        let found: Collisions = sample_collisions.iter().sum();
        assert_eq!(found.bins.iter().map(|bin| bin.pairs).sum::<u64>() + found.undefined, 30_000);
        for (number, AngleBin { pairs, angle, predicted, measured }) in found.bins.iter().enumerate() {
            assert!(measured[1] <= measured[0] && measured[0] <= *pairs && predicted[1] <= predicted[0]);
            let width = std::f64::consts::PI / options.bins as f64;
            let mean = angle / *pairs as f64;
            assert!(*pairs == 0 || (mean / width - number as f64 - 0.5).abs() <= 0.5 + 1e-9, "{mean}");
        }
    }
}

/// Angles are between the projected vectors, and the bits of a magnitude are ignored.
#[test]
fn angles_are_between_the_projected_vectors() {
    // Far from the origin, so that centring changes every angle.
    let values: Vec<f32> = make_rows(300, 12).iter().map(|x| x + 5.0).collect();
    let view = VectorView::from_rows(&values, 1, 1, 300, 12, Granularity::Patch);
    let centred: Vec<f32> = values
        .chunks(12)
        .flat_map(|row| {
            let mean = row.iter().sum::<f32>() * (1.0 / 12.0);
            row.iter().map(move |x| x - mean).collect::<Vec<_>>()
        })
        .collect();
    let centred = VectorView::from_rows(&centred, 1, 1, 300, 12, Granularity::Patch);
    let collide = |view: &VectorView, variant| {
        let signatures = signatures(view, &Rpq { bits: 57, variant, ..rpq(3) });
        let options = CollisionOptions { pairs: 5000, variant, ..CollisionOptions::default() };
        collisions(view, &signatures, Scope::Batch, &[6], &options)
    };
    assert_eq!(collide(&view, Variant::Centred), collide(&centred, Variant::Sign));
    assert_eq!(collide(&view, Variant::SignMagnitude(7)), collide(&view, Variant::Sign));
    assert_ne!(collide(&view, Variant::Centred), collide(&view, Variant::Sign));
}

/// With two vectors in a scope every drawn pair is the same.
#[test]
fn a_single_pair_has_the_prediction_by_hand() {
    let view = VectorView::from_rows(&[1.0, 0.0, 1.0, 1.0], 1, 1, 2, 2, Granularity::Patch);
    let options = CollisionOptions { pairs: 1000, bins: 8, seed: 9, ..CollisionOptions::default() };
    // The signatures share the low 5 bits.
    let found = &collisions(&view, &[0b0_10101, 0b1_10101], Scope::Channel, &[1, 5, 6], &options)[0];
    let bin = &found.bins[2];
    assert_eq!((bin.pairs, bin.measured.as_slice()), (1000, [1000, 1000, 0].as_slice()));
    for (length, bits) in [1, 5, 6].into_iter().enumerate() {
        let (predicted, _) = bin.probabilities(length).unwrap();
        assert!((predicted - 0.75f64.powi(bits)).abs() < 1e-12);
    }
    assert_eq!(found.bins[0].probabilities(0), None);
}

#[test]
fn vectors_without_direction_or_without_peers_are_left_out() {
    let view = VectorView::from_rows(&[0.0, 0.0, 1.0, 1.0], 1, 1, 2, 2, Granularity::Patch);
    let options = CollisionOptions { pairs: 10, ..CollisionOptions::default() };
    assert_eq!(collisions(&view, &[0, 1], Scope::Batch, &[4], &options)[0].undefined, 10);
    let view = VectorView::from_rows(&[1.0, 1.0], 2, 1, 1, 1, Granularity::Patch);
    for (scope, pairs) in SCOPES.into_iter().zip([0, 0, 10]) {
        let found: Collisions = collisions(&view, &[0, 1], scope, &[4], &options).iter().sum();
        assert_eq!((found.bins[0].pairs, found.undefined), (pairs, 0));
    }
}

#[test]
fn draws_from_sample_ranges_are_those_from_the_whole() {
    let values = make_rows(5 * 2 * 90, 4);
    let view = |first: usize, samples: usize| {
        let values = &values[first * 2 * 90 * 4..][..samples * 2 * 90 * 4];
        VectorView::from_rows(values, samples, 2, 90, 4, Granularity::Patch).with_range(SampleRange { first, of: 5 })
    };
    let options = CollisionOptions { pairs: 1003, ..CollisionOptions::default() };
    let cosine = CosineOptions { exact: 20, sample: 300, seed: 5 };
    let find = |view: &VectorView| {
        let signatures: Vec<u64> = signatures(view, &rpq(1)).iter().map(|signature| signature & 0xff).collect();
        let hitmap = Outcomes::look_up(view.layout(), &signatures, &McacheConfig::default(), Scope::Channel);
        let substitutes = Substitutes::new(view, &hitmap, Variant::Sign, Representative::First);
        let angles = collisions(view, &signatures, Scope::Channel, &[8], &options);
        let similar = ideal_cosine(view, Scope::Channel, 0.9, &cosine);
        (angles, similar, match_quality(&substitutes, &MatchOptions { sample: 40, seed: 2 }).matches)
    };
    let (angles, similar, matches) = find(&view(0, 5));
    let parts = [find(&view(0, 2)), find(&view(2, 3))];
    assert_eq!(parts.iter().flat_map(|part| part.0.clone()).collect::<Vec<_>>(), angles);
    assert_eq!(parts.iter().flat_map(|part| part.1.clone()).collect::<Vec<_>>(), similar);
    assert_eq!(parts.iter().flat_map(|part| part.2.clone()).collect::<Vec<_>>(), matches);
    assert!(!matches.is_empty());
}
