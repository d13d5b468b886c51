//! The modules of the models.
//!
//! Convolutions and linear layers are computed through the tap. Activations, pooling and
//! normalisation are computed here, as in torch.nn.

use super::{Model, ModelOutput, expect_images};
use crate::datasets::Batch;
use crate::tap::{ConvLayer, LinearLayer, Tap};
use crate::weights::{Init, ModulePath};
use tch::{Kind, Tensor};

/// The state that accompanies the data through a model.
pub struct Context<'a> {
    /// Whether the model trains: dropout is on, and normalisation uses the batch's own statistics.
    pub train: bool,
    /// The tap that computes the layers.
    pub tap: &'a mut dyn Tap,
}

/// A module of a model.
pub trait Module {
    /// Computes its output.
    fn apply(&self, x: &Tensor, context: &mut Context) -> Tensor;
}

/// Modules in sequence.
#[derive(Default)]
pub struct Sequence(Vec<Box<dyn Module>>);

impl Sequence {
    pub fn add(mut self, module: impl Module + 'static) -> Self {
        self.0.push(Box::new(module));
        self
    }
}

impl Module for Sequence {
    fn apply(&self, x: &Tensor, context: &mut Context) -> Tensor {
        self.0.iter().fold(x.shallow_clone(), |x, module| module.apply(&x, context))
    }
}

/// A classifier of images without auxiliary heads.
impl Model for Sequence {
    fn forward(&self, batch: &Batch, train: bool, tap: &mut dyn Tap) -> ModelOutput {
        let scores = self.apply(expect_images(batch), &mut Context { train, tap });
        ModelOutput { scores, auxiliary: Vec::new() }
    }
}

/// Modules in parallel; the channels of their outputs are concatenated.
pub struct Branches(Vec<Sequence>);

impl Branches {
    pub fn new(branches: impl Into<Vec<Sequence>>) -> Self {
        Self(branches.into())
    }
}

impl Module for Branches {
    fn apply(&self, x: &Tensor, context: &mut Context) -> Tensor {
        let outputs: Vec<Tensor> = self.0.iter().map(|branch| branch.apply(x, context)).collect();
        Tensor::cat(&outputs, 1)
    }
}

/// Builds a convolution; by default with stride 1, one group, no padding and no bias.
#[derive(Debug, Clone, Copy)]
pub struct Conv {
    channels: i64,
    filters: i64,
    kernel: [i64; 2],
    stride: i64,
    padding: [i64; 2],
    groups: i64,
    bias: bool,
    init: Init,
}

impl Conv {
    pub fn new(channels: i64, filters: i64, kernel: [i64; 2]) -> Self {
        Self { channels, filters, kernel, stride: 1, padding: [0; 2], groups: 1, bias: false, init: Init::FanIn }
    }

    pub fn square(channels: i64, filters: i64, kernel: i64) -> Self {
        Self::new(channels, filters, [kernel; 2])
    }

    pub fn stride(self, stride: i64) -> Self {
        Self { stride, ..self }
    }

    /// Pads such that stride 1 keeps the size of a plane.
    pub fn same_padding(self) -> Self {
        Self { padding: self.kernel.map(|size| size / 2), ..self }
    }

    pub fn padding(self, padding: i64) -> Self {
        Self { padding: [padding; 2], ..self }
    }

    pub fn depthwise(self) -> Self {
        Self { groups: self.channels, ..self }
    }

    pub fn bias(self) -> Self {
        Self { bias: true, ..self }
    }

    pub fn init(self, init: Init) -> Self {
        Self { init, ..self }
    }

    /// Builds the layer; `path` names its parameters.
    pub fn build(self, path: &ModulePath) -> ConvLayer {
        let shape = [self.filters, self.channels / self.groups, self.kernel[0], self.kernel[1]];
        let (weight, bias) = path.weight_and_bias(&shape, self.bias, self.init);
        ConvLayer {
            name: path.name(),
            weight,
            bias,
            stride: [self.stride; 2],
            padding: self.padding,
            dilation: [1; 2],
            groups: self.groups,
        }
    }
}

impl Module for ConvLayer {
    fn apply(&self, x: &Tensor, context: &mut Context) -> Tensor {
        context.tap.conv2d(self, x)
    }
}

/// Builds a linear layer with bias; `path` names its parameters.
pub fn linear(path: &ModulePath, inputs: i64, outputs: i64, init: Init) -> LinearLayer {
    let (weight, bias) = path.weight_and_bias(&[outputs, inputs], true, init);
    LinearLayer { name: path.name(), weight, bias }
}

impl Module for LinearLayer {
    fn apply(&self, x: &Tensor, context: &mut Context) -> Tensor {
        context.tap.linear(self, x)
    }
}

/// Batch normalisation (Ioffe and Szegedy, ICML 2015) with running statistics, momentum 0.1.
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    batches: Tensor,
    epsilon: f64,
}

impl BatchNorm {
    pub fn new(path: &ModulePath, channels: i64, epsilon: f64) -> Self {
        let shape = [channels];
        let ones = || Tensor::ones(shape, (Kind::Float, tch::Device::Cpu));
        let zeros = || Tensor::zeros(shape, (Kind::Float, tch::Device::Cpu));
        Self {
            weight: path.parameter("weight", &shape, ones),
            bias: path.parameter("bias", &shape, zeros),
            mean: path.buffer("running_mean", &shape, zeros),
            variance: path.buffer("running_var", &shape, ones),
            batches: path.counter("num_batches_tracked"),
            epsilon,
        }
    }
}

impl Module for BatchNorm {
    fn apply(&self, x: &Tensor, context: &mut Context) -> Tensor {
        if context.train {
            let _ = self.batches.shallow_clone().g_add_scalar_(1);
        }
        let [weight, bias, mean, variance] = [&self.weight, &self.bias, &self.mean, &self.variance].map(Some);
        x.batch_norm(weight, bias, mean, variance, context.train, 0.1, self.epsilon, true)
    }
}

/// Builds a convolution (`conv`), batch normalisation (`bn`) and ReLU, as torchvision and timm do.
pub fn conv_norm_relu(path: &ModulePath, conv: Conv, epsilon: f64) -> Sequence {
    let normalised = BatchNorm::new(&path.at("bn"), conv.filters, epsilon);
    Sequence::default().add(conv.build(&path.at("conv"))).add(normalised).add(Relu)
}

/// max(x, 0).
pub struct Relu;

impl Module for Relu {
    fn apply(&self, x: &Tensor, _: &mut Context) -> Tensor {
        x.relu()
    }
}

/// min(max(x, 0), 6).
pub struct Relu6;

impl Module for Relu6 {
    fn apply(&self, x: &Tensor, _: &mut Context) -> Tensor {
        x.clamp(0.0, 6.0)
    }
}

/// Dropout (Srivastava et al., JMLR 2014) with this share of dropped values.
pub struct Dropout(pub f64);

impl Module for Dropout {
    fn apply(&self, x: &Tensor, context: &mut Context) -> Tensor {
        x.dropout(self.0, context.train)
    }
}

/// The largest value of each window.
pub struct MaxPool {
    pub kernel: i64,
    pub stride: i64,
    pub padding: i64,
    /// Whether windows may extend over the edge.
    pub ceil: bool,
}

impl MaxPool {
    pub fn new(kernel: i64, stride: i64) -> Self {
        Self { kernel, stride, padding: 0, ceil: false }
    }

    pub fn ceil(self) -> Self {
        Self { ceil: true, ..self }
    }

    pub fn padding(self, padding: i64) -> Self {
        Self { padding, ..self }
    }
}

impl Module for MaxPool {
    fn apply(&self, x: &Tensor, _: &mut Context) -> Tensor {
        x.max_pool2d([self.kernel; 2], [self.stride; 2], [self.padding; 2], [1; 2], self.ceil)
    }
}

/// The mean of each 3 x 3 neighbourhood; values outside the plane do not count.
pub struct Smooth;

impl Module for Smooth {
    fn apply(&self, x: &Tensor, _: &mut Context) -> Tensor {
        x.avg_pool2d([3; 2], [1; 2], [1; 2], false, false, None)
    }
}

/// Means over a grid with this many rows and columns.
pub struct AveragePool(pub i64);

impl Module for AveragePool {
    fn apply(&self, x: &Tensor, _: &mut Context) -> Tensor {
        x.adaptive_avg_pool2d([self.0; 2])
    }
}

/// Puts each sample's values into one row.
pub struct Flatten;

impl Module for Flatten {
    fn apply(&self, x: &Tensor, _: &mut Context) -> Tensor {
        x.flatten(1, -1)
    }
}
