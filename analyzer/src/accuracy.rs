//! Output error: how far a pass's result with reuse is from its exact one.
//!
//! Reuse computes with the representative of a vector in place of the vector, so the result differs
//! by the products of `x_rep - x`. Both are summed here over what the trace kept: kept samples, kept
//! channels and kept filters; where channels were left out, of result and error alike only the part
//! of the kept channels is seen. Every sum is in f64, of products of two f32, which are exact there,
//! in a fixed order: the same on every machine and for every number of threads.

use crate::operand::LayerData;
use mercury_reuse::{Hitmap, VectorView};
use mercury_trace::geometry::{Geometry, Pass};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Squares summed over a result's elements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SquaredError {
    /// |Y' - Y|²
    pub error: f64,
    /// |Y|²
    pub exact: f64,
}

impl SquaredError {
    /// Relative error |Y' - Y| / |Y|; 0 where nothing differs, infinite where only Y vanishes.
    pub fn relative(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { (self.error / self.exact).sqrt() }
    }
}

impl std::ops::AddAssign for SquaredError {
    fn add_assign(&mut self, other: Self) {
        self.error += other.error;
        self.exact += other.exact;
    }
}

impl std::iter::Sum for SquaredError {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |mut sum, item| {
            sum += item;
            sum
        })
    }
}

/// A result and how reuse changes it.
struct Sums {
    exact: Vec<f64>,
    change: Vec<f64>,
}

impl Sums {
    fn new(length: usize) -> Self {
        Self { exact: vec![0.0; length], change: vec![0.0; length] }
    }

    fn squared(&self) -> SquaredError {
        let square = |values: &[f64]| values.iter().map(|value| value * value).sum();
        SquaredError { error: square(&self.change), exact: square(&self.exact) }
    }
}

/// A vector and, where it hits, its representative.
struct Cutter<'v, 'a> {
    view: &'v VectorView<'a>,
    hitmap: &'v Hitmap,
    vector: Vec<f32>,
    representative: Vec<f32>,
}

impl<'v, 'a> Cutter<'v, 'a> {
    fn new(view: &'v VectorView<'a>, hitmap: &'v Hitmap) -> Self {
        let buffer = vec![0.0; view.max_length()];
        Self { view, hitmap, vector: buffer.clone(), representative: buffer }
    }

    fn cut(&mut self, sample: usize, stream: usize, position: usize) -> (&[f32], Option<&[f32]>) {
        let layout = self.view.layout();
        let index = (sample * layout.streams + stream) * layout.positions + position;
        let vector = self.view.gather(sample, stream, position, &mut self.vector);
        let representative = self.hitmap.representative(index);
        let found = (representative != index).then(|| {
            let (sample, stream, position) = layout.locate(representative);
            &*self.view.gather(sample, stream, position, &mut self.representative)
        });
        (vector, found)
    }
}

/// Output error of the forward pass or the input gradient through one view; `None` where the
/// weights were not captured.
pub fn output_error(data: &LayerData, pass: Pass, view: &VectorView, hitmap: &Hitmap) -> Option<SquaredError> {
    data.weight.as_ref()?;
    let layout = view.layout();
    let outputs = data.outputs(pass);
    let blocks = |sample| -> Vec<_> {
        (0..layout.streams).filter_map(|stream| data.stream_weights(view, pass, sample, stream)).collect()
    };
    let shared = if data.weights_change_with_sample() { None } else { Some(blocks(0)) };
    let of_sample = |sample: usize| {
        let own = if shared.is_none() { blocks(sample) } else { Vec::new() };
        let mut cutter = Cutter::new(view, hitmap);
        let mut squares = SquaredError::default();
        for position in 0..layout.positions {
            let mut sums = Sums::new(outputs);
            for (stream, weights) in shared.as_ref().unwrap_or(&own).iter().enumerate() {
                let (x, representative) = cutter.cut(sample, stream, position);
                let exact = &mut sums.exact[weights.outputs.clone()];
                for (element, row) in weights.rows() {
                    add_scaled(exact, x[element], row);
                }
                if let Some(representative) = representative {
                    let change = &mut sums.change[weights.outputs.clone()];
                    for (element, row) in weights.rows() {
                        add_scaled(change, representative[element] - x[element], row);
                    }
                }
            }
            squares += sums.squared();
        }
        squares
    };
    let samples: Vec<SquaredError> = (0..layout.samples).into_par_iter().map(of_sample).collect();
    Some(samples.into_iter().sum())
}

/// Error of the weight gradient, dW = Xᵀ dY, of kept filters; `None` where dY was not captured.
pub fn weight_gradient_error(data: &LayerData, view: &VectorView, hitmap: &Hitmap) -> Option<SquaredError> {
    let grad = Gradients::new(data)?;
    let layout = view.layout();
    let of_stream = |stream: usize| {
        let length = view.streams()[stream].length;
        let (channel, _, _) = view.element(stream, 0);
        let columns = grad.columns(data, channel);
        let mut cutter = Cutter::new(view, hitmap);
        let mut sums = Sums::new(length * columns.len());
        let mut squares = SquaredError::default();
        let mut right = vec![0.0; columns.len()];
        for sample in 0..layout.samples {
            for position in 0..layout.positions {
                grad.gather(sample, channel, position, &columns, &mut right);
                let (x, representative) = cutter.cut(sample, stream, position);
                for (element, &x) in x.iter().enumerate() {
                    let at = element * columns.len()..(element + 1) * columns.len();
                    add_scaled(&mut sums.exact[at.clone()], x, &right);
                    if let Some(representative) = representative {
                        add_scaled(&mut sums.change[at], representative[element] - x, &right);
                    }
                }
            }
            if data.weights_change_with_sample() {
                squares += sums.squared();
                sums = Sums::new(length * columns.len());
            }
        }
        squares += sums.squared();
        squares
    };
    let streams: Vec<SquaredError> = (0..layout.streams).into_par_iter().map(of_stream).collect();
    Some(streams.into_iter().sum())
}

/// dY of kept filters, laid out as the vectors of the forward pass.
struct Gradients<'a> {
    values: &'a [f32],
    geometry: Geometry,
    /// Rows in the file for each kept filter, of a convolution.
    planes: Vec<usize>,
    planes_of_sample: usize,
    width: usize,
}

impl<'a> Gradients<'a> {
    fn new(data: &'a LayerData) -> Option<Self> {
        let tensor = data.grad_output.as_ref()?;
        let place = |filter| data.grad_channels.binary_search(filter).ok();
        let geometry = data.layer.geometry;
        let (planes, planes_of_sample) = match geometry {
            Geometry::Conv2d(_) => (data.filters.iter().filter_map(place).collect(), data.grad_channels.len()),
            Geometry::Linear(linear) => (Vec::new(), linear.rows as usize),
            Geometry::Attention(attention) => (Vec::new(), (attention.heads * attention.rows) as usize),
        };
        Some(Self { values: &tensor.values, geometry, planes, planes_of_sample, width: tensor.shape.width })
    }

    /// What the gradients of a stream's vectors are: planes of a convolution's filters of the same
    /// group, features of a row.
    fn columns(&self, data: &LayerData, channel: usize) -> Vec<usize> {
        match self.geometry {
            Geometry::Conv2d(conv) => {
                let group = data.channels[channel] / (conv.in_channels / conv.groups);
                let of_group = |plane: &usize| data.grad_channels[*plane] / (conv.out_channels / conv.groups) == group;
                self.planes.iter().copied().filter(of_group).collect()
            }
            Geometry::Linear(_) => data.filters.iter().map(|&filter| filter as usize).collect(),
            Geometry::Attention(attention) => (0..attention.columns as usize).collect(),
        }
    }

    fn gather(&self, sample: usize, channel: usize, position: usize, columns: &[usize], out: &mut [f32]) {
        let base = sample * self.planes_of_sample;
        for (slot, &column) in out.iter_mut().zip(columns) {
            *slot = match self.geometry {
                Geometry::Conv2d(_) => self.values[(base + column) * self.width + position],
                Geometry::Linear(_) => self.values[(base + position) * self.width + column],
                Geometry::Attention(attention) => {
                    let row = channel * attention.rows as usize + position;
                    self.values[(base + row) * self.width + column]
                }
            };
        }
    }
}

fn add_scaled(sums: &mut [f64], scale: f32, row: &[f32]) {
    if scale == 0.0 {
        return;
    }
    for (sum, &value) in sums.iter_mut().zip(row) {
        *sum += f64::from(scale) * f64::from(value);
    }
}
