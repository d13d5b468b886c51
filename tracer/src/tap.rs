//! The tap, through which a model computes its layers.
//!
//! A model passes each convolution, linear layer and attention product to the tap by name. The tap
//! decides how to compute it, and can record its operands.

use crate::error::Result;
use mercury_trace::geometry::{Conv2d, Geometry, Linear, Matmul};
use mercury_trace::layers::Layer;
use std::collections::BTreeSet;
use tch::Tensor;

/// A convolution of a model.
#[derive(Debug)]
pub struct ConvLayer {
    /// The module's name.
    pub name: String,
    /// `[filters, channels / groups, rows, columns]`.
    pub weight: Tensor,
    /// `[filters]`.
    pub bias: Option<Tensor>,
    /// Input elements from one output to the next: `[rows, columns]`.
    pub stride: [i64; 2],
    /// Zeros on each side: `[rows, columns]`.
    pub padding: [i64; 2],
    /// Input elements from one kernel element to the next: `[rows, columns]`.
    pub dilation: [i64; 2],
    /// Groups of channels and filters.
    pub groups: i64,
}

impl ConvLayer {
    /// Computes the layer's output.
    pub fn compute(&self, x: &Tensor) -> Tensor {
        x.conv2d(&self.weight, self.bias.as_ref(), self.stride, self.padding, self.dilation, self.groups)
    }

    /// The layer's geometry for this input.
    pub fn geometry(&self, x: &Tensor) -> Geometry {
        let (input, weight) = (x.size(), self.weight.size());
        let pair = |values: [i64; 2]| values.map(|value| value as u32);
        Geometry::Conv2d(Conv2d {
            in_channels: input[1] as u32,
            out_channels: weight[0] as u32,
            input: pair([input[2], input[3]]),
            kernel: pair([weight[2], weight[3]]),
            stride: pair(self.stride),
            padding: pair(self.padding),
            dilation: pair(self.dilation),
            groups: self.groups as u32,
        })
    }
}

/// A fully connected layer of a model.
#[derive(Debug)]
pub struct LinearLayer {
    /// The module's name.
    pub name: String,
    /// `[out_features, in_features]`.
    pub weight: Tensor,
    /// `[out_features]`.
    pub bias: Option<Tensor>,
}

impl LinearLayer {
    /// Computes the layer's output.
    pub fn compute(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, self.bias.as_ref())
    }

    /// The layer's geometry for this input.
    pub fn geometry(&self, x: &Tensor) -> Geometry {
        let (input, weight) = (x.size(), self.weight.size());
        let rows: i64 = input[1..input.len() - 1].iter().product();
        Geometry::Linear(Linear { rows: rows as u32, in_features: weight[1] as u32, out_features: weight[0] as u32 })
    }
}

/// A product of two activations in attention, per head: queries and keys, or attention weights and
/// values. The right operand stands in for a layer's weight.
#[derive(Debug)]
pub struct AttentionLayer {
    /// The module's name and the product's.
    pub name: String,
}

impl AttentionLayer {
    /// Computes the product, `[samples, heads, rows, columns]`.
    ///
    /// `left` is `[samples, heads, rows, inner]`; `right` is `[samples, heads, columns, inner]`,
    /// one filter per row.
    pub fn compute(left: &Tensor, right: &Tensor) -> Tensor {
        left.matmul(&right.transpose(-2, -1))
    }

    /// The product's geometry for these operands.
    pub fn geometry(left: &Tensor, right: &Tensor) -> Geometry {
        let (left, right) = (left.size(), right.size());
        let [heads, rows, inner, columns] = [left[1], left[2], left[3], right[2]].map(|size| size as u32);
        Geometry::Matmul(Matmul { heads, rows, inner, columns })
    }
}

/// Computes layers, and may record their operands. The default methods only compute.
pub trait Tap {
    /// Computes a convolution's output.
    fn conv2d(&mut self, layer: &ConvLayer, x: &Tensor) -> Tensor {
        layer.compute(x)
    }

    /// Computes a linear layer's output.
    fn linear(&mut self, layer: &LinearLayer, x: &Tensor) -> Tensor {
        layer.compute(x)
    }

    /// Computes an attention product; shapes as in [`AttentionLayer::compute`].
    fn attention(&mut self, _layer: &AttentionLayer, left: &Tensor, right: &Tensor) -> Tensor {
        AttentionLayer::compute(left, right)
    }
}

impl<T: Tap + ?Sized> Tap for &mut T {
    fn conv2d(&mut self, layer: &ConvLayer, x: &Tensor) -> Tensor {
        (**self).conv2d(layer, x)
    }

    fn linear(&mut self, layer: &LinearLayer, x: &Tensor) -> Tensor {
        (**self).linear(layer, x)
    }

    fn attention(&mut self, layer: &AttentionLayer, left: &Tensor, right: &Tensor) -> Tensor {
        (**self).attention(layer, left, right)
    }
}

/// Only computes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Tap for Plain {}

/// The operands of one layer in one step.
#[derive(Debug)]
pub struct Record {
    /// The layer's name and geometry.
    pub layer: Layer,
    /// X, detached from the graph.
    pub input: Tensor,
    /// W, detached from the graph.
    pub weight: Tensor,
    /// dY, after [`backward`], if the recorder watches gradients and the layer has one.
    pub grad_output: Option<Tensor>,
    probe: Option<Tensor>,
}

/// Records the operands of layers that another tap computes.
pub struct Recorder<'t> {
    wanted: Option<BTreeSet<String>>,
    gradients: bool,
    inner: Box<dyn Tap + 't>,
    /// The records, in execution order.
    records: Vec<Record>,
}

impl<'t> Recorder<'t> {
    /// Records the layers of these names, and their output gradients if `gradients` is true.
    pub fn new(wanted: BTreeSet<String>, gradients: bool) -> Self {
        Self { wanted: Some(wanted), gradients, inner: Box::new(Plain), records: Vec::new() }
    }

    /// Records every layer, and the output gradients if `gradients` is true.
    pub fn with_all_layers(gradients: bool) -> Self {
        Self { wanted: None, gradients, inner: Box::new(Plain), records: Vec::new() }
    }

    /// Sets the tap that computes the layers; by default it is [`Plain`].
    #[must_use]
    pub fn with_tap(self, inner: impl Tap + 't) -> Self {
        Self { inner: Box::new(inner), ..self }
    }

    /// The records, in execution order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Ends the recording; returns the records, in execution order.
    pub fn into_records(self) -> Vec<Record> {
        self.records
    }

    fn record(&mut self, name: &str, geometry: Geometry, x: &Tensor, weight: &Tensor, y: Tensor) -> Tensor {
        if self.wanted.as_ref().is_some_and(|wanted| !wanted.contains(name)) {
            return y;
        }
        let (input_grad, weight_grad) = (x.requires_grad(), weight.requires_grad());
        let layer = Layer { name: name.to_owned(), geometry, input_grad, weight_grad };
        // tch has no tensor hooks. A zero that is added to the output receives the output's
        // gradient. Among frozen layers it would make libtorch compute gradients that training does
        // without.
        let probe = (self.gradients && layer.has_gradient()).then(|| y.zeros_like().set_requires_grad(true));
        let watched = probe.as_ref().map_or_else(|| y.shallow_clone(), |probe| &y + probe);
        let (input, weight) = (x.detach(), weight.detach());
        self.records.push(Record { layer, input, weight, grad_output: None, probe });
        watched
    }
}

/// Computes the gradients of a loss with respect to parameters and to the outputs that a recorder
/// watched.
///
/// Gradients of parameters are returned, not added up in the parameters, which saves a pass over
/// their memory. A parameter that the loss does not depend on has an undefined gradient.
pub fn backward(loss: &Tensor, parameters: &[&Tensor], recorder: Option<&mut Recorder>) -> Result<Vec<Tensor>> {
    let mut inputs = parameters.to_vec();
    let mut watched = Vec::new();
    if let Some(recorder) = recorder {
        for record in &mut recorder.records {
            if let Some(probe) = record.probe.take() {
                watched.push((&mut record.grad_output, probe));
            }
        }
    }
    inputs.extend(watched.iter().map(|(_, probe)| probe));
    let mut gradients = Tensor::f_run_backward(&[loss], &inputs, false, false)?;
    for ((grad_output, _), gradient) in watched.into_iter().zip(gradients.drain(parameters.len()..)) {
        *grad_output = Some(gradient).filter(Tensor::defined);
    }
    // A bias' gradient can be a view of the output's gradient, and callers may change it in place.
    // Gradients of matrices and kernels have memory of their own.
    for gradient in gradients.iter_mut().filter(|gradient| gradient.defined() && gradient.dim() < 2) {
        *gradient = gradient.copy();
    }
    Ok(gradients)
}

impl Tap for Recorder<'_> {
    fn conv2d(&mut self, layer: &ConvLayer, x: &Tensor) -> Tensor {
        let y = self.inner.conv2d(layer, x);
        self.record(&layer.name, layer.geometry(x), x, &layer.weight, y)
    }

    fn linear(&mut self, layer: &LinearLayer, x: &Tensor) -> Tensor {
        let y = self.inner.linear(layer, x);
        self.record(&layer.name, layer.geometry(x), x, &layer.weight, y)
    }

    fn attention(&mut self, layer: &AttentionLayer, left: &Tensor, right: &Tensor) -> Tensor {
        let y = self.inner.attention(layer, left, right);
        self.record(&layer.name, AttentionLayer::geometry(left, right), left, right, y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn recording_keeps_the_operands_and_the_result() {
        let options = (Kind::Float, Device::Cpu);
        tch::manual_seed(3);
        let layer = ConvLayer {
            name: "conv".into(),
            weight: Tensor::randn([4, 3, 3, 3], options).set_requires_grad(true),
            bias: None,
            stride: [2, 1],
            padding: [1, 0],
            dilation: [1, 2],
            groups: 1,
        };
        let x = Tensor::randn([2, 3, 8, 9], options);
        let mut recorder = Recorder::with_all_layers(true);
        let y = recorder.conv2d(&layer, &x);
        assert_eq!(y, Plain.conv2d(&layer, &x));
        // The loss sum(y^2) has the gradient 2y.
        let loss = y.square().sum(Kind::Float);
        let gradients = backward(&loss, &[&layer.weight], Some(&mut recorder)).unwrap();
        let record = &recorder.records()[0];
        let grad_output = record.grad_output.as_ref().unwrap();
        assert!(grad_output.allclose(&(&y * 2.0), 1e-6, 1e-6, false));
        let expected =
            Tensor::run_backward(&[Plain.conv2d(&layer, &x).square().sum(Kind::Float)], &[&layer.weight], false, false);
        assert_eq!(gradients, expected);
        assert_eq!(record.input, x);
        let Geometry::Conv2d(conv) = record.layer.geometry else { panic!("a convolution") };
        assert_eq!(conv.output().map(i64::from), y.size()[2..]);
    }

    #[test]
    fn unwanted_layers_are_not_recorded() {
        let options = (Kind::Float, Device::Cpu);
        let weight = Tensor::ones([2, 3], options);
        let layer = LinearLayer { name: "fc".into(), weight, bias: None };
        let mut recorder = Recorder::new(BTreeSet::from(["other".to_owned()]), true);
        let _y = recorder.linear(&layer, &Tensor::ones([1, 3], options));
        assert!(recorder.records().is_empty());
    }
}
