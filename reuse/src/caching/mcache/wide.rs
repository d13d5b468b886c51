//! Sets of more than 16 ways. A hash table over all entries finds an entry, so the time of a
//! look-up does not depend on the number of ways.

use super::number::SetNumber;
use super::{LookupRun, MNU, policy, to_policy};
use crate::caching::counts::Counts;
use crate::config::{McacheConfig, SetIndex};

/// No entry.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Entry {
    signature: u64,
    stream: u32,
    vector: u32,
    /// The next entry of the same bucket.
    chain: u32,
    /// LRU: the neighbours in the set's order of use.
    older: u32,
    newer: u32,
}

#[derive(Debug, Clone, Copy)]
struct Set {
    /// Entries `set * ways..set * ways + filled` are in use.
    filled: u32,
    /// FIFO: the way that is replaced next.
    next: u32,
    /// LRU: the ends of the order of use.
    newest: u32,
    oldest: u32,
}

const EMPTY: Set = Set { filled: 0, next: 0, newest: NONE, oldest: NONE };

pub(crate) struct Wide {
    number: SetNumber,
    ways: u32,
    policy: u8,
    entries: Vec<Entry>,
    sets: Vec<Set>,
    /// The first entry of each bucket.
    buckets: Vec<u32>,
    /// Sets with an entry.
    used: Vec<u32>,
}

impl Wide {
    pub fn new(config: &McacheConfig) -> Self {
        let sets = config.entries / config.ways;
        let entry = Entry { signature: 0, stream: 0, vector: 0, chain: NONE, older: NONE, newer: NONE };
        Self {
            number: SetNumber::new(config.index, sets),
            ways: config.ways,
            policy: to_policy(config.replacement),
            entries: vec![entry; config.entries as usize],
            sets: vec![EMPTY; sets as usize],
            buckets: vec![NONE; (config.entries as usize).next_power_of_two()],
            used: Vec::new(),
        }
    }

    /// Looks up the vectors of a run.
    pub fn run(&mut self, run: LookupRun) -> Counts {
        let mut counts = Counts::default();
        for ((&signature, code), vector) in run.signatures().iter().zip(run.codes).zip(run.first..) {
            *code = self.look_up(signature, run.stream, vector);
            match *code {
                MNU => counts.mnu += 1,
                own if own == vector => counts.mau += 1,
                _ => counts.hit += 1,
            }
        }
        counts
    }

    /// Looks up one vector and returns its code.
    fn look_up(&mut self, signature: u64, stream: u32, vector: u32) -> u32 {
        let bucket = self.find_bucket(signature, stream);
        let set = self.number.find_set(signature);
        let mut at = self.buckets[bucket];
        while at != NONE {
            let entry = &self.entries[at as usize];
            // Equal signatures belong to the same set.
            if entry.signature == signature && entry.stream == stream {
                let found = entry.vector;
                if self.policy == policy::LRU && self.sets[set as usize].newest != at {
                    self.unlink(set, at);
                    self.link_newest(set, at);
                }
                return found;
            }
            at = entry.chain;
        }
        let state = &mut self.sets[set as usize];
        let at = if state.filled < self.ways {
            if state.filled == 0 {
                self.used.push(set);
            }
            state.filled += 1;
            set * self.ways + state.filled - 1
        } else {
            match self.policy {
                policy::NONE => return MNU,
                policy::FIFO => {
                    let way = state.next;
                    state.next = if way + 1 == self.ways { 0 } else { way + 1 };
                    self.remove_from_bucket(set * self.ways + way);
                    set * self.ways + way
                }
                _ => {
                    let oldest = state.oldest;
                    self.unlink(set, oldest);
                    self.remove_from_bucket(oldest);
                    oldest
                }
            }
        };
        // Only now, because the replaced entry may have been the first of this bucket.
        let chain = std::mem::replace(&mut self.buckets[bucket], at);
        self.entries[at as usize] = Entry { signature, stream, vector, chain, older: NONE, newer: NONE };
        if self.policy == policy::LRU {
            self.link_newest(set, at);
        }
        vector
    }

    /// Empties the cache. It clears only sets with an entry, because a cache may be much larger
    /// than a scope.
    pub fn flush(&mut self) {
        for set in std::mem::take(&mut self.used) {
            let first = set * self.ways;
            for at in first..first + self.sets[set as usize].filled {
                let Entry { signature, stream, .. } = self.entries[at as usize];
                let bucket = self.find_bucket(signature, stream);
                self.buckets[bucket] = NONE;
            }
            self.sets[set as usize] = EMPTY;
        }
    }

    fn find_bucket(&self, signature: u64, stream: u32) -> usize {
        let key = SetIndex::Mixed.key(signature ^ (u64::from(stream) << 32));
        key as usize & (self.buckets.len() - 1)
    }

    fn remove_from_bucket(&mut self, at: u32) {
        let Entry { signature, stream, chain, .. } = self.entries[at as usize];
        let bucket = self.find_bucket(signature, stream);
        if self.buckets[bucket] == at {
            self.buckets[bucket] = chain;
            return;
        }
        let mut before = self.buckets[bucket] as usize;
        while self.entries[before].chain != at {
            before = self.entries[before].chain as usize;
        }
        self.entries[before].chain = chain;
    }

    /// LRU: removes an entry from its set's order of use.
    fn unlink(&mut self, set: u32, at: u32) {
        let Entry { older, newer, .. } = self.entries[at as usize];
        let set = &mut self.sets[set as usize];
        match older {
            NONE => set.oldest = newer,
            older => self.entries[older as usize].newer = newer,
        }
        match newer {
            NONE => set.newest = older,
            newer => self.entries[newer as usize].older = older,
        }
    }

    /// LRU: adds an entry at the new end of its set's order of use.
    fn link_newest(&mut self, set: u32, at: u32) {
        let set = &mut self.sets[set as usize];
        let before = std::mem::replace(&mut set.newest, at);
        match before {
            NONE => set.oldest = at,
            before => self.entries[before as usize].newer = at,
        }
        let entry = &mut self.entries[at as usize];
        entry.older = before;
        entry.newer = NONE;
    }
}
