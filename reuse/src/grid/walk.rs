//! First arrivals on their way past the caches of one number of sets.

use super::outcomes::RunOutcomes;
use super::stream::Stream;
use crate::counts::Counts;
use std::ops::Range;

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

    /// By slice and how many of the numbers of ways are too few: bits of the caches with more (see
    /// [`RunOutcomes::held_by`]).
    fn masks(&self, caches: usize) -> Vec<Vec<u32>> {
        let of_slice = |slice: usize| {
            let bit = |&(_, cache): &(u32, usize)| {
                if cache / RunOutcomes::CACHES == slice { 1 << (cache % RunOutcomes::CACHES) } else { 0 }
            };
            (0..self.ways.len()).map(|too_few| self.ways[too_few..].iter().map(bit).sum()).collect()
        };
        (0..caches.div_ceil(RunOutcomes::CACHES)).map(of_slice).collect()
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
    /// Its place in the scope.
    pub place: u32,
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
    /// First arrivals that some of the caches hold, by their place in the scope, and how many of the numbers of ways are
    /// too few for that; if they are asked for.
    held: Option<Vec<(u32, u32)>>,
    /// [`Size::masks`], likewise.
    masks: Vec<Vec<u32>>,
}

impl<'a> Walk<'a> {
    /// `held` says of how many caches [`Walk::hold`] will be asked, if it will.
    pub fn new(size: &'a Size, runs: usize, held: Option<usize>) -> Self {
        let resident = vec![(0, 0); size.ways.len() * runs];
        let masks = held.map_or_else(Vec::new, |caches| size.masks(caches));
        let held = held.map(|_| Vec::new());
        Self { size, arrived: vec![0; size.sets as usize], used: Vec::new(), room: 0, resident, runs, held, masks }
    }

    pub fn flush(&mut self) {
        // A cache may be much larger than a scope.
        for set in self.used.drain(..) {
            self.arrived[set as usize] = 0;
        }
        self.resident.fill((0, 0));
        self.held.iter_mut().for_each(Vec::clear);
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
            if let Some(held) = &mut self.held {
                held.push((arrival.place, enough as u32));
            }
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

    /// Adds bits of the caches that hold the first arrivals of a run, whose places these are, to those of its vectors, a
    /// slice after the other.
    pub fn hold(&self, run: Range<usize>, held_by: &mut [Vec<u32>]) {
        // They arrived in the order of their places.
        let held = self.held.as_deref().unwrap_or_default();
        let held = &held[held.partition_point(|&(place, _)| (place as usize) < run.start)..];
        let held = &held[..held.partition_point(|&(place, _)| (place as usize) < run.end)];
        for (masks, held_by) in self.masks.iter().zip(held_by) {
            for &(place, too_few) in held {
                held_by[place as usize - run.start] |= masks[too_few as usize];
            }
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
