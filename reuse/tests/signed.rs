//! Vectors that are signed and looked up in one go against signing all and then looking up all.

use mercury_reuse::config::{Granularity, McacheConfig, Replacement, Rpq, Scope, Variant};
use mercury_reuse::{Hitmap, Planes, VectorView, signatures};
use mercury_trace::windows::{Axis, Windows};
use proptest::prelude::*;

/// Values of few levels, so that vectors repeat, with planes that are zero.
fn values(count: usize, plane: usize, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    let mut one = |index: usize| {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        let level = (state >> 61) as f32 - 3.0;
        if index / plane % 3 == 0 { 0.0 } else { level * (1.0 + index as f32 / count as f32).floor() }
    };
    (0..count).map(&mut one).collect()
}

fn scopes() -> impl Strategy<Value = Scope> {
    prop_oneof![4 => Just(Scope::Channel), 1 => Just(Scope::Sample), 1 => Just(Scope::Batch)]
}

fn caches() -> impl Strategy<Value = McacheConfig> {
    let replacement = prop_oneof![Just(Replacement::None), Just(Replacement::Lru), Just(Replacement::Fifo)];
    // Without limit, narrow sets and wide ones.
    (prop_oneof![Just(0u32), 1u32..40], prop_oneof![1u32..=16, Just(40u32)], replacement).prop_map(
        |(sets, ways, replacement)| McacheConfig { entries: sets * ways, ways, replacement, ..McacheConfig::default() },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    /// On one thread and several, with so many runs that blocks of them are made and with too few.
    #[test]
    fn outcomes_are_those_of_signing_first(
        (samples, channels) in prop_oneof![(1usize..4, 1usize..5), (3usize..9, 60usize..150)],
        (height, width) in (1u32..26, 1u32..26),
        (kernel, stride) in (1u32..4, 1u32..3),
        patch: bool,
        (bits, magnitude) in (1u32..30, 0u32..4),
        mcache in caches(), scope in scopes(), seed: u64,
        stale in 0usize..10_000,
    ) {
        let axis = |size| Axis::forward(size, kernel, stride, kernel / 2, 1);
        let plane = (height * width) as usize;
        let values = values(samples * channels * plane, plane, seed);
        let planes = Planes { values: &values, samples, channels, height, width };
        let granularity = if patch { Granularity::Patch } else { Granularity::ChannelPatch };
        let view = VectorView::new(planes, Windows { y: axis(height), x: axis(width) }, 1, granularity);
        let variant = if magnitude == 0 { Variant::Sign } else { Variant::SignMagnitude(magnitude) };
        let rpq = Rpq { bits, seed: seed % 5, granularity, variant, ..Rpq::default() };
        let expected = Hitmap::new(view.layout(), &signatures(&view, &rpq), &mcache, scope);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let found = pool.install(|| Hitmap::of(&view, &rpq, &mcache, scope, vec![9; stale]));
            prop_assert_eq!(&found, &expected);
        }
    }
}
