//! The signatures of whole operands against the scalar loops that define them, bit for bit, with
//! every variant and every kernel of the CPU.

use mercury_reuse::config::{Channels, Granularity, Matrix, Rpq, Variant};
use mercury_reuse::{Kernel, Planes, Projection, VectorView, compute_signature, signatures, signatures_with};
use mercury_trace::geometry::{Conv2d, Pass};
use mercury_trace::windows::{Axis, Windows};
use proptest::prelude::*;

fn granularities() -> impl Strategy<Value = Granularity> {
    prop_oneof![
        Just(Granularity::CHANNEL_PATCH),
        Just(Granularity::Patch),
        (2u32..4).prop_map(|channels| Granularity::ChannelPatch(Channels::Count(channels))),
        (1u32..40).prop_map(Granularity::SubVector),
    ]
}

fn rpqs() -> impl Strategy<Value = Rpq> {
    let variants = prop_oneof![
        Just(Variant::Sign),
        Just(Variant::SignRescale),
        (1u32..=8).prop_map(Variant::SignMagnitude),
        Just(Variant::Centred),
    ];
    let matrices = prop_oneof![Just(Matrix::Gaussian), Just(Matrix::Sparse)];
    (1u32..=64, 0u64..1000, granularities(), variants, matrices).prop_map(
        |(bits, seed, granularity, variant, projection)| {
            let bits = bits.min(64 - variant.magnitude_bits());
            Rpq { bits, seed, granularity, variant, projection, ..Rpq::default() }
        },
    )
}

/// Finite values of all kinds, including zeros of both signs, subnormal values, and values whose
/// products overflow.
fn values() -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![
        4 => -4f32..4.0,
        2 => (-3i8..=3).prop_map(f32::from),
        1 => Just(-0.0f32),
        1 => (-1000i32..1000).prop_map(|n| n as f32 * f32::from_bits(1)),
        1 => (-1f32..1.0).prop_map(|x| x * 1e-37),
        1 => (-1f32..1.0).prop_map(|x| x * f32::MAX),
    ];
    prop::collection::vec(value, 1..300)
}

/// Values of moderate size.
fn ordinary() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-4f32..4.0, 1..300)
}

/// Powers of 2 from a range: all so small that products round to zero, all plain
/// (`kernel/plain.rs`), or both kinds.
fn powers() -> impl Strategy<Value = Vec<f32>> {
    let range = prop_oneof![-149i32..-140, -52i32..-48, -55i32..127].boxed();
    let [low, high] = [range.clone(), range];
    (low, high).prop_flat_map(|(low, high)| {
        let power = (low.min(high)..=low.max(high), prop_oneof![Just(1.0f32), Just(-1.0)]);
        let value = prop_oneof![
            6 => power.prop_map(|(power, sign)| sign * 2f32.powi(power)),
            2 => prop_oneof![Just(0.0f32), Just(-0.0)],
        ];
        prop::collection::vec(value, 1..60)
    })
}

/// Repeats a few values to `count` values.
fn spread(few: &[f32], count: usize) -> Vec<f32> {
    // The step of 7 is coprime to most lengths. The quotient shifts the order in each round.
    (0..count).map(|i| few[(i * 7 + i / few.len()) % few.len()]).collect()
}

/// Computes all signatures one by one, with [`compute_signature`].
fn scalar_signatures(view: &VectorView, rpq: &Rpq) -> Vec<u64> {
    let layout = view.layout();
    let mut buffer = vec![0.0; view.max_length()];
    let projections: Vec<_> = view.streams().iter().map(|stream| Projection::from_rpq(rpq, stream.length)).collect();
    let mut signatures = Vec::with_capacity(layout.vectors());
    for vector in 0..layout.vectors() {
        let (sample, stream, position) = layout.locate(vector);
        let vector = view.gather(sample, stream, position, &mut buffer);
        signatures.push(compute_signature(vector, &projections[stream], rpq.variant));
    }
    signatures
}

fn check(view: &VectorView, rpq: &Rpq) -> Result<(), TestCaseError> {
    let expected = scalar_signatures(view, rpq);
    for kernel in Kernel::available() {
        let mut found = vec![u64::MAX; expected.len()];
        signatures_with(kernel, view, rpq, &mut found);
        let first = (0..found.len()).find(|&vector| found[vector] != expected[vector]);
        prop_assert_eq!(first, None, "{} of {:?}", kernel, view.layout());
    }
    Ok(())
}

/// Convolutions whose kernel fits the input.
fn convs() -> impl Strategy<Value = Conv2d> {
    let axis = || (1u32..40, 1u32..6, 1u32..4, 0u32..4, 1u32..4);
    (axis(), axis(), 1u32..4, 1u32..3).prop_filter_map("the kernel fits", |(y, x, channels, groups)| {
        let fits = |(input, kernel, _, padding, dilation): (u32, u32, u32, u32, u32)| {
            input + 2 * padding > dilation * (kernel - 1)
        };
        (fits(y) && fits(x)).then(|| Conv2d {
            in_channels: channels * groups,
            out_channels: 2 * groups,
            input: [y.0, x.0],
            kernel: [y.1, x.1],
            stride: [y.2, x.2],
            padding: [y.3, x.3],
            dilation: [y.4, x.4],
            groups,
        })
    })
}

proptest! {
    #[test]
    fn signatures_of_convolutions_equal_the_scalar_ones(
        conv in convs(), samples in 1usize..3, rpq in rpqs(), few in prop_oneof![values(), ordinary(), powers()],
    ) {
        let output = conv.output();
        for (pass, channels, [height, width]) in [
            (Pass::Forward, conv.in_channels, conv.input),
            (Pass::InputGrad, conv.out_channels, output),
        ] {
            let values = spread(&few, samples * (channels * height * width) as usize);
            let planes = Planes { values: &values, samples, channels: channels as usize, height, width };
            for windows in conv.windows(pass) {
                check(&VectorView::new(planes, windows, conv.groups as usize, rpq.granularity), &rpq)?;
            }
        }
    }

    /// Windows that no convolution has: with any origin, or with no tap inside the plane.
    #[test]
    fn signatures_of_any_windows_equal_the_scalar_ones(
        axes in prop::array::uniform2((0u32..30, 1u32..5, -9i64..12, 1u32..7, 1u32..5)),
        [height, width] in prop::array::uniform2(0u32..20),
        rpq in rpqs(), few in ordinary(),
    ) {
        let [y, x] = axes.map(|(positions, stride, origin, taps, step)| {
            Axis { positions, stride, origin, taps, step, kernel_first: 0, kernel_step: 1 }
        });
        let values = spread(&few, 2 * (height * width) as usize);
        let planes = Planes { values: &values, samples: 1, channels: 2, height, width };
        check(&VectorView::new(planes, Windows { y, x }, 1, rpq.granularity), &rpq)?;
    }

    #[test]
    fn signatures_of_rows_equal_the_scalar_ones(
        samples in 1usize..4, heads in 1usize..3, rows in 1u32..40, length in 1u32..90,
        rpq in rpqs(), few in prop_oneof![values(), ordinary()],
    ) {
        let values = spread(&few, samples * heads * (rows * length) as usize);
        check(&VectorView::from_rows(&values, samples, heads, rows, length, rpq.granularity), &rpq)?;
    }

    #[test]
    fn a_shorter_signature_is_the_low_bits_of_the_longest(rpq in rpqs(), few in values(), length in 1u32..60) {
        let values = spread(&few, 5 * length as usize);
        let view = VectorView::from_rows(&values, 1, 1, 5, length, rpq.granularity);
        let longest = Rpq { bits: 64 - rpq.variant.magnitude_bits(), ..rpq.clone() };
        let kept = u64::MAX >> (64 - rpq.signature_bits());
        for (short, long) in signatures(&view, &rpq).into_iter().zip(signatures(&view, &longest)) {
            prop_assert_eq!(short, long & kept);
        }
    }
}

/// Long vectors, wide planes and many strips, which the random geometries do not cover.
#[test]
fn signatures_of_large_operands_equal_the_scalar_ones_with_any_number_of_threads() {
    let few: Vec<f32> = (0..997).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect();
    let conv = |channels, input| Conv2d {
        in_channels: channels,
        out_channels: 1,
        input: [input; 2],
        kernel: [3; 2],
        stride: [1; 2],
        padding: [1; 2],
        dilation: [1; 2],
        groups: 1,
    };
    let [wide, deep] = [conv(2, 226), conv(64, 15)].map(|conv| {
        let values = spread(&few, (conv.in_channels * conv.input[0] * conv.input[1]) as usize);
        (conv, values)
    });
    let view = |(conv, values): &'static (Conv2d, Vec<f32>), granularity| {
        let [height, width] = conv.input;
        let planes = Planes { values, samples: 1, channels: conv.in_channels as usize, height, width };
        VectorView::new(planes, conv.windows(Pass::Forward)[0], 1, granularity)
    };
    let (wide, deep): (&'static _, &'static _) = (Box::leak(Box::new(wide)), Box::leak(Box::new(deep)));
    let values = spread(&few, 40 * 4608);
    for (view, granularity) in [
        (view(wide, Granularity::CHANNEL_PATCH), Granularity::CHANNEL_PATCH),
        (view(deep, Granularity::Patch), Granularity::Patch),
        (VectorView::from_rows(&values, 1, 1, 40, 4608, Granularity::Patch), Granularity::Patch),
    ] {
        for variant in [Variant::Sign, Variant::SignMagnitude(8), Variant::Centred] {
            let rpq = Rpq { bits: 20, granularity, variant, ..Rpq::default() };
            let expected = scalar_signatures(&view, &rpq);
            for kernel in Kernel::available() {
                for threads in [1, 3] {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    let mut found = vec![u64::MAX; expected.len()];
                    pool.install(|| signatures_with(kernel, &view, &rpq, &mut found));
                    assert!(found == expected, "{kernel}, {threads} threads, {rpq:?}");
                }
            }
        }
    }
}

#[test]
fn the_magnitude_is_the_exponent_of_the_length() {
    let projection = Projection::new(1, 2, 8);
    let low = |vector: [f32; 2], bits| compute_signature(&vector, &projection, Variant::SignMagnitude(bits)) & 0xFF;
    let magnitude = |vector| low(vector, 7) & 0x7F;
    assert_eq!(magnitude([0.0, -0.0]), 0);
    for length in [1e-18f32, 0.3, 0.5, 0.999, 1.0, 1.4, 1.5, 1.9, 2.0, 2.5, 3.99, 4.0, 5.0, 6.4, 1e18] {
        assert_eq!(magnitude([0.0, length]) as i32, length.log2().floor() as i32 + 64, "{length}");
    }
    // Doubling the length adds one and halving it subtracts one; a slightly longer vector has the
    // same.
    assert_eq!(magnitude([6.0, 8.0]), magnitude([3.0, 4.0]) + 1);
    assert_eq!(magnitude([1.5, 2.0]), magnitude([3.0, 4.0]) - 1);
    assert_eq!(magnitude([3.0, 4.5]), magnitude([3.0, 4.0]));
    let signs = |vector: [f32; 2]| compute_signature(&vector, &projection, Variant::SignMagnitude(3)) >> 3;
    assert_eq!(signs([3.0, 4.0]), projection.signature_scalar(&[3.0, 4.0]));
}

#[test]
fn sparse_entries_have_their_probabilities() {
    let rpq = Rpq { bits: 64, projection: Matrix::Sparse, ..Rpq::default() };
    let projection = Projection::from_rpq(&rpq, 3000);
    let short = Projection::from_rpq(&Rpq { bits: 20, ..rpq }, 3000);
    let mut counts = [0i32; 3];
    for bit in 0..64 {
        for &entry in projection.row(bit) {
            assert!([-1.0, 0.0, 1.0].contains(&entry));
            counts[(entry + 1.0) as usize] += 1;
        }
        if bit < 20 {
            assert_eq!(projection.row(bit), short.row(bit));
        }
    }
    // With 192,000 entries the standard deviations are 163 and 207.
    for (count, expected) in counts.into_iter().zip([32_000, 128_000, 32_000]) {
        assert!((count - expected).abs() < 1000, "{counts:?}");
    }
}
