//! Sets of up to 16 ways, as a separate array for each field. [`plain`](super::plain) does the
//! look-ups.

use super::number::SetNumber;
use super::{Isa, KnownSignatures, to_policy};
use crate::config::McacheConfig;

/// Most ways of a set.
pub(crate) const LANES: usize = 16;

/// The cache. Way w of set s is at index `s * stride + w` of each array. `valid` marks the ways
/// with an entry, so a flush clears only that.
pub(crate) struct Narrow {
    pub isa: Isa,
    pub policy: u8,
    /// Whether tags hold the stream, because there may be several between two flushes.
    pub streamed: bool,
    pub number: SetNumber,
    /// The number of ways, rounded up to a power of two.
    pub stride: usize,
    pub ways: usize,
    /// The mask of all ways, one bit each.
    pub full: u32,
    /// See [`Place::tag`](super::number::Place::tag).
    pub tags: Vec<u16>,
    pub vectors: Vec<u32>,
    /// Empty unless `streamed`.
    pub streams: Vec<u32>,
    /// For each set the mask of ways with an entry: always the lowest ways.
    pub valid: Vec<u16>,
    /// LRU: the time of each entry's last use, by `clock`.
    pub used: Vec<u32>,
    /// FIFO: the way that is replaced next in each set.
    pub next: Vec<u8>,
    /// LRU: look-ups since the flush.
    pub clock: u32,
}

impl Narrow {
    pub fn new(config: &McacheConfig, streamed: bool, isa: Isa) -> Self {
        let (sets, ways) = ((config.entries / config.ways) as usize, config.ways as usize);
        assert!(ways <= LANES, "{ways} ways");
        let stride = ways.next_power_of_two();
        let policy = to_policy(config.replacement);
        let slots = |needed: bool| vec![0; if needed { sets * stride } else { 0 }];
        Self {
            isa,
            policy,
            streamed,
            number: SetNumber::new(config.index, sets as u32),
            stride,
            ways,
            full: (1 << ways) - 1,
            tags: vec![0; sets * stride],
            vectors: slots(true),
            streams: slots(streamed),
            valid: vec![0; sets],
            used: slots(policy == super::policy::LRU),
            next: vec![0; if policy == super::policy::FIFO { sets } else { 0 }],
            clock: 0,
        }
    }

    pub fn flush(&mut self, signatures: &[u64]) {
        // A cache may have many more sets than a scope has vectors. Then only the used sets are
        // cleared.
        if signatures.len() < self.valid.len() / 64 {
            for &signature in signatures {
                let set = self.number.find_set(signature) as usize;
                self.valid[set] = 0;
                if let Some(next) = self.next.get_mut(set) {
                    *next = 0;
                }
            }
        } else {
            self.valid.fill(0);
            self.next.fill(0);
        }
        self.clock = 0;
    }
}

/// Removes from the low end of the mask `found` the ways whose tag matches, but not their
/// signature. The lowest way of the result has the vector's signature; the result is 0 if no way
/// has it.
#[inline]
pub(crate) fn confirm(mut found: u32, vectors: &[u32], known: KnownSignatures, vector: u32) -> u32 {
    while found != 0 && known.get(vectors[found.trailing_zeros() as usize]) != known.get(vector) {
        found &= found - 1;
    }
    found
}
