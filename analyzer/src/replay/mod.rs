//! Replay of a trace: request -> plan -> read -> sign -> outcomes -> measure -> result.
//!
//! [`Replay`] holds the request. For each layer of a captured step `plan` says which projections, signature lengths
//! and caches its configurations share; samples are read some at a time (`LayerReader`), their vectors signed
//! (`sign`), the outcomes of all caches found (`outcomes`) and measured (`measure`, by `tally`); after the last
//! sample `results` times what was measured.

pub(crate) mod grouped;
mod layer;
mod measure;
mod memory;
mod outcomes;
mod place;
mod plan;
mod results;
pub(crate) mod sign;
mod tally;

pub use crate::request::{ErrorMode, Measures, Selection, Unit, captured_steps};
pub use crate::result::{Matches, PassResult};
pub use memory::Limit;
pub use sign::{Signed, Similarity};

use crate::adaptation;
use crate::config::Config;
use crate::error::{AnalyzerError, Result};
use crate::operand::{Kept, LayerData, LayerReader, Needs};
use crate::stop::Stop;
use layer::LayerReplay;
use mercury_trace::Trace;
use mercury_trace::geometry::Pass;
use mercury_trace::layers;
use mercury_trace::manifest::CapturedStep;
use mercury_trace::remote;
use place::Place;
use plan::LayerPlan;
use std::ops::Range;
use std::sync::Arc;

/// Some samples of a layer; the first ones come with the layer's evaluation.
type Part<'a> = (Option<LayerReplay<'a>>, LayerData);

/// A trace, and what is asked of it.
pub struct Replay<'a> {
    trace: &'a Trace,
    configs: Vec<Arc<Config>>,
    measures: &'a Measures,
    /// Bits by which signatures have grown at each captured step, `[configs][steps]`.
    grown_bits: Vec<Vec<u32>>,
    /// The captured samples to evaluate, by place; `None`: all.
    samples: Option<Range<usize>>,
    limit: Limit,
    stop: Stop,
}

impl<'a> Replay<'a> {
    /// Checks what is asked for against the trace.
    pub fn new(trace: &'a Trace, configs: &'a [Config], measures: &'a Measures) -> Result<Self> {
        let captured = captured_steps(trace)?;
        measures.selection.check(trace)?;
        let model = &trace.manifest().model.name;
        configs.iter().try_for_each(|config| config.check_layers(model, trace.layers()))?;
        let losses: Vec<(u64, f64)> = trace.steps()?.iter().map(|step| (step.step, step.loss)).collect();
        let steps: Vec<u64> = captured.iter().map(|step| step.step).collect();
        let grown_bits = configs.iter().map(|config| adaptation::count_growth(&config.bits, &losses, &steps)).collect();
        let configs = configs.iter().cloned().map(Arc::new).collect();
        let replay = Self {
            trace,
            measures,
            configs,
            grown_bits,
            samples: None,
            limit: Limit::default(),
            stop: Stop::default(),
        };
        let has = |unit: &Unit, pass: &Pass| measures.selection.pass(*pass) && unit.layer.trains(*pass);
        let units = replay.units();
        if units.is_empty() {
            return Err(replay.refuse_uncaptured_layers());
        }
        if !units.iter().any(|unit| Pass::ALL.iter().any(|pass| has(unit, pass))) {
            let reason = "choose nothing: the chosen layers have none of the chosen passes (the first has no \
                          input-grad)";
            return Err(AnalyzerError::Flag { flag: "--layers, --passes", reason: reason.to_owned() });
        }
        Ok(replay)
    }

    /// Evaluates only some of the captured samples of each step, by place. They stand for the whole batch.
    #[must_use]
    pub fn with_samples(self, samples: Range<usize>) -> Self {
        Self { samples: Some(samples), ..self }
    }

    /// Evaluates no more samples at a time than `limit` has room for. The results are the same.
    ///
    /// # Errors
    /// Where a layer takes more.
    pub fn with_limit(self, limit: Limit) -> Result<Self> {
        let limited = Self { limit, ..self };
        limited.units().iter().try_for_each(|unit| {
            let layer = limited.layer(unit)?;
            limited.samples_at_a_time(unit, &layer).map(drop)
        })?;
        Ok(limited)
    }

    /// Ends with an error soon after `stop` is requested.
    #[must_use]
    pub fn with_stop(self, stop: &Stop) -> Self {
        Self { stop: stop.clone(), ..self }
    }

    /// The layers to replay, step by step.
    pub fn units(&self) -> Vec<Unit<'a>> {
        let Self { trace, measures, .. } = *self;
        let layers = move |step: &'a CapturedStep| {
            // A layer that was not asked for at capture has no files.
            let captured = move |layer: &layers::Layer| step.tensors.iter().any(|file| file.layer == layer.name);
            let chosen = move |layer: &layers::Layer| measures.selection.layer(&layer.name) && captured(layer);
            let layers = trace.layers().iter().enumerate().filter(move |(_, layer)| chosen(layer));
            layers.map(move |(layer_index, layer)| Unit { step, layer_index, layer })
        };
        let steps = trace.manifest().captured.iter().filter(|step| measures.selection.step(step.step));
        steps.flat_map(layers).collect()
    }

    /// The error if no chosen layer was captured in a chosen step.
    fn refuse_uncaptured_layers(&self) -> AnalyzerError {
        let names = self.trace.layers().iter().map(|layer| layer.name.as_str());
        let chosen: Vec<&str> = names.filter(|name| self.measures.selection.layer(name)).collect();
        let reason = match chosen.as_slice() {
            [name] => format!("layer {name} was not captured in the chosen steps"),
            many => format!("none of the {} chosen layers was captured in the chosen steps", many.len()),
        };
        AnalyzerError::Flag { flag: "--layers", reason }
    }

    /// Layers of the model, replayed or not.
    pub fn layers_in_all(&self) -> usize {
        self.trace.layers().len()
    }

    /// The trace.
    pub fn trace(&self) -> &'a Trace {
        self.trace
    }

    /// What is measured.
    pub fn measures(&self) -> &'a Measures {
        self.measures
    }

    /// Evaluates layers under each configuration, before any layer is switched off, and hands the results
    /// of each to `done`; `begin` is called with each before it is evaluated. Samples that come next are
    /// read while others are evaluated.
    pub fn run(
        &self,
        units: &[Unit],
        begin: impl Fn(&Unit),
        mut done: impl FnMut(&Unit, Vec<PassResult>) -> Result<()>,
    ) -> Result<()> {
        let mut parts = units.iter().flat_map(|unit| self.read(unit).map(move |part| (unit, part)));
        let mut next = parts.next();
        let mut layer: Option<LayerReplay> = None;
        while let Some((unit, part)) = next {
            let (begun, data) = part?;
            if begun.is_some() {
                begin(unit);
                layer = begun;
            }
            let layer = layer.as_mut().expect("a layer begins with its first sample");
            let added;
            (added, next) = rayon::join(|| layer.add(&data, &self.stop), || parts.next());
            added?;
            if data.is_last() {
                let results = layer.results();
                tracing::debug!(step = unit.step.step, layer = %unit.layer.name, results = results.len(), "replayed");
                done(unit, results)?;
            }
        }
        Ok(())
    }

    /// The samples of a layer, as many at a time as the limit allows; with the first of them the layer's evaluation.
    fn read(&self, unit: &Unit<'a>) -> Box<dyn Iterator<Item = Result<Part<'a>>> + Send + 'a> {
        match self.open(unit) {
            Ok((layer, reader)) => {
                let mut layer = Some(layer);
                Box::new(reader.map(move |data| Ok((layer.take(), data?))))
            }
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    /// Plans a layer and opens its files.
    fn open(&self, unit: &Unit<'a>) -> Result<(LayerReplay<'a>, LayerReader<'a>)> {
        let layer = self.layer(unit)?;
        let at_a_time = self.samples_at_a_time(unit, &layer)?;
        let reader = LayerReader::open(self.trace, unit.step, unit.layer, at_a_time, self.kept(unit))?;
        Ok((layer, reader))
    }

    fn layer(&self, unit: &Unit) -> Result<LayerReplay<'a>> {
        let manifest = self.trace.manifest();
        let number = manifest.captured.iter().position(|step| step.step == unit.step.step).expect("a captured step");
        let configs = self.configs.iter().zip(&self.grown_bits);
        let configs = configs.map(|(config, grown_bits)| config.layer_configs(&unit.layer.name, grown_bits[number]));
        let configs = configs.collect();
        let place = Place { step: unit.step.step, layer_index: unit.layer_index, batch: manifest.training.batch_size };
        let kept = self.kept(unit);
        let plan = LayerPlan::new(&kept, configs, self.measures);
        LayerReplay::new(kept, plan, self.measures, place)
    }

    fn kept(&self, unit: &Unit) -> Arc<Kept> {
        let Measures { selection, errors, bounds } = self.measures;
        let needs = Needs {
            grad_output: selection.pass(Pass::InputGrad) || !errors.is_none(),
            weight: !errors.is_none() || *bounds,
        };
        let kept = Kept::new(self.trace, unit.step, unit.layer, needs);
        Arc::new(match &self.samples {
            Some(samples) => kept.with_samples(samples.clone()),
            None => kept,
        })
    }

    fn samples_at_a_time(&self, unit: &Unit, layer: &LayerReplay) -> Result<usize> {
        memory::samples_at_a_time(self.limit, unit, layer, remote::is_address(self.trace.dir()))
    }

    /// Orders the results of all units by configuration, step, layer and pass, marks the trial, and switches layers
    /// off as each configuration says, unless steps or passes were left out.
    pub fn finish(&self, results: Vec<PassResult>) -> Vec<PassResult> {
        let windows: Vec<u32> = self.configs.iter().map(|config| config.stop.window).collect();
        adaptation::finish(results, &windows, self.measures.selection.has_all_steps_and_passes())
    }
}
