//! The NEON unit: 4 positions per register.

use super::block::{self, Simd};
use super::halves::{Halves, Lanes};
use super::{Packed, Strip};
use crate::config::Variant;
#[allow(clippy::wildcard_imports, reason = "the instruction set is the module's language")]
use std::arch::aarch64::*;

pub(super) const TILE: usize = Neon::TILE;
pub(super) const BITS: usize = Neon::BITS;
pub(super) const NEGATED: bool = Neon::NEGATED;

/// Of 32 registers 24 hold sums; the others hold positions and the value of R.
struct Neon;

#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
impl Simd for Neon {
    type F = float32x4_t;
    const LANES: usize = 4;
    const BITS: usize = 6;
    const GROUPS: usize = 4;
    const NEGATED: bool = true;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> float32x4_t {
        // SAFETY: the caller guarantees the pointer and the CPU features.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn store(value: float32x4_t, to: *mut f32) {
        // SAFETY: the caller guarantees the pointer and the CPU features.
        unsafe { vst1q_f32(to, value) }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> float32x4_t {
        // SAFETY: the caller guarantees the pointer and the CPU features.
        unsafe { vld1q_dup_f32(from) }
    }

    #[inline(always)]
    unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { vsubq_f32(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { vmulq_f32(a, b) }
    }
}

#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
impl Lanes for Neon {
    type U = uint32x4_t;

    #[inline(always)]
    unsafe fn no_bits() -> uint32x4_t {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { vdupq_n_u32(0) }
    }

    #[inline(always)]
    unsafe fn load_bits(from: *const u32) -> uint32x4_t {
        // SAFETY: the caller guarantees the pointer and the CPU features.
        unsafe { vld1q_u32(from) }
    }

    #[inline(always)]
    unsafe fn append(bits: uint32x4_t, sum: float32x4_t, bit: u32) -> uint32x4_t {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { vorrq_u32(bits, vandq_u32(vcltzq_f32(sum), vdupq_n_u32(1 << bit))) }
    }

    #[inline(always)]
    unsafe fn or(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { vorrq_u32(a, b) }
    }

    #[inline(always)]
    unsafe fn shift_left(bits: uint32x4_t, by: u32) -> uint32x4_t {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { vshlq_u32(bits, vdupq_n_s32(by as i32)) }
    }

    #[inline(always)]
    unsafe fn shift_right(bits: uint32x4_t, by: u32) -> uint32x4_t {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { vshlq_u32(bits, vdupq_n_s32(-(by as i32))) }
    }

    #[inline(always)]
    unsafe fn store_words(low: uint32x4_t, high: uint32x4_t, to: *mut u64) {
        // SAFETY: the caller guarantees the pointer and the CPU features.
        unsafe { vst2q_u32(to.cast(), uint32x4x2_t(low, high)) }
    }
}

/// [`block::compute_strip`] on this unit.
///
/// # Safety
/// The CPU has the features. Otherwise as [`block::compute_strip`].
#[target_feature(enable = "neon")]
pub(super) unsafe fn compute_strip(strip: &Strip, matrix: &Packed, variant: Variant, out: &mut [u64]) {
    // SAFETY: this is compiled for the features, and the caller guarantees the rest.
    unsafe { block::compute_strip::<Neon, Halves<Neon, 4>, 4>(strip, matrix, variant, out) }
}

/// [`block::transpose`] on this unit.
///
/// # Safety
/// The CPU has the features. Otherwise as [`block::transpose`].
#[target_feature(enable = "neon")]
pub(super) unsafe fn transpose(rows: &[f32], pitch: usize, columns: &mut [f32]) {
    // SAFETY: this is compiled for the features, and the caller guarantees the rest.
    unsafe { block::transpose::<Neon>(rows, pitch, columns) }
}
