//! AVX2 with FMA: 8 positions a register.

use super::block::{self, Simd};
use super::{Packed, Strip};
use crate::config::Variant;
#[allow(clippy::wildcard_imports, reason = "the instruction set is the module's language")]
use std::arch::x86_64::*;

pub(super) const TILE: usize = Avx2::TILE;
pub(super) const BITS: usize = Avx2::BITS;

/// 16 registers: 12 sums, and the positions and the value of R beside them.
struct Avx2;

#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
impl Simd for Avx2 {
    type F = __m256;
    type U = __m256i;
    const LANES: usize = 8;
    const BITS: usize = 6;
    const GROUPS: usize = 2;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: the caller's pointer and machine.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(value: __m256, to: *mut f32) {
        // SAFETY: the caller's pointer and machine.
        unsafe { _mm256_storeu_ps(to, value) }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> __m256 {
        // SAFETY: the caller's pointer and machine.
        unsafe { _mm256_broadcast_ss(&*from) }
    }

    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the caller's machine has the features.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller's machine has the features.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller's machine has the features.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller's machine has the features.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn no_bits() -> __m256i {
        // SAFETY: the caller's machine has the features.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn load_bits(from: *const u32) -> __m256i {
        // SAFETY: the caller's pointer and machine.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn append(bits: __m256i, sum: __m256, bit: u32) -> __m256i {
        // SAFETY: the caller's machine has the features.
        unsafe {
            let below = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_LT_OQ>(sum, _mm256_setzero_ps()));
            _mm256_or_si256(bits, _mm256_and_si256(below, _mm256_set1_epi32(1 << bit)))
        }
    }

    #[inline(always)]
    unsafe fn or(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the caller's machine has the features.
        unsafe { _mm256_or_si256(a, b) }
    }

    #[inline(always)]
    unsafe fn shift_left(bits: __m256i, by: u32) -> __m256i {
        // SAFETY: the caller's machine has the features.
        unsafe { _mm256_sll_epi32(bits, _mm_cvtsi32_si128(by as i32)) }
    }

    #[inline(always)]
    unsafe fn shift_right(bits: __m256i, by: u32) -> __m256i {
        // SAFETY: the caller's machine has the features.
        unsafe { _mm256_srl_epi32(bits, _mm_cvtsi32_si128(by as i32)) }
    }

    #[inline(always)]
    unsafe fn store_words(low: __m256i, high: __m256i, to: *mut u64) {
        // SAFETY: the caller's pointer and machine.
        unsafe {
            let (even, odd) = (_mm256_unpacklo_epi32(low, high), _mm256_unpackhi_epi32(low, high));
            _mm256_storeu_si256(to.cast(), _mm256_permute2x128_si256::<0x20>(even, odd));
            _mm256_storeu_si256(to.add(4).cast(), _mm256_permute2x128_si256::<0x31>(even, odd));
        }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_pitch: usize, to: *mut f32, to_pitch: usize) {
        // SAFETY: the caller's pointers cover 8 rows at these pitches.
        unsafe {
            let rows: [__m256; 8] = std::array::from_fn(|row| Self::load(from.add(row * from_pitch)));
            let mut fours = [_mm256_setzero_ps(); 8];
            for (fours, rows) in fours.chunks_exact_mut(4).zip(rows.chunks_exact(4)) {
                let [a, b] = [_mm256_unpacklo_ps(rows[0], rows[1]), _mm256_unpackhi_ps(rows[0], rows[1])];
                let [c, d] = [_mm256_unpacklo_ps(rows[2], rows[3]), _mm256_unpackhi_ps(rows[2], rows[3])];
                fours[0] = _mm256_shuffle_ps::<0x44>(a, c);
                fours[1] = _mm256_shuffle_ps::<0xEE>(a, c);
                fours[2] = _mm256_shuffle_ps::<0x44>(b, d);
                fours[3] = _mm256_shuffle_ps::<0xEE>(b, d);
            }
            for column in 0..4 {
                let [a, b] = [fours[column], fours[column + 4]];
                Self::store(_mm256_permute2f128_ps::<0x20>(a, b), to.add(column * to_pitch));
                Self::store(_mm256_permute2f128_ps::<0x31>(a, b), to.add((column + 4) * to_pitch));
            }
        }
    }
}

/// [`block::strip`] on this unit.
///
/// # Safety
/// The machine has the features; otherwise as [`block::strip`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn strip(strip: &Strip, matrix: &Packed, variant: Variant, out: &mut [u64]) {
    // SAFETY: compiled for the features, and the caller warrants the rest.
    unsafe { block::strip::<Avx2, 2>(strip, matrix, variant, out) }
}

/// [`block::transpose`] on this unit.
///
/// # Safety
/// The machine has the features; otherwise as [`block::transpose`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn transpose(rows: &[f32], pitch: usize, columns: &mut [f32]) {
    // SAFETY: compiled for the features, and the caller warrants the rest.
    unsafe { block::transpose::<Avx2>(rows, pitch, columns) }
}
