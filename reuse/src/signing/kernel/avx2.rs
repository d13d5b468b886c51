//! The AVX2 and FMA unit: 8 positions per register.

use super::block::{self, MAX_TILE, Simd, Words};
use super::{Packed, Strip};
use crate::config::Variant;
#[allow(clippy::wildcard_imports, reason = "the instruction set is the module's language")]
use std::arch::x86_64::*;

pub(super) const TILE: usize = Avx2::TILE;
pub(super) const BITS: usize = Avx2::BITS;
pub(super) const NEGATED: bool = Avx2::NEGATED;

/// Of 16 registers 12 hold sums; the others hold positions and the value of R.
struct Avx2;

#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
impl Simd for Avx2 {
    type F = __m256;
    const LANES: usize = 8;
    const BITS: usize = 6;
    const GROUPS: usize = 2;
    const NEGATED: bool = false;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: the caller guarantees the pointer and the CPU features.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(value: __m256, to: *mut f32) {
        // SAFETY: the caller guarantees the pointer and the CPU features.
        unsafe { _mm256_storeu_ps(to, value) }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> __m256 {
        // SAFETY: the caller guarantees the pointer and the CPU features.
        unsafe { _mm256_broadcast_ss(&*from) }
    }

    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_pitch: usize, to: *mut f32, to_pitch: usize) {
        // SAFETY: the caller's pointers cover 8 rows at these pitches, and it guarantees the CPU
        // features.
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

/// The signatures of a tile, in quarters of 16 bits. Each quarter is a register with both groups of
/// positions, in the order of the pack instructions: each half of the register has four positions
/// of the first group, then four of the second.
struct Quarters([__m256i; 4]);

#[expect(clippy::inline_always, reason = "as above")]
impl Words<Avx2, 2> for Quarters {
    const USES_PLAIN: bool = true;

    #[inline(always)]
    unsafe fn new() -> Self {
        const { assert!(!Avx2::NEGATED && Avx2::BITS <= 16, "a bit is a sum above 0, and a block has at most 16") }
        // SAFETY: the caller guarantees the CPU features.
        unsafe { Self([_mm256_setzero_si256(); 4]) }
    }

    #[inline(always)]
    unsafe fn from_low_bits(low: &[u32; MAX_TILE]) -> Self {
        // SAFETY: the caller guarantees the CPU features; a tile is within the array.
        unsafe {
            let [a, b] = [0, 8].map(|from| _mm256_loadu_si256(low.as_ptr().add(from).cast()));
            let none = _mm256_setzero_si256();
            Self([_mm256_packus_epi32(a, b), none, none, none])
        }
    }

    #[inline(always)]
    unsafe fn add<const B: usize, const PLAIN: bool>(&mut self, sums: [[__m256; 2]; B], first: u32) {
        // SAFETY: the caller guarantees the CPU features.
        unsafe {
            let mut bits = _mm256_setzero_si256();
            for [a, b] in sums {
                // 16 ones for a sum above 0, otherwise zeros. A plain sum is packed as an integer
                // with unsigned saturation: a normal number above 0 exceeds 16 bits, one below 0 is
                // negative.
                let above = if PLAIN {
                    _mm256_packus_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b))
                } else {
                    let zero = _mm256_setzero_ps();
                    let [a, b] = [a, b].map(|sum| _mm256_castps_si256(_mm256_cmp_ps::<_CMP_GT_OQ>(sum, zero)));
                    _mm256_packs_epi32(a, b)
                };
                // The average is (bits + above + 1) / 2 in 17 bits. It shifts the earlier bits down
                // by one and sets the highest bit if `above` is all ones, because the lowest of
                // `bits` is clear.
                bits = _mm256_avg_epu16(bits, above);
            }
            // The last bit is now the highest of 16.
            let (quarter, end) = (first as usize / 16, first % 16 + B as u32);
            let shift_right = |by| _mm256_srl_epi16(bits, _mm_cvtsi32_si128(by as i32));
            if end <= 16 {
                self.0[quarter] = _mm256_or_si256(self.0[quarter], shift_right(16 - end));
            } else {
                let low = _mm256_sll_epi16(bits, _mm_cvtsi32_si128(end as i32 - 16));
                self.0[quarter] = _mm256_or_si256(self.0[quarter], low);
                self.0[quarter + 1] = shift_right(32 - end);
            }
        }
    }

    #[inline(always)]
    unsafe fn write(&self, to: *mut u64) {
        let [a, b, c, d] = self.0;
        // SAFETY: the caller guarantees the pointer and the CPU features.
        unsafe {
            let low = [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)];
            let high = [_mm256_unpacklo_epi16(c, d), _mm256_unpackhi_epi16(c, d)];
            for (group, (low, high)) in low.into_iter().zip(high).enumerate() {
                let [front, back] = [_mm256_unpacklo_epi32(low, high), _mm256_unpackhi_epi32(low, high)];
                let to = to.add(group * Avx2::LANES);
                _mm256_storeu_si256(to.cast(), _mm256_permute2x128_si256::<0x20>(front, back));
                _mm256_storeu_si256(to.add(4).cast(), _mm256_permute2x128_si256::<0x31>(front, back));
            }
        }
    }
}

/// [`block::compute_strip`] on this unit.
///
/// # Safety
/// The CPU has the features. Otherwise as [`block::compute_strip`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn compute_strip(strip: &Strip, matrix: &Packed, variant: Variant, out: &mut [u64]) {
    // SAFETY: this is compiled for the features, and the caller guarantees the rest.
    unsafe { block::compute_strip::<Avx2, Quarters, 2>(strip, matrix, variant, out) }
}

/// [`block::transpose`] on this unit.
///
/// # Safety
/// The CPU has the features. Otherwise as [`block::transpose`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn transpose(rows: &[f32], pitch: usize, columns: &mut [f32]) {
    // SAFETY: this is compiled for the features, and the caller guarantees the rest.
    unsafe { block::transpose::<Avx2>(rows, pitch, columns) }
}
