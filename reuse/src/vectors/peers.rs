//! Which vectors may reuse each other's results, and in which order they come.

use crate::config::Scope;
use crate::vectors::{Layout, SampleRange};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeSet;

/// The vectors of a layout in groups of peers: one stream's vectors in one scope, in order of
/// arrival. Only peers can share a signature, because the tag holds the stream.
///
/// The scopes `channel` and `sample` have the same groups, a run each; under `batch` a group is a
/// stream of all samples. All groups of a layout are of one size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peers {
    layout: Layout,
    /// Samples, and so runs, of a group.
    pub samples: usize,
}

impl Peers {
    pub fn new(layout: Layout, scope: Scope) -> Self {
        Self { layout, samples: if scope == Scope::Batch { layout.samples.max(1) } else { 1 } }
    }

    /// Number of groups; first by sample, then by stream.
    pub fn groups(&self) -> usize {
        self.layout.runs() / self.samples
    }

    /// Samples, or 1 where a group has the vectors of all.
    pub fn blocks(&self) -> usize {
        self.layout.samples / self.samples
    }

    /// The first group's number in the operand that these samples are a part of, and its groups.
    pub fn numbering(&self, part: SampleRange) -> (usize, usize) {
        let Layout { streams, .. } = self.layout;
        (part.first / self.samples * streams, part.of.div_ceil(self.samples) * streams)
    }

    /// Vectors of a group.
    pub fn members(&self) -> usize {
        self.samples * self.layout.positions
    }

    /// Sample, stream and position of a group's member.
    pub fn locate(&self, group: usize, member: usize) -> (usize, usize, usize) {
        let sample = group / self.layout.streams * self.samples + self.slot(member);
        (sample, group % self.layout.streams, member % self.layout.positions)
    }

    /// Number of a group's member in the layout.
    pub fn vector(&self, group: usize, member: usize) -> usize {
        let (sample, stream, position) = self.locate(group, member);
        (sample * self.layout.streams + stream) * self.layout.positions + position
    }

    /// Vectors of a run.
    pub fn positions(&self) -> usize {
        self.layout.positions
    }

    /// Which of its group's samples a member is of.
    pub fn slot(&self, member: usize) -> usize {
        member / self.layout.positions
    }

    /// Values in the order of runs, `[samples][streams]`, from those of the groups,
    /// `[groups][samples of a group]`.
    pub fn by_run<T: Clone>(&self, groups: &[Vec<T>]) -> Vec<T> {
        let find_value = |run: usize| {
            let (sample, stream) = (run / self.layout.streams, run % self.layout.streams);
            groups[sample / self.samples * self.layout.streams + stream][sample % self.samples].clone()
        };
        (0..self.layout.runs()).map(find_value).collect()
    }
}

/// The generator of a sample: `ChaCha8`, whose key is the seed in little-endian bytes followed by
/// zeros.
pub(crate) fn generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(stream);
    rng
}

/// A number below `bound`: the high word of a random word times the bound. Numbers' chances differ
/// by 2^-64 at most.
pub(crate) fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    ((u128::from(rng.next_u64()) * bound as u128) >> 64) as usize
}

/// `count` numbers below `all`, ascending, drawn by the seed without replacement.
///
/// # Panics
/// If there are fewer than `count`.
pub fn draw(all: usize, count: usize, seed: u64) -> Vec<usize> {
    draw_from(all, count, &mut generator(seed, 0))
}

/// All numbers below `count` in a random order that the seed decides (Fisher and Yates; Durstenfeld, CACM 7(7), 1964):
/// its first n are a sample without replacement for every n.
///
/// # Panics
/// If there are 2^32 or more.
pub fn shuffle(count: usize, seed: u64) -> Vec<u32> {
    let mut rng = generator(seed, 0);
    let mut order: Vec<u32> = (0..u32::try_from(count).expect("numbers of 32 bits")).collect();
    for at in 0..count {
        order.swap(at, at + below(&mut rng, count - at));
    }
    order
}

/// The same by Floyd's method (Bentley and Floyd 1987).
pub(crate) fn draw_from(all: usize, count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    assert!(count <= all, "{count} of {all}");
    let mut chosen = BTreeSet::new();
    for last in all - count..all {
        let member = below(rng, last + 1);
        if !chosen.insert(member) {
            chosen.insert(last);
        }
    }
    chosen.into_iter().collect()
}
