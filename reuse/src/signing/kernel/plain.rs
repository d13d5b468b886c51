//! Plain values: all sums of their products are zero (not -0), normal or infinite.
//!
//! The sign of such a sum needs no comparison. It is below 0 if its sign bit is set, which AVX-512
//! uses. It is above 0 if it exceeds 16 bits as a signed integer, which AVX2 uses.
//!
//! A sum in f32 by fused multiply-add from +0 up is -0 only if a negative value rounds to zero.
//! Adding zeros of either sign keeps +0, and terms that cancel give +0. Values of at least 2^-e are
//! multiples of 2^-(e + 23). Let |x| >= 2^-50 and |r| >= 2^-30 for all values except zeros. Then
//! all products and their rounded sums are multiples of 2^-126: zeros or normal numbers, regardless
//! of how the CPU is set to treat subnormal numbers. A sum of finite values may become infinite,
//! but not NaN: no product is rounded, so no product is infinite, and an infinity never meets
//! another.

/// The bits of the least |x|.
const LEAST_X: u32 = (127 - 50) << 23;
/// The bits of the least |r|.
const LEAST_R: u32 = (127 - 30) << 23;

/// Whether all values of vectors are plain.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
pub(super) fn are_values_plain(values: &[f32]) -> bool {
    are_all_at_least(values, LEAST_X)
}

/// Whether all values of R are plain.
pub(super) fn is_matrix_plain(values: &[f32]) -> bool {
    are_all_at_least(values, LEAST_R)
}

/// Whether each value is zero, or finite with a magnitude of at least `least` (as bits). It
/// examines all values in any case, because branches would cost more.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
fn are_all_at_least(values: &[f32], least: u32) -> bool {
    let (mut low, mut high) = (u32::MAX, 0);
    for value in values {
        let magnitude = value.to_bits() & 0x7FFF_FFFF;
        // For a zero the subtraction wraps to the largest number, which does not change the
        // minimum.
        low = low.min(magnitude.wrapping_sub(1));
        high = high.max(magnitude);
    }
    low >= least - 1 && high < f32::INFINITY.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Zeros, and values with a magnitude from `least` up, half of them near that bound.
    fn values_from(least: u32) -> impl Strategy<Value = f32> {
        let magnitude = prop_oneof![least..=least + (1 << 23), least..f32::INFINITY.to_bits()];
        prop_oneof![
            8 => (magnitude, any::<bool>()).prop_map(|(bits, negative)| f32::from_bits(bits | u32::from(negative) << 31)),
            1 => Just(0.0),
            1 => Just(-0.0),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        /// Some terms are followed by the same term with the other sign, to cancel it.
        #[test]
        fn sums_of_plain_values_are_neither_minus_zero_nor_nan_nor_subnormal(
            terms in prop::collection::vec((values_from(LEAST_X), values_from(LEAST_R), any::<bool>()), 1..20),
        ) {
            let pairs = terms.into_iter().flat_map(|(x, r, paired)| [Some((x, r)), paired.then_some((-x, r))]);
            let mut sum = 0.0f32;
            for (x, r) in pairs.flatten() {
                assert!(are_values_plain(&[x]) && is_matrix_plain(&[r]));
                sum = x.mul_add(r, sum);
                prop_assert!(sum.is_normal() || sum.is_infinite() || sum.to_bits() == 0, "{sum:e}");
            }
        }
    }

    #[test]
    fn below_the_bounds_a_sum_can_be_minus_zero() {
        let (x, r) = (f32::from_bits(LEAST_X).next_up(), -f32::from_bits(LEAST_R).next_up());
        // At the bounds the product is a multiple of 2^-126. Dividing it by 2^72 makes it round to
        // -0.
        assert_eq!((x / 2f32.powi(72)).mul_add(r, 0.0).to_bits(), (-0.0f32).to_bits());
    }

    #[test]
    fn bounds_apply_to_magnitudes_and_zeros_are_plain() {
        let least = 2f32.powi(-50);
        for plain in [&[][..], &[0.0, -0.0], &[least, -least, 1.0, -3.5, f32::MAX, f32::MIN, 0.0]] {
            assert!(are_values_plain(plain), "{plain:?}");
        }
        for other in [least.next_down(), f32::MIN_POSITIVE, 1e-45, f32::INFINITY, f32::NAN] {
            for value in [other, -other] {
                assert!(!are_values_plain(&[1.0, 0.0, value, 2.0]), "{value}");
            }
        }
        assert!(is_matrix_plain(&[0.0, -1.0, 2f32.powi(-30)]) && !is_matrix_plain(&[2f32.powi(-31)]));
    }
}
