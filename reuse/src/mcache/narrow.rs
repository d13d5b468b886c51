//! Sets of up to 16 ways, each array of all sets by itself: [`plain`] looks up in these.

use super::number::SetNumber;
use super::{Isa, KnownSignatures, policy_of};
use crate::config::McacheConfig;

/// Most ways.
pub(crate) const LANES: usize = 16;

/// The cache. Way w of set s is at `s * stride + w` of each array; which ways hold something says
/// `valid`, so to flush is to clear that alone.
pub(crate) struct Narrow {
    pub isa: Isa,
    pub policy: u8,
    /// Whether tags hold the stream: between two flushes there may be several.
    pub streamed: bool,
    pub number: SetNumber,
    /// Ways, rounded up to a power of two.
    pub stride: usize,
    pub ways: usize,
    /// All ways, a bit each.
    pub full: u32,
    /// See [`Place::tag`](super::number::Place::tag).
    pub tags: Vec<u16>,
    pub vectors: Vec<u32>,
    /// Empty unless `streamed`.
    pub streams: Vec<u32>,
    /// Ways that hold an entry: the lowest.
    pub valid: Vec<u16>,
    /// LRU: when each entry was last used.
    pub used: Vec<u32>,
    /// FIFO: the way that is replaced next.
    pub next: Vec<u8>,
    /// Look-ups since the flush.
    pub clock: u32,
}

impl Narrow {
    pub fn new(config: &McacheConfig, streamed: bool, isa: Isa) -> Self {
        let (sets, ways) = ((config.entries / config.ways) as usize, config.ways as usize);
        assert!(ways <= LANES, "{ways} ways");
        let stride = ways.next_power_of_two();
        let policy = policy_of(config.replacement);
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
        // A cache may have many more sets than a scope has vectors.
        if signatures.len() < self.valid.len() / 64 {
            for &signature in signatures {
                let set = self.number.of(signature) as usize;
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

/// The lowest one of the ways `found`, a bit each, whose signature is the vector's: a tag may be another's, too.
#[inline]
pub(crate) fn confirmed(mut found: u32, vectors: &[u32], known: KnownSignatures, vector: u32) -> u32 {
    while found != 0 && known.of(vectors[found.trailing_zeros() as usize]) != known.of(vector) {
        found &= found - 1;
    }
    found
}
