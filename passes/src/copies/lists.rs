//! The vectors of a run, by their outcomes.

use mercury_reuse::Outcomes;

/// A run: the vectors of a sample and a stream, by their numbers in the layout.
#[derive(Clone, Copy)]
pub struct Run {
    /// Number of the first vector.
    pub first: u32,
    pub stream: u32,
    /// Vectors of a run, and runs of a sample.
    pub positions: u32,
    pub streams: u32,
}

impl Run {
    /// Finds the position of a vector of the stream among those of all samples.
    fn find_place(self, vector: u32) -> u32 {
        let of_sample = self.streams * self.positions;
        vector / of_sample * self.positions + vector % of_sample - self.stream * self.positions
    }
}

/// Which results of a run are computed, and which result each vector takes.
#[derive(Default)]
pub struct RunLists {
    /// Of each position, the place of its vector's representative.
    pub places: Vec<u32>,
    /// What the representatives' results are multiplied by; empty if all factors are 1.
    pub scales: Vec<f32>,
    /// Whether HITs take the results of their representatives. If not, each result is computed.
    pub copies: bool,
    /// Positions of computed results.
    pub computed: Vec<u32>,
}

impl RunLists {
    /// Sorts the vectors of a run by their holders; results are copied if there are `least_hits`. A place is a position
    /// in the run, or, if results cross samples, a position among those of all samples.
    pub fn fill(&mut self, holders: &[u32], run: Run, crosses_samples: bool, least_hits: usize) {
        let mut hits = 0;
        self.places.resize(holders.len(), 0);
        for (position, (place, &holder)) in self.places.iter_mut().zip(holders).enumerate() {
            let own = run.first + position as u32;
            let taken = if holder == Outcomes::NONE { own } else { holder };
            hits += u32::from(taken != own);
            *place = if crosses_samples { run.find_place(taken) } else { taken - run.first };
        }
        let own = if crosses_samples { run.find_place(run.first) } else { 0 };
        self.computed.clear();
        self.computed.extend(0..run.positions);
        self.copies = hits as usize >= least_hits;
        if self.copies {
            let mut count = 0;
            for (position, (own, &place)) in (own..).zip(&self.places).enumerate() {
                // Without a branch: whether a vector is a HIT cannot be predicted.
                self.computed[count] = position as u32;
                count += usize::from(place == own);
            }
            self.computed.truncate(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: u32 = Outcomes::NONE;

    fn fill(holders: &[u32], run: Run, crosses_samples: bool, least_hits: usize) -> RunLists {
        let mut lists = RunLists::default();
        lists.fill(holders, run, crosses_samples, least_hits);
        lists
    }

    #[test]
    fn results_are_copied_from_enough_hits_on() {
        let (run, holders) = (Run { first: 8, stream: 0, positions: 4, streams: 2 }, [8, NONE, 8, 11]);
        let copied = fill(&holders, run, false, 1);
        assert!(copied.copies);
        assert_eq!((copied.places, copied.computed), (vec![0, 1, 0, 3], vec![0, 1, 3]));
        let computed = fill(&holders, run, false, 2);
        assert!(!computed.copies);
        assert_eq!((computed.places, computed.computed), (vec![0, 1, 0, 3], vec![0, 1, 2, 3]));
    }

    #[test]
    fn places_across_samples_are_positions_of_the_stream() {
        // Two streams of three positions: the second stream's vectors are 3 to 5 and 9 to 11.
        let run = Run { first: 9, stream: 1, positions: 3, streams: 2 };
        let lists = fill(&[4, 10, NONE], run, true, 0);
        assert_eq!((lists.places, lists.computed), (vec![1, 4, 5], vec![1, 2]));
    }
}
