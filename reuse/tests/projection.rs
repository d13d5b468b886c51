//! R and signatures against an independent implementation, `reference/projection.py`, and the
//! properties that the scheme relies on.

use mercury_reuse::config::{Granularity, Matrix, Rpq, Variant};
use mercury_reuse::{Kernel, Projection, VectorView, compute_signature, signatures_with};
use proptest::prelude::*;

/// A line of the reference; `index` and `element` are 0 if its kind has none.
struct Line {
    kind: &'static str,
    projection: Projection,
    index: usize,
    element: usize,
    expected: u64,
}

fn read_reference() -> Vec<Line> {
    include_str!("reference/projection.csv").lines().skip(1).map(parse_line).collect()
}

fn parse_line(text: &'static str) -> Line {
    let [kind, matrix, seed, length, bits, index, element, hex] = text.split(',').collect::<Vec<_>>()[..] else {
        panic!("eight columns: {text}");
    };
    let optional = |column: &str| if column.is_empty() { 0 } else { column.parse().unwrap() };
    let projection = if matrix == "sparse" { Matrix::Sparse } else { Matrix::Gaussian };
    let rpq = Rpq { seed: seed.parse().unwrap(), bits: bits.parse().unwrap(), projection, ..Rpq::default() };
    Line {
        kind,
        projection: Projection::from_rpq(&rpq, length.parse().unwrap()),
        index: optional(index),
        element: optional(element),
        expected: u64::from_str_radix(hex, 16).unwrap(),
    }
}

/// The vectors of the reference, by the same formula.
fn make_vector(number: usize, length: usize) -> Vec<f32> {
    (0..length).map(|i| ((i * 37 + number * 11) % 19) as f32 / 4.0 - 9.0 / 4.0).collect()
}

/// A vector whose exact product with `row` is 0. The sign depends on the rounding of the sum, so it
/// distinguishes fused multiply-add from two roundings, and ascending order from any other.
fn make_delicate(row: &[f32]) -> Vec<f32> {
    let mut swapped = vec![0.0; row.len()];
    for (to, from) in swapped.chunks_exact_mut(2).zip(row.chunks_exact(2)) {
        to.copy_from_slice(&[from[1], -from[0]]);
    }
    swapped
}

/// A word whose bit k is bit k of the signature of the delicate vector for row k.
fn compute_delicate_bits(projection: &Projection) -> u64 {
    let own = |bit| projection.signature_scalar(&make_delicate(projection.row(bit))) & (1 << bit);
    (0..projection.bits()).fold(0, |bits, bit| bits | own(bit))
}

/// Without a tolerance: the reference uses logarithm, sine and cosine of the C library, and R those
/// of the libm crate, but after rounding to f32 every entry is the same.
#[test]
fn equals_the_reference() {
    let lines = read_reference();
    assert!(lines.len() > 250, "{} lines", lines.len());
    for Line { kind, projection, index, element, expected } in lines {
        let bits = |value: &f32| u64::from(value.to_bits());
        let entries = (0..projection.bits()).flat_map(|bit| projection.row(bit));
        let found = match kind {
            "entry" => bits(&projection.row(index as u32)[element]),
            "checksum" => entries.fold(0u64, |sum, value| sum.wrapping_mul(31).wrapping_add(bits(value))),
            "signature" => projection.signature_scalar(&make_vector(index, projection.length())),
            "magnitude" => {
                compute_signature(&make_vector(index, projection.length()), &projection, Variant::SignMagnitude(4))
            }
            "centred" => compute_signature(&make_vector(index, projection.length()), &projection, Variant::Centred),
            "delicate" => compute_delicate_bits(&projection),
            other => panic!("unknown kind {other}"),
        };
        let case = (projection.length(), projection.bits(), index, element);
        assert_eq!(found, expected, "{kind} of (length, bits, index, element) {case:?}");
    }
}

proptest! {
    /// Uses delicate vectors, because the products of random vectors are rarely close enough to 0
    /// for the rounding to matter.
    #[test]
    fn kernels_round_as_the_scalar_loop(seed: u64, bits in 1u32..=64, length in 1u32..=80) {
        let rpq = Rpq { seed, bits, ..Rpq::default() };
        let projection = Projection::from_rpq(&rpq, length as usize);
        let rows: Vec<f32> = (0..bits).flat_map(|bit| make_delicate(projection.row(bit))).collect();
        let view = VectorView::from_rows(&rows, 1, 1, bits, length, Granularity::Patch);
        let vectors = rows.chunks_exact(length as usize);
        let expected: Vec<u64> = vectors.map(|vector| projection.signature_scalar(vector)).collect();
        for kernel in Kernel::available() {
            let mut found = vec![u64::MAX; expected.len()];
            signatures_with(kernel, &view, &rpq, &mut found);
            prop_assert_eq!(&found, &expected, "{}", kernel);
        }
    }

    #[test]
    fn a_shorter_signature_is_the_low_bits_of_the_longest(
        seed: u64,
        bits in 1u32..=64,
        vector in prop::collection::vec(-1e3f32..1e3, 1..=80),
    ) {
        let [short, long] = [bits, 64].map(|bits| Projection::new(seed, vector.len(), bits).signature_scalar(&vector));
        prop_assert_eq!(short, long & (u64::MAX >> (64 - bits)));
    }
}
