//! Products of a stream's vectors and columns of dY, of which weight gradients consist.

use super::gradients::Gradients;
use super::sums;
use super::{Moments, Sums};
use crate::operand::LayerData;
use mercury_reuse::{Buffers, PRODUCT_LANES, Substitutes, add_outer_products};
use std::ops::Range;

/// Where samples come from.
#[derive(Clone, Copy)]
pub struct Source<'a, 'v> {
    pub data: &'a LayerData,
    pub gradients: &'a Gradients<'a>,
    pub substitutes: &'a Substitutes<'a, 'v>,
}

impl Source<'_, '_> {
    /// Columns of a stream.
    pub fn columns(&self, stream: usize) -> Vec<usize> {
        let (channel, _, _) = self.substitutes.view().element(stream, 0);
        self.gradients.columns(&self.data.kept, channel)
    }

    /// Adds a sample's products of a stream's vectors and some columns of dY.
    pub fn add_products(&self, sample: usize, stream: usize, columns: &[usize], sums: &mut Sums) {
        if columns.is_empty() {
            return;
        }
        let Self { gradients, substitutes, .. } = *self;
        let view = substitutes.view();
        let (channel, _, _) = view.element(stream, 0);
        let mut vectors = Vectors::new(substitutes, view.streams()[stream].length);
        let width = padded_width(columns);
        let mut dy = vec![0.0; vectors.at_once * width];
        let end = view.layout().positions;
        for first in (0..end).step_by(vectors.at_once) {
            let positions = first..end.min(first + vectors.at_once);
            let are_substituted = vectors.cut(substitutes, (sample, stream), positions.clone());
            let dy = &mut dy[..positions.len() * width];
            gradients.gather_block((sample, channel), positions, columns, width, dy);
            add_outer_products(&mut sums.exact, &vectors.exact, dy, width);
            if are_substituted {
                add_outer_products(&mut sums.change, &vectors.change, dy, width);
            }
        }
    }
}

/// Columns in whole registers.
pub fn padded_width(columns: &[usize]) -> usize {
    columns.len().next_multiple_of(PRODUCT_LANES)
}

/// Vectors of some positions and how their substitutes differ, `[positions][elements]`.
struct Vectors {
    at_once: usize,
    length: usize,
    buffers: Buffers,
    exact: Vec<f64>,
    change: Vec<f64>,
}

/// Elements of the vectors that are cut at once, and most vectors: they should stay in the first level's cache.
const ELEMENTS: usize = 1 << 11;
const POSITIONS: usize = 128;

impl Vectors {
    fn new(substitutes: &Substitutes, length: usize) -> Self {
        let at_once = (ELEMENTS / length).clamp(1, POSITIONS);
        Self { at_once, length, buffers: substitutes.buffers(), exact: Vec::new(), change: Vec::new() }
    }

    /// Cuts vectors of a run; whether any has a substitute.
    fn cut(&mut self, substitutes: &Substitutes, (sample, stream): (usize, usize), positions: Range<usize>) -> bool {
        let Self { length, buffers, exact, change, .. } = self;
        exact.resize(positions.len() * *length, 0.0);
        change.resize(positions.len() * *length, 0.0);
        substitutes.cut_block((sample, stream), positions, buffers, exact, change)
    }
}

/// Moments of each column.
pub fn measure_columns(sums: &Sums, columns: usize) -> Vec<Moments> {
    let mut moments = vec![Moments::default(); columns];
    let width = columns.next_multiple_of(PRODUCT_LANES).max(1);
    for (exact, change) in sums.exact.chunks_exact(width).zip(sums.change.chunks_exact(width)) {
        for ((moments, exact), change) in moments.iter_mut().zip(exact).zip(change) {
            sums::add(moments, &[exact * exact, change * change, exact * change, 0.0]);
        }
    }
    moments
}
