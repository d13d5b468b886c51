//! A model's parameters and buffers by name, and their initial values.

use std::cell::RefCell;
use std::fmt::Display;
use tch::{Device, Kind, Tensor};

/// A parameter, or a buffer that training updates but does not learn.
#[derive(Debug)]
pub struct WeightEntry {
    /// Its name in PyTorch's state dictionary.
    pub name: String,
    /// Its value; the model's layers share this tensor.
    pub tensor: Tensor,
    /// How training treats it.
    pub role: Role,
}

/// How training treats a tensor of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A parameter that the optimiser changes.
    Trained,
    /// A parameter that training leaves as it is and computes no gradient of.
    Frozen,
    /// A buffer, which training updates but does not learn.
    Buffer,
}

/// Distribution of a parameter's initial values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// PyTorch's default of convolutions and linear layers: uniform within 1 / sqrt(fan in), bias
    /// too.
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
    /// Draws a weight of this shape, filters first.
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

    /// Draws the bias for a weight of this shape.
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

/// All parameters and buffers of a model, in the order of their creation.
#[derive(Debug)]
pub struct Weights {
    entries: RefCell<Vec<WeightEntry>>,
    device: Device,
    kind: Kind,
    /// Whether all values are zeros, and nothing is drawn.
    zeros: bool,
}

impl Weights {
    /// Creates a model's weights on a device.
    ///
    /// Initial values are drawn on the CPU, so that they do not depend on the device.
    pub fn new(device: Device) -> Self {
        Self { entries: RefCell::default(), device, kind: Kind::Float, zeros: false }
    }

    /// Creates weights in double precision.
    pub fn with_doubles(device: Device) -> Self {
        Self { kind: Kind::Double, ..Self::new(device) }
    }

    /// Creates zeros, for a model that is only outlined.
    pub fn with_zeros() -> Self {
        Self { zeros: true, ..Self::new(Device::Cpu) }
    }

    /// The path of the model's outermost module.
    pub fn root(&self) -> ModulePath<'_> {
        ModulePath { weights: self, name: String::new() }
    }

    /// Parameters and buffers.
    pub fn entries(&self) -> std::cell::Ref<'_, Vec<WeightEntry>> {
        self.entries.borrow()
    }

    /// The buffers, which training updates but does not learn.
    pub fn buffers(&self) -> Vec<Tensor> {
        let entries = self.entries();
        let buffers = entries.iter().filter(|entry| entry.role == Role::Buffer);
        buffers.map(|entry| entry.tensor.shallow_clone()).collect()
    }

    /// The names of the parameters.
    pub fn parameter_names(&self) -> Vec<String> {
        let entries = self.entries();
        entries.iter().filter(|entry| entry.role != Role::Buffer).map(|entry| entry.name.clone()).collect()
    }

    /// Freezes the parameters of these names.
    pub fn freeze(&self, is_frozen: impl Fn(&str) -> bool) {
        for entry in self.entries.borrow_mut().iter_mut() {
            if entry.role == Role::Trained && is_frozen(&entry.name) {
                entry.role = Role::Frozen;
                // The model's layers share the tensor, so they see this too.
                let _ = entry.tensor.set_requires_grad(false);
            }
        }
    }

    /// Counts the values in the parameters.
    pub fn count_parameters(&self) -> u64 {
        self.count_values(|role| role != Role::Buffer)
    }

    /// Counts the values in the parameters that are trained.
    pub fn count_trained(&self) -> u64 {
        self.count_values(|role| role == Role::Trained)
    }

    fn count_values(&self, is_counted: impl Fn(Role) -> bool) -> u64 {
        let entries = self.entries();
        entries.iter().filter(|entry| is_counted(entry.role)).map(|entry| entry.tensor.numel() as u64).sum()
    }
}

/// The path of a module in a model: `root.at("features").at(0)` prefixes names with `features.0.`.
#[derive(Debug, Clone)]
pub struct ModulePath<'a> {
    weights: &'a Weights,
    name: String,
}

impl ModulePath<'_> {
    /// The path of a module within this one.
    #[must_use]
    pub fn at(&self, name: impl Display) -> Self {
        let name = if self.name.is_empty() { name.to_string() } else { format!("{}.{name}", self.name) };
        Self { weights: self.weights, name }
    }

    /// The full name.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// Creates a parameter; `value` draws it unless the weights are zeros.
    pub fn parameter(&self, name: &str, shape: &[i64], value: impl FnOnce() -> Tensor) -> Tensor {
        self.add(name, shape, self.weights.kind, Role::Trained, value)
    }

    /// Creates a weight and, if wanted, a bias.
    pub fn weight_and_bias(&self, shape: &[i64], bias: bool, init: Init) -> (Tensor, Option<Tensor>) {
        let weight = self.parameter("weight", shape, || init.weight(shape));
        let bias = bias.then(|| self.parameter("bias", &shape[..1], || init.bias(shape)));
        (weight, bias)
    }

    /// Creates a buffer of the parameters' kind.
    pub fn buffer(&self, name: &str, shape: &[i64], value: impl FnOnce() -> Tensor) -> Tensor {
        self.add(name, shape, self.weights.kind, Role::Buffer, value)
    }

    /// Creates a counter.
    pub fn counter(&self, name: &str) -> Tensor {
        self.add(name, &[], Kind::Int64, Role::Buffer, || Tensor::from(0i64))
    }

    fn add(&self, name: &str, shape: &[i64], kind: Kind, role: Role, value: impl FnOnce() -> Tensor) -> Tensor {
        let zeros = self.weights.zeros;
        let value = if zeros { Tensor::zeros(shape, (kind, Device::Cpu)) } else { tch::no_grad(value) };
        let tensor = value.to_kind(kind).to_device(self.weights.device).set_requires_grad(role == Role::Trained);
        let entry = WeightEntry { name: self.at(name).name, tensor: tensor.shallow_clone(), role };
        self.weights.entries.borrow_mut().push(entry);
        tensor
    }
}
