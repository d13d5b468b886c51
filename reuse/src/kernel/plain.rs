//! Values whose products' sums can neither be -0 nor NaN, so that a sum is below 0 where its sign bit
//! is set, and no comparison is needed.
//!
//! A sum in f32 by fused multiply-add from +0 up is -0 only where a negative one rounds to zero: it
//! keeps +0 when zeros of either sign are added, and terms that cancel give +0. Values of at
//! least 2^-e are multiples of 2^-(e + 23). So with |x| >= 2^-70 and |r| >= 2^-30, where they are not zeros,
//! all products and their rounded sums are multiples of 2^-146, which f32 has. A sum of finite
//! values may become infinite, but not NaN: no product is rounded, so an infinity never meets another.

/// Bits of the least |x| and |r|.
const X: u32 = (127 - 70) << 23;
const R: u32 = (127 - 30) << 23;

/// Whether all values of vectors are.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
pub(super) fn values(values: &[f32]) -> bool {
    all_from(values, X)
}

/// Whether all values of R are.
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

    #[test]
    fn bounds_are_of_magnitudes_and_zeros_pass() {
        let least = 2f32.powi(-70);
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
