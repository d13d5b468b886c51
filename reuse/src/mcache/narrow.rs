//! Sets of up to 16 ways, whose tags are compared all at once.

use super::number::SetNumber;
use super::{Isa, Run, plain, policy_of};
use crate::config::McacheConfig;
use crate::hitmap::Counts;

/// Most ways.
pub(crate) const LANES: usize = 16;

/// Bytes from which on a cache is fetched ahead: less stays in the first level by itself.
const FETCH_FROM: usize = 1 << 15;

/// Values of which the first lies on a cache line's boundary, so that a set's do not straddle one
/// more line than they must.
pub(crate) struct Aligned<T> {
    values: Vec<T>,
    start: usize,
}

impl<T: Clone + Default> Aligned<T> {
    fn new(length: usize) -> Self {
        let line = 64 / size_of::<T>();
        let values = vec![T::default(); length + line];
        let start = values.as_ptr().align_offset(64).min(line);
        Self { values, start }
    }
}

impl<T> std::ops::Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values[self.start..]
    }
}

impl<T> std::ops::DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.start..]
    }
}

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
    /// Whether sets are fetched a block ahead.
    pub fetch: bool,
    pub signatures: Aligned<u64>,
    pub vectors: Aligned<u32>,
    /// Empty unless `streamed`.
    pub streams: Aligned<u32>,
    /// Ways that hold an entry: the lowest.
    pub valid: Vec<u16>,
    /// LRU without AVX-512, which keeps a set in order of use: when each entry was last used.
    pub used: Aligned<u32>,
    /// FIFO without AVX-512: the way that is replaced next.
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
        let slots = |needed: bool| if needed { sets * stride } else { 0 };
        Self {
            isa,
            policy,
            streamed,
            number: SetNumber::new(config.index, sets as u32),
            stride,
            ways,
            full: (1 << ways) - 1,
            fetch: sets * stride * 12 > FETCH_FROM,
            signatures: Aligned::new(slots(true) + 1),
            vectors: Aligned::new(slots(true) + 1),
            streams: Aligned::new(slots(streamed)),
            valid: vec![0; sets],
            used: Aligned::new(slots(policy == super::policy::LRU && isa != Isa::Avx512)),
            next: vec![0; if policy == super::policy::FIFO { sets } else { 0 }],
            clock: 0,
        }
    }

    pub fn run(&mut self, run: Run) -> Counts {
        assert_eq!(run.signatures.len(), run.codes.len(), "a code for each signature");
        match self.isa {
            Isa::Scalar => plain::run(self, run),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => super::x86::run_avx2(self, run),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => super::x86::run_avx512(self, run),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 => plain::run(self, run),
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
