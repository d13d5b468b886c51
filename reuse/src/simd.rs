//! Plain loops, compiled for the widest registers of the CPU.

#[cfg(target_arch = "x86_64")]
use crate::cpu::{Instructions, may_use};

/// Loops that the compiler vectorises. A closure is enough if it is small enough to be inlined;
/// larger loops are a type of their own.
pub trait Loops {
    /// The result of the loops.
    type Output;

    /// Runs the loops. It must be `#[inline(always)]`, because the instruction set is that of the
    /// function into which it is inlined.
    fn run<const FUSED: bool>(self) -> Self::Output;
}

impl<T, F: FnOnce() -> T> Loops for F {
    type Output = T;

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
    fn run<const FUSED: bool>(self) -> T {
        self()
    }
}

/// Runs loops with the widest vector instructions that may be used. The result is the same on every
/// CPU, because the compiler neither fuses nor reorders floating-point operations.
#[inline]
pub fn simd_dispatch<L: Loops>(loops: L) -> L::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if may_use(Instructions::Avx512) {
            // SAFETY: the CPU has the feature that the function is compiled for.
            return unsafe { with_avx512(loops) };
        }
        if may_use(Instructions::Avx2) {
            // SAFETY: as above.
            return unsafe { with_avx2(loops) };
        }
    }
    // Each core of this architecture fuses.
    #[cfg(target_arch = "aarch64")]
    return loops.run::<true>();
    #[cfg(not(target_arch = "aarch64"))]
    loops.run::<false>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn with_avx512<L: Loops>(loops: L) -> L::Output {
    loops.run::<true>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<L: Loops>(loops: L) -> L::Output {
    loops.run::<true>()
}
