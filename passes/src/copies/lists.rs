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

/// The vectors of a run: those whose results are computed, and those that take them.
#[derive(Default)]
pub struct RunLists {
    /// Positions of vectors that hold an entry, or find none.
    pub computed: Vec<u32>,
    /// Positions of HITs, with the place of the result that each takes.
    pub hits: Vec<(u32, u32)>,
    /// The factor of each of these results; empty if all are 1.
    pub scales: Vec<f32>,
}

impl RunLists {
    /// Sorts the vectors of a run by their holders. The place of a result is its vector's position in the run, or, if
    /// results cross samples, its position among those of all samples.
    pub fn fill(&mut self, holders: &[u32], run: Run, crosses_samples: bool) {
        let stride = run.streams * run.positions;
        let place = |holder: u32| {
            if crosses_samples {
                let position = (holder % stride).wrapping_sub(run.stream * run.positions);
                position.wrapping_add(holder / stride * run.positions)
            } else {
                holder.wrapping_sub(run.first)
            }
        };
        self.computed.resize(holders.len(), 0);
        self.hits.resize(holders.len(), (0, 0));
        let (computed, hits) = (&mut self.computed[..holders.len()], &mut self.hits[..holders.len()]);
        let (mut first_computed, mut first_hit) = (0, 0);
        for (position, &holder) in (0..).zip(holders) {
            let is_computed = holder == Outcomes::NONE || holder == run.first + position;
            // Without a branch: whether a vector is a HIT cannot be predicted.
            computed[first_computed] = position;
            hits[first_hit] = (position, place(holder));
            first_computed += usize::from(is_computed);
            first_hit += usize::from(!is_computed);
        }
        self.computed.truncate(first_computed);
        self.hits.truncate(first_hit);
    }
}
