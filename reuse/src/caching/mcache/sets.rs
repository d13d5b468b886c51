//! Sets of up to 16 ways, each contiguous in memory, for look-ups by vector instructions.

use super::narrow::LANES;
use super::number::SetNumber;
use super::{Isa, LookupRun, policy, to_policy};
use crate::config::McacheConfig;
use std::ops::Range;

/// Size in bytes from which on sets are prefetched. A smaller cache stays in the CPU's first-level
/// cache.
const FETCH_FROM: usize = 1 << 15;

/// Words of a cache line.
const LINE: usize = 16;

/// The layout of a set, in words of 32 bits. A set of 16 ways takes two cache lines: one of
/// vectors, and one with the tags in its upper half. So no load of either crosses a line. With
/// several streams there is a third line of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Ways with room in a set, a power of two. Their vectors come first.
    pub stride: usize,
    /// Offset of the mask of free ways, in the format of [`Sets::full`].
    pub free: usize,
    /// Offset of the tags, 16 bits per way.
    pub tags: usize,
    /// Offset of the stream of each way, if tags hold streams.
    pub streams: usize,
    /// Words of a set.
    pub size: usize,
}

impl Shape {
    pub const fn new(stride: usize, streamed: bool) -> Self {
        let streams = if stride == 1 { 4 } else { 2 * stride };
        let tags = streams - stride.div_ceil(2);
        Self { stride, free: tags - 1, tags, streams, size: if streamed { streams + stride } else { streams } }
    }
}

/// The cache. A set is empty if all ways are free, regardless of its other words.
pub(crate) struct Sets {
    pub(super) isa: Isa,
    pub policy: u8,
    /// Whether tags hold the stream, because there may be several between two flushes.
    pub streamed: bool,
    pub number: SetNumber,
    pub shape: Shape,
    /// The mask of all ways, one bit each; two bits each for AVX2.
    pub full: u32,
    /// Whether the sets of a block are prefetched.
    pub fetch: bool,
    /// Number of sets.
    count: usize,
    /// The sets, one after another. The first one starts at a cache line, `skipped` words from the
    /// front.
    words: Vec<u32>,
    skipped: usize,
    /// The numbers of the vectors that were looked up since the flush.
    looked_up: Range<usize>,
}

impl Sets {
    /// An empty cache; `None` if there are no look-ups for it with these instructions.
    pub fn new(config: &McacheConfig, streamed: bool, isa: Isa) -> Option<Self> {
        let (sets, ways) = ((config.entries / config.ways) as usize, config.ways as usize);
        let policy = to_policy(config.replacement);
        let shape = Shape::new(ways.next_power_of_two(), streamed);
        let is_supported = match isa {
            Isa::Scalar => false,
            Isa::Avx2 => shape.stride == LANES && policy == policy::NONE && !streamed,
            Isa::Avx512 => ways <= LANES,
        };
        if !is_supported {
            return None;
        }
        let size = sets * shape.size;
        let bits = ways as u32 * if isa == Isa::Avx2 { 2 } else { 1 };
        // If no way is found, look-ups still access one: as many words behind the vectors as a mask
        // has bits, because that is its number of trailing zeros.
        let words = vec![0; LINE + size + u32::BITS as usize];
        let skipped = words.as_ptr().align_offset(64).min(LINE);
        let mut cache = Self {
            isa,
            policy,
            streamed,
            number: SetNumber::new(config.index, sets as u32),
            shape,
            full: u32::MAX >> (u32::BITS - bits),
            fetch: 4 * size > FETCH_FROM,
            count: sets,
            words,
            skipped,
            looked_up: 0..0,
        };
        cache.clear();
        Some(cache)
    }

    /// A pointer to the first set.
    pub fn start(&mut self) -> *mut u32 {
        self.words[self.skipped..].as_mut_ptr()
    }

    /// Records the vectors of a run as looked up, and checks that their signatures are known.
    ///
    /// # Panics
    /// If the run lacks the signature of a vector that was looked up since the flush, or if a
    /// vector's number does not fit 32 bits.
    pub(super) fn record_run(&mut self, run: &LookupRun) {
        let (first, end) = (run.first as usize, run.first as usize + run.codes.len());
        let earlier = if self.looked_up.is_empty() { first..end } else { self.looked_up.clone() };
        self.looked_up = earlier.start.min(first)..earlier.end.max(end);
        let known = run.known.first as usize..run.known.first as usize + run.known.signatures.len();
        assert!(known.start <= self.looked_up.start && self.looked_up.end <= known.end, "all vectors have signatures");
        assert!(u32::try_from(self.looked_up.end).is_ok(), "vectors have numbers");
    }

    /// Empties the cache. `signatures` must be all that were looked up since it was last empty.
    ///
    /// # Panics
    /// If the number of signatures is not the number of vectors that were looked up.
    pub fn flush(&mut self, signatures: &[u64]) {
        assert_eq!(signatures.len(), self.looked_up.len(), "signatures that were looked up");
        self.looked_up = 0..0;
        // A cache may have more sets than a scope has vectors. Then only the used sets are cleared.
        if signatures.len() < self.count {
            for &signature in signatures {
                let set = self.skipped + self.number.find_set(signature) as usize * self.shape.size;
                self.words[set + self.shape.free] = self.full;
            }
        } else {
            self.clear();
        }
    }

    fn clear(&mut self) {
        let sets = self.words[self.skipped..].chunks_exact_mut(self.shape.size).take(self.count);
        sets.for_each(|set| set[self.shape.free] = self.full);
    }
}
