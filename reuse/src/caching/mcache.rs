//! MCACHE: the resident signatures, each with the vector that inserted it.
//!
//! The results of an entry belong to the weights that its vector met. So the tag holds the stream
//! as well as the signature: vectors of another stream never find the entry, although it occupies
//! its way until the flush.
//!
//! There is an engine for each shape of cache:
//! - [`sets`]: up to [`narrow::LANES`] ways, whose tags one instruction compares. With AVX2 only
//!   for 9 to 16 ways without replacement, and one stream between flushes.
//! - [`narrow`]: all other caches of up to [`narrow::LANES`] ways.
//! - [`wide`]: more ways; a hash table finds entries.
//! - [`table`]: no limit.
//!
//! Each look-up call takes a run: the signatures of one sample and one stream.
//!
//! Engines for up to [`narrow::LANES`] ways keep tags of 16 bits instead of signatures of 64 bits,
//! so that the tags of a set fit into one register. If a tag matches, the full signature is
//! compared with that of the entry's vector, among the signatures that are looked up. In one of
//! 4,000 look-ups in a full set of 16 ways another signature has the same tag.

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

use crate::caching::counts::Counts;
use crate::config::{McacheConfig, Replacement};
#[cfg(target_arch = "x86_64")]
use crate::cpu::{Instructions, may_use};
use narrow::Narrow;
#[cfg(target_arch = "x86_64")]
use sets::Sets;
use wide::Wide;

/// The outcome of a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The signature was found; the vector that inserted it.
    Hit(u32),
    /// Miss and update: the signature was not found and inserted.
    Mau,
    /// Miss, no update: the signature was not found, and its set is full.
    Mnu,
}

/// The code of a vector whose signature was neither found nor inserted. No vector has this number,
/// because there are fewer than 2^32 vectors.
pub(crate) const MNU: u32 = u32::MAX;

/// Decodes an outcome from four bytes. The code is the vector whose entry holds the signature after
/// the look-up, or [`MNU`]. The vector's own number means MAU.
pub(crate) fn decode(code: u32, vector: usize) -> Outcome {
    match code {
        MNU => Outcome::Mnu,
        own if own as usize == vector => Outcome::Mau,
        other => Outcome::Hit(other),
    }
}

/// The instructions that look-ups use. Results do not depend on them.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// No explicit vector instructions.
    Scalar,
    /// Comparisons of 256 bits.
    Avx2,
    /// Shifts of 512 bits, and comparisons whose result is a mask.
    Avx512,
}

impl Isa {
    /// The sets of instructions that this CPU has and [`crate::cpu`] allows, the best one last.
    pub fn available() -> Vec<Isa> {
        #[allow(unused_mut, reason = "other architectures have only the first")]
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

/// The look-ups of a run: the vectors of one sample and stream, in order.
pub(crate) struct LookupRun<'a> {
    /// Signatures of these vectors, and of all vectors that were looked up since the last flush.
    pub known: KnownSignatures<'a>,
    /// Number of the first vector.
    pub first: u32,
    pub stream: u32,
    /// Receives the code of each vector (see [`decode`]).
    pub codes: &'a mut [u32],
}

impl<'a> LookupRun<'a> {
    /// The signatures of the run's vectors.
    pub fn signatures(&self) -> &'a [u64] {
        &self.known.signatures[(self.first - self.known.first) as usize..][..self.codes.len()]
    }
}

/// Signatures of consecutive vectors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownSignatures<'a> {
    /// Number of the first vector.
    pub first: u32,
    pub signatures: &'a [u64],
}

impl KnownSignatures<'_> {
    /// The signature of a vector.
    #[inline]
    pub fn get(&self, vector: u32) -> u64 {
        self.signatures[vector.wrapping_sub(self.first) as usize]
    }

    /// The signature of a vector, without a bounds check.
    ///
    /// # Safety
    /// `vector` must be one of these vectors.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub unsafe fn get_unchecked(&self, vector: u32) -> u64 {
        debug_assert!((vector.wrapping_sub(self.first) as usize) < self.signatures.len());
        // This form lets the compiler subtract `first` only once.
        let vector_zero = self.signatures.as_ptr().wrapping_sub(self.first as usize);
        // SAFETY: the caller guarantees that the vector is in bounds.
        unsafe { *vector_zero.wrapping_add(vector as usize) }
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
    /// An empty cache. The configuration must be valid and have a limit. `streamed`: vectors of
    /// several streams may be looked up between two flushes.
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

    /// Looks up the vectors of a run.
    pub fn run(&mut self, run: LookupRun) -> Counts {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Sets(sets) => sets.run(run),
            Self::Narrow(narrow) => narrow.run(run),
            Self::Wide(wide) => wide.run(run),
        }
    }

    /// Empties the cache. `signatures` must be all that were looked up since it was last empty.
    pub fn flush(&mut self, signatures: &[u64]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Sets(sets) => sets.flush(signatures),
            Self::Narrow(narrow) => narrow.flush(signatures),
            Self::Wide(wide) => wide.flush(),
        }
    }
}

/// [`Replacement`] as a const generic parameter of the engines.
pub(crate) mod policy {
    pub const NONE: u8 = 0;
    pub const LRU: u8 = 1;
    pub const FIFO: u8 = 2;
}

fn to_policy(replacement: Replacement) -> u8 {
    match replacement {
        Replacement::None => policy::NONE,
        Replacement::Lru => policy::LRU,
        Replacement::Fifo => policy::FIFO,
    }
}
