//! The tap that computes layers with reuse.

use super::matrix::Room;
use super::node::{Backward, attach};
use super::passes::{PassOutcomes, Reuse, Streamed};
use super::{Named, Off, exact};
use crate::error::Result;
use crate::tap::{AttentionLayer, ConvLayer, LinearLayer, Tap};
use mercury_hardware::config::Config;
use mercury_hardware::switch::Switch;
use mercury_reuse::config::Rpq;
use mercury_reuse::{Counts, Deviation, Growth};
use mercury_trace::geometry::{Geometry, Pass};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tch::{Device, Tensor};

/// A pass of a layer in a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The layer's name.
    pub layer: String,
    /// The pass.
    pub pass: Pass,
    /// Outcomes of its vectors; the weight gradient has the forward pass's.
    pub counts: Counts,
    /// What was set beside it, if that was asked for.
    pub beside: Option<Beside>,
}

/// What stands beside a pass with reuse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beside {
    /// How far its result is from that of the same operands without reuse.
    pub deviation: Deviation,
    /// Cycles on the configuration's array, without reuse and with.
    pub cycles: [u64; 2],
}

/// What steps have in common: the configuration, memory, and what was measured.
#[derive(Debug)]
pub struct Session {
    named: Named,
    off: Vec<Off>,
    growth: Mutex<Growth>,
    switch: Mutex<Switch<String>>,
    /// Layers that were switched off, and after which step.
    switched_off: Mutex<Vec<(u64, String)>>,
    room: Mutex<Room>,
    measured: Mutex<Vec<Measured>>,
}

impl Session {
    /// For a configuration, with layers that are computed without reuse.
    pub fn new(named: Named, off: Vec<Off>) -> Arc<Self> {
        let growth = Mutex::new(Growth::new(&named.config.rpq, &named.config.bits));
        let switch = Mutex::new(Switch::new(named.config.stop.window));
        let switched_off = Mutex::default();
        Arc::new(Self { named, off, growth, switch, switched_off, room: Mutex::default(), measured: Mutex::default() })
    }

    /// The configuration.
    pub fn named(&self) -> &Named {
        &self.named
    }

    /// Hears the loss of a training step, which signatures grow by.
    pub fn step(&self, loss: f64) {
        lock(&self.growth).step(loss);
    }

    /// Hears what layers took in a measured step, baseline cycles and those with reuse of a pass each; layers for which
    /// reuse does not pay run without it from now on, and are returned.
    pub fn took<'r>(&self, step: u64, passes: impl IntoIterator<Item = (&'r str, [u64; 2])>) -> Vec<String> {
        let mut layers: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
        for (layer, cycles) in passes {
            let sum = layers.entry(layer).or_default();
            sum.iter_mut().zip(cycles).for_each(|(sum, cycles)| *sum += cycles);
        }
        let mut switch = lock(&self.switch);
        let mut off = Vec::new();
        for (layer, cycles) in layers {
            switch.step(layer.to_owned(), cycles);
            off.extend(switch.is_off(layer).then(|| layer.to_owned()));
        }
        lock(&self.switched_off).extend(off.iter().map(|layer| (step, layer.clone())));
        off
    }

    /// Layers that were switched off, and after which step.
    pub fn switched_off(&self) -> Vec<(u64, String)> {
        lock(&self.switched_off).clone()
    }

    /// The configuration with the signature length in force.
    fn in_force(&self) -> Config {
        let config = &self.named.config;
        let rpq = Rpq { bits: lock(&self.growth).bits(), ..config.rpq.clone() };
        Config { rpq, ..config.clone() }
    }

    /// Whether a layer is computed with reuse at a step.
    fn is_on(&self, layer: &str, step: u64) -> bool {
        let some = Pass::ALL.iter().any(|&pass| self.reuses(pass));
        some && !self.off.iter().any(|off| off.holds(layer, step)) && !lock(&self.switch).is_off(layer)
    }

    /// Bits of a signature in force.
    pub fn bits(&self) -> u32 {
        self.in_force().rpq.signature_bits()
    }

    /// The tap of a step. If it `compares`, every result is computed without reuse, too.
    pub fn tap(self: &Arc<Self>, step: u64, compares: bool) -> ReuseTap {
        ReuseTap { session: Arc::clone(self), config: Arc::new(self.in_force()), step, compares }
    }

    /// What was measured since the last call, by layer in the order of their names, and pass.
    pub fn take(&self) -> Vec<Measured> {
        let mut measured = std::mem::take(&mut *lock(&self.measured));
        // The order of a backward pass is libtorch's own.
        measured.sort_by(|a, b| (&a.layer, a.pass).cmp(&(&b.layer, b.pass)));
        measured
    }

    fn reuses(&self, pass: Pass) -> bool {
        self.named.config.reuse.passes.contains(&pass)
    }

    /// Keeps what a pass came to; `exact` and `reused` are its results without reuse and with, if they are compared.
    fn measured(&self, layer: &str, pass: Pass, reuse: &Reuse, compared: Option<(&Tensor, &Tensor)>) {
        let beside =
            |(exact, reused)| Beside { deviation: exact::deviation(exact, reused), cycles: reuse.cycles(pass) };
        let (layer, counts) = (layer.to_owned(), reuse.outcomes.counts());
        lock(&self.measured).push(Measured { layer, pass, counts, beside: compared.map(beside) });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Computes the layers of one step with reuse.
pub struct ReuseTap {
    session: Arc<Session>,
    config: Arc<Config>,
    step: u64,
    compares: bool,
}

impl ReuseTap {
    /// Y without bias, a function of x and w whose gradients are those that reuse gives.
    fn compute(&self, name: &str, geometry: Geometry, x: &Tensor, w: &Tensor) -> Result<Tensor> {
        tch::no_grad(|| self.forward(name, geometry, x, w)).and_then(|(y, graph)| attach(x, w, &y, Box::new(graph)))
    }

    fn forward(&self, name: &str, geometry: Geometry, x: &Tensor, w: &Tensor) -> Result<(Tensor, Graph)> {
        let session = &self.session;
        let streamed = Streamed::new(&geometry, x)?;
        let weight = w.detach().to_device(Device::Cpu);
        let mut outcomes = None;
        let y = if session.reuses(Pass::Forward) {
            let found = PassOutcomes::new(&self.config, &geometry, Pass::Forward, &streamed);
            let reuse = Reuse { config: &self.config, geometry: &geometry, streamed: &streamed, outcomes: &found };
            let y = reuse.forward(&weight, &mut lock(&session.room)).to_device(x.device());
            let exact = self.compares.then(|| exact::forward(&geometry, x, w));
            let y = y.reshape(output_size(&geometry, x));
            session.measured(name, Pass::Forward, &reuse, exact.as_ref().map(|exact| (exact, &y)));
            outcomes = Some(found);
            y
        } else {
            exact::forward(&geometry, x, w)
        };
        let (name, config, session) = (name.to_owned(), Arc::clone(&self.config), Arc::clone(session));
        let (size, compares) = (x.size(), self.compares);
        Ok((y, Graph { name, geometry, config, session, streamed, size, weight, outcomes, compares }))
    }
}

fn output_size(geometry: &Geometry, x: &Tensor) -> Vec<i64> {
    let mut size = x.size();
    match geometry {
        Geometry::Conv2d(conv) => {
            let [rows, columns] = conv.output();
            size[1..].copy_from_slice(&[conv.out_channels, rows, columns].map(i64::from));
        }
        Geometry::Linear(_) | Geometry::Attention(_) => {
            let last = size.len() - 1;
            size[last] = i64::from(geometry.filters());
        }
    }
    size
}

impl Tap for ReuseTap {
    fn conv2d(&mut self, layer: &ConvLayer, x: &Tensor) -> Tensor {
        if !self.session.is_on(&layer.name, self.step) {
            return layer.compute(x);
        }
        let y = succeed(self.compute(&layer.name, layer.geometry(x), x, &layer.weight));
        layer.bias.as_ref().map_or_else(|| y.shallow_clone(), |bias| &y + bias.reshape([1, -1, 1, 1]))
    }

    fn linear(&mut self, layer: &LinearLayer, x: &Tensor) -> Tensor {
        if !self.session.is_on(&layer.name, self.step) {
            return layer.compute(x);
        }
        let y = succeed(self.compute(&layer.name, layer.geometry(x), x, &layer.weight));
        layer.bias.as_ref().map_or_else(|| y.shallow_clone(), |bias| &y + bias)
    }

    fn attention(&mut self, layer: &AttentionLayer, left: &Tensor, right: &Tensor) -> Tensor {
        if !self.session.is_on(&layer.name, self.step) {
            return AttentionLayer::compute(left, right);
        }
        succeed(self.compute(&layer.name, AttentionLayer::geometry(left, right), left, right))
    }
}

/// A model's layers return tensors, as tch's own operations do: a refusal of libtorch ends the program with
/// what it said, as one of theirs.
fn succeed(result: Result<Tensor>) -> Tensor {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// What the backward pass of a layer needs.
struct Graph {
    name: String,
    geometry: Geometry,
    config: Arc<Config>,
    session: Arc<Session>,
    streamed: Streamed,
    size: Vec<i64>,
    weight: Tensor,
    outcomes: Option<PassOutcomes>,
    compares: bool,
}

impl Backward for Graph {
    fn backward(&mut self, gradient: &Tensor, wanted: [bool; 2]) -> Result<[Option<Tensor>; 2]> {
        let device = gradient.device();
        let dy = gradient.to_device(Device::Cpu).contiguous();
        let reused =
            [wanted[0] && self.session.reuses(Pass::InputGrad), wanted[1] && self.session.reuses(Pass::WeightGrad)];
        let exact = if self.compares { wanted } else { [0, 1].map(|i| wanted[i] && !reused[i]) };
        let x = || self.streamed.tensor(&self.size);
        let [exact_dx, exact_dw] = if exact == [false; 2] {
            [None, None]
        } else {
            exact::gradients(&self.geometry, &x(), &self.weight, &dy, exact)?
        };
        let dx = if reused[0] { Some(self.input_grad(&dy, exact_dx.as_ref())?) } else { exact_dx };
        let dw = if reused[1] { Some(self.weight_grad(&dy, exact_dw.as_ref())) } else { exact_dw };
        Ok([dx, dw].map(|gradient| gradient.map(|gradient| gradient.to_device(device))))
    }
}

impl Graph {
    fn input_grad(&self, dy: &Tensor, exact: Option<&Tensor>) -> Result<Tensor> {
        let Self { geometry, config, .. } = self;
        let streamed = &Streamed::new(geometry, dy)?;
        let outcomes = &PassOutcomes::new(config, geometry, Pass::InputGrad, streamed);
        let reuse = Reuse { config, geometry, streamed, outcomes };
        let dx = reuse.input_grad(&self.weight, &mut lock(&self.session.room)).reshape(&*self.size);
        self.session.measured(&self.name, Pass::InputGrad, &reuse, exact.map(|exact| (exact, &dx)));
        Ok(dx)
    }

    fn weight_grad(&self, dy: &Tensor, exact: Option<&Tensor>) -> Tensor {
        let Self { geometry, config, streamed, .. } = self;
        let outcomes = self.outcomes.as_ref().expect("weight-grad goes with forward, as configurations are checked");
        let reuse = Reuse { config, geometry, streamed, outcomes };
        let dw = reuse.weight_grad(dy, &mut lock(&self.session.room)).reshape(self.weight.size());
        self.session.measured(&self.name, Pass::WeightGrad, &reuse, exact.map(|exact| (exact, &dw)));
        dw
    }
}
