//! What the models are put together from. Each part computes its convolutions and linear layers
//! through the tap; what torch.nn computes around them (activations, pooling, normalisation) is here.

use super::{Model, Output, images_of};
use crate::datasets::Batch;
use crate::tap::{ConvLayer, LinearLayer, Tap};
use crate::weights::{Init, Module};
use tch::{Kind, Tensor};

/// What goes along with the data through a model.
pub struct Context<'a> {
    /// Whether the model learns: dropout is on, normalisation uses the batch's own statistics.
    pub train: bool,
    /// What the layers are computed through.
    pub tap: &'a mut dyn Tap,
}

/// A part of a model.
pub trait Part {
    /// Its output.
    fn apply(&self, x: &Tensor, context: &mut Context) -> Tensor;
}

/// Parts one after the other.
#[derive(Default)]
pub struct Sequence(Vec<Box<dyn Part>>);

impl Sequence {
    pub fn add(mut self, part: impl Part + 'static) -> Self {
        self.0.push(Box::new(part));
        self
    }
}

impl Part for Sequence {
    fn apply(&self, x: &Tensor, context: &mut Context) -> Tensor {
        self.0.iter().fold(x.shallow_clone(), |x, part| part.apply(&x, context))
    }
}

/// A classifier of images without auxiliary heads.
impl Model for Sequence {
    fn forward(&self, batch: &Batch, train: bool, tap: &mut dyn Tap) -> Output {
        let scores = self.apply(images_of(batch), &mut Context { train, tap });
        Output { scores, auxiliary: Vec::new() }
    }
}

/// Parts side by side, their outputs' channels one after the other.
pub struct Branches(Vec<Sequence>);

impl Branches {
    pub fn new(branches: impl Into<Vec<Sequence>>) -> Self {
        Self(branches.into())
    }
}

impl Part for Branches {
    fn apply(&self, x: &Tensor, context: &mut Context) -> Tensor {
        let outputs: Vec<Tensor> = self.0.iter().map(|branch| branch.apply(x, context)).collect();
        Tensor::cat(&outputs, 1)
    }
}

/// Shape of a convolution; stride 1, no padding, one group, no bias unless said otherwise.
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

    /// Padding with which stride 1 keeps the size of a plane.
    pub fn same(self) -> Self {
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

    /// The layer, its parameters under `module`.
    pub fn at(self, module: &Module) -> ConvLayer {
        let shape = [self.filters, self.channels / self.groups, self.kernel[0], self.kernel[1]];
        let (weight, bias) = module.weight_and_bias(&shape, self.bias, self.init);
        ConvLayer {
            name: module.name(),
            weight,
            bias,
            stride: [self.stride; 2],
            padding: self.padding,
            dilation: [1; 2],
            groups: self.groups,
        }
    }
}

impl Part for ConvLayer {
    fn apply(&self, x: &Tensor, context: &mut Context) -> Tensor {
        context.tap.conv2d(self, x)
    }
}

/// A linear layer with bias, its parameters under `module`.
pub fn linear(module: &Module, inputs: i64, outputs: i64, init: Init) -> LinearLayer {
    let (weight, bias) = module.weight_and_bias(&[outputs, inputs], true, init);
    LinearLayer { name: module.name(), weight, bias }
}

impl Part for LinearLayer {
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
    pub fn new(module: &Module, channels: i64, epsilon: f64) -> Self {
        let shape = [channels];
        let ones = || Tensor::ones(shape, (Kind::Float, tch::Device::Cpu));
        let zeros = || Tensor::zeros(shape, (Kind::Float, tch::Device::Cpu));
        Self {
            weight: module.parameter("weight", &shape, ones),
            bias: module.parameter("bias", &shape, zeros),
            mean: module.buffer("running_mean", &shape, zeros),
            variance: module.buffer("running_var", &shape, ones),
            batches: module.counter("num_batches_tracked"),
            epsilon,
        }
    }
}

impl Part for BatchNorm {
    fn apply(&self, x: &Tensor, context: &mut Context) -> Tensor {
        if context.train {
            let _ = self.batches.shallow_clone().g_add_scalar_(1);
        }
        let [weight, bias, mean, variance] = [&self.weight, &self.bias, &self.mean, &self.variance].map(Some);
        x.batch_norm(weight, bias, mean, variance, context.train, 0.1, self.epsilon, true)
    }
}

/// A convolution, batch normalisation and ReLU, named `conv` and `bn` as in torchvision and timm.
pub fn conv_norm_relu(module: &Module, conv: Conv, epsilon: f64) -> Sequence {
    let normalised = BatchNorm::new(&module.at("bn"), conv.filters, epsilon);
    Sequence::default().add(conv.at(&module.at("conv"))).add(normalised).add(Relu)
}

/// max(x, 0).
pub struct Relu;

impl Part for Relu {
    fn apply(&self, x: &Tensor, _: &mut Context) -> Tensor {
        x.relu()
    }
}

/// min(max(x, 0), 6).
pub struct Relu6;

impl Part for Relu6 {
    fn apply(&self, x: &Tensor, _: &mut Context) -> Tensor {
        x.clamp(0.0, 6.0)
    }
}

/// Dropout (Srivastava et al., JMLR 2014) of this share of the values.
pub struct Dropout(pub f64);

impl Part for Dropout {
    fn apply(&self, x: &Tensor, context: &mut Context) -> Tensor {
        x.dropout(self.0, context.train)
    }
}

/// The largest value of each window.
pub struct MaxPool {
    pub kernel: i64,
    pub stride: i64,
    pub padding: i64,
    /// Whether a window may reach over the edge.
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

impl Part for MaxPool {
    fn apply(&self, x: &Tensor, _: &mut Context) -> Tensor {
        x.max_pool2d([self.kernel; 2], [self.stride; 2], [self.padding; 2], [1; 2], self.ceil)
    }
}

/// The mean of each 3 x 3 neighbourhood, of what lies within the plane.
pub struct Smooth;

impl Part for Smooth {
    fn apply(&self, x: &Tensor, _: &mut Context) -> Tensor {
        x.avg_pool2d([3; 2], [1; 2], [1; 2], false, false, None)
    }
}

/// Means over a grid of this many rows and columns.
pub struct AveragePool(pub i64);

impl Part for AveragePool {
    fn apply(&self, x: &Tensor, _: &mut Context) -> Tensor {
        x.adaptive_avg_pool2d([self.0; 2])
    }
}

/// Each sample's values in one row.
pub struct Flatten;

impl Part for Flatten {
    fn apply(&self, x: &Tensor, _: &mut Context) -> Tensor {
        x.flatten(1, -1)
    }
}
