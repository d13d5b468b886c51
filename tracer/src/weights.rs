//! A model's parameters and buffers by name, and how they get their first values.

use std::cell::RefCell;
use std::fmt::Display;
use tch::{Device, Kind, Tensor};

/// A parameter, or a buffer that training keeps but does not learn.
#[derive(Debug)]
pub struct Entry {
    /// Its name, as PyTorch's state dict has it.
    pub name: String,
    /// Its value; the model's layers hold the same tensor.
    pub tensor: Tensor,
    /// Whether the optimiser changes it.
    pub trainable: bool,
}

/// Distribution of a parameter's first value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// PyTorch's own for convolutions and linear layers: uniform within 1 / sqrt(fan in), bias too.
    FanIn,
    /// He et al. (ICCV 2015): normal, variance 2 / fan out; bias 0.
    KaimingNormal,
    /// He et al. (ICCV 2015): uniform, variance 2 / fan in; bias 0.
    KaimingUniform,
    /// Glorot and Bengio (AISTATS 2010): uniform, variance 2 / (fan in + fan out); bias 0.
    XavierUniform,
    /// Normal with this standard deviation; bias 0.
    Normal(f64),
}

impl Init {
    /// A weight of this shape, filters first.
    pub fn weight(self, shape: &[i64]) -> Tensor {
        let options = (Kind::Float, Device::Cpu);
        let receptive: i64 = shape[2..].iter().product();
        let (fan_in, fan_out) = ((shape[1] * receptive) as f64, (shape[0] * receptive) as f64);
        let uniform = |bound: f64| Tensor::empty(shape, options).uniform_(-bound, bound);
        let normal = |deviation: f64| Tensor::empty(shape, options).normal_(0.0, deviation);
        match self {
            Init::FanIn => uniform(1.0 / fan_in.sqrt()),
            Init::KaimingNormal => normal((2.0 / fan_out).sqrt()),
            Init::KaimingUniform => uniform((6.0 / fan_in).sqrt()),
            Init::XavierUniform => uniform((6.0 / (fan_in + fan_out)).sqrt()),
            Init::Normal(deviation) => normal(deviation),
        }
    }

    /// The bias of a weight of this shape.
    pub fn bias(self, shape: &[i64]) -> Tensor {
        let mut bias = Tensor::zeros([shape[0]], (Kind::Float, Device::Cpu));
        match self {
            Init::FanIn => {
                let bound = 1.0 / (shape[1..].iter().product::<i64>() as f64).sqrt();
                bias.uniform_(-bound, bound)
            }
            _ => bias,
        }
    }
}

/// All parameters and buffers of a model, in the order in which it made them.
#[derive(Debug)]
pub struct Weights {
    entries: RefCell<Vec<Entry>>,
    device: Device,
    kind: Kind,
    blank: bool,
}

impl Weights {
    /// For a model on a device. Values are drawn from libtorch's generator on the CPU, so that they
    /// don't depend on the device.
    pub fn new(device: Device) -> Self {
        Self { entries: RefCell::default(), device, kind: Kind::Float, blank: false }
    }

    /// With parameters in double precision.
    pub fn double(device: Device) -> Self {
        Self { kind: Kind::Double, ..Self::new(device) }
    }

    /// For a model that is only looked at: everything is 0 and nothing is drawn.
    pub fn blank() -> Self {
        Self { blank: true, ..Self::new(Device::Cpu) }
    }

    /// Where the model's outermost module is.
    pub fn root(&self) -> Module<'_> {
        Module { weights: self, name: String::new() }
    }

    /// Parameters and buffers.
    pub fn entries(&self) -> std::cell::Ref<'_, Vec<Entry>> {
        self.entries.borrow()
    }

    /// What training keeps but does not learn.
    pub fn buffers(&self) -> Vec<Tensor> {
        self.entries().iter().filter(|entry| !entry.trainable).map(|entry| entry.tensor.shallow_clone()).collect()
    }

    /// Values in the parameters.
    pub fn parameters(&self) -> u64 {
        self.entries().iter().filter(|entry| entry.trainable).map(|entry| entry.tensor.numel() as u64).sum()
    }
}

/// A module's place in a model: `root.at("features").at(0)` makes parameters named `features.0.…`.
#[derive(Debug, Clone)]
pub struct Module<'a> {
    weights: &'a Weights,
    name: String,
}

impl Module<'_> {
    /// The module of this name within this one.
    #[must_use]
    pub fn at(&self, name: impl Display) -> Self {
        let name = if self.name.is_empty() { name.to_string() } else { format!("{}.{name}", self.name) };
        Self { weights: self.weights, name }
    }

    /// Its full name.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// A parameter of a shape, made by `value` where the model is not blank.
    pub fn parameter(&self, name: &str, shape: &[i64], value: impl FnOnce() -> Tensor) -> Tensor {
        self.add(name, shape, self.weights.kind, true, value)
    }

    /// A weight and, where wanted, a bias.
    pub fn weight_and_bias(&self, shape: &[i64], bias: bool, init: Init) -> (Tensor, Option<Tensor>) {
        let weight = self.parameter("weight", shape, || init.weight(shape));
        let bias = bias.then(|| self.parameter("bias", &shape[..1], || init.bias(shape)));
        (weight, bias)
    }

    /// A buffer of the parameters' kind.
    pub fn buffer(&self, name: &str, shape: &[i64], value: impl FnOnce() -> Tensor) -> Tensor {
        self.add(name, shape, self.weights.kind, false, value)
    }

    /// A count.
    pub fn counter(&self, name: &str) -> Tensor {
        self.add(name, &[], Kind::Int64, false, || Tensor::from(0i64))
    }

    fn add(&self, name: &str, shape: &[i64], kind: Kind, trainable: bool, value: impl FnOnce() -> Tensor) -> Tensor {
        let blank = self.weights.blank;
        let value = if blank { Tensor::zeros(shape, (kind, Device::Cpu)) } else { tch::no_grad(value) };
        let tensor = value.to_kind(kind).to_device(self.weights.device).set_requires_grad(trainable);
        let entry = Entry { name: self.at(name).name, tensor: tensor.shallow_clone(), trainable };
        self.weights.entries.borrow_mut().push(entry);
        tensor
    }
}
