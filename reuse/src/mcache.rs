//! MCACHE: which signatures are resident, and whose results they stand for.

use crate::config::{McacheConfig, SetIndex};

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

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    signature: u64,
    stream: u32,
    vector: u32,
}

/// A set-associative cache of signatures without replacement.
///
/// An entry's results belong to the weights that its vector met, so its tag holds the stream beside
/// the signature: vectors of another channel never find it, though it takes up its place until the
/// flush.
#[derive(Debug, Clone)]
pub struct Mcache {
    entries: Vec<Entry>,
    filled: Vec<u32>,
    ways: usize,
    index: SetIndex,
}

impl Mcache {
    /// An empty cache; the configuration must be valid.
    pub fn new(config: &McacheConfig) -> Self {
        Self {
            entries: vec![Entry::default(); config.entries as usize],
            filled: vec![0; (config.entries / config.ways) as usize],
            ways: config.ways as usize,
            index: config.index,
        }
    }

    /// Looks up a signature and inserts it where it is missing and its set has room.
    pub fn access(&mut self, signature: u64, stream: u32, vector: u32) -> Outcome {
        // As many sets as a power of two: the low bits of the key.
        let set = (self.index.key(signature) % self.filled.len() as u64) as usize;
        let filled = self.filled[set] as usize;
        let ways = &mut self.entries[set * self.ways..][..self.ways];
        if let Some(entry) = ways[..filled].iter().find(|entry| entry.signature == signature && entry.stream == stream)
        {
            return Outcome::Hit(entry.vector);
        }
        if filled == self.ways {
            return Outcome::Mnu;
        }
        ways[filled] = Entry { signature, stream, vector };
        self.filled[set] += 1;
        Outcome::Mau
    }

    /// Empties the cache.
    pub fn flush(&mut self) {
        self.filled.fill(0);
    }
}
