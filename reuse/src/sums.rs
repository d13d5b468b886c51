//! Sums of products in f64, in which output errors spend their time.
//!
//! Products of two f32 are exact in f64; they are added in a fixed order, one by one and without fusing,
//! so results are the same on every machine. Scales of zero are skipped, but by [`add_products`].

use crate::widest::{Loops, simd_dispatch};

/// Adds each row times its scale to `sums`: `rows` is `[scales][sums.len()]`.
///
/// # Panics
/// If the rows are not as many as the scales.
pub fn add_scaled_rows(sums: &mut [f64], scales: impl ExactSizeIterator<Item = f32>, rows: &[f32]) {
    assert_eq!(rows.len(), scales.len() * sums.len(), "a row for each scale");
    simd_dispatch(move || {
        for (scale, row) in scales.zip(rows.chunks_exact(sums.len().max(1))) {
            add(sums, scale, row);
        }
    });
}

/// Columns of [`add_products`] are a multiple of these.
pub const PRODUCT_LANES: usize = 8;

/// Adds products of many vectors side by side: `sums` is `[outputs][width]`, `weights` `[elements][outputs]` and
/// `columns` `[elements][width]`, a vector of f32 a column. Elements are added in ascending order, zeros, too; so sums have
/// the bits of [`add_scaled_rows`] wherever weights are finite and no sum began as -0.
///
/// # Panics
/// If `width` is no multiple of [`PRODUCT_LANES`], or the sizes do not agree.
pub fn add_products(sums: &mut [f64], weights: &[f32], columns: &[f64], width: usize) {
    assert!(width > 0 && width.is_multiple_of(PRODUCT_LANES), "whole registers");
    assert!(sums.len().is_multiple_of(width) && columns.len().is_multiple_of(width), "rows of the width");
    assert_eq!(weights.len(), sums.len() / width * (columns.len() / width), "a weight for each element and output");
    simd_dispatch(Products { sums, weights, columns, width });
}

/// The loops of [`add_products`].
struct Products<'a> {
    sums: &'a mut [f64],
    weights: &'a [f32],
    columns: &'a [f64],
    width: usize,
}

/// Outputs whose sums are in registers together, and elements that are added to them at once.
const OUTPUTS: usize = 4;
const ELEMENTS: usize = 64;

impl Loops for Products<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
    fn run(self) {
        let outputs = self.sums.len() / self.width;
        let whole = outputs - outputs % OUTPUTS;
        let (front, back) = self.sums.split_at_mut(whole * self.width);
        for (number, sums) in front.chunks_exact_mut(OUTPUTS * self.width).enumerate() {
            of_outputs::<OUTPUTS>(sums, self.weights, [outputs, number * OUTPUTS], self.columns, self.width);
        }
        for (number, sums) in back.chunks_exact_mut(self.width).enumerate() {
            of_outputs::<1>(sums, self.weights, [outputs, whole + number], self.columns, self.width);
        }
    }
}

/// The sums of `O` of the outputs, from this one on.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
fn of_outputs<const O: usize>(
    sums: &mut [f64],
    weights: &[f32],
    [outputs, first]: [usize; 2],
    columns: &[f64],
    width: usize,
) {
    let mut of_these = [[0.0; O]; ELEMENTS];
    for (weights, columns) in weights.chunks(ELEMENTS * outputs).zip(columns.chunks(ELEMENTS * width)) {
        let elements = columns.len() / width;
        for (of_these, weights) in of_these.iter_mut().zip(weights.chunks_exact(outputs)) {
            *of_these = std::array::from_fn(|output| f64::from(weights[first + output]));
        }
        for at in (0..width).step_by(PRODUCT_LANES) {
            let lanes = |row: &[f64]| *row[at..].first_chunk::<PRODUCT_LANES>().expect("whole registers");
            let mut totals: [_; O] = std::array::from_fn(|output| lanes(&sums[output * width..]));
            for (weights, row) in of_these[..elements].iter().zip(columns.chunks_exact(width)) {
                let values = lanes(row);
                for (totals, weight) in totals.iter_mut().zip(weights) {
                    for (total, value) in totals.iter_mut().zip(values) {
                        *total += weight * value;
                    }
                }
            }
            for (row, totals) in sums.chunks_exact_mut(width).zip(totals) {
                row[at..at + PRODUCT_LANES].copy_from_slice(&totals);
            }
        }
    }
}

/// Adds the row times each scale to a row of `sums`, which is `[scales][row.len()]`.
///
/// # Panics
/// If the sums are not as many.
pub fn add_outer(sums: &mut [f64], scales: impl ExactSizeIterator<Item = f32>, row: &[f32]) {
    assert_eq!(sums.len(), scales.len() * row.len(), "sums for each scale");
    simd_dispatch(move || {
        for (scale, sums) in scales.zip(sums.chunks_exact_mut(row.len().max(1))) {
            add(sums, scale, row);
        }
    });
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
fn add(sums: &mut [f64], scale: f32, row: &[f32]) {
    if scale == 0.0 {
        return;
    }
    for (sum, &value) in sums.iter_mut().zip(row) {
        *sum += f64::from(scale) * f64::from(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn products_are_added_in_order(
            scales in prop::collection::vec(prop_oneof![Just(0.0f32), -1e3f32..1e3], 0..150),
            width in 1usize..70,
            salt: u32,
        ) {
            let value = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) ^ salt) as f32 / 1e9 - 2.0;
            let rows: Vec<f32> = (0..scales.len() * width).map(value).collect();
            let start: Vec<f64> = (0..scales.len().max(1) * width).map(|i| f64::from(value(i + 7))).collect();
            let product = |sum: f64, scale: f32, value: f32| {
                if scale == 0.0 { sum } else { sum + f64::from(scale) * f64::from(value) }
            };

            let mut found = start[..width].to_vec();
            add_scaled_rows(&mut found, scales.iter().copied(), &rows);
            for (column, found) in found.iter().enumerate() {
                let rows = scales.iter().zip(rows.chunks(width));
                let expected = rows.fold(start[column], |sum, (&scale, row)| product(sum, scale, row[column]));
                prop_assert_eq!(found.to_bits(), expected.to_bits());
            }

            // Vectors side by side: each lane has the same sums, of its own multiple of the scales.
            let lanes = PRODUCT_LANES * (1 + scales.len() % 3);
            let scaled = |scale: f32, lane: usize| if lane % 5 == 3 { 0.0 } else { scale * lane as f32 };
            let columns: Vec<f64> =
                scales.iter().flat_map(|&scale| (0..lanes).map(move |lane| f64::from(scaled(scale, lane)))).collect();
            let mut found: Vec<f64> = start[..width].iter().flat_map(|&sum| vec![sum; lanes]).collect();
            add_products(&mut found, &rows, &columns, lanes);
            for lane in 0..lanes {
                let mut expected = start[..width].to_vec();
                add_scaled_rows(&mut expected, scales.iter().map(|&scale| scaled(scale, lane)), &rows);
                for (output, expected) in expected.into_iter().enumerate() {
                    prop_assert_eq!(found[output * lanes + lane].to_bits(), expected.to_bits());
                }
            }

            let row: Vec<f32> = (0..width).map(value).collect();
            let mut found = start[..scales.len() * width].to_vec();
            add_outer(&mut found, scales.iter().copied(), &row);
            for (at, found) in found.iter().enumerate() {
                let expected = product(start[at], scales[at / width], row[at % width]);
                prop_assert_eq!(found.to_bits(), expected.to_bits());
            }
        }
    }
}
