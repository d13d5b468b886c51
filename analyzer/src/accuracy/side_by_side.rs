//! Results of some positions at once, with reuse and without.

use super::Sums;
use crate::weights::StreamWeights;
use mercury_reuse::{Buffers, PRODUCT_LANES, Substitutes, add_products, add_scaled_rows};

/// Bytes of vectors and results side by side, which should stay in the second level's cache, and most that they may
/// take of a thread's memory.
const BYTES: usize = 1 << 18;
const MOST_BYTES: usize = 1 << 20;

/// Most positions that are taken at once.
const MOST: usize = 64;

/// From so many positions on they are computed side by side; fewer would leave most lanes empty.
const FEW: usize = 4;

/// Blocks for each thread at least, so that all end at about the same time.
const BLOCKS: usize = 4;

/// How many of so many positions to take at once: whole registers, but one by one where vectors of this length and as
/// many outputs would take too much memory.
pub fn at_once(length: usize, outputs: usize, positions: usize) -> usize {
    let of_each = 2 * size_of::<f64>() * (length + outputs);
    if PRODUCT_LANES * of_each > MOST_BYTES {
        return 1;
    }
    let share = positions / (BLOCKS * rayon::current_num_threads());
    ((BYTES / of_each.max(1)).min(MOST).min(share) / PRODUCT_LANES * PRODUCT_LANES).max(PRODUCT_LANES)
}

/// Vectors and results of some positions, a position a lane.
///
/// Values and weights are finite, as the trace's reader sees to. So a vector that has no substitute adds zeros to the
/// change, and results do not depend on how many positions are taken at once.
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
    /// Results of each position, where those were few, and of one that was asked for.
    few: Vec<Sums>,
    one: Sums,
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
            one: Sums::new(outputs),
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
        let width = positions.len().next_multiple_of(PRODUCT_LANES);
        self.width = width;
        for sums in [&mut self.exact, &mut self.change] {
            sums.clear();
            sums.resize(self.outputs * width, 0.0);
        }
        // Channels without kept filters meet no weights in an input gradient.
        let streams = weights.iter().enumerate().filter(|(_, weights)| !weights.elements.is_empty());
        for (stream, weights) in streams {
            let size = weights.elements.len() * width;
            for lanes in [&mut self.vectors, &mut self.differences] {
                lanes.resize(size.max(lanes.len()), 0.0);
            }
            let (vectors, differences) = (&mut self.vectors[..size], &mut self.differences[..size]);
            let mut differ = false;
            for (lane, &position) in positions.iter().enumerate() {
                let place = (sample, stream, position);
                differ |=
                    substitutes.each_element(place, &weights.elements, &mut self.buffers, |row, value, replaced| {
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
    pub fn sums_of(&mut self, lane: usize) -> &Sums {
        if self.width == 0 {
            return &self.few[lane];
        }
        for (sums, rows) in [(&mut self.one.exact, &self.exact), (&mut self.one.change, &self.change)] {
            sums.iter_mut().zip(rows.chunks_exact(self.width)).for_each(|(sum, row)| *sum = row[lane]);
        }
        &self.one
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mercury_reuse::config::{Granularity, McacheConfig, Representative, Rpq, Scope, Variant};
    use mercury_reuse::{Outcomes, Planes, VectorView, signatures};
    use mercury_trace::windows::{Axis, Windows};
    use proptest::prelude::*;

    fn value(number: usize) -> f32 {
        let mixed = (number as u32).wrapping_mul(2_654_435_761) >> 22;
        if mixed.is_multiple_of(3) { 0.0 } else { mixed as f32 / 100.0 - 5.0 }
    }

    proptest! {
        #[test]
        fn side_by_side_is_one_by_one(
            counts in prop::collection::vec(1usize..=70, 1..4),
            outputs in 0usize..11,
            kept in prop::collection::vec(any::<bool>(), 9),
            variant in prop::sample::select(vec![Variant::Sign, Variant::SignRescale, Variant::Centred]),
            representative in prop::sample::select(vec![Representative::First, Representative::Centroid]),
        ) {
            let values: Vec<f32> = (0..2 * 4 * 81).map(|i| (value(i) * 2.0).round()).collect();
            let planes = Planes { values: &values, samples: 2, channels: 4, height: 9, width: 9 };
            let axis = Axis::forward(9, 3, 1, 1, 1);
            let view = VectorView::new(planes, Windows { y: axis, x: axis }, 2, Granularity::ChannelPatch);
            let rpq = Rpq { bits: 6, ..Rpq::default() };
            let signatures = signatures(&view, &rpq);
            let outcomes = Outcomes::look_up(view.layout(), &signatures, &McacheConfig::default(), Scope::Batch);
            let substitutes = Substitutes::new(&view, &outcomes, variant, representative);
            let elements: Vec<usize> = (0..9).filter(|&element| kept[element]).collect();
            // Each group of channels has outputs of its own.
            let weights = |stream: usize| StreamWeights {
                outputs: stream / 2 * outputs..(stream / 2 + 1) * outputs,
                values: (0..elements.len() * outputs).map(|i| value(i + 1000 * stream)).collect(),
                elements: elements.clone(),
            };
            let weights: Vec<StreamWeights> = (0..4).map(weights).collect();
            let mut block = SideBySide::new(&substitutes, 2 * outputs);
            for count in counts {
                // With a step that has no factor in common with the number of positions.
                let positions: Vec<usize> = (0..count).map(|i| i * 7 % 81).collect();
                block.sum(&substitutes, &weights, 1, &positions);
                for (lane, &position) in positions.iter().enumerate() {
                    let expected = block.one_by_one(&substitutes, &weights, 1, position);
                    let found = block.sums_of(lane);
                    for (found, expected) in [(&found.exact, &expected.exact), (&found.change, &expected.change)] {
                        prop_assert!(found.iter().map(|sum| sum.to_bits()).eq(expected.iter().map(|sum| sum.to_bits())));
                    }
                }
            }
        }
    }

    #[test]
    fn blocks_are_whole_registers_of_bounded_size() {
        for (length, outputs, positions) in [(9, 8, 1 << 20), (0, 0, 0), (9, 64, 100), (4608, 512, 1 << 20), (9, 1, 9)]
        {
            let at_once = at_once(length, outputs, positions);
            assert!(at_once.is_multiple_of(PRODUCT_LANES) && (PRODUCT_LANES..=MOST).contains(&at_once));
            assert!(16 * (length + outputs) * at_once <= MOST_BYTES);
        }
        assert_eq!(at_once(768, 50_257, 1 << 20), 1);
    }
}
