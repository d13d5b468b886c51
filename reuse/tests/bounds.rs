//! Bounds against naive implementations, which compare every earlier vector by elements or cosine.

use mercury_reuse::bounds::{
    CosineOptions, Sampled, WeightRepetition, exact_duplicates, ideal_cosine, weight_repetition, zeros,
};
use mercury_reuse::config::{Granularity, McacheConfig, Rpq, Scope};
use mercury_reuse::{Layout, Outcomes, VectorView, signatures};
use proptest::prelude::*;

const SCOPES: [Scope; 3] = [Scope::Channel, Scope::Sample, Scope::Batch];

/// Values of few kinds, so that some vectors are equal, zero or similar.
fn values(count: usize, seed: u64, kinds: u64) -> Vec<f32> {
    let mut state = seed | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33
    };
    (0..count)
        .map(|_| match random() % kinds {
            0 => 0.0,
            1 => -0.0,
            kind => kind as f32 - 3.5,
        })
        .collect()
}

/// Rows cut into sub-vectors of length `cut`: several streams, of which the last may be shorter.
#[derive(Debug, Clone)]
struct Case {
    values: Vec<f32>,
    samples: usize,
    rows: u32,
    length: u32,
    cut: u32,
    scope: Scope,
}

impl Case {
    fn view(&self) -> VectorView<'_> {
        VectorView::from_rows(&self.values, self.samples, 1, self.rows, self.length, Granularity::SubVector(self.cut))
    }

    fn vectors(&self) -> (Layout, Vec<Vec<f32>>) {
        let view = self.view();
        let mut buffer = vec![0.0; view.max_length()];
        let layout = view.layout();
        let mut vectors = Vec::with_capacity(layout.vectors());
        for vector in 0..layout.vectors() {
            let (sample, stream, position) = layout.locate(vector);
            vectors.push(view.gather(sample, stream, position, &mut buffer).to_vec());
        }
        (layout, vectors)
    }

    /// Counts the vectors of each run with an earlier vector that is `alike`.
    fn count_naively(&self, alike: impl Fn(&[f32], &[f32]) -> bool) -> Vec<u64> {
        let (layout, vectors) = self.vectors();
        let mut runs = vec![0; layout.runs()];
        for vector in 0..vectors.len() {
            let at = layout.locate(vector);
            let earlier = (0..vector).filter(|&earlier| {
                let peer = layout.locate(earlier);
                peer.1 == at.1 && (peer.0 == at.0 || self.scope == Scope::Batch)
            });
            let found = earlier.into_iter().any(|earlier| alike(&vectors[earlier], &vectors[vector]));
            runs[at.0 * layout.streams + at.1] += u64::from(found);
        }
        runs
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let scope = prop::sample::select(SCOPES.to_vec());
    (1usize..4, 1u32..100, 1u32..8, 1u32..8, scope, any::<u64>(), 2u64..9).prop_map(
        |(samples, rows, length, cut, scope, seed, kinds)| {
            let values = values(samples * (rows * length) as usize, seed, kinds);
            Case { values, samples, rows, length, cut, scope }
        },
    )
}

/// Whether two vectors are similar, by the definition in f64.
fn are_similar(x: &[f32], y: &[f32], threshold: f64) -> bool {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    let (xx, yy) = (dot(x, x), dot(y, y));
    match (xx == 0.0, yy == 0.0) {
        (false, false) => dot(x, y) >= threshold * (xx * yy).sqrt(),
        (x_zero, y_zero) => x_zero && y_zero,
    }
}

proptest! {
    #[test]
    fn duplicates_equal_those_of_all_pairs(case in cases()) {
        let found = exact_duplicates(&case.view(), case.scope);
        // In f32 -0.0 equals 0.0.
        prop_assert_eq!(&found, &case.count_naively(|x, y| x == y));
        // Equal vectors have equal signatures of any length.
        let rpq = Rpq { bits: 64, granularity: Granularity::SubVector(case.cut), ..Rpq::default() };
        let unlimited = McacheConfig { entries: 0, ..McacheConfig::default() };
        let signatures = signatures(&case.view(), &rpq);
        let outcomes = Outcomes::look_up(case.view().layout(), &signatures, &unlimited, case.scope);
        for (counts, duplicates) in outcomes.counts().iter().zip(found) {
            prop_assert!(counts.hit >= duplicates);
        }
    }

    #[test]
    fn zeros_are_counted_in_every_vector(case in cases()) {
        let (layout, vectors) = case.vectors();
        for (run, vectors) in zeros(&case.view()).iter().zip(vectors.chunks(layout.positions)) {
            let elements: Vec<f32> = vectors.concat();
            prop_assert_eq!(run.vectors, layout.positions as u64);
            prop_assert_eq!(run.operands, elements.len() as u64);
            prop_assert_eq!(run.zero_operands, elements.iter().filter(|&&x| x == 0.0).count() as u64);
            let zero = vectors.iter().filter(|vector| vector.iter().all(|&x| x == 0.0)).count();
            prop_assert_eq!(run.zero_vectors, zero as u64);
        }
    }

    #[test]
    fn ideal_similarity_equals_that_of_all_pairs(
        case in cases(), threshold in prop::sample::select(vec![1e-9, 0.3, 0.5, 0.8, 0.99, 1.0]),
    ) {
        let found = ideal_cosine(&case.view(), case.scope, threshold, &CosineOptions::default());
        let expected = case.count_naively(|x, y| are_similar(x, y, threshold));
        let runs: Vec<u64> = found.iter().map(|run| run.similar).collect();
        prop_assert_eq!(runs, expected);
        for run in found {
            prop_assert_eq!((run.vectors, run.sampled), (u64::from(case.rows), u64::from(case.rows)));
        }
    }

    /// A sample of all vectors gives the exact count. A smaller one is consistent with it.
    #[test]
    fn samples_are_drawn_from_all_vectors(case in cases(), sample in 1usize..400, seed: u64) {
        let exact = ideal_cosine(&case.view(), case.scope, 0.9, &CosineOptions::default());
        let options = CosineOptions { exact: 0, sample, seed };
        let runs = ideal_cosine(&case.view(), case.scope, 0.9, &options);
        for (run, exact) in runs.iter().zip(&exact) {
            prop_assert!(run.similar <= run.sampled && run.sampled <= run.vectors);
            prop_assert!(run.similar <= exact.similar);
            prop_assert!(run.sampled - run.similar <= exact.vectors - exact.similar);
        }
        let layout = case.view().layout();
        let groups = if case.scope == Scope::Batch { layout.streams } else { layout.runs() };
        let expected = sample.div_ceil(groups).min(layout.vectors() / groups) * groups;
        prop_assert_eq!(runs.iter().copied().sum::<Sampled>().sampled, expected as u64);
        let all = CosineOptions { exact: 0, sample: layout.vectors(), seed };
        prop_assert_eq!(ideal_cosine(&case.view(), case.scope, 0.9, &all), exact);
    }

    #[test]
    fn intervals_contain_the_share(vectors in 1u64..10_000, sampled in 0u64..1000, similar in 0u64..1000) {
        let sampled = sampled.min(vectors);
        let run = Sampled { vectors, sampled, similar: similar.min(sampled) };
        let [low, high] = run.interval();
        prop_assert!((0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high));
        prop_assert!(run.share().is_none_or(|share| low <= share && share <= high));
        prop_assert_eq!(low < high, sampled < vectors);
    }
}

/// Vectors so long that a block holds few of them. They lie around one centre, so that the
/// thresholds are within the range of their cosines.
#[test]
fn ideal_similarity_of_long_vectors_equals_that_of_all_pairs() {
    let (rows, length) = (300u32, 1200u32);
    let (centre, noise) = (values(length as usize, 5, 30), values((rows * length) as usize, 6, 30));
    let value = |at: usize| {
        let (row, column) = (at / length as usize, at % length as usize);
        centre[column] + (row * 7 % 40) as f32 * 0.1 * (noise[at] - 10.0)
    };
    let values: Vec<f32> = (0..(rows * length) as usize).map(value).collect();
    let case = Case { values, samples: 1, rows, length, cut: length, scope: Scope::Sample };
    for threshold in [0.5, 0.7, 0.9, 0.97, 0.999] {
        let found = ideal_cosine(&case.view(), case.scope, threshold, &CosineOptions::default())[0].similar;
        let expected = case.count_naively(|x, y| are_similar(x, y, threshold));
        assert_eq!([found].as_slice(), expected.as_slice());
        assert!(threshold > 0.95 || (10..299).contains(&found), "{threshold}: {found}");
    }
}

#[test]
fn intervals_cover_the_truth_as_often_as_they_say() {
    let values: Vec<f32> = values(3000 * 3, 11, 40);
    let view = VectorView::from_rows(&values, 1, 1, 3000, 3, Granularity::Patch);
    for threshold in [0.99, 0.9999, 1.0] {
        let find = |options: &CosineOptions| ideal_cosine(&view, Scope::Batch, threshold, options)[0];
        let exact = find(&CosineOptions { exact: 3000, ..CosineOptions::default() });
        let truth = exact.share().unwrap();
        assert_eq!(exact.interval().map(f64::to_bits), [truth.to_bits(); 2]);
        let covered = (0..400).filter(|&seed| {
            let [low, high] = find(&CosineOptions { exact: 0, sample: 200, seed }).interval();
            low <= truth && truth <= high
        });
        // The expectation is 380, the standard deviation 4.4.
        assert!((362..=400).contains(&covered.count()), "{truth}");
    }
}

/// The ends of Wilson's interval are the shares that are z standard deviations away from the
/// sample's.
#[test]
fn a_large_population_has_wilsons_interval() {
    let interval = Sampled { vectors: u64::MAX, sampled: 200, similar: 30 }.interval();
    for end in interval {
        let deviation = (end * (1.0 - end) / 200.0).sqrt();
        assert!(((end - 0.15f64).abs() / deviation - 1.959_964).abs() < 1e-9, "{interval:?}");
    }
    assert!(interval[0] < 0.15 && interval[1] > 0.15);
    let nothing = Sampled { vectors: 5, ..Sampled::default() }.interval();
    assert!(nothing[0] <= 0.0 && nothing[1] >= 1.0);
}

#[test]
fn vectors_without_direction_are_similar_only_to_their_kind() {
    let values = [0.0, 0.0, -0.0, 0.0, f32::NAN, 1.0, f32::NAN, 1.0, f32::INFINITY, 1.0, 1.0, 1.0, 1e-30, 1e-30];
    let view = VectorView::from_rows(&values, 1, 1, 7, 2, Granularity::Patch);
    // The second zero, and the last vector, which is parallel to the one before.
    assert_eq!(ideal_cosine(&view, Scope::Batch, 1.0, &CosineOptions::default())[0].similar, 2);
    assert_eq!(ideal_cosine(&view, Scope::Batch, 1e-9, &CosineOptions::default())[0].similar, 2);
    // The second zero, and the NaN of the same bits.
    assert_eq!(exact_duplicates(&view, Scope::Batch), [2]);
}

#[test]
fn bounds_do_not_depend_on_the_number_of_threads() {
    let values = values(4 * 9000 * 4, 3, 30);
    let view = VectorView::from_rows(&values, 4, 1, 9000, 4, Granularity::SubVector(3));
    let options = CosineOptions { exact: 0, sample: 700, seed: 5 };
    for scope in SCOPES {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| (exact_duplicates(&view, scope), zeros(&view), ideal_cosine(&view, scope, 0.999, &options)))
        };
        assert_eq!(run(1), run(4));
    }
}

#[test]
fn weights_repeat_as_they_quantise() {
    let count = |weights: u64, zero, distinct| WeightRepetition { weights, zero, distinct };
    // There are 127 levels per sign: 1.0 is level 127, 0.5 is 63.5 and rounds to 64, 0.003 is 0.38.
    let filter = [1.0, -1.0, 0.5, 0.503, 0.003, -0.0, 1.0];
    assert_eq!(weight_repetition(&filter, 8), count(7, 2, 3));
    assert!((weight_repetition(&filter, 8).saved() - 4.0 / 7.0).abs() < 1e-15);
    assert_eq!(weight_repetition(&[0.0; 9], 8), count(9, 9, 0));
    assert_eq!(weight_repetition(&[], 8), count(0, 0, 0));
    // At most 254 levels for any length of the filter; with two bits only -1 and 1.
    let ramp: Vec<f32> = (-5000i16..=5000).map(f32::from).collect();
    assert_eq!(weight_repetition(&ramp, 8).distinct, 254);
    assert_eq!(weight_repetition(&ramp, 2).distinct, 2);
}

proptest! {
    #[test]
    fn weights_repeat_as_sorted_levels_do(
        weights in prop::collection::vec(prop_oneof![Just(0.0f32), -1.0f32..1.0, -1e-3f32..1e-3], 0..200), bits in 2u32..=16,
        repeats: bool,
    ) {
        let filter = if repeats { [weights.clone(), weights].concat() } else { weights };
        let largest = filter.iter().fold(0.0f32, |largest, w| largest.max(w.abs()));
        let level = |w: &f32| (f64::from(*w) / f64::from(largest) * f64::from((1 << (bits - 1)) - 1)).round_ties_even();
        let mut levels: Vec<f64> = filter.iter().map(level).filter(|&level| level != 0.0).collect();
        // A filter of zeros gives 0 / 0.
        levels.retain(|level| !level.is_nan());
        let (weights, zero) = (filter.len() as u64, (filter.len() - levels.len()) as u64);
        levels.sort_by(f64::total_cmp);
        levels.dedup();
        let expected = WeightRepetition { weights, zero, distinct: levels.len() as u64 };
        prop_assert_eq!(weight_repetition(&filter, bits), expected);
    }
}
