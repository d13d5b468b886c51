//! The kept weights that a stream's vectors are multiplied with, as a dense block.

use crate::operand::LayerData;
use mercury_reuse::VectorView;
use mercury_trace::geometry::{Conv2d, Geometry, Matmul, Pass};
use mercury_trace::read::Tensor;
use std::ops::Range;

/// The kept weights of a stream, and the vector elements that they multiply.
pub struct StreamWeights {
    /// Indices of the vector elements that have kept weights, ascending.
    pub elements: Vec<usize>,
    /// The outputs of the pass to which the products add.
    pub outputs: Range<usize>,
    /// Weights, `[elements][outputs]`.
    pub values: Vec<f32>,
}

impl StreamWeights {
    /// Builds the block: `append_row` appends the row of weights of each element's place.
    fn new<T>(
        outputs: Range<usize>,
        places: impl Iterator<Item = (usize, T)>,
        append_row: impl Fn(T, &mut Vec<f32>),
    ) -> Self {
        let (mut elements, mut values) = (Vec::new(), Vec::new());
        for (element, place) in places {
            elements.push(element);
            append_row(place, &mut values);
        }
        Self { elements, outputs, values }
    }

    /// Each element with its weights, one per output.
    pub fn rows(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.elements.iter().copied().zip(self.values.chunks_exact(self.outputs.len().max(1)))
    }
}

impl LayerData {
    /// Number of outputs per position that kept weights contribute to, over all groups or heads, in
    /// the forward pass or the input gradient.
    pub fn outputs(&self, pass: Pass) -> usize {
        match (self.kept.layer.geometry, pass) {
            (Geometry::Conv2d(conv), Pass::InputGrad) => conv.in_channels as usize,
            (Geometry::Linear(linear), Pass::InputGrad) => linear.in_features as usize,
            (Geometry::Matmul(a), Pass::InputGrad) => (a.heads * a.inner) as usize,
            (Geometry::Matmul(a), _) => (a.heads * a.columns) as usize,
            (_, _) => self.kept.filters.len(),
        }
    }

    /// The kept weights that multiply a stream's vectors of a sample, in the forward pass or the
    /// input gradient. `None` if the weights were not captured.
    pub fn stream_weights(&self, view: &VectorView, pass: Pass, sample: usize, stream: usize) -> Option<StreamWeights> {
        let weight = self.weight.as_deref()?;
        let places = (0..view.streams()[stream].length).map(|offset| (offset, view.element(stream, offset)));
        Some(match self.kept.layer.geometry {
            Geometry::Conv2d(conv) => self.gather_convolution(conv, weight, pass, places),
            Geometry::Linear(_) if pass == Pass::InputGrad => {
                let kept = places.filter_map(|(offset, (_, _, filter))| Some((offset, self.find_kept_filter(filter)?)));
                StreamWeights::new(0..self.outputs(pass), kept, |row, values| values.extend_from_slice(weight.row(row)))
            }
            Geometry::Linear(_) => StreamWeights::new(0..self.kept.filters.len(), places, |(_, _, column), values| {
                values.extend((0..self.kept.filters.len()).map(|row| weight.row(row)[column]));
            }),
            Geometry::Matmul(matmul) => {
                let head = view.streams()[stream].group;
                let captured = self.kept.first_captured + self.first_sample + sample;
                gather_matmul(matmul, weight, pass, captured, head, places)
            }
        })
    }

    /// The index of a filter among the kept filters.
    fn find_kept_filter(&self, filter: usize) -> Option<usize> {
        self.kept.filters.binary_search(&(filter as u32)).ok()
    }

    fn gather_convolution(
        &self,
        conv: Conv2d,
        weight: &Tensor,
        pass: Pass,
        places: impl Iterator<Item = (usize, (usize, usize, usize))>,
    ) -> StreamWeights {
        let mut places = places.peekable();
        let area = (conv.kernel[0] * conv.kernel[1]) as usize;
        let channels = (conv.in_channels / conv.groups) as usize;
        let filters = (conv.out_channels / conv.groups) as usize;
        let tap = |y: usize, x: usize| y * conv.kernel[1] as usize + x;
        let first = places.peek().map_or(0, |&(_, (channel, _, _))| channel);
        if pass == Pass::InputGrad {
            let group = self.kept.grad_channels[first] as usize / filters;
            let kept = places.filter_map(|(offset, (channel, y, x))| {
                Some((offset, (self.find_kept_filter(self.kept.grad_channels[channel] as usize)?, tap(y, x))))
            });
            StreamWeights::new(group * channels..(group + 1) * channels, kept, |(row, tap), values| {
                values.extend((0..channels).map(|channel| weight.row(row)[channel * area + tap]));
            })
        } else {
            let group = self.kept.channels[first] as usize / channels;
            let bound = |group: usize| self.kept.filters.partition_point(|&filter| (filter as usize) < group * filters);
            let outputs = bound(group)..bound(group + 1);
            let rows = outputs.clone();
            StreamWeights::new(outputs, places, |(channel, y, x), values| {
                let column = self.kept.channels[channel] as usize % channels * area + tap(y, x);
                values.extend(rows.clone().map(|row| weight.row(row)[column]));
            })
        }
    }
}

/// The "weights" of a product of two activations are its right operand, which differs between samples.
fn gather_matmul(
    matmul: Matmul,
    right: &Tensor,
    pass: Pass,
    sample: usize,
    head: usize,
    places: impl Iterator<Item = (usize, (usize, usize, usize))>,
) -> StreamWeights {
    let (columns, inner) = (matmul.columns as usize, matmul.inner as usize);
    let base = (sample * matmul.heads as usize + head) * columns;
    if pass == Pass::InputGrad {
        StreamWeights::new(head * inner..(head + 1) * inner, places, |(_, _, column), values| {
            values.extend_from_slice(right.row(base + column));
        })
    } else {
        StreamWeights::new(head * columns..(head + 1) * columns, places, |(_, _, element), values| {
            values.extend((0..columns).map(|column| right.row(base + column)[element]));
        })
    }
}
