//! Computes the results of several positions at once, with and without reuse.

use super::Sums;
use crate::weights::StreamWeights;
use mercury_reuse::{Buffers, PRODUCT_LANES, Substitutes, add_products, add_scaled_rows};

/// Target size of a block's vectors and results, bytes: they should fit into the second-level
/// cache.
const BYTES: usize = 1 << 18;
/// Maximum size of a block's vectors and results, bytes.
const MOST_BYTES: usize = 1 << 20;

/// Maximum number of positions in a block.
const MOST: usize = 64;

/// Minimum number of positions that are computed in lanes; fewer would leave most lanes empty.
const FEW: usize = 4;

/// Minimum number of blocks per thread, so that all threads finish at about the same time.
const BLOCKS: usize = 4;

/// The number of positions in a block, for vectors of `length` elements and `outputs` results per
/// position.
///
/// It is a multiple of [`PRODUCT_LANES`], or 1 if even one register of lanes would exceed
/// [`MOST_BYTES`].
pub fn at_once(length: usize, outputs: usize, positions: usize) -> usize {
    let position_bytes = 2 * size_of::<f64>() * (length + outputs);
    if PRODUCT_LANES * position_bytes > MOST_BYTES {
        return 1;
    }
    let share = positions / (BLOCKS * rayon::current_num_threads());
    ((BYTES / position_bytes.max(1)).min(MOST).min(share) / PRODUCT_LANES * PRODUCT_LANES).max(PRODUCT_LANES)
}

/// Vectors and results of a block of positions, one position per lane.
///
/// The trace's reader guarantees that values and weights are finite. So a vector without a
/// substitute adds zeros to the change, and results do not depend on the size of the blocks.
pub struct SideBySide {
    buffers: Buffers,
    outputs: usize,
    /// Number of lanes of the current block; 0 if it has too few positions for lanes.
    width: usize,
    /// Elements of a stream's vectors, `[elements][width]`.
    vectors: Vec<f64>,
    /// Their substitutes' elements minus their own, `[elements][width]`.
    differences: Vec<f64>,
    /// Results without reuse, `[outputs][width]`.
    exact: Vec<f64>,
    /// Their change by reuse, `[outputs][width]`.
    change: Vec<f64>,
    /// Results by position, if the block has too few positions for lanes.
    few: Vec<Sums>,
    /// The results that [`SideBySide::gather_sums`] gathered last.
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

    /// Computes the results at some positions of a sample. `weights` has one entry per stream.
    pub fn sum(&mut self, substitutes: &Substitutes, weights: &[StreamWeights], sample: usize, positions: &[usize]) {
        if positions.len() < FEW {
            self.width = 0;
            let sums = positions.iter().map(|&position| self.sum_position(substitutes, weights, sample, position));
            self.few = sums.collect();
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

    /// Computes the results at one position, without lanes.
    fn sum_position(
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

    /// Gathers the results of the `lane`-th position of the block.
    pub fn gather_sums(&mut self, lane: usize) -> &Sums {
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
        fn lanes_equal_single_positions(
            counts in prop::collection::vec(1usize..=70, 1..4),
            outputs in 0usize..11,
            kept in prop::collection::vec(any::<bool>(), 9),
            variant in prop::sample::select(vec![Variant::Sign, Variant::SignRescale, Variant::Centred]),
            representative in prop::sample::select(vec![Representative::First, Representative::Centroid]),
        ) {
            let values: Vec<f32> = (0..2 * 4 * 81).map(|i| (value(i) * 2.0).round()).collect();
            let planes = Planes { values: &values, samples: 2, channels: 4, height: 9, width: 9 };
            let axis = Axis::forward(9, 3, 1, 1, 1);
            let view = VectorView::new(planes, Windows { y: axis, x: axis }, 2, Granularity::CHANNEL_PATCH);
            let rpq = Rpq { bits: 6, ..Rpq::default() };
            let signatures = signatures(&view, &rpq);
            let outcomes = Outcomes::look_up(view.layout(), &signatures, &McacheConfig::default(), Scope::Batch);
            let substitutes = Substitutes::new(&view, &outcomes, variant, representative);
            let elements: Vec<usize> = (0..9).filter(|&element| kept[element]).collect();
            // Two groups of channels with separate outputs.
            let weights = |stream: usize| StreamWeights {
                outputs: stream / 2 * outputs..(stream / 2 + 1) * outputs,
                values: (0..elements.len() * outputs).map(|i| value(i + 1000 * stream)).collect(),
                elements: elements.clone(),
            };
            let weights: Vec<StreamWeights> = (0..4).map(weights).collect();
            let mut block = SideBySide::new(&substitutes, 2 * outputs);
            for count in counts {
                // The step 7 has no common factor with 81, so positions do not repeat before the
                // 81st.
                let positions: Vec<usize> = (0..count).map(|i| i * 7 % 81).collect();
                block.sum(&substitutes, &weights, 1, &positions);
                for (lane, &position) in positions.iter().enumerate() {
                    let expected = block.sum_position(&substitutes, &weights, 1, position);
                    let found = block.gather_sums(lane);
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
