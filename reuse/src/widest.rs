//! Plain loops, compiled for the widest registers that the processor has.

#[cfg(target_arch = "x86_64")]
use crate::cpu::{Instructions, may_use};

/// Loops that the compiler vectorises: a closure, if it is small, or else a type of its own.
pub trait Loops {
    /// What comes of them.
    type Output;

    /// Runs them. It has to be inlined (`#[inline(always)]`), as registers are those of the function that it is in.
    fn run(self) -> Self::Output;
}

impl<T, F: FnOnce() -> T> Loops for F {
    type Output = T;

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "registers are those of the function that it is inlined into")]
    fn run(self) -> T {
        self()
    }
}

/// Runs loops as fast as the processor can. The result is the same on every processor, as none of this fuses or
/// reorders floating-point operations.
#[inline]
pub fn simd_dispatch<L: Loops>(loops: L) -> L::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if may_use(Instructions::Avx512) {
            // SAFETY: the processor has the feature that the function is compiled for.
            return unsafe { with_avx512(loops) };
        }
        if may_use(Instructions::Avx2) {
            // SAFETY: as above.
            return unsafe { with_avx2(loops) };
        }
    }
    loops.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn with_avx512<L: Loops>(loops: L) -> L::Output {
    loops.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2<L: Loops>(loops: L) -> L::Output {
    loops.run()
}
