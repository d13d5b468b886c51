//! Bounds on planes of all geometries against naive implementations.

#[path = "common/planes.rs"]
mod planes;

use mercury_reuse::bounds::{exact_duplicates, zeros};
use mercury_reuse::config::{Channels, Granularity, McacheConfig, Rpq, Scope};
use mercury_reuse::{Layout, Outcomes, Planes, VectorView, signatures};
use mercury_trace::windows::{Axis, Windows};
use planes::make_planes;
use proptest::prelude::*;
use std::collections::HashSet;

const SCOPES: [Scope; 3] = [Scope::Channel, Scope::Sample, Scope::Batch];

/// Planes and windows of any geometry, including those of input gradients.
#[derive(Debug, Clone)]
struct Case {
    values: Vec<f32>,
    samples: usize,
    channels: usize,
    groups: usize,
    size: [u32; 2],
    windows: Windows,
    granularity: Granularity,
    scope: Scope,
}

impl Case {
    fn view(&self) -> VectorView<'_> {
        let [height, width] = self.size;
        let planes = Planes { values: &self.values, samples: self.samples, channels: self.channels, height, width };
        VectorView::new(planes, self.windows, self.groups, self.granularity)
    }

    /// The bits of every vector; -0.0 has the bits of 0.0.
    fn vectors(&self) -> Vec<Vec<u32>> {
        let view = self.view();
        let layout = view.layout();
        let mut buffer = vec![0.0; view.max_length()];
        let bits = |x: &f32| if *x == 0.0 { 0 } else { x.to_bits() };
        let mut vectors = Vec::with_capacity(layout.vectors());
        for vector in 0..layout.vectors() {
            let (sample, stream, position) = layout.locate(vector);
            vectors.push(view.gather(sample, stream, position, &mut buffer).iter().map(bits).collect());
        }
        vectors
    }

    /// Counts the items of each run that repeat an earlier one of their stream and scope.
    fn count_repeats<T: std::hash::Hash + Eq>(&self, items: impl IntoIterator<Item = T>) -> Vec<u64> {
        let layout = self.view().layout();
        let mut seen = HashSet::new();
        let mut runs = vec![0; layout.runs()];
        for (vector, item) in items.into_iter().enumerate() {
            let (sample, stream, _) = layout.locate(vector);
            let scope = if self.scope == Scope::Batch { 0 } else { sample };
            runs[vector / layout.positions] += u64::from(!seen.insert((scope, stream, item)));
        }
        runs
    }
}

/// Counts the HITs of each run in an unlimited cache.
fn count_unlimited_hits(layout: Layout, signatures: &[u64], scope: Scope) -> Vec<u64> {
    let config = McacheConfig { entries: 0, ..McacheConfig::default() };
    let outcomes = Outcomes::look_up(layout, signatures, &config, scope);
    outcomes.counts().iter().map(|counts| counts.hit).collect()
}

fn axis() -> impl Strategy<Value = (u32, Axis)> {
    let forward =
        (1u32..14, 1u32..5, 1u32..4, 0u32..3, 1u32..3).prop_map(|(size, kernel, stride, padding, dilation)| {
            let reach = dilation * (kernel - 1);
            let positions = (size + 2 * padding).checked_sub(reach + 1).map_or(1, |room| room / stride + 1);
            (size, Axis::forward(positions, kernel, stride, padding, dilation))
        });
    // Windows with any origin, also far outside the plane.
    let any = (1u32..14, 1u32..9, 1u32..4, -12i64..12, 1u32..5, 1u32..4).prop_map(
        |(size, positions, stride, origin, taps, step)| {
            (size, Axis { positions, stride, origin, taps, step, kernel_first: 0, kernel_step: 1 })
        },
    );
    prop_oneof![forward, any]
}

fn cases() -> impl Strategy<Value = Case> {
    let granularity = prop_oneof![
        Just(Granularity::CHANNEL_PATCH),
        Just(Granularity::Patch),
        (2u32..4).prop_map(|channels| Granularity::ChannelPatch(Channels::Count(channels))),
        (1u32..12).prop_map(Granularity::SubVector)
    ];
    let scope = prop::sample::select(SCOPES.to_vec());
    // Few kinds of values, so that vectors repeat, including NaN and both zeros.
    let kinds =
        prop::sample::select(vec![vec![0.0], vec![0.0, -0.0, 1.0], vec![0.0, f32::NAN, 1.5, -1.5, -0.0, 1e-40]]);
    (1usize..4, 1usize..3, 1usize..3, axis(), axis(), granularity, scope, kinds, any::<u64>()).prop_map(
        |(samples, groups, group_channels, (height, y), (width, x), granularity, scope, kinds, mut state)| {
            let count = samples * groups * group_channels * (height * width) as usize;
            let mut value = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                kinds[(state >> 40) as usize % kinds.len()]
            };
            let values = (0..count).map(|_| value()).collect();
            let (channels, size) = (groups * group_channels, [height, width]);
            Case { values, samples, channels, groups, size, windows: Windows { y, x }, granularity, scope }
        },
    )
}

proptest! {
    #[test]
    fn duplicates_on_planes_are_those_of_a_set(case in cases()) {
        prop_assert_eq!(exact_duplicates(&case.view(), case.scope), case.count_repeats(case.vectors()));
    }

    #[test]
    fn zeros_on_planes_are_counted_in_every_vector(case in cases()) {
        let runs = zeros(&case.view());
        let (layout, vectors) = (case.view().layout(), case.vectors());
        prop_assert_eq!(runs.len(), layout.runs());
        for (run, vectors) in runs.iter().zip(vectors.chunks(layout.positions)) {
            let zero: Vec<usize> = vectors.iter().map(|vector| vector.iter().filter(|&&x| x == 0).count()).collect();
            prop_assert_eq!(run.vectors, vectors.len() as u64);
            prop_assert_eq!(run.operands, vectors.iter().map(|vector| vector.len() as u64).sum::<u64>());
            prop_assert_eq!(run.zero_operands, zero.iter().sum::<usize>() as u64);
            let whole = vectors.iter().zip(&zero).filter(|(vector, zero)| vector.len() == **zero).count();
            prop_assert_eq!(run.zero_vectors, whole as u64);
        }
    }

    #[test]
    fn unlimited_hits_are_those_of_a_set(case in cases(), seed: u64, bits in 1u32..=64, spread in 1u32..=64) {
        let layout = case.view().layout();
        let signature = |vector: usize| {
            // Signatures agree in few bits or in all.
            let word = (vector as u64 % 97 + 1).wrapping_mul(seed | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (word ^ (word >> 29)) & (u64::MAX >> (64 - spread)) & (u64::MAX >> (64 - bits))
        };
        let signatures: Vec<u64> = (0..layout.vectors()).map(signature).collect();
        let found = count_unlimited_hits(layout, &signatures, case.scope);
        prop_assert_eq!(found, case.count_repeats(signatures));
    }
}

/// Groups so large that they take several tables, and not all of one run.
#[test]
fn large_groups_are_counted_as_small_ones_and_with_any_number_of_threads() {
    let size = 200;
    let axis = Axis::forward(size, 3, 1, 1, 1);
    let mut values = make_planes(5, 2, size as usize, true);
    // Coarse values, so that also vectors other than zero repeat.
    for x in &mut values {
        *x = (*x * 2.0).round() / 2.0;
    }
    let (windows, granularity) = (Windows { y: axis, x: axis }, Granularity::CHANNEL_PATCH);
    for scope in SCOPES {
        let values = values.clone();
        let case = Case { values, samples: 5, channels: 2, groups: 1, size: [size; 2], windows, granularity, scope };
        let view = case.view();
        let signatures = signatures(&view, &Rpq { bits: 12, ..Rpq::default() });
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let hits = count_unlimited_hits(view.layout(), &signatures, scope);
                (exact_duplicates(&view, scope), hits, zeros(&view))
            })
        };
        let found = run(1);
        assert_eq!(found, run(4));
        assert_eq!(found.0, case.count_repeats(case.vectors()));
        assert_eq!(found.1, case.count_repeats(signatures.iter().copied()));
        let zero: u64 = found.2.iter().map(|run| run.zero_vectors).sum();
        assert!(found.0.iter().sum::<u64>() > zero && zero > 0);
    }
}

/// Vectors with more elements than the count in a hash can hold.
#[test]
fn very_long_vectors_are_compared_too() {
    let length = 1 << 16;
    let mut values = vec![0.0; 5 * length];
    values[length..2 * length].fill(1.0);
    values[3 * length..4 * length].fill(1.0);
    let view = VectorView::from_rows(&values, 1, 1, 5, length as u32, Granularity::Patch);
    assert_eq!(exact_duplicates(&view, Scope::Batch), [3]);
    assert_eq!((zeros(&view)[0].zero_vectors, zeros(&view)[0].zero_operands), (3, 3 << 16));
}
