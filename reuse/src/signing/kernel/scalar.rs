//! The scalar unit: one position per register, with the same loops as the vector units.

use super::block::{self, Simd};
use super::halves::{Halves, Lanes};
use super::{Packed, Strip};
use crate::config::Variant;

pub(super) const TILE: usize = Scalar::TILE;
pub(super) const BITS: usize = Scalar::BITS;
pub(super) const NEGATED: bool = Scalar::NEGATED;

/// Architectures have at least 16 registers. 8 sums hide the latency of a multiplication.
struct Scalar;

#[expect(clippy::inline_always, reason = "the vector units, which share the loops, need it")]
impl Simd for Scalar {
    type F = f32;
    const LANES: usize = 1;
    const BITS: usize = 4;
    const GROUPS: usize = 2;
    const NEGATED: bool = true;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> f32 {
        // SAFETY: the caller guarantees the pointer.
        unsafe { *from }
    }

    #[inline(always)]
    unsafe fn store(value: f32, to: *mut f32) {
        // SAFETY: the caller guarantees the pointer.
        unsafe { *to = value }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> f32 {
        // SAFETY: the caller guarantees the pointer.
        unsafe { *from }
    }

    #[inline(always)]
    unsafe fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }

    #[inline(always)]
    unsafe fn add(a: f32, b: f32) -> f32 {
        a + b
    }

    #[inline(always)]
    unsafe fn sub(a: f32, b: f32) -> f32 {
        a - b
    }

    #[inline(always)]
    unsafe fn mul(a: f32, b: f32) -> f32 {
        a * b
    }
}

#[expect(clippy::inline_always, reason = "the vector units, which share the loops, need it")]
impl Lanes for Scalar {
    type U = u32;

    #[inline(always)]
    unsafe fn no_bits() -> u32 {
        0
    }

    #[inline(always)]
    unsafe fn load_bits(from: *const u32) -> u32 {
        // SAFETY: the caller guarantees the pointer.
        unsafe { *from }
    }

    #[inline(always)]
    unsafe fn append(bits: u32, sum: f32, bit: u32) -> u32 {
        bits | (u32::from(sum < 0.0) << bit)
    }

    #[inline(always)]
    unsafe fn or(a: u32, b: u32) -> u32 {
        a | b
    }

    #[inline(always)]
    unsafe fn shift_left(bits: u32, by: u32) -> u32 {
        bits << by
    }

    #[inline(always)]
    unsafe fn shift_right(bits: u32, by: u32) -> u32 {
        bits >> by
    }

    #[inline(always)]
    unsafe fn store_words(low: u32, high: u32, to: *mut u64) {
        // SAFETY: the caller guarantees the pointer.
        unsafe { *to = (u64::from(high) << 32) | u64::from(low) }
    }
}

/// [`block::compute_strip`] on any CPU.
///
/// # Safety
/// As [`block::compute_strip`].
pub(super) unsafe fn compute_strip(strip: &Strip, matrix: &Packed, variant: Variant, out: &mut [u64]) {
    // SAFETY: the caller guarantees the conditions of `block::compute_strip`.
    unsafe { block::compute_strip::<Scalar, Halves<Scalar, 2>, 2>(strip, matrix, variant, out) }
}

/// [`block::transpose`] on any CPU.
///
/// # Safety
/// As [`block::transpose`].
pub(super) unsafe fn transpose(rows: &[f32], pitch: usize, columns: &mut [f32]) {
    // SAFETY: the caller guarantees the conditions of `block::transpose`.
    unsafe { block::transpose::<Scalar>(rows, pitch, columns) }
}
