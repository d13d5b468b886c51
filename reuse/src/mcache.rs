//! MCACHE: which signatures are resident, and whose results they stand for.
//!
//! An entry's results belong to the weights that its vector met, so its tag holds the stream beside
//! the signature: vectors of another channel never find it, though it takes up its place until the
//! flush.
//!
//! Engines, one for each shape of cache: [`sets`] for sets of up to [`narrow::LANES`] ways, whose tags are
//! compared all at once (by AVX2 for more than 8 ways, where nothing is replaced and there is one stream), and
//! [`narrow`] for the others of as many; [`wide`] for wider sets, by a hash table; [`table`] without a limit.
//! All take a run, the signatures of one sample and one stream, at a time.
//!
//! Narrow sets have tags of 16 bits in place of a signature's 64, so that a set's are one register. Of an
//! entry whose tag is the wanted one, the signature is compared where it lies, among all that are looked up:
//! in one of 4,000 look-ups in a full set of 16 another signature has the same tag.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocks;
mod dispatch;
mod leaders;
pub(crate) mod narrow;
mod number;
mod plain;
#[cfg(target_arch = "x86_64")]
mod sets;
pub(crate) mod table;
mod wide;

use crate::config::{McacheConfig, Replacement};
use crate::counts::Counts;
#[cfg(target_arch = "x86_64")]
use crate::cpu::{Instructions, may_use};
use narrow::Narrow;
#[cfg(target_arch = "x86_64")]
use sets::Sets;
use wide::Wide;

/// What a look-up came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Found: the vector that inserted the signature.
    Hit(u32),
    /// Missed and inserted (miss and update).
    Mau,
    /// Missed, and its set is full (miss, no update).
    Mnu,
}

/// Code of a vector that was neither found nor inserted. No vector has this number: there are fewer
/// than 2^32.
pub(crate) const MNU: u32 = u32::MAX;

/// An outcome in four bytes: the vector whose entry holds the signature afterwards, a vector's own
/// number being MAU, or [`MNU`].
pub(crate) fn decode(code: u32, vector: usize) -> Outcome {
    match code {
        MNU => Outcome::Mnu,
        own if own as usize == vector => Outcome::Mau,
        other => Outcome::Hit(other),
    }
}

/// The instructions that look-ups use. The results are the same.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// No vector instructions of our own.
    Scalar,
    /// 256-bit compares.
    Avx2,
    /// 512-bit shifts, compares to a mask.
    Avx512,
}

impl Isa {
    /// Those that this processor has and [`crate::cpu`] allows, the best one last.
    pub fn available() -> Vec<Isa> {
        #[allow(unused_mut, reason = "other architectures have the first alone")]
        let mut found = vec![Isa::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let bits = has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("popcnt");
            if bits && may_use(Instructions::Avx2) {
                found.push(Isa::Avx2);
                if may_use(Instructions::Avx512) && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
                    found.push(Isa::Avx512);
                }
            }
        }
        found
    }

    pub(crate) fn best() -> Isa {
        Isa::available().last().copied().unwrap_or(Isa::Scalar)
    }
}

/// The vectors of one sample and stream, in order, on their way past a cache.
pub(crate) struct LookupRun<'a> {
    /// Signatures: of these vectors, and of all that were looked up since the cache was empty.
    pub known: KnownSignatures<'a>,
    /// Number of the first vector.
    pub first: u32,
    pub stream: u32,
    /// Receives the code of each.
    pub codes: &'a mut [u32],
}

impl<'a> LookupRun<'a> {
    /// Those of the run's vectors.
    pub fn signatures(&self) -> &'a [u64] {
        &self.known.signatures[(self.first - self.known.first) as usize..][..self.codes.len()]
    }
}

/// Signatures of consecutive vectors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownSignatures<'a> {
    /// Number of the first of them.
    pub first: u32,
    pub signatures: &'a [u64],
}

impl KnownSignatures<'_> {
    #[inline]
    pub fn of(&self, vector: u32) -> u64 {
        self.signatures[vector.wrapping_sub(self.first) as usize]
    }

    /// # Safety
    /// It must be one of the vectors.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub unsafe fn of_unchecked(&self, vector: u32) -> u64 {
        debug_assert!((vector.wrapping_sub(self.first) as usize) < self.signatures.len());
        // So that the compiler subtracts the first one's number once.
        let zeroth = self.signatures.as_ptr().wrapping_sub(self.first as usize);
        // SAFETY: the caller's promise.
        unsafe { *zeroth.wrapping_add(vector as usize) }
    }
}

/// A set-associative cache of signatures.
pub(crate) enum Mcache {
    #[cfg(target_arch = "x86_64")]
    Sets(Sets),
    Narrow(Narrow),
    Wide(Wide),
}

impl Mcache {
    /// An empty cache; the configuration must be valid and limited. `streamed`: vectors of several
    /// streams come between two flushes.
    pub fn new(config: &McacheConfig, streamed: bool, isa: Isa) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(sets) = Sets::new(config, streamed, isa) {
            return Self::Sets(sets);
        }
        if config.ways as usize <= narrow::LANES {
            Self::Narrow(Narrow::new(config, streamed, isa))
        } else {
            Self::Wide(Wide::new(config))
        }
    }

    /// Leads a run past the cache.
    pub fn run(&mut self, run: LookupRun) -> Counts {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Sets(sets) => sets.run(run),
            Self::Narrow(narrow) => narrow.run(run),
            Self::Wide(wide) => wide.run(run),
        }
    }

    /// Empties the cache, which all of `signatures`, and nothing else, went past since it was empty.
    pub fn flush(&mut self, signatures: &[u64]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Sets(sets) => sets.flush(signatures),
            Self::Narrow(narrow) => narrow.flush(signatures),
            Self::Wide(wide) => wide.flush(),
        }
    }
}

/// [`Replacement`] as a constant parameter of the kernels.
pub(crate) mod policy {
    pub const NONE: u8 = 0;
    pub const LRU: u8 = 1;
    pub const FIFO: u8 = 2;
}

fn policy_of(replacement: Replacement) -> u8 {
    match replacement {
        Replacement::None => policy::NONE,
        Replacement::Lru => policy::LRU,
        Replacement::Fifo => policy::FIFO,
    }
}
