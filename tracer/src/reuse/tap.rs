//! The tap that computes layers with reuse.

use super::memory::{Values, fill_tensor};
use super::node::{Backward, attach};
use super::records::{PassComparison, PassMeasurement, StepRecords};
use super::session::Session;
use super::{exact, lock};
use crate::error::Result;
use crate::tap::{AttentionLayer, ConvLayer, LinearLayer, Tap};
use mercury_hardware::config::LayerConfigs;
use mercury_passes::{PassOutcomes, Reuse, Room, Streamed};
use mercury_trace::geometry::{Geometry, Pass};
use std::sync::{Arc, Mutex};
use tch::{Device, Tensor};

/// State that all layers of a step share.
#[derive(Clone)]
struct StepContext {
    /// Whether every result is also computed without reuse.
    compares: bool,
    room: Arc<Mutex<Room>>,
    records: StepRecords,
}

impl StepContext {
    /// Records a pass; `compared` holds its results without and with reuse, in steps that compare.
    fn record(&self, layer: &str, pass: Pass, reuse: &Reuse, compared: Option<(&Tensor, &Tensor)>) {
        let comparison = compared.map(|(exact, reused)| PassComparison {
            deviation: exact::deviation(exact, reused),
            cycles: reuse.cycles(pass),
        });
        let (layer, counts) = (layer.to_owned(), reuse.outcomes.counts());
        let signature_bits = reuse.config.rpq.signature_bits();
        self.records.add(PassMeasurement { layer, pass, signature_bits, counts, comparison });
    }
}

/// Computes the layers of one step with reuse.
pub struct ReuseTap<'s> {
    session: &'s Session,
    step: u64,
    context: StepContext,
}

impl<'s> ReuseTap<'s> {
    /// Starts a step of a session. If it `compares`, every result is also computed without reuse.
    pub fn new(session: &'s Session, step: u64, compares: bool) -> Self {
        let context = StepContext { compares, room: session.room(), records: StepRecords::default() };
        Self { session, step, context }
    }

    /// Ends the step; returns the measurements of its passes, by layer name and pass.
    ///
    /// Measurements of a backward pass that runs later are lost.
    pub fn finish(self) -> Vec<PassMeasurement> {
        self.context.records.into_sorted()
    }

    /// Computes Y without bias, as a function of `x` and `w` with the gradients that reuse gives.
    fn compute(&self, name: &str, geometry: Geometry, x: &Tensor, w: &Tensor) -> Result<Tensor> {
        let (y, backward) = tch::no_grad(|| self.forward(name, geometry, x, w))?;
        attach(x, w, &y, Box::new(backward))
    }

    fn forward(&self, name: &str, geometry: Geometry, x: &Tensor, w: &Tensor) -> Result<(Tensor, LayerBackward)> {
        let context = &self.context;
        let configs = self.session.layer_configs(name);
        // Models may change X in place before the backward pass; weights change after it.
        let (input, weight) = (Values::copy(x)?, Values::share(w)?);
        let streamed = Streamed::new(&geometry, Pass::Forward, input.as_slice(), x.size()[0] as usize);
        let mut outcomes = None;
        let config = &**configs.pass(Pass::Forward);
        let y = if config.reuse.passes.contains(&Pass::Forward) {
            let found = PassOutcomes::new(config, &geometry, Pass::Forward, &streamed);
            let reuse = Reuse { config, geometry: &geometry, streamed, outcomes: &found };
            let y = fill_tensor(&output_size(&geometry, x), |y| {
                reuse.forward(weight.as_slice(), y, &mut lock(&context.room));
            });
            let y = y.to_device(x.device());
            let exact = context.compares.then(|| exact::forward(&geometry, x, w));
            context.record(name, Pass::Forward, &reuse, exact.as_ref().map(|exact| (exact, &y)));
            outcomes = Some(found);
            y
        } else {
            exact::forward(&geometry, x, w)
        };
        let backward = LayerBackward {
            name: name.to_owned(),
            geometry,
            context: context.clone(),
            configs,
            input,
            weight,
            outcomes,
        };
        Ok((y, backward))
    }
}

fn output_size(geometry: &Geometry, x: &Tensor) -> Vec<i64> {
    let mut size = x.size();
    match geometry {
        Geometry::Conv2d(conv) => {
            let [rows, columns] = conv.output();
            size[1..].copy_from_slice(&[conv.out_channels, rows, columns].map(i64::from));
        }
        Geometry::Linear(_) | Geometry::Matmul(_) => {
            let last = size.len() - 1;
            size[last] = i64::from(geometry.filters());
        }
    }
    size
}

impl Tap for ReuseTap<'_> {
    fn conv2d(&mut self, layer: &ConvLayer, x: &Tensor) -> Tensor {
        if !self.session.is_on(&layer.name, self.step) {
            return layer.compute(x);
        }
        let y = unwrap_or_end(self.compute(&layer.name, layer.geometry(x), x, &layer.weight));
        match &layer.bias {
            Some(bias) => y + bias.reshape([1, -1, 1, 1]),
            None => y,
        }
    }

    fn linear(&mut self, layer: &LinearLayer, x: &Tensor) -> Tensor {
        if !self.session.is_on(&layer.name, self.step) {
            return layer.compute(x);
        }
        let y = unwrap_or_end(self.compute(&layer.name, layer.geometry(x), x, &layer.weight));
        match &layer.bias {
            Some(bias) => y + bias,
            None => y,
        }
    }

    fn attention(&mut self, layer: &AttentionLayer, left: &Tensor, right: &Tensor) -> Tensor {
        if !self.session.is_on(&layer.name, self.step) {
            return AttentionLayer::compute(left, right);
        }
        let geometry = AttentionLayer::geometry(left, right);
        unwrap_or_end(self.compute(&layer.name, geometry, left, right))
    }
}

/// Returns the tensor, or ends the program with the error of libtorch.
///
/// A model's layers return tensors without an error, as tch's own operations do.
fn unwrap_or_end(result: Result<Tensor>) -> Tensor {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// The backward pass of a layer.
struct LayerBackward {
    name: String,
    geometry: Geometry,
    context: StepContext,
    configs: LayerConfigs,
    /// X.
    input: Values,
    weight: Values,
    /// The forward pass's outcomes, if it had reuse.
    outcomes: Option<PassOutcomes>,
}

impl Backward for LayerBackward {
    fn backward(&mut self, gradient: &Tensor, wanted: [bool; 2]) -> Result<[Option<Tensor>; 2]> {
        let device = gradient.device();
        let dy = gradient.to_device(Device::Cpu).contiguous();
        let reuses =
            [Pass::InputGrad, Pass::WeightGrad].map(|pass| self.configs.pass(pass).reuse.passes.contains(&pass));
        let reused = [0, 1].map(|i| wanted[i] && reuses[i]);
        let exact = if self.context.compares { wanted } else { [0, 1].map(|i| wanted[i] && !reused[i]) };
        let [exact_dx, exact_dw] = self.exact_gradients(&dy, exact)?;
        let dx = if reused[0] { Some(self.input_grad(&dy, exact_dx.as_ref())?) } else { exact_dx };
        let dw = if reused[1] { Some(self.weight_grad(&dy, exact_dw.as_ref())?) } else { exact_dw };
        Ok([dx, dw].map(|gradient| gradient.map(|gradient| gradient.to_device(device))))
    }
}

impl LayerBackward {
    /// dX and dW without reuse, as far as they are wanted.
    fn exact_gradients(&self, dy: &Tensor, wanted: [bool; 2]) -> Result<[Option<Tensor>; 2]> {
        if wanted == [false; 2] {
            return Ok([None, None]);
        }
        exact::gradients(&self.geometry, self.input.tensor(), self.weight.tensor(), dy, wanted)
    }

    fn input_grad(&self, dy: &Tensor, exact: Option<&Tensor>) -> Result<Tensor> {
        let Self { geometry, context, .. } = self;
        let config = &**self.configs.pass(Pass::InputGrad);
        let gradient = Values::share(dy)?;
        let streamed = Streamed::new(geometry, Pass::InputGrad, gradient.as_slice(), self.samples());
        let outcomes = &PassOutcomes::new(config, geometry, Pass::InputGrad, &streamed);
        let reuse = Reuse { config, geometry, streamed, outcomes };
        let dx = fill_tensor(&self.input.tensor().size(), |dx| {
            reuse.input_grad(self.weight.as_slice(), dx, &mut lock(&context.room));
        });
        context.record(&self.name, Pass::InputGrad, &reuse, exact.map(|exact| (exact, &dx)));
        Ok(dx)
    }

    fn weight_grad(&self, dy: &Tensor, exact: Option<&Tensor>) -> Result<Tensor> {
        let Self { geometry, context, .. } = self;
        let config = &**self.configs.pass(Pass::WeightGrad);
        let outcomes = self.outcomes.as_ref();
        let outcomes = outcomes.expect("configurations with weight-grad have forward, too");
        let streamed = Streamed::new(geometry, Pass::Forward, self.input.as_slice(), self.samples());
        let reuse = Reuse { config, geometry, streamed, outcomes };
        let gradient = Values::share(dy)?;
        let dw = fill_tensor(&self.weight.tensor().size(), |dw| {
            reuse.weight_grad(gradient.as_slice(), dw, &mut lock(&context.room));
        });
        context.record(&self.name, Pass::WeightGrad, &reuse, exact.map(|exact| (exact, &dw)));
        Ok(dw)
    }

    fn samples(&self) -> usize {
        self.input.tensor().size()[0] as usize
    }
}
