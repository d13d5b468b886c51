//! Signatures and look-ups in one pass, against computing all signatures before the look-ups.

use mercury_reuse::config::{Channels, Granularity, McacheConfig, Replacement, Rpq, Scope, Variant};
use mercury_reuse::{Isa, Outcomes, Planes, VectorView, signatures};
use mercury_trace::windows::{Axis, Windows};
use proptest::prelude::*;

/// Values of few levels, so that vectors repeat. Every third plane is zero.
fn values(count: usize, plane: usize, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    let mut one = |index: usize| {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        let level = (state >> 61) as f32 - 3.0;
        if (index / plane).is_multiple_of(3) { 0.0 } else { level }
    };
    (0..count).map(&mut one).collect()
}

fn scopes() -> impl Strategy<Value = Scope> {
    prop_oneof![4 => Just(Scope::Channel), 1 => Just(Scope::Sample), 1 => Just(Scope::Batch)]
}

fn caches() -> impl Strategy<Value = McacheConfig> {
    let replacement = prop_oneof![Just(Replacement::None), Just(Replacement::Lru), Just(Replacement::Fifo)];
    // Caches without a limit, with narrow sets and with wide sets.
    (prop_oneof![Just(0u32), 1u32..40], prop_oneof![1u32..=16, Just(40u32)], replacement).prop_map(
        |(sets, ways, replacement)| McacheConfig { entries: sets * ways, ways, replacement, ..McacheConfig::default() },
    )
}

fn granularities() -> impl Strategy<Value = Granularity> {
    prop_oneof![
        3 => Just(Granularity::CHANNEL_PATCH),
        1 => Just(Granularity::Patch),
        1 => (2u32..4).prop_map(|channels| Granularity::ChannelPatch(Channels::Count(channels))),
        1 => (2u32..30).prop_map(Granularity::SubVector),
    ]
}

fn variants() -> impl Strategy<Value = Variant> {
    prop_oneof![
        Just(Variant::Sign),
        Just(Variant::SignRescale),
        (1u32..=4).prop_map(Variant::SignMagnitude),
        Just(Variant::Centred),
    ]
}

/// Checks the outcomes on one thread and several, with all instructions of the CPU. Returns whether
/// there were enough runs for blocks.
fn check(view: &VectorView, rpq: &Rpq, mcache: &McacheConfig, scope: Scope) -> Result<bool, TestCaseError> {
    let expected = Outcomes::look_up(view.layout(), &signatures(view, rpq), mcache, scope);
    let mut blocks = false;
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for isa in Isa::available() {
            let found = pool.install(|| {
                blocks |= Outcomes::has_enough_runs(view.layout());
                Outcomes::sign_and_look_up_with(view, rpq, mcache, scope, isa)
            });
            prop_assert_eq!(&found, &expected, "{:?}", isa);
        }
    }
    Ok(blocks)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn outcomes_equal_those_of_all_signatures_first(
        (samples, groups, channels) in prop_oneof![(1usize..4, 1usize..3, 1usize..5), (3usize..9, 1usize..3, 40usize..80)],
        (height, width) in (1u32..26, 1u32..26),
        (kernel, stride) in (1u32..4, 1u32..3),
        granularity in granularities(), variant in variants(), bits in 1u32..30,
        mcache in caches(), scope in scopes(), seed: u64,
    ) {
        let channels = groups * channels;
        let axis = |size| Axis::forward(size, kernel, stride, kernel / 2, 1);
        let plane = (height * width) as usize;
        let values = values(samples * channels * plane, plane, seed);
        let planes = Planes { values: &values, samples, channels, height, width };
        let windows = Windows { y: axis(height), x: axis(width) };
        let view = VectorView::new(planes, windows, groups, granularity);
        let rpq = Rpq { bits, seed: seed % 5, granularity, variant, ..Rpq::default() };
        check(&view, &rpq, &mcache, scope)?;
    }
}

/// Enough runs for several blocks per thread, of which the last is shorter.
#[test]
fn blocks_of_runs_are_exact() {
    let (samples, channels) = (7, 61);
    let (height, width) = (17, 19);
    let plane = (height * width) as usize;
    let values = values(samples * channels * plane, plane, 1);
    let planes = Planes { values: &values, samples, channels, height, width };
    let windows = Windows { y: Axis::forward(height, 3, 1, 1, 1), x: Axis::forward(width, 3, 1, 1, 1) };
    let view = VectorView::new(planes, windows, 1, Granularity::CHANNEL_PATCH);
    for (entries, ways) in [(64, 16), (0, 16), (64, 4), (128, 32)] {
        for replacement in [Replacement::None, Replacement::Lru, Replacement::Fifo] {
            let mcache = McacheConfig { entries, ways, replacement, ..McacheConfig::default() };
            let rpq = Rpq { bits: 20, ..Rpq::default() };
            assert!(check(&view, &rpq, &mcache, Scope::Channel).unwrap(), "there are enough runs for blocks");
        }
    }
}

#[test]
fn without_vectors_there_is_nothing_to_look_up() {
    for (samples, channels, height) in [(0, 3, 4), (2, 0, 4), (2, 3, 0)] {
        let planes = Planes {
            values: &vec![0.0; samples * channels * height as usize * 5],
            samples,
            channels,
            height,
            width: 5,
        };
        let windows = Windows { y: Axis::forward(height, 1, 1, 0, 1), x: Axis::forward(5, 1, 1, 0, 1) };
        let view = VectorView::new(planes, windows, 1, Granularity::CHANNEL_PATCH);
        check(&view, &Rpq::default(), &McacheConfig::default(), Scope::Channel).unwrap();
    }
}
