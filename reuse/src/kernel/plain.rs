//! Plain values: those of whose products all sums are zero (not -0), normal or infinite, so that a sum is below 0
//! where its sign bit is set (as AVX-512 tells it), and above 0 where it is beyond 16 bits as a signed integer (as
//! AVX2 does), and no comparison is needed.
//!
//! A sum in f32 by fused multiply-add from +0 up is -0 only where a negative one rounds to zero: it
//! keeps +0 when zeros of either sign are added, and terms that cancel give +0. Values of at
//! least 2^-e are multiples of 2^-(e + 23). So with |x| >= 2^-50 and |r| >= 2^-30, where they are not zeros,
//! all products and their rounded sums are multiples of 2^-126: zero, or normal numbers, whatever the
//! processor is set to do with others. A sum of finite values may become infinite, but not NaN: no
//! product is rounded, so an infinity never meets another.

/// Bits of the least |x| and |r|.
const X: u32 = (127 - 50) << 23;
const R: u32 = (127 - 30) << 23;

/// Whether all values of vectors are plain.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
pub(super) fn values(values: &[f32]) -> bool {
    all_from(values, X)
}

/// Whether all values of R are plain.
pub(super) fn matrix(values: &[f32]) -> bool {
    all_from(values, R)
}

/// Whether all are zeros, or finite and of this magnitude at least. It looks at all in any case: branches
/// would cost more.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as above")]
fn all_from(values: &[f32], least: u32) -> bool {
    let (mut low, mut high) = (u32::MAX, 0);
    for value in values {
        let magnitude = value.to_bits() & 0x7FFF_FFFF;
        // A zero wraps to the largest number, and so counts for the one as for the other.
        low = low.min(magnitude.wrapping_sub(1));
        high = high.max(magnitude);
    }
    low >= least - 1 && high < f32::INFINITY.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Of a magnitude from a bound on, half of them just there, or zero.
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

        /// Terms that cancel come from pairs, one of each with the other sign.
        #[test]
        fn sums_of_plain_values_are_neither_minus_zero_nor_nan_nor_subnormal(
            terms in prop::collection::vec((values_from(X), values_from(R), any::<bool>()), 1..20),
        ) {
            let pairs = terms.into_iter().flat_map(|(x, r, paired)| [Some((x, r)), paired.then_some((-x, r))]);
            let mut sum = 0.0f32;
            for (x, r) in pairs.flatten() {
                assert!(values(&[x]) && matrix(&[r]));
                sum = x.mul_add(r, sum);
                prop_assert!(sum.is_normal() || sum.is_infinite() || sum.to_bits() == 0, "{sum:e}");
            }
        }
    }

    #[test]
    fn below_the_bounds_a_sum_can_be_minus_zero() {
        let (x, r) = (f32::from_bits(X).next_up(), -f32::from_bits(R).next_up());
        // Exactly 2^-126, the least product's unit, at the bounds; a 2^-24th of that rounds to -0.
        assert_eq!((x / 2f32.powi(72)).mul_add(r, 0.0).to_bits(), (-0.0f32).to_bits());
    }

    #[test]
    fn bounds_are_of_magnitudes_and_zeros_pass() {
        let least = 2f32.powi(-50);
        for plain in [&[][..], &[0.0, -0.0], &[least, -least, 1.0, -3.5, f32::MAX, f32::MIN, 0.0]] {
            assert!(values(plain), "{plain:?}");
        }
        for other in [least.next_down(), f32::MIN_POSITIVE, 1e-45, f32::INFINITY, f32::NAN] {
            for value in [other, -other] {
                assert!(!values(&[1.0, 0.0, value, 2.0]), "{value}");
            }
        }
        assert!(matrix(&[0.0, -1.0, 2f32.powi(-30)]) && !matrix(&[2f32.powi(-31)]));
    }
}
