//! Results of some positions at once, with reuse and without.

use super::Sums;
use crate::weights::StreamWeights;
use mercury_reuse::{Buffers, LANES, Substitutes, add_products, add_scaled_rows};

/// Bytes that vectors and results side by side may take: what stays in the second level's cache.
const BYTES: usize = 1 << 18;

/// Most positions that are taken at once.
const MOST: usize = 64;

/// From so many positions on they are computed side by side; fewer would leave most lanes empty.
const FEW: usize = 4;

/// How many positions to take at once, of vectors that are so long at most and as many outputs: whole registers.
pub fn at_once(length: usize, outputs: usize) -> usize {
    let of_each = 2 * size_of::<f64>() * (length + outputs);
    (BYTES / of_each.max(1) / LANES * LANES).clamp(LANES, MOST)
}

/// A thread's memory: vectors and results of some positions, a position a lane.
pub struct SideBySide {
    buffers: Buffers,
    outputs: usize,
    /// Lanes of the positions that were summed last: none where they were too few.
    width: usize,
    /// Elements of a stream's vectors, `[elements][width]`, and how their substitutes differ.
    vectors: Vec<f64>,
    differences: Vec<f64>,
    /// `[outputs][width]`.
    exact: Vec<f64>,
    change: Vec<f64>,
    /// Results of each position, where those were few.
    few: Vec<Sums>,
}

impl SideBySide {
    pub fn new(substitutes: &Substitutes, outputs: usize) -> Self {
        Self {
            buffers: substitutes.buffers(),
            outputs,
            width: 0,
            vectors: Vec::new(),
            differences: Vec::new(),
            exact: Vec::new(),
            change: Vec::new(),
            few: Vec::new(),
        }
    }

    /// Computes the results at these positions of a sample, from the weights of each stream.
    pub fn sum(&mut self, substitutes: &Substitutes, weights: &[StreamWeights], sample: usize, positions: &[usize]) {
        if positions.len() < FEW {
            self.width = 0;
            let of_each = positions.iter().map(|&position| self.one_by_one(substitutes, weights, sample, position));
            self.few = of_each.collect();
            return;
        }
        let width = positions.len().next_multiple_of(LANES);
        self.width = width;
        for sums in [&mut self.exact, &mut self.change] {
            sums.clear();
            sums.resize(self.outputs * width, 0.0);
        }
        for (stream, weights) in weights.iter().enumerate() {
            let size = weights.elements.len() * width;
            for lanes in [&mut self.vectors, &mut self.differences] {
                lanes.resize(size.max(lanes.len()), 0.0);
            }
            let (vectors, differences) = (&mut self.vectors[..size], &mut self.differences[..size]);
            let mut differ = false;
            for (lane, &position) in positions.iter().enumerate() {
                let place = (sample, stream, position);
                differ |= substitutes.tell(place, &weights.elements, &mut self.buffers, |row, value, replaced| {
                    vectors[row * width + lane] = f64::from(value);
                    differences[row * width + lane] = f64::from(replaced - value);
                });
            }
            let rows = weights.outputs.start * width..weights.outputs.end * width;
            add_products(&mut self.exact[rows.clone()], &weights.values, vectors, width);
            if differ {
                add_products(&mut self.change[rows], &weights.values, differences, width);
            }
        }
    }

    /// The results at one position.
    fn one_by_one(
        &mut self,
        substitutes: &Substitutes,
        weights: &[StreamWeights],
        sample: usize,
        position: usize,
    ) -> Sums {
        let mut sums = Sums::new(self.outputs);
        for (stream, weights) in weights.iter().enumerate() {
            let (x, substitute) = substitutes.cut(sample, stream, position, &mut self.buffers);
            let exact = &mut sums.exact[weights.outputs.clone()];
            add_scaled_rows(exact, weights.elements.iter().map(|&element| x[element]), &weights.values);
            if let Some(substitute) = substitute {
                let change = &mut sums.change[weights.outputs.clone()];
                let changes = weights.elements.iter().map(|&element| substitute[element] - x[element]);
                add_scaled_rows(change, changes, &weights.values);
            }
        }
        sums
    }

    /// The results at the position that was the `lane`-th.
    pub fn sums_of(&self, lane: usize, sums: &mut Sums) {
        if self.width == 0 {
            sums.clone_from(&self.few[lane]);
            return;
        }
        for (sums, rows) in [(&mut sums.exact, &self.exact), (&mut sums.change, &self.change)] {
            sums.iter_mut().zip(rows.chunks_exact(self.width)).for_each(|(sum, row)| *sum = row[lane]);
        }
    }
}
