//! Sums of products in f64, in which output errors spend their time.
//!
//! Products of two f32 are exact in f64; they are added in a fixed order, one by one and without fusing,
//! so results are the same on every machine. Scales of zero are skipped.

use crate::widest::widest;

/// Adds each row times its scale to `sums`: `rows` is `[scales][sums.len()]`.
///
/// # Panics
/// If the rows are not as many as the scales.
pub fn add_scaled_rows(sums: &mut [f64], scales: impl ExactSizeIterator<Item = f32>, rows: &[f32]) {
    assert_eq!(rows.len(), scales.len() * sums.len(), "a row for each scale");
    widest(move || {
        for (scale, row) in scales.zip(rows.chunks_exact(sums.len().max(1))) {
            add(sums, scale, row);
        }
    });
}

/// Adds the row times each scale to a row of `sums`, which is `[scales][row.len()]`.
///
/// # Panics
/// If the sums are not as many.
pub fn add_outer(sums: &mut [f64], scales: impl ExactSizeIterator<Item = f32>, row: &[f32]) {
    assert_eq!(sums.len(), scales.len() * row.len(), "sums for each scale");
    widest(move || {
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
            scales in prop::collection::vec(prop_oneof![Just(0.0f32), -1e3f32..1e3], 0..20),
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
