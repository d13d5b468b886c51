//! The output gradient dY, indexed like the vectors of the forward pass.

use crate::operand::{Kept, LayerData};
use mercury_trace::geometry::Geometry;
use std::ops::Range;

/// dY of the kept filters, indexed like the vectors of the forward pass.
pub struct Gradients<'a> {
    values: &'a [f32],
    geometry: Geometry,
    /// For each kept filter of a convolution, the index of its plane of dY if that was kept. Empty
    /// for other layers.
    planes: Vec<Option<usize>>,
    planes_of_sample: usize,
    width: usize,
}

impl<'a> Gradients<'a> {
    /// The gradients of the samples in `data`; `None` if dY was not captured.
    pub fn new(data: &'a LayerData) -> Option<Self> {
        let tensor = data.grad_output.as_ref()?;
        let place = |filter| data.kept.grad_channels.binary_search(filter).ok();
        let Kept { grad_channels, filters, .. } = &*data.kept;
        let geometry = data.kept.layer.geometry;
        let (planes, planes_of_sample) = match geometry {
            Geometry::Conv2d(_) => (filters.iter().map(place).collect(), grad_channels.len()),
            Geometry::Linear(linear) => (Vec::new(), linear.rows as usize),
            Geometry::Matmul(matmul) => (Vec::new(), (matmul.heads * matmul.rows) as usize),
        };
        Some(Self { values: &tensor.values, geometry, planes, planes_of_sample, width: tensor.shape.width })
    }

    /// The columns of dY that belong to the vectors of a channel (head): planes of dY for the
    /// filters of the same group in a convolution, else features of a row.
    pub fn columns(&self, data: &Kept, channel: usize) -> Vec<usize> {
        match self.geometry {
            Geometry::Conv2d(conv) => {
                let group = data.channels[channel] / (conv.in_channels / conv.groups);
                let is_in_group =
                    |plane: &usize| data.grad_channels[*plane] / (conv.out_channels / conv.groups) == group;
                self.planes.iter().copied().flatten().filter(is_in_group).collect()
            }
            Geometry::Linear(_) => data.filters.iter().map(|&filter| filter as usize).collect(),
            Geometry::Matmul(matmul) => (0..matmul.columns as usize).collect(),
        }
    }

    /// The gradients of columns at consecutive positions of a channel (head), `[positions][width]`, in f64.
    pub fn gather_block(
        &self,
        (sample, channel): (usize, usize),
        positions: Range<usize>,
        columns: &[usize],
        width: usize,
        out: &mut [f64],
    ) {
        for (place, &column) in columns.iter().enumerate() {
            // Positions of a column are equally far apart.
            let first = self.index(sample, channel, positions.start, column);
            let step = if let Geometry::Conv2d(_) = self.geometry { 1 } else { self.width };
            let values = self.values[first..].iter().step_by(step);
            for (row, &value) in out.chunks_exact_mut(width).zip(values) {
                row[place] = f64::from(value);
            }
        }
    }

    fn index(&self, sample: usize, channel: usize, position: usize, column: usize) -> usize {
        let base = sample * self.planes_of_sample;
        match self.geometry {
            Geometry::Conv2d(_) => (base + column) * self.width + position,
            Geometry::Linear(_) => (base + position) * self.width + column,
            Geometry::Matmul(matmul) => (base + channel * matmul.rows as usize + position) * self.width + column,
        }
    }

    /// Gathers the gradient of each output of the forward pass at a position, in the order of
    /// [`LayerData::outputs`]; 0 if it was not kept.
    pub fn gather_outputs(&self, data: &Kept, sample: usize, position: usize, out: &mut [f32]) {
        match self.geometry {
            Geometry::Conv2d(_) => {
                for (slot, plane) in out.iter_mut().zip(&self.planes) {
                    *slot = plane.map_or(0.0, |plane| self.values[self.index(sample, 0, position, plane)]);
                }
            }
            Geometry::Linear(_) => {
                for (slot, &filter) in out.iter_mut().zip(&data.filters) {
                    *slot = self.values[self.index(sample, 0, position, filter as usize)];
                }
            }
            Geometry::Matmul(matmul) => {
                let columns = matmul.columns as usize;
                for (output, slot) in out.iter_mut().enumerate() {
                    *slot = self.values[self.index(sample, output / columns, position, output % columns)];
                }
            }
        }
    }

    /// Number of the layer's products of a channel and a filter that each kept product represents.
    /// A product is kept if its channel, weights and gradient were kept.
    pub fn products_per_kept(&self, data: &Kept) -> f64 {
        match self.geometry {
            Geometry::Conv2d(conv) => {
                let group = |index: u32, all: u32| index / (all / conv.groups);
                let mut kept = 0.0;
                for number in 0..conv.groups {
                    let channels = data.channels.iter().filter(|&&c| group(c, conv.in_channels) == number).count();
                    let with_gradient = data.filters.iter().zip(&self.planes).filter(|(_, plane)| plane.is_some());
                    let filters = with_gradient.filter(|&(&f, _)| group(f, conv.out_channels) == number).count();
                    kept += channels as f64 * filters as f64;
                }
                f64::from(conv.in_channels) * f64::from(conv.out_channels) / f64::from(conv.groups) / kept
            }
            Geometry::Linear(linear) => f64::from(linear.out_features) / data.filters.len() as f64,
            Geometry::Matmul(_) => 1.0,
        }
    }
}
