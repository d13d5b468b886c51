//! Projections from outside: their signatures against those of drawn matrices and of a naive loop, with every kernel.

use mercury_reuse::config::{GivenProjection, Granularity, Matrix, Rpq, Variant};
use mercury_reuse::{Kernel, Planes, Projection, VectorView, compute_signature, signatures_with};
use mercury_trace::geometry::{Conv2d, Pass};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Values of a tensor or an operand, some of them zero.
fn value(index: usize, salt: usize) -> f32 {
    let value = (index * 7919 + salt * 104_729) % 1009;
    if value < 100 { 0.0 } else { value as f32 / 128.0 - 4.0 }
}

fn give(tensors: Vec<(usize, usize, Vec<f32>)>) -> Matrix {
    Matrix::Given(Arc::new(GivenProjection::from_tensors("a test".to_owned(), tensors).unwrap()))
}

/// The drawn R for a length of vectors as a tensor `[length, bits]`.
fn transpose_drawn(rpq: &Rpq, length: usize) -> (usize, usize, Vec<f32>) {
    let drawn = Projection::from_rpq(&Rpq { bits: 64, ..rpq.clone() }, length);
    let values = (0..length).flat_map(|element| (0..64).map(|bit| drawn.row(bit)[element]).collect::<Vec<_>>());
    (length, 64, values.collect())
}

fn list_lengths(view: &VectorView) -> BTreeSet<usize> {
    view.streams().iter().map(|stream| stream.length).collect()
}

fn sign_all(view: &VectorView, rpq: &Rpq) -> Vec<(Kernel, Vec<u64>)> {
    let sign = |kernel| {
        let mut found = vec![u64::MAX; view.layout().vectors()];
        signatures_with(kernel, view, rpq, &mut found);
        (kernel, found)
    };
    Kernel::available().into_iter().map(sign).collect()
}

/// Bit i is the sign of the dot product with column i of `[rows][columns]`, where the vector is padded with zeros to
/// as many elements as there are rows.
fn sign_naively(vector: &[f32], tensor: &[f32], columns: usize, bits: u32) -> u64 {
    let rows = tensor.len() / columns;
    let mut padded = vector.to_vec();
    padded.resize(rows, 0.0);
    let mut signature = 0;
    for bit in 0..bits as usize {
        let mut sum = 0.0f32;
        for row in 0..rows {
            sum = padded[row].mul_add(tensor[row * columns + bit], sum);
        }
        if sum > 0.0 {
            signature |= 1 << bit;
        }
    }
    signature
}

fn conv(channels: u32, kernel: u32) -> Conv2d {
    Conv2d {
        in_channels: channels,
        out_channels: 4,
        input: [9, 11],
        kernel: [kernel; 2],
        stride: [1; 2],
        padding: [1; 2],
        dilation: [1; 2],
        groups: 1,
    }
}

/// Calls `check` with the vectors of a convolution that has rows of `channels kernel^2` elements.
fn with_view<T>(channels: u32, kernel: u32, granularity: Granularity, check: impl Fn(&VectorView) -> T) -> T {
    let conv = conv(channels, kernel);
    let [height, width] = conv.input;
    let values: Vec<f32> = (0..(2 * channels * height * width) as usize).map(|index| value(index, 1)).collect();
    let planes = Planes { values: &values, samples: 2, channels: channels as usize, height, width };
    check(&VectorView::new(planes, conv.windows(Pass::Forward)[0], 1, granularity))
}

#[test]
fn a_drawn_matrix_that_is_given_signs_as_if_it_were_drawn() {
    // Strips of planes, tiles of whole rows, and sub-vectors that leave no rest.
    for (granularity, bits) in [("channel-patch", 20), ("channel-patch(2)", 64), ("patch", 7), ("sub-vector(18)", 33)] {
        for variant in [Variant::Sign, Variant::SignMagnitude(3), Variant::Centred] {
            let granularity = granularity.parse().unwrap();
            let bits = (64 - variant.magnitude_bits()).min(bits);
            let drawn = Rpq { bits, seed: 5, granularity, variant, ..Rpq::default() };
            with_view(6, 3, granularity, |view| {
                let lengths = list_lengths(view);
                let tensors = lengths.iter().map(|&length| transpose_drawn(&drawn, length)).collect();
                // The seed has no effect.
                let given = Rpq { projection: give(tensors), seed: 99, ..drawn.clone() };
                assert_eq!(sign_all(view, &given), sign_all(view, &drawn), "{granularity} {variant}");
            });
        }
    }
}

proptest! {
    /// Rows of 27 or 54 elements leave a rest for most lengths of sub-vectors.
    #[test]
    fn signatures_are_those_of_the_naive_loop(
        bits in 1u32..=64, more in 0usize..9, cut in 1u32..70, wide: bool, salt in 0usize..1000,
    ) {
        let (columns, channels) = (bits as usize + more, if wide { 6 } else { 3 });
        let tensor: Vec<f32> = (0..cut as usize * columns).map(|index| value(index, salt)).collect();
        // A tensor for the rest of the row must not be taken.
        let rest = (9 * channels as usize) % cut as usize;
        let mut tensors = vec![(cut as usize, columns, tensor.clone())];
        if rest > 0 {
            tensors.push((rest, columns, vec![1.0; rest * columns]));
        }
        let granularity = Granularity::SubVector(cut);
        let rpq = Rpq { bits, granularity, projection: give(tensors), ..Rpq::default() };
        with_view(channels, 3, granularity, |view| {
            let (layout, mut buffer) = (view.layout(), vec![0.0; view.max_length()]);
            let sign = |vector| {
                let (sample, stream, position) = layout.locate(vector);
                let vector = view.gather(sample, stream, position, &mut buffer);
                let scalar = compute_signature(vector, &Projection::from_rpq(&rpq, vector.len()), rpq.variant);
                (sign_naively(vector, &tensor, columns, bits), scalar)
            };
            let (naive, scalar): (Vec<u64>, Vec<u64>) = (0..layout.vectors()).map(sign).unzip();
            prop_assert_eq!(&naive, &scalar);
            for (kernel, found) in sign_all(view, &rpq) {
                prop_assert_eq!(&found, &naive, "{}", kernel);
            }
            Ok(())
        })?;
    }
}

/// A learned hash changes with each step; the cache of matrices must not mix the steps, nor fill up with them.
#[test]
fn matrices_that_change_are_not_confused() {
    let rows: Vec<f32> = (0..40).map(|index| value(index, 3)).collect();
    let view = VectorView::from_rows(&rows, 1, 1, 8, 5, Granularity::Patch);
    for step in 0..5000 {
        let tensor: Vec<f32> = (0..50).map(|index| value(index, step)).collect();
        let projection = give(vec![(5, 10, tensor.clone())]);
        let rpq = Rpq { bits: 10, granularity: Granularity::Patch, projection, ..Rpq::default() };
        let mut found = vec![0; 8];
        signatures_with(Kernel::best(), &view, &rpq, &mut found);
        let naive: Vec<u64> = rows.chunks(5).map(|vector| sign_naively(vector, &tensor, 10, 10)).collect();
        assert_eq!(found, naive, "step {step}");
    }
}

#[test]
#[should_panic(expected = "has no tensor of length 4")]
fn vectors_of_another_length_are_a_mistake_of_the_caller() {
    let rpq = Rpq { bits: 1, projection: give(vec![(5, 1, vec![1.0; 5])]), ..Rpq::default() };
    let _ = Projection::from_rpq(&rpq, 4);
}
