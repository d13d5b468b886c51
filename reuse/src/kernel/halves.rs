//! Signatures as halves of 32 bits, for units whose lanes have that width.

use super::block::{MAX_TILE, Simd, Words};

/// What [`Halves`] need of a unit.
///
/// # Safety
/// As [`Simd`].
pub(super) trait Lanes: Simd {
    /// A register of u32.
    type U: Copy;
    /// Whether [`Lanes::collect`] takes less of plain sums than of any.
    const COLLECTS_PLAIN: bool = false;

    unsafe fn no_bits() -> Self::U;
    unsafe fn load_bits(from: *const u32) -> Self::U;
    /// `bits` with bit number `bit` set in the lanes whose sum is below 0 (so not -0 or NaN); it is
    /// clear before.
    unsafe fn append(bits: Self::U, sum: Self::F, bit: u32) -> Self::U;
    unsafe fn or(a: Self::U, b: Self::U) -> Self::U;
    /// Shifts by less than 32.
    unsafe fn shift_left(bits: Self::U, by: u32) -> Self::U;
    /// Shifts by less than 32.
    unsafe fn shift_right(bits: Self::U, by: u32) -> Self::U;
    /// Bit `b` set in the lanes where `sums[b]` is below 0 (so not -0 or NaN). Where `PLAIN`, all sums are zero (not
    /// -0), normal or infinite.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
    unsafe fn collect<const P: usize, const B: usize, const PLAIN: bool>(sums: [[Self::F; P]; B]) -> [Self::U; P] {
        // SAFETY: as the caller.
        unsafe { append_all::<Self, P, B>(sums) }
    }
    /// Writes the 64-bit words that have these low and high halves.
    unsafe fn store_words(low: Self::U, high: Self::U, to: *mut u64);
}

/// [`Lanes::collect`] of any sums.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
pub(super) unsafe fn append_all<S: Lanes, const P: usize, const B: usize>(sums: [[S::F; P]; B]) -> [S::U; P] {
    // SAFETY: as the caller.
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

/// The signatures of a tile: halves, in a register for each group of positions.
pub(super) struct Halves<S: Lanes, const P: usize> {
    low: [S::U; P],
    high: [S::U; P],
}

#[expect(clippy::inline_always, reason = "as above")]
impl<S: Lanes, const P: usize> Words<S, P> for Halves<S, P> {
    const TELLS_PLAIN: bool = S::COLLECTS_PLAIN;

    #[inline(always)]
    unsafe fn none() -> Self {
        const { assert!(S::TURNED, "a bit is a sum below 0") };
        // SAFETY: as the caller.
        unsafe { Self { low: [S::no_bits(); P], high: [S::no_bits(); P] } }
    }

    #[inline(always)]
    unsafe fn of(low: &[u32; MAX_TILE]) -> Self {
        // SAFETY: as the caller; a tile is within the array.
        unsafe {
            let group = |group| S::load_bits(low.as_ptr().add(group * S::LANES));
            Self { low: std::array::from_fn(group), high: [S::no_bits(); P] }
        }
    }

    #[inline(always)]
    unsafe fn add<const B: usize, const PLAIN: bool>(&mut self, sums: [[S::F; P]; B], first: u32) {
        // SAFETY: as the caller.
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
            // SAFETY: as the caller.
            unsafe { S::store_words(low, high, to.add(group * S::LANES)) };
        }
    }
}
