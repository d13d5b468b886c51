//! The three passes of a layer with reuse.
//!
//! Copying the results of representatives is the same as multiplying an operand in which HITs are
//! replaced. The `reuse` crate chooses the replacements and writes that operand as a matrix;
//! libtorch multiplies it.

use super::matrix::{Room, values};
use crate::error::Result;
use mercury_hardware::config::Config;
use mercury_hardware::timed;
use mercury_reuse::{Counts, Outcomes, Substitutes, VectorView, views};
use mercury_trace::geometry::{Conv2d, Geometry, Pass};
use mercury_trace::windows::Windows;
use tch::{Device, Kind, Tensor};

/// Values of a matrix that is multiplied at once, if one sample has no more: so many fit into a
/// CPU's last-level cache.
const VALUES_AT_A_TIME: usize = 1 << 21;

/// The operand that a pass streams: its values on the CPU, sample by sample.
pub struct Streamed {
    values: Vec<f32>,
    samples: usize,
    channels: usize,
}

impl Streamed {
    /// Copies X or dY.
    pub fn new(geometry: &Geometry, tensor: &Tensor) -> Result<Self> {
        let size = tensor.size();
        let channels = if let Geometry::Conv2d(_) = geometry { size[1] as usize } else { 1 };
        Ok(Self { values: values(tensor)?, samples: size[0] as usize, channels })
    }

    /// The operand as a tensor on the CPU.
    pub fn tensor(&self, size: &[i64]) -> Tensor {
        Tensor::from_slice(&self.values).reshape(size)
    }

    fn views(&self, geometry: &Geometry, pass: Pass, config: &Config) -> Vec<VectorView<'_>> {
        views(geometry, pass, config.rpq.granularity, &self.values, self.samples, self.channels)
    }
}

/// The outcomes of a pass's vectors, by product.
pub struct PassOutcomes(Vec<Outcomes>);

impl PassOutcomes {
    /// Signs and looks up the vectors of the forward pass or the input gradient.
    pub fn new(config: &Config, geometry: &Geometry, pass: Pass, streamed: &Streamed) -> Self {
        let scope = config.mcache.effective_scope(geometry);
        let look_up = |view: &VectorView| Outcomes::sign_and_look_up(view, &config.rpq, &config.mcache, scope);
        Self(streamed.views(geometry, pass, config).iter().map(look_up).collect())
    }

    /// Counts the vectors by outcome.
    pub fn counts(&self) -> Counts {
        self.0.iter().flat_map(Outcomes::counts).copied().sum()
    }

    /// The outcomes, by product.
    pub fn products(&self) -> &[Outcomes] {
        &self.0
    }
}

/// A layer's pass over a streamed operand with known outcomes.
pub struct Reuse<'a> {
    /// The configuration with the signature length in force.
    pub config: &'a Config,
    /// The layer.
    pub geometry: &'a Geometry,
    /// X; dY in the input gradient.
    pub streamed: &'a Streamed,
    /// The outcomes of its vectors.
    pub outcomes: &'a PassOutcomes,
}

impl Reuse<'_> {
    /// Computes Y without bias; W and Y are on the CPU.
    pub fn forward(&self, w: &Tensor, room: &mut Room) -> Tensor {
        match self.geometry {
            Geometry::Conv2d(conv) => {
                let y = Tensor::empty(self.planes(conv.out_channels, conv.output()), (Kind::Float, Device::Cpu));
                let w = grouped(w, conv);
                self.columns(Pass::Forward, conv, room, |_, first, samples, columns| {
                    let planes = planes_first(&w.bmm(columns), conv.out_channels, samples, conv.output());
                    y.narrow(0, first, samples).copy_(&planes);
                });
                y
            }
            Geometry::Linear(_) => self.products(Pass::Forward, room, |_, rows| rows.matmul(&w.tr())),
            Geometry::Matmul(_) => self.products(Pass::Forward, room, |(first, samples), rows| {
                rows.matmul(&w.narrow(0, first, samples).transpose(-2, -1))
            }),
        }
    }

    /// Computes dX; W and dX are on the CPU.
    pub fn input_grad(&self, w: &Tensor, room: &mut Room) -> Tensor {
        match self.geometry {
            Geometry::Conv2d(conv) => {
                // Inputs that no output depends on have no walk, so they keep a zero.
                let dx = Tensor::zeros(self.planes(conv.in_channels, conv.input), (Kind::Float, Device::Cpu));
                let walks = conv.windows(Pass::InputGrad);
                let weights: Vec<Tensor> = walks.iter().map(|walk| rotated(w, conv, walk)).collect();
                self.columns(Pass::InputGrad, conv, room, |number, first, samples, columns| {
                    let (y, x) = (&walks[number].y, &walks[number].x);
                    let size = [y.positions, x.positions];
                    let planes = planes_first(&weights[number].bmm(columns), conv.in_channels, samples, size);
                    let mut part = dx.narrow(0, first, samples);
                    for (axis, walk) in [y, x].into_iter().enumerate() {
                        let residue = walk.residue(conv.stride[axis], conv.padding[axis], conv.dilation[axis]);
                        part = part.slice(axis as i64 + 2, i64::from(residue), None, i64::from(conv.stride[axis]));
                    }
                    part.copy_(&planes);
                });
                dx
            }
            Geometry::Linear(_) => self.products(Pass::InputGrad, room, |_, rows| rows.matmul(w)),
            Geometry::Matmul(_) => {
                self.products(Pass::InputGrad, room, |(first, samples), rows| rows.matmul(&w.narrow(0, first, samples)))
            }
        }
    }

    /// Computes dW from the forward pass's vectors and outcomes; dY and dW are on the CPU.
    pub fn weight_grad(&self, dy: &Tensor, room: &mut Room) -> Tensor {
        match self.geometry {
            Geometry::Conv2d(conv) => {
                let groups = i64::from(conv.groups);
                let filters = i64::from(conv.out_channels) / groups;
                let mut dw = Sum::default();
                self.columns(Pass::WeightGrad, conv, room, |_, first, samples, columns| {
                    let dy = dy.narrow(0, first, samples).flatten(2, 3).transpose(0, 1);
                    dw.add(dy.reshape([groups, filters, -1]).bmm(&columns.transpose(1, 2)));
                });
                let [rows, columns] = conv.kernel.map(i64::from);
                dw.value().reshape([i64::from(conv.out_channels), -1, rows, columns])
            }
            Geometry::Linear(linear) => {
                let dy = dy.reshape([-1, i64::from(linear.rows), i64::from(linear.out_features)]);
                let mut dw = Sum::default();
                self.rows(Pass::WeightGrad, room, |(first, samples), rows| {
                    dw.add(dy.narrow(0, first, samples).flatten(0, 1).tr().matmul(&rows.flatten(0, 1)));
                });
                dw.value()
            }
            Geometry::Matmul(_) => self.products(Pass::WeightGrad, room, |(first, samples), rows| {
                dy.narrow(0, first, samples).transpose(-2, -1).matmul(rows)
            }),
        }
    }

    /// Counts the cycles of a pass on the configuration's array: without reuse, with reuse.
    pub fn cycles(&self, pass: Pass) -> [u64; 2] {
        let products: Vec<_> = self.substituted(pass).collect();
        let samples = self.streamed.samples as u32;
        let (baseline, mercury) = timed::cycles(self.config, self.geometry, pass, samples, &products);
        [baseline, mercury.total()]
    }

    fn planes(&self, channels: u32, [height, width]: [u32; 2]) -> [i64; 4] {
        [self.streamed.samples as i64, i64::from(channels), i64::from(height), i64::from(width)]
    }

    /// Writes the columns of a few samples at a time, `[groups][elements][samples x positions]`.
    ///
    /// `product` gets the number of the matrix product, the first sample, the count of samples and
    /// the columns.
    fn columns(&self, pass: Pass, conv: &Conv2d, room: &mut Room, mut product: impl FnMut(usize, i64, i64, &Tensor)) {
        for (number, (view, outcomes)) in self.substituted(pass).enumerate() {
            let substitutes = self.substitutes(&view, outcomes);
            let elements: usize = view.streams().iter().map(|stream| stream.length).sum();
            let positions = view.layout().positions;
            let at_a_time = (VALUES_AT_A_TIME / (elements * positions).max(1)).max(1);
            for first in (0..self.streamed.samples).step_by(at_a_time) {
                let samples = first..self.streamed.samples.min(first + at_a_time);
                let (count, groups) = (samples.len(), conv.groups as usize);
                let shape = [groups, elements / groups, count * positions].map(|size| size as i64);
                let matrix = room.matrix(&shape, |out| substitutes.columns(samples, out));
                product(number, first as i64, count as i64, &matrix);
            }
        }
    }

    /// Writes the rows of a few samples at a time, `[samples]([heads])[rows][elements]`.
    ///
    /// `product` gets the first sample, the count of samples and the rows.
    fn rows(&self, pass: Pass, room: &mut Room, mut product: impl FnMut((i64, i64), &Tensor)) {
        let (view, outcomes) = self.substituted(pass).next().expect("a matrix product is one product");
        let substitutes = self.substitutes(&view, outcomes);
        let sample_length = self.streamed.values.len() / self.streamed.samples.max(1);
        let at_a_time = (VALUES_AT_A_TIME / sample_length.max(1)).max(1);
        for first in (0..self.streamed.samples).step_by(at_a_time) {
            let samples = first..self.streamed.samples.min(first + at_a_time);
            let count = samples.len() as i64;
            let mut shape = vec![count];
            match self.geometry {
                Geometry::Matmul(attention) => shape.extend([attention.heads, attention.rows].map(i64::from)),
                Geometry::Linear(linear) => shape.push(i64::from(linear.rows)),
                Geometry::Conv2d(_) => unreachable!("convolutions have columns"),
            }
            shape.push(sample_length as i64 / shape[1..].iter().product::<i64>());
            let matrix = room.matrix(&shape, |out| {
                for (sample, out) in samples.zip(out.chunks_exact_mut(sample_length)) {
                    substitutes.rows(sample, out);
                }
            });
            product((first as i64, count), &matrix);
        }
    }

    /// Concatenates the products of [`Reuse::rows`] over all samples.
    fn products(&self, pass: Pass, room: &mut Room, mut product: impl FnMut((i64, i64), &Tensor) -> Tensor) -> Tensor {
        let mut products = Vec::new();
        self.rows(pass, room, |samples, rows| products.push(product(samples, rows)));
        Tensor::cat(&products, 0)
    }

    fn substituted(&self, pass: Pass) -> impl Iterator<Item = (VectorView<'_>, &Outcomes)> {
        self.streamed.views(self.geometry, pass, self.config).into_iter().zip(&self.outcomes.0)
    }

    fn substitutes<'v>(&self, view: &'v VectorView<'v>, outcomes: &'v Outcomes) -> Substitutes<'v, 'v> {
        Substitutes::new(view, outcomes, self.config.rpq.variant, self.config.mcache.representative)
    }
}

/// A sum of tensors of one shape.
#[derive(Default)]
struct Sum(Option<Tensor>);

impl Sum {
    fn add(&mut self, part: Tensor) {
        self.0 = Some(match self.0.take() {
            None => part,
            Some(sum) => sum + part,
        });
    }

    fn value(self) -> Tensor {
        self.0.expect("a batch has samples")
    }
}

/// Returns W as `[groups][filters][elements]`.
fn grouped(w: &Tensor, conv: &Conv2d) -> Tensor {
    w.reshape([i64::from(conv.groups), i64::from(conv.out_channels / conv.groups), -1])
}

/// Returns the weights of one walk of the input gradient: `[groups][channels][filters x taps]`.
fn rotated(w: &Tensor, conv: &Conv2d, walk: &Windows) -> Tensor {
    let elements = |axis: &mercury_trace::windows::Axis| {
        let elements: Vec<i64> = (0..axis.taps).map(|tap| axis.kernel_element(tap) as i64).collect();
        Tensor::from_slice(&elements)
    };
    let (groups, filters) = (i64::from(conv.groups), i64::from(conv.out_channels / conv.groups));
    let channels = i64::from(conv.in_channels / conv.groups);
    let taps = w.index_select(2, &elements(&walk.y)).index_select(3, &elements(&walk.x));
    taps.reshape([groups, filters, channels, -1]).transpose(1, 2).reshape([groups, channels, -1])
}

/// Turns `[groups][channels][samples x positions]` into `[samples][channels][rows][columns]`.
fn planes_first(product: &Tensor, channels: u32, samples: i64, [rows, columns]: [u32; 2]) -> Tensor {
    product.reshape([i64::from(channels), samples, i64::from(rows), i64::from(columns)]).transpose(0, 1)
}
