//! The vector instructions that this crate may use: those of the CPU, or fewer.
//!
//! Results do not depend on the choice. Restricting it by [`VARIABLE`] tests this, and runs the
//! code of other CPUs on this one.

use std::sync::OnceLock;

/// The environment variable that names the most advanced instructions to use.
pub const VARIABLE: &str = "MERCURY_INSTRUCTIONS";

/// Vector instructions. Every CPU has [`Scalar`](Self::Scalar). An x86-64 CPU with AVX-512 also has
/// AVX2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instructions {
    /// Only instructions that the compiler uses by default.
    Scalar,
    /// NEON (aarch64).
    Neon,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 (F at least).
    Avx512,
}

impl Instructions {
    const ALL: [Self; 4] = [Self::Scalar, Self::Neon, Self::Avx2, Self::Avx512];

    /// The name, as a value of [`VARIABLE`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether the CPU has these instructions.
    fn is_present(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Self::Avx2.is_present() && std::arch::is_x86_feature_detected!("avx512f"),
            #[allow(unreachable_patterns, reason = "which instructions exist depends on the architecture")]
            _ => false,
        }
    }

    /// The instructions of this CPU, the least advanced first.
    pub fn present() -> impl DoubleEndedIterator<Item = Self> {
        Self::ALL.into_iter().filter(|instructions| instructions.is_present())
    }

    /// The most advanced instructions that may be used: those that [`VARIABLE`] names, or else the
    /// best of this CPU.
    ///
    /// # Errors
    /// If the variable names no instructions of this CPU. The text names the variable and its valid
    /// values.
    pub fn from_environment() -> Result<Self, String> {
        let best = Self::present().next_back().expect("scalar code runs everywhere");
        let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) else { return Ok(best) };
        Self::present().find(|instructions| value == instructions.name()).ok_or_else(|| {
            let names: Vec<_> = Self::present().map(Self::name).collect();
            let value = value.display();
            format!("{VARIABLE} is \"{value}\"; on this processor it may be {}, or unset", names.join(", "))
        })
    }
}

/// Whether the CPU has these instructions and [`VARIABLE`] allows them.
///
/// # Panics
/// If [`Instructions::from_environment`] returns an error. Programs call it first, to report that.
#[inline]
pub(crate) fn may_use(instructions: Instructions) -> bool {
    static MOST: OnceLock<Instructions> = OnceLock::new();
    let most = *MOST.get_or_init(|| Instructions::from_environment().unwrap_or_else(|error| panic!("{error}")));
    instructions <= most && instructions.is_present()
}
