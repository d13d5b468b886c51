//! Dot products of one vector with many, side by side. They serve as a bound with a margin, so
//! their rounding may depend on the CPU.

#[cfg(target_arch = "x86_64")]
use crate::cpu::{Instructions, may_use};

/// Vectors of a tile.
pub(crate) const LANES: usize = 64;

/// The dot product of `vector` with each vector of the tile. `tile` is `[vector.len()][LANES]`.
pub(crate) fn dots(vector: &[f32], tile: &[f32]) -> [f32; LANES] {
    #[cfg(target_arch = "x86_64")]
    if may_use(Instructions::Avx2) {
        // SAFETY: the CPU has the two features that the function is compiled for.
        return unsafe { dots_fma(vector, tile) };
    }
    accumulate(vector, tile, |sum, x, y| sum + x * y)
}

/// [`dots`] with fused multiply-add instructions.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn dots_fma(vector: &[f32], tile: &[f32]) -> [f32; LANES] {
    accumulate(vector, tile, |sum, x, y| x.mul_add(y, sum))
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
fn accumulate(vector: &[f32], tile: &[f32], add: impl Fn(f32, f32, f32) -> f32) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    for (&x, lanes) in vector.iter().zip(tile.chunks_exact(LANES)) {
        for (sum, &y) in sums.iter_mut().zip(lanes) {
            *sum = add(*sum, x, y);
        }
    }
    sums
}

/// The dot product in f64, where products of two f32 neither overflow nor vanish.
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).fold(0.0, |sum, (&x, &y)| sum + f64::from(x) * f64::from(y))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lane_has_the_dot_product_of_its_vector() {
        let vector = [1.0, -2.0, 3.0];
        let tile: Vec<f32> = (0..3 * LANES).map(|i| (i % 7) as f32).collect();
        let expected: Vec<f32> =
            (0..LANES).map(|lane| (0..3).map(|i| vector[i] * tile[i * LANES + lane]).sum()).collect();
        assert_eq!(dots(&vector, &tile).to_vec(), expected);
        assert_eq!(accumulate(&vector, &tile, |sum, x, y| sum + x * y).to_vec(), expected);
    }
}
