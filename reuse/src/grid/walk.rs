//! First arrivals on their way past the caches of one number of sets.

use super::stream::Stream;
use crate::hitmap::Counts;

/// Caches of one number of sets.
pub(super) struct Size {
    pub sets: u64,
    /// Numbers of ways, ascending, and the cache's place in the caller's list.
    pub ways: Vec<(u32, usize)>,
}

impl Size {
    pub fn most(&self) -> u32 {
        self.ways.last().map_or(0, |ways| ways.0)
    }
}

/// A first arrival, as a cache of any size sees it.
pub(super) struct Arrival {
    /// What its set is chosen by.
    pub key: u64,
    /// Its run in the scope.
    pub run: u32,
    pub group: u32,
    /// Its group's vectors where they are all of its run, otherwise 0.
    pub vectors: u32,
}

/// A walk of the arrivals past the caches of one number of sets.
pub(super) struct Walk<'a> {
    size: &'a Size,
    /// Arrivals at each set, no more than the most ways.
    arrived: Vec<u32>,
    /// Sets that something arrived at.
    used: Vec<u32>,
    /// Entries that are left of the largest cache.
    pub room: u64,
    /// `[ways][runs]`: vectors of groups that are resident from this number of ways on, and first
    /// arrivals among them.
    resident: Vec<(u64, u64)>,
    runs: usize,
}

impl<'a> Walk<'a> {
    pub fn new(size: &'a Size, runs: usize) -> Self {
        let resident = vec![(0, 0); size.ways.len() * runs];
        Self { size, arrived: vec![0; size.sets as usize], used: Vec::new(), room: 0, resident, runs }
    }

    pub fn flush(&mut self) {
        // A cache may be much larger than a scope.
        for set in self.used.drain(..) {
            self.arrived[set as usize] = 0;
        }
        self.resident.fill((0, 0));
        self.room = self.size.sets * u64::from(self.size.most());
    }

    pub fn run(&mut self, streams: &[Stream], arrivals: &[Arrival]) {
        let Size { sets, ways } = self.size;
        let low = sets.is_power_of_two().then(|| sets - 1);
        let (most, one) = (self.size.most(), ways.len() == 1);
        for arrival in arrivals {
            if self.room == 0 {
                break;
            }
            let set = low.map_or_else(|| arrival.key % sets, |low| arrival.key & low) as usize;
            let before = self.arrived[set];
            if before == most {
                continue;
            }
            if before == 0 {
                self.used.push(set as u32);
            }
            self.arrived[set] = before + 1;
            let enough = if one { 0 } else { ways.partition_point(|ways| ways.0 <= before) };
            let resident = &mut self.resident[enough * self.runs..][..self.runs];
            let first = &mut resident[arrival.run as usize];
            first.1 += 1;
            if arrival.vectors > 0 {
                first.0 += u64::from(arrival.vectors);
            } else {
                let stream = arrival.run as usize % streams.len();
                for part in streams[stream].parts(arrival.group) {
                    resident[part.slot as usize * streams.len() + stream].0 += u64::from(part.vectors);
                }
            }
            self.room -= 1;
        }
    }

    /// Gives the counts of each cache and run, of `positions` vectors each.
    pub fn write(&self, positions: usize, mut put: impl FnMut(usize, usize, Counts)) {
        for run in 0..self.runs {
            let (mut vectors, mut mau) = (0, 0);
            for (at, &(_, cache)) in self.size.ways.iter().enumerate() {
                let (more, first) = self.resident[at * self.runs + run];
                vectors += more;
                mau += first;
                put(cache, run, Counts { hit: vectors - mau, mau, mnu: positions as u64 - vectors });
            }
        }
    }
}
