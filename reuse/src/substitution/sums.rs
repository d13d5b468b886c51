//! Sums of products in f64. They take most of the time of measuring output errors.
//!
//! Products of two f32 are exact in f64. They are added in a fixed order, one by one and without
//! fusing, so results are the same on every machine. Scales of zero are skipped, except by
//! [`add_products`].

use crate::cpu::{Instructions, may_use};
use crate::simd::{Loops, simd_dispatch};

/// Adds each row times its scale to `sums`: `rows` is `[scales][sums.len()]`.
///
/// # Panics
/// If the number of rows is not the number of scales.
pub fn add_scaled_rows(sums: &mut [f64], scales: impl ExactSizeIterator<Item = f32>, rows: &[f32]) {
    assert_eq!(rows.len(), scales.len() * sums.len(), "a row for each scale");
    simd_dispatch(move || {
        for (scale, row) in scales.zip(rows.chunks_exact(sums.len().max(1))) {
            add_scaled_row(sums, scale, row);
        }
    });
}

/// The width in [`add_products`] is a multiple of this.
pub const PRODUCT_LANES: usize = 8;

/// Adds the products of many vectors with weights, side by side. `sums` is `[outputs][width]`,
/// `weights` is `[elements][outputs]`, and `columns` is `[elements][width]`: each column is a
/// vector, whose elements are f32 values.
///
/// Elements are added in ascending order, including zeros. So sums have the same bits as those of
/// [`add_scaled_rows`] if weights are finite and no sum starts as -0.
///
/// # Panics
/// If `width` is not a positive multiple of [`PRODUCT_LANES`], or the sizes do not match.
pub fn add_products(sums: &mut [f64], weights: &[f32], columns: &[f64], width: usize) {
    check_sizes(sums, weights.len(), columns, width);
    simd_dispatch(Products { sums, factors: weights, columns, width });
}

/// Adds products of two f64 matrices: `sums` is `[outputs][width]`, `left` `[elements][outputs]` and `right`
/// `[elements][width]`. Values are those of f32, so that products are exact. Elements are added in ascending order.
///
/// # Panics
/// If `width` is no multiple of [`PRODUCT_LANES`], or the sizes do not agree.
pub fn add_outer_products(sums: &mut [f64], left: &[f64], right: &[f64], width: usize) {
    check_sizes(sums, left.len(), right, width);
    simd_dispatch(Products { sums, factors: left, columns: right, width });
}

fn check_sizes(sums: &[f64], factors: usize, columns: &[f64], width: usize) {
    assert!(width > 0 && width.is_multiple_of(PRODUCT_LANES), "whole registers");
    assert!(sums.len().is_multiple_of(width) && columns.len().is_multiple_of(width), "rows of the width");
    assert_eq!(factors, sums.len() / width * (columns.len() / width), "a factor for each element and output");
}

/// The loops of [`add_products`] and [`add_outer_products`].
struct Products<'a, F> {
    sums: &'a mut [f64],
    /// `[elements][outputs]`.
    factors: &'a [F],
    columns: &'a [f64],
    width: usize,
}

/// Most outputs whose sums are in registers at the same time, if there are 32 of 512 bits; half of them otherwise.
const MOST_OUTPUTS: usize = 8;
/// Elements that are added to them at once.
/// Elements that are added to these sums before they are stored.
const ELEMENTS: usize = 64;

impl<F: Factor> Loops for Products<'_, F> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
    fn run<const FUSED: bool>(self) {
        let Self { mut sums, factors, columns, width } = self;
        let outputs = sums.len() / width;
        // As equal as can be: few outputs take as long as many.
        let most = if may_use(Instructions::Avx512) { MOST_OUTPUTS } else { MOST_OUTPUTS / 2 };
        let blocks = outputs.div_ceil(most);
        let mut scratch = [0.0; MOST_OUTPUTS * ELEMENTS];
        for block in 0..blocks {
            let (first, end) = (outputs * block / blocks, outputs * (block + 1) / blocks);
            let own;
            (own, sums) = sums.split_at_mut((end - first) * width);
            let from = [outputs, first];
            match end - first {
                1 => add_to_outputs::<1, FUSED, F>(own, factors, from, columns, width, &mut scratch),
                2 => add_to_outputs::<2, FUSED, F>(own, factors, from, columns, width, &mut scratch),
                3 => add_to_outputs::<3, FUSED, F>(own, factors, from, columns, width, &mut scratch),
                4 => add_to_outputs::<4, FUSED, F>(own, factors, from, columns, width, &mut scratch),
                5 => add_to_outputs::<5, FUSED, F>(own, factors, from, columns, width, &mut scratch),
                6 => add_to_outputs::<6, FUSED, F>(own, factors, from, columns, width, &mut scratch),
                7 => add_to_outputs::<7, FUSED, F>(own, factors, from, columns, width, &mut scratch),
                _ => add_to_outputs::<MOST_OUTPUTS, FUSED, F>(own, factors, from, columns, width, &mut scratch),
            }
        }
    }
}

/// Adds the products of `O` of the outputs, from output `first` on; `sums` holds only their sums.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
fn add_to_outputs<const O: usize, const FUSED: bool, F: Factor>(
    sums: &mut [f64],
    factors: &[F],
    [outputs, first]: [usize; 2],
    columns: &[f64],
    width: usize,
    scratch: &mut [f64; MOST_OUTPUTS * ELEMENTS],
) {
    for (factors, columns) in factors.chunks(ELEMENTS * outputs).zip(columns.chunks(ELEMENTS * width)) {
        let scales = F::scales::<O>(factors, outputs, first, scratch);
        for at in (0..width).step_by(PRODUCT_LANES) {
            let lanes = |row: &[f64]| *row[at..].first_chunk::<PRODUCT_LANES>().expect("whole registers");
            let mut totals: [_; O] = std::array::from_fn(|output| lanes(&sums[output * width..]));
            for (scales, row) in scales.clone().zip(columns.chunks_exact(width)) {
                let values = lanes(row);
                for (totals, &scale) in totals.iter_mut().zip(scales) {
                    for (total, value) in totals.iter_mut().zip(values) {
                        // The product of two f32 is exact, so fusing changes no bit.
                        *total = if FUSED { scale.mul_add(value, *total) } else { *total + scale * value };
                    }
                }
            }
            for (row, totals) in sums.chunks_exact_mut(width).zip(totals) {
                row[at..at + PRODUCT_LANES].copy_from_slice(&totals);
            }
        }
    }
}

/// A factor of products.
trait Factor: Copy {
    /// The factors `first..first + O` of each row of `outputs`, in f64; in scratch memory if need be.
    fn scales<'s, const O: usize>(
        factors: &'s [Self],
        outputs: usize,
        first: usize,
        scratch: &'s mut [f64; MOST_OUTPUTS * ELEMENTS],
    ) -> impl Iterator<Item = &'s [f64; O]> + Clone;
}

impl Factor for f64 {
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
    fn scales<'s, const O: usize>(
        factors: &'s [Self],
        outputs: usize,
        first: usize,
        _: &'s mut [f64; MOST_OUTPUTS * ELEMENTS],
    ) -> impl Iterator<Item = &'s [f64; O]> + Clone {
        factors.chunks_exact(outputs).map(move |row| row[first..].first_chunk().expect("a factor for each output"))
    }
}

impl Factor for f32 {
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
    fn scales<'s, const O: usize>(
        factors: &'s [Self],
        outputs: usize,
        first: usize,
        scratch: &'s mut [f64; MOST_OUTPUTS * ELEMENTS],
    ) -> impl Iterator<Item = &'s [f64; O]> + Clone {
        let (scales, _) = scratch.as_chunks_mut::<O>();
        let rows = factors.chunks_exact(outputs);
        let scales = &mut scales[..rows.len()];
        for (scales, row) in scales.iter_mut().zip(rows) {
            let row = row[first..].first_chunk::<O>().expect("a factor for each output");
            *scales = row.map(f64::from);
        }
        (*scales).iter()
    }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
fn add_scaled_row(sums: &mut [f64], scale: f32, row: &[f32]) {
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

            // Vectors side by side. Each lane has the same sums, with its own multiple of the
            // scales.
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
            let left: Vec<f64> = rows.iter().map(|&value| f64::from(value)).collect();
            let mut outer: Vec<f64> = start[..width].iter().flat_map(|&sum| vec![sum; lanes]).collect();
            add_outer_products(&mut outer, &left, &columns, lanes);
            prop_assert_eq!(outer, found);

        }
    }
}
