//! Sets of up to 16 ways, each in one place, for look-ups by vector instructions.

use super::narrow::LANES;
use super::number::SetNumber;
use super::{Isa, LookupRun, policy, policy_of};
use crate::config::McacheConfig;
use std::ops::Range;

/// Bytes from which on a cache is fetched ahead: less stays in the first level by itself.
const FETCH_FROM: usize = 1 << 15;

/// Words of a cache line.
const LINE: usize = 16;

/// Where a set has what, in words of 32 bits. Sets of 16 ways are two lines, one of vectors and one that has the
/// tags in its upper half, so that no register of either straddles lines, and one of streams where there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Ways that there is room for: a power of two. Their vectors come first.
    pub stride: usize,
    /// The ways that are free, as [`Sets::full`] has all.
    pub free: usize,
    /// 16 bits a way.
    pub tags: usize,
    /// The stream of each way, if tags have one.
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

/// The cache. A set whose ways are all free is empty, whatever else it has.
pub(crate) struct Sets {
    pub(super) isa: Isa,
    pub policy: u8,
    /// Whether tags hold the stream: between two flushes there may be several.
    pub streamed: bool,
    pub number: SetNumber,
    pub shape: Shape,
    /// All ways, a bit each; for AVX2 two.
    pub full: u32,
    /// Whether sets are fetched a block ahead.
    pub fetch: bool,
    /// How many there are.
    count: usize,
    /// Sets one after the other, from the first one's boundary of a line on.
    words: Vec<u32>,
    skipped: usize,
    /// The numbers of the vectors that were looked up since the flush.
    since: Range<usize>,
}

impl Sets {
    /// An empty cache, if these instructions have look-ups for it.
    pub fn new(config: &McacheConfig, streamed: bool, isa: Isa) -> Option<Self> {
        let (sets, ways) = ((config.entries / config.ways) as usize, config.ways as usize);
        let (policy, shape) = (policy_of(config.replacement), Shape::new(ways.next_power_of_two(), streamed));
        let known = match isa {
            Isa::Scalar => false,
            Isa::Avx2 => shape.stride == LANES && policy == policy::NONE && !streamed,
            Isa::Avx512 => ways <= LANES,
        };
        if !known {
            return None;
        }
        let size = sets * shape.size;
        let bits = ways as u32 * if isa == Isa::Avx2 { 2 } else { 1 };
        // A way that is not there is read and written, too, as far behind the vectors as a word has bits.
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
            since: 0..0,
        };
        cache.clear();
        Some(cache)
    }

    /// The first set.
    pub fn start(&mut self) -> *mut u32 {
        self.words[self.skipped..].as_mut_ptr()
    }

    /// Counts a run in.
    ///
    /// # Panics
    /// If the run has no signatures for vectors that were looked up since the flush, or they have no numbers.
    pub(super) fn count_in(&mut self, run: &LookupRun) {
        let (first, beyond) = (run.first as usize, run.first as usize + run.codes.len());
        let since = if self.since.is_empty() { first..beyond } else { self.since.clone() };
        self.since = since.start.min(first)..since.end.max(beyond);
        let known = run.known.first as usize..run.known.first as usize + run.known.signatures.len();
        assert!(known.start <= self.since.start && self.since.end <= known.end, "all vectors have signatures");
        assert!(u32::try_from(self.since.end).is_ok(), "vectors have numbers");
    }

    /// Empties the cache, which all of `signatures`, and nothing else, went past since it was empty.
    ///
    /// # Panics
    /// If they are not as many.
    pub fn flush(&mut self, signatures: &[u64]) {
        assert_eq!(signatures.len(), self.since.len(), "those that went past");
        self.since = 0..0;
        // A cache may have more sets than a scope has vectors.
        if signatures.len() < self.count {
            for &signature in signatures {
                let set = self.skipped + self.number.of(signature) as usize * self.shape.size;
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
