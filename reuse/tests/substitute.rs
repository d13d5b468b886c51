//! Substitutes against a naive implementation: their elements, what they preserve, and their
//! distance from the vectors.

use mercury_reuse::config::{Channels, Granularity, McacheConfig, Representative, Rpq, Scope, Variant};
use mercury_reuse::{
    Counts, MatchOptions, MatchQuality, Outcome, Outcomes, Planes, Quantiles, Substitutes, VectorView, match_quality,
    signatures,
};
use mercury_trace::windows::{Axis, Windows};
use proptest::prelude::*;

const VARIANTS: [Variant; 4] = [Variant::Sign, Variant::SignRescale, Variant::SignMagnitude(2), Variant::Centred];
const REPRESENTATIVES: [Representative; 2] = [Representative::First, Representative::Centroid];

#[derive(Debug, Clone)]
struct Case {
    values: Vec<f32>,
    samples: usize,
    groups: usize,
    size: u32,
    axis: Axis,
    granularity: Granularity,
    scope: Scope,
    bits: u32,
}

impl Case {
    fn view(&self) -> VectorView<'_> {
        let planes = Planes {
            values: &self.values,
            samples: self.samples,
            channels: 2 * self.groups,
            height: self.size,
            width: self.size,
        };
        VectorView::new(planes, Windows { y: self.axis, x: self.axis }, self.groups, self.granularity)
    }

    /// The Hitmap of a small cache, so that there are HIT, MAU and MNU.
    fn hitmap(&self, view: &VectorView) -> Outcomes {
        let rpq = Rpq { bits: self.bits, granularity: self.granularity, ..Rpq::default() };
        let mcache = McacheConfig { entries: 16, ways: 2, ..McacheConfig::default() };
        Outcomes::look_up(view.layout(), &signatures(view, &rpq), &mcache, self.scope)
    }
}

/// Values of all sizes, including zeros of both signs.
fn values(count: usize, mut state: u64) -> Vec<f32> {
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut value = || match random() {
        x if x < -0.4 => 0.0,
        x if x < -0.3 => -0.0,
        _ => random() * (10.0 * random()).exp2(),
    };
    (0..count).map(|_| value()).collect()
}

fn cases() -> impl Strategy<Value = Case> {
    let granularity = prop_oneof![
        Just(Granularity::CHANNEL_PATCH),
        Just(Granularity::Patch),
        (2u32..4).prop_map(|channels| Granularity::ChannelPatch(Channels::Count(channels))),
        (1u32..9).prop_map(Granularity::SubVector)
    ];
    let scope = prop::sample::select(vec![Scope::Channel, Scope::Sample, Scope::Batch]);
    (1usize..4, 1usize..3, 3u32..12, 1u32..3, granularity, scope, 1u32..8, any::<u64>()).prop_map(
        |(samples, groups, size, stride, granularity, scope, bits, seed)| {
            let axis = Axis::forward((size - 1) / stride + 1, 3, stride, 1, 1);
            let values = values(samples * 2 * groups * (size * size) as usize, seed);
            Case { values, samples, groups, size, axis, granularity, scope, bits }
        },
    )
}

fn norm(x: &[f32]) -> f64 {
    x.iter().fold(0.0, |sum, &x| sum + f64::from(x) * f64::from(x)).sqrt()
}

fn distance(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).fold(0.0, |sum, (&x, &y)| sum + (f64::from(y) - f64::from(x)).powi(2)).sqrt()
}

fn mean(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |sum, x| sum + x) * (1.0 / x.len() as f32)
}

/// A vector and its substitute.
type Pair = (Vec<f32>, Option<Vec<f32>>);

/// Computes every vector and its substitute, by the definition.
fn naive(view: &VectorView, hitmap: &Outcomes, variant: Variant, representative: Representative) -> Vec<Pair> {
    let layout = view.layout();
    let mut buffer = vec![0.0; view.max_length()];
    let mut vectors: Vec<Vec<f32>> = Vec::with_capacity(layout.vectors());
    for vector in 0..layout.vectors() {
        let (sample, stream, position) = layout.locate(vector);
        vectors.push(view.gather(sample, stream, position, &mut buffer).to_vec());
    }
    let substitute = |vector| naive_substitute(&vectors, vector, hitmap, variant, representative);
    (0..vectors.len()).map(|vector| (vectors[vector].clone(), substitute(vector))).collect()
}

fn naive_substitute(
    vectors: &[Vec<f32>],
    vector: usize,
    hitmap: &Outcomes,
    variant: Variant,
    representative: Representative,
) -> Option<Vec<f32>> {
    let inserting = hitmap.representative(vector);
    let shared: Vec<usize> = (0..vectors.len()).filter(|&v| hitmap.representative(v) == inserting).collect();
    let x = &vectors[vector];
    let r = match representative {
        Representative::First => (inserting != vector).then(|| vectors[inserting].clone()),
        Representative::Centroid => (shared.len() > 1).then(|| {
            let sum = |i| shared.iter().fold(0.0, |sum, &v| sum + f64::from(vectors[v][i]));
            (0..x.len()).map(|i| (sum(i) / shared.len() as f64) as f32).collect::<Vec<f32>>()
        }),
    }?;
    Some(match variant {
        Variant::Sign | Variant::SignMagnitude(_) => r,
        Variant::SignRescale if norm(&r) == 0.0 => r,
        Variant::SignRescale => r.iter().map(|y| y * (norm(x) / norm(&r)) as f32).collect(),
        Variant::Centred => {
            let shift = f64::from(mean(x)) - f64::from(mean(&r));
            r.iter().map(|&y| (f64::from(y) + shift) as f32).collect()
        }
    })
}

fn cut_all(substitutes: &Substitutes) -> Vec<Pair> {
    let layout = substitutes.view().layout();
    let mut buffers = substitutes.buffers();
    let mut pairs = Vec::with_capacity(layout.vectors());
    for vector in 0..layout.vectors() {
        let (sample, stream, position) = layout.locate(vector);
        let (x, found) = substitutes.cut(sample, stream, position, &mut buffers);
        pairs.push((x.to_vec(), found.map(<[f32]>::to_vec)));
    }
    pairs
}

fn bits(pairs: &[Pair]) -> Vec<(Vec<u32>, Option<Vec<u32>>)> {
    let bits = |x: &Vec<f32>| x.iter().map(|x| x.to_bits()).collect();
    pairs.iter().map(|(x, found)| (bits(x), found.as_ref().map(bits))).collect()
}

/// The least value at or below which `percent` % of the values lie.
fn quantile(mut values: Vec<f32>, percent: usize) -> f32 {
    values.sort_by(f32::total_cmp);
    values[(values.len() * percent).div_ceil(100) - 1]
}

proptest! {
    #[test]
    fn elements_are_those_of_a_cut_vector(case in cases(), step in 1usize..5) {
        let view = case.view();
        let hitmap = case.hitmap(&view);
        let layout = view.layout();
        for (variant, representative) in VARIANTS.into_iter().flat_map(|v| REPRESENTATIVES.map(|r| (v, r))) {
            let substitutes = Substitutes::new(&view, &hitmap, variant, representative);
            let [mut buffers, mut others] = [substitutes.buffers(), substitutes.buffers()];
            for (sample, stream, position) in (0..layout.vectors()).map(|vector| layout.locate(vector)) {
                let (vector, substitute) = substitutes.cut(sample, stream, position, &mut buffers);
                let elements: Vec<usize> = (0..vector.len()).step_by(step).collect();
                let mut found = Vec::new();
                let has_substitute =
                    substitutes.each_element((sample, stream, position), &elements, &mut others, |number, x, y| {
                        found.push((number, x.to_bits(), y.to_bits()));
                    });
                prop_assert_eq!(has_substitute, substitute.is_some());
                let replaced = substitute.unwrap_or(vector);
                let expected = elements.iter().enumerate();
                let expected = expected.map(|(number, &at)| (number, vector[at].to_bits(), replaced[at].to_bits()));
                prop_assert_eq!(found, expected.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn substitutes_match_the_definition(case in cases()) {
        let view = case.view();
        let hitmap = case.hitmap(&view);
        for (variant, representative) in VARIANTS.iter().flat_map(|&v| REPRESENTATIVES.map(|r| (v, r))) {
            let found = cut_all(&Substitutes::new(&view, &hitmap, variant, representative));
            prop_assert_eq!(bits(&found), bits(&naive(&view, &hitmap, variant, representative)));
        }
    }

    /// The matrices for computing with reuse hold the same vectors as cutting them one by one.
    #[test]
    fn matrices_hold_the_substitutes(case in cases(), first: prop::sample::Index, last: prop::sample::Index) {
        let view = case.view();
        let (hitmap, layout) = (case.hitmap(&view), view.layout());
        let (first, last) = (first.index(layout.samples), last.index(layout.samples));
        let samples = first.min(last)..first.max(last) + 1;
        let elements: usize = view.streams().iter().map(|stream| stream.length).sum();
        for (variant, representative) in VARIANTS.iter().flat_map(|&v| REPRESENTATIVES.map(|r| (v, r))) {
            let substitutes = Substitutes::new(&view, &hitmap, variant, representative);
            let pairs = cut_all(&substitutes);
            let width = samples.len() * layout.positions;
            let mut columns = vec![f32::NAN; elements * width];
            substitutes.columns(samples.clone(), &mut columns);
            let (mut rows, mut element) = (vec![f32::NAN; elements * layout.positions], 0);
            for (number, sample) in samples.clone().enumerate() {
                substitutes.rows(sample, &mut rows);
                element = 0;
                for (stream, cut) in view.streams().iter().enumerate() {
                    for position in 0..layout.positions {
                        let vector = (sample * layout.streams + stream) * layout.positions + position;
                        let (x, substitute) = &pairs[vector];
                        for (offset, value) in substitute.as_ref().unwrap_or(x).iter().enumerate() {
                            let column = columns[(element + offset) * width + number * layout.positions + position];
                            prop_assert_eq!(value.to_bits(), column.to_bits());
                            let group_elements = elements / case.groups;
                            let row = (cut.group * layout.positions + position) * group_elements;
                            let row = rows[row + cut.first + offset];
                            prop_assert_eq!(value.to_bits(), row.to_bits());
                        }
                    }
                    element += cut.length;
                }
            }
            prop_assert_eq!(element, elements);
        }
    }

    #[test]
    fn rescaling_keeps_norms_and_centring_means(case in cases(), representative in prop::sample::select(REPRESENTATIVES.to_vec())) {
        let view = case.view();
        let hitmap = case.hitmap(&view);
        let plain = cut_all(&Substitutes::new(&view, &hitmap, Variant::Sign, representative));
        for (variant, norms) in [(Variant::SignRescale, true), (Variant::Centred, false)] {
            let varied = cut_all(&Substitutes::new(&view, &hitmap, variant, representative));
            for ((x, found), (_, r)) in varied.iter().zip(&plain) {
                prop_assert_eq!(found.is_some(), r.is_some());
                let (Some(found), Some(r)) = (found, r) else { continue };
                if norms && norm(r) > 0.0 {
                    prop_assert!((norm(found) - norm(x)).abs() <= 1e-6 * norm(x));
                    // The direction is that of r.
                    let scaled: Vec<f32> = r.iter().map(|y| (f64::from(*y) * norm(x) / norm(r)) as f32).collect();
                    prop_assert!(distance(found, &scaled) <= 1e-6 * norm(x));
                } else if !norms {
                    let exact = |x: &[f32]| x.iter().fold(0.0, |sum, &x| sum + f64::from(x)) / x.len() as f64;
                    let size = norm(x) + norm(r) + norm(found);
                    prop_assert!((exact(found) - exact(x)).abs() <= 1e-5 * size);
                    prop_assert!(x != r || x == found);
                }
            }
        }
    }

    /// No other point has a smaller sum of squared distances to a group's vectors: neither its
    /// first vector, nor the centroid moved a little.
    #[test]
    fn centroids_minimise_the_squared_distance(case in cases(), element: prop::sample::Index, step in -0.1f32..0.1) {
        let view = case.view();
        let hitmap = case.hitmap(&view);
        let pairs = cut_all(&Substitutes::new(&view, &hitmap, Variant::Sign, Representative::Centroid));
        for inserting in (0..pairs.len()).filter(|&vector| hitmap.outcome(vector) == Outcome::Mau) {
            let group: Vec<&Pair> =
                (0..pairs.len()).filter(|&v| hitmap.representative(v) == inserting).map(|v| &pairs[v]).collect();
            let Some(centroid) = &group[0].1 else { prop_assert_eq!(group.len(), 1); continue };
            prop_assert!(group.iter().all(|pair| pair.1.as_ref() == Some(centroid)));
            let sum = |point: &[f32]| group.iter().map(|pair| distance(&pair.0, point).powi(2)).sum::<f64>();
            let slack = 1.0 + 1e-5;
            prop_assert!(sum(centroid) <= sum(&group[0].0) * slack + 1e-9);
            let mut moved = centroid.clone();
            moved[element.index(centroid.len())] += step;
            prop_assert!(sum(centroid) <= sum(&moved) * slack + 1e-9);
        }
    }

    #[test]
    fn match_quality_describes_the_pairs(case in cases(), sample in 1usize..60, seed: u64) {
        let view = case.view();
        let hitmap = case.hitmap(&view);
        for (variant, representative) in VARIANTS.iter().flat_map(|&v| REPRESENTATIVES.map(|r| (v, r))) {
            let substitutes = Substitutes::new(&view, &hitmap, variant, representative);
            let all = match_quality(&substitutes, &MatchOptions { sample: usize::MAX, seed });
            let plain = naive(&view, &hitmap, Variant::Sign, representative);
            let varied = naive(&view, &hitmap, variant, representative);
            let hits = hitmap.iter().enumerate().filter(|(_, outcome)| matches!(outcome, Outcome::Hit(_)));
            let expected: Vec<(f64, f64)> = hits.map(|(vector, _)| {
                let (x, r) = (&plain[vector].0, plain[vector].1.as_ref().unwrap());
                let found = varied[vector].1.as_ref().unwrap();
                let dot: f64 = x.iter().zip(r).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
                let cosine = match (norm(x) == 0.0, norm(r) == 0.0) {
                    (false, false) => dot / (norm(x) * norm(r)),
                    (x, r) => f64::from(u8::from(x && r)),
                };
                (cosine, if distance(x, found) == 0.0 { 0.0 } else { distance(x, found) / norm(x) })
            }).collect();
            prop_assert_eq!((all.hits, all.sampled, all.undefined), (expected.len() as u64, expected.len() as u64, 0));
            for (found, (cosine, distance)) in all.matches.iter().zip(&expected) {
                prop_assert!((f64::from(found.cosine) - cosine).abs() < 1e-6);
                let other = f64::from(found.distance);
                prop_assert!(other.total_cmp(distance).is_eq() || (other / distance - 1.0).abs() < 1e-6);
            }
            prop_assert_eq!(all.distances().is_some(), all.hits > 0);
            if let (Some(cosines), Some(distances)) = (all.cosines(), all.distances()) {
                // Negation reverses the order, and it is exact.
                let worse = |percent| -quantile(all.matches.iter().map(|found| -found.cosine).collect(), percent);
                let farther = |percent| quantile(all.matches.iter().map(|found| found.distance).collect(), percent);
                let bits = |found: Quantiles| [found.median, found.p90, found.p99].map(f32::to_bits);
                prop_assert_eq!(bits(cosines), [50, 90, 99].map(|percent| worse(percent).to_bits()));
                prop_assert_eq!(bits(distances), [50, 90, 99].map(|percent| farther(percent).to_bits()));
            }
            // A sample consists of these matches, in order, and its weights add up to all of them.
            let options = MatchOptions { sample, seed };
            let drawn = match_quality(&substitutes, &options);
            prop_assert_eq!(drawn.hits, all.hits);
            let most = sample.div_ceil(case.samples) as u64;
            let count_sampled = |runs: &[Counts]| runs.iter().map(|counts| counts.hit).sum::<u64>().min(most);
            let sampled: u64 = hitmap.counts().chunks(view.layout().streams).map(count_sampled).sum();
            prop_assert_eq!(drawn.sampled, sampled);
            let mut rest = all.matches.iter();
            for found in &drawn.matches {
                prop_assert!(rest.any(|other| (other.cosine, other.distance) == (found.cosine, found.distance)));
            }
            let weight: f32 = drawn.matches.iter().map(|found| found.weight).sum();
            prop_assert!((weight - all.hits as f32).abs() <= 1e-3 * all.hits as f32);
        }
    }
}

#[test]
fn vectors_that_are_zero_or_not_finite_have_defined_matches() {
    // All have the same signature: a MAU and HITs of zeros. Products with NaN are not above 0
    // either.
    let values = [0.0, 0.0, -0.0, 0.0, f32::NAN, 1.0];
    let view = VectorView::from_rows(&values, 1, 1, 3, 2, Granularity::Patch);
    let mcache = McacheConfig::default();
    let hitmap = Outcomes::look_up(view.layout(), &signatures(&view, &Rpq::default()), &mcache, Scope::Batch);
    for variant in VARIANTS {
        let substitutes = Substitutes::new(&view, &hitmap, variant, Representative::First);
        let mut quality = match_quality(&substitutes, &MatchOptions::default());
        assert_eq!((quality.hits, quality.undefined, quality.matches.len()), (2, 1, 1));
        let cosines = quality.cosines().unwrap();
        assert_eq!([cosines.median, cosines.p90, cosines.p99].map(f32::to_bits), [1.0f32; 3].map(f32::to_bits));
        assert_eq!(quality.distances().unwrap().p99.to_bits(), 0);
        let other = quality.clone();
        quality += other;
        assert_eq!((quality.hits, quality.sampled, quality.matches.len()), (4, 4, 2));
    }
    assert_eq!(MatchQuality::default().cosines(), None);
}

#[test]
fn substitutes_and_their_quality_do_not_depend_on_the_number_of_threads() {
    let axis = Axis::forward(40, 3, 1, 1, 1);
    let (granularity, scope) = (Granularity::SubVector(7), Scope::Batch);
    let values = values(3 * 8 * 1600, 9);
    let case = Case { values, samples: 3, groups: 4, size: 40, axis, granularity, scope, bits: 9 };
    let view = case.view();
    let rpq = Rpq { bits: 9, granularity, ..Rpq::default() };
    let hitmap = Outcomes::look_up(view.layout(), &signatures(&view, &rpq), &McacheConfig::default(), scope);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let substitutes = Substitutes::new(&view, &hitmap, Variant::SignRescale, Representative::Centroid);
            (bits(&cut_all(&substitutes)), match_quality(&substitutes, &MatchOptions { sample: 500, seed: 3 }))
        })
    };
    let (one, four) = (run(1), run(4));
    assert_eq!(one.1.sampled, 3 * 167);
    assert_eq!(one, four);
}
