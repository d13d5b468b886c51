//! The AVX-512 unit: 16 positions per register.

use super::block::{self, Simd};
use super::halves::{self, Halves, Lanes};
use super::{Packed, Strip};
use crate::config::Variant;
#[allow(clippy::wildcard_imports, reason = "the instruction set is the module's language")]
use std::arch::x86_64::*;

pub(super) const TILE: usize = Avx512::<false>::TILE;
pub(super) const BITS: usize = Avx512::<false>::BITS;
pub(super) const NEGATED: bool = Avx512::<false>::NEGATED;

/// Of 32 registers 24 hold sums; the others hold positions, means and the value of R. With `VBMI2`
/// the unit has the AVX-512 VBMI2 instructions, which can shift one register into another.
struct Avx512<const VBMI2: bool>;

#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
impl<const VBMI2: bool> Simd for Avx512<VBMI2> {
    type F = __m512;
    const LANES: usize = 16;
    const BITS: usize = 12;
    const GROUPS: usize = 2;
    const NEGATED: bool = true;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: the caller guarantees the pointer and the CPU features.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(value: __m512, to: *mut f32) {
        // SAFETY: the caller guarantees the pointer and the CPU features.
        unsafe { _mm512_storeu_ps(to, value) }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> __m512 {
        // SAFETY: the caller guarantees the pointer and the CPU features.
        unsafe { _mm512_set1_ps(*from) }
    }

    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_pitch: usize, to: *mut f32, to_pitch: usize) {
        // SAFETY: the caller's pointers cover 16 rows at these pitches, and it guarantees the CPU
        // features.
        unsafe {
            let rows: [__m512; 16] = std::array::from_fn(|row| Self::load(from.add(row * from_pitch)));
            // Transposes 2 x 2, then 4 x 4 values within each quarter of the registers of four
            // rows.
            let mut fours = [_mm512_setzero_ps(); 16];
            for (fours, rows) in fours.chunks_exact_mut(4).zip(rows.chunks_exact(4)) {
                let [a, b] = [_mm512_unpacklo_ps(rows[0], rows[1]), _mm512_unpackhi_ps(rows[0], rows[1])];
                let [c, d] = [_mm512_unpacklo_ps(rows[2], rows[3]), _mm512_unpackhi_ps(rows[2], rows[3])];
                fours[0] = _mm512_shuffle_ps::<0x44>(a, c);
                fours[1] = _mm512_shuffle_ps::<0xEE>(a, c);
                fours[2] = _mm512_shuffle_ps::<0x44>(b, d);
                fours[3] = _mm512_shuffle_ps::<0xEE>(b, d);
            }
            // Then transposes the quarters, as a 4 x 4 matrix.
            for column in 0..4 {
                let [a, b, c, d] = [fours[column], fours[column + 4], fours[column + 8], fours[column + 12]];
                let [even, odd] = [_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xDD>(a, b)];
                let [even2, odd2] = [_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xDD>(c, d)];
                let columns = [
                    _mm512_shuffle_f32x4::<0x88>(even, even2),
                    _mm512_shuffle_f32x4::<0x88>(odd, odd2),
                    _mm512_shuffle_f32x4::<0xDD>(even, even2),
                    _mm512_shuffle_f32x4::<0xDD>(odd, odd2),
                ];
                for (quarter, values) in columns.into_iter().enumerate() {
                    Self::store(values, to.add((4 * quarter + column) * to_pitch));
                }
            }
        }
    }
}

#[expect(clippy::inline_always, reason = "as above")]
impl<const VBMI2: bool> Lanes for Avx512<VBMI2> {
    type U = __m512i;
    const COLLECTS_PLAIN: bool = true;

    #[inline(always)]
    unsafe fn no_bits() -> __m512i {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn load_bits(from: *const u32) -> __m512i {
        // SAFETY: the caller guarantees the pointer and the CPU features.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn append(bits: __m512i, sum: __m512, bit: u32) -> __m512i {
        // SAFETY: the caller guarantees the CPU features.
        unsafe {
            // No comparison: on Zen 4 it would take an issue slot of a multiplication, and these
            // three instructions do not. If the sum is -0 or NaN, the minimum is its second
            // operand, +0.
            append_sign(bits, _mm512_castps_si512(_mm512_min_ps(sum, _mm512_setzero_ps())), bit)
        }
    }

    #[inline(always)]
    unsafe fn collect<const P: usize, const B: usize, const PLAIN: bool>(sums: [[__m512; P]; B]) -> [__m512i; P] {
        // SAFETY: the caller guarantees the CPU features, with VBMI2 if that is set.
        unsafe {
            if !PLAIN {
                return halves::append_all::<Self, P, B>(sums);
            }
            let mut bits = [Self::no_bits(); P];
            for (bit, sums) in sums.into_iter().enumerate().rev() {
                for (bits, sum) in bits.iter_mut().zip(sums) {
                    let sum = _mm512_castps_si512(sum);
                    *bits = if VBMI2 {
                        // Shifts the earlier bits up and the sum's sign bit in.
                        _mm512_shldi_epi32::<1>(*bits, sum)
                    } else {
                        append_sign(*bits, sum, bit as u32)
                    };
                }
            }
            bits
        }
    }

    #[inline(always)]
    unsafe fn or(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    unsafe fn shift_left(bits: __m512i, by: u32) -> __m512i {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { _mm512_sll_epi32(bits, _mm_cvtsi32_si128(by as i32)) }
    }

    #[inline(always)]
    unsafe fn shift_right(bits: __m512i, by: u32) -> __m512i {
        // SAFETY: the caller guarantees the CPU features.
        unsafe { _mm512_srl_epi32(bits, _mm_cvtsi32_si128(by as i32)) }
    }

    #[inline(always)]
    unsafe fn store_words(low: __m512i, high: __m512i, to: *mut u64) {
        // SAFETY: the caller guarantees the pointer and the CPU features.
        unsafe {
            let front = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let back = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
            _mm512_storeu_si512(to.cast(), _mm512_permutex2var_epi32(low, front, high));
            _mm512_storeu_si512(to.add(8).cast(), _mm512_permutex2var_epi32(low, back, high));
        }
    }
}

/// Sets bit number `bit` in the lanes whose sum has its sign bit set. It must be clear before.
///
/// # Safety
/// The CPU has the features.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
unsafe fn append_sign(bits: __m512i, sum: __m512i, bit: u32) -> __m512i {
    // SAFETY: the caller guarantees the CPU features.
    unsafe {
        let sign = _mm512_srl_epi32(sum, _mm_cvtsi32_si128(31 - bit as i32));
        // bits | (sign & mask)
        _mm512_ternarylogic_epi32::<0xF8>(bits, sign, _mm512_set1_epi32(1 << bit))
    }
}

/// The functions of the unit, compiled for these CPU features.
macro_rules! functions {
    ($vbmi2:literal, $features:literal) => {
        /// [`block::compute_strip`] on this unit.
        ///
        /// # Safety
        /// The CPU has the features. Otherwise as [`block::compute_strip`].
        #[target_feature(enable = $features)]
        pub(in super::super) unsafe fn compute_strip(
            strip: &Strip,
            matrix: &Packed,
            variant: Variant,
            out: &mut [u64],
        ) {
            // SAFETY: this is compiled for the features, and the caller guarantees the rest.
            unsafe { block::compute_strip::<Avx512<$vbmi2>, Halves<Avx512<$vbmi2>, 2>, 2>(strip, matrix, variant, out) }
        }

        /// [`block::transpose`] on this unit.
        ///
        /// # Safety
        /// The CPU has the features. Otherwise as [`block::transpose`].
        #[target_feature(enable = $features)]
        pub(in super::super) unsafe fn transpose(rows: &[f32], pitch: usize, columns: &mut [f32]) {
            // SAFETY: this is compiled for the features, and the caller guarantees the rest.
            unsafe { block::transpose::<Avx512<$vbmi2>>(rows, pitch, columns) }
        }
    };
}

pub(super) mod foundation {
    use super::{Avx512, Halves, Packed, Strip, Variant, block};
    functions!(false, "avx512f,avx2,fma");
}

pub(super) mod vbmi2 {
    use super::{Avx512, Halves, Packed, Strip, Variant, block};
    functions!(true, "avx512f,avx512vbmi2,avx2,fma");
}
