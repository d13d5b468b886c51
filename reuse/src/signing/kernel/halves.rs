//! Signatures as two halves of 32 bits, for units with lanes of that width.

use super::block::{MAX_TILE, Simd, Words};

/// The operations of a unit that [`Halves`] needs.
///
/// # Safety
/// As [`Simd`].
pub(super) trait Lanes: Simd {
    /// A register of u32.
    type U: Copy;
    /// Whether [`Lanes::collect`] is faster for plain sums.
    const COLLECTS_PLAIN: bool = false;

    unsafe fn no_bits() -> Self::U;
    unsafe fn load_bits(from: *const u32) -> Self::U;
    /// Sets bit number `bit` in the lanes whose sum is below 0 (so not for -0 or NaN). It must be
    /// clear before.
    unsafe fn append(bits: Self::U, sum: Self::F, bit: u32) -> Self::U;
    unsafe fn or(a: Self::U, b: Self::U) -> Self::U;
    /// Shifts by less than 32.
    unsafe fn shift_left(bits: Self::U, by: u32) -> Self::U;
    /// Shifts by less than 32.
    unsafe fn shift_right(bits: Self::U, by: u32) -> Self::U;
    /// Collects `B` bits per lane: bit `b` is set if `sums[b]` is below 0 (so not for -0 or NaN).
    /// With `PLAIN` all sums are zero (not -0), normal or infinite.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
    unsafe fn collect<const P: usize, const B: usize, const PLAIN: bool>(sums: [[Self::F; P]; B]) -> [Self::U; P] {
        // SAFETY: the caller's guarantee.
        unsafe { append_all::<Self, P, B>(sums) }
    }
    /// Writes the 64-bit words with these low and high halves.
    unsafe fn store_words(low: Self::U, high: Self::U, to: *mut u64);
}

/// [`Lanes::collect`] for sums that need not be plain.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
pub(super) unsafe fn append_all<S: Lanes, const P: usize, const B: usize>(sums: [[S::F; P]; B]) -> [S::U; P] {
    // SAFETY: the caller's guarantee.
    unsafe {
        let mut bits = [S::no_bits(); P];
        for (bit, sums) in sums.into_iter().enumerate() {
            for (bits, sum) in bits.iter_mut().zip(sums) {
                *bits = S::append(*bits, sum, bit as u32);
            }
        }
        bits
    }
}

/// The signatures of a tile: a register of low halves and one of high halves for each group of
/// positions.
pub(super) struct Halves<S: Lanes, const P: usize> {
    low: [S::U; P],
    high: [S::U; P],
}

#[expect(clippy::inline_always, reason = "as above")]
impl<S: Lanes, const P: usize> Words<S, P> for Halves<S, P> {
    const USES_PLAIN: bool = S::COLLECTS_PLAIN;

    #[inline(always)]
    unsafe fn new() -> Self {
        const { assert!(S::NEGATED, "a bit is a sum below 0") };
        // SAFETY: the caller's guarantee.
        unsafe { Self { low: [S::no_bits(); P], high: [S::no_bits(); P] } }
    }

    #[inline(always)]
    unsafe fn from_low_bits(low: &[u32; MAX_TILE]) -> Self {
        // SAFETY: the caller's guarantee; a tile is within the array.
        unsafe {
            let group = |group| S::load_bits(low.as_ptr().add(group * S::LANES));
            Self { low: std::array::from_fn(group), high: [S::no_bits(); P] }
        }
    }

    #[inline(always)]
    unsafe fn add<const B: usize, const PLAIN: bool>(&mut self, sums: [[S::F; P]; B], first: u32) {
        // SAFETY: the caller's guarantee.
        unsafe {
            for (group, bits) in S::collect::<P, B, PLAIN>(sums).into_iter().enumerate() {
                let (low, high) = (&mut self.low[group], &mut self.high[group]);
                if first < 32 {
                    *low = S::or(*low, S::shift_left(bits, first));
                    if first + B as u32 > 32 {
                        *high = S::or(*high, S::shift_right(bits, 32 - first));
                    }
                } else {
                    *high = S::or(*high, S::shift_left(bits, first - 32));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn write(&self, to: *mut u64) {
        for (group, (&low, &high)) in self.low.iter().zip(&self.high).enumerate() {
            // SAFETY: the caller's guarantee.
            unsafe { S::store_words(low, high, to.add(group * S::LANES)) };
        }
    }
}
