//! Replay: a trace's captured steps through signatures, MCACHE, timing and output error.

mod alike;
mod caches;
mod grid;
mod grouped;
mod layer;
mod memory;
mod projected;
mod selection;
mod similarity;
mod tally;

pub use memory::Limit;
pub use selection::Selection;
pub use similarity::{Signed, Similarity};

use crate::accuracy::ErrorSums;
use crate::adaptation;
use crate::config::Config;
use crate::error::{AnalyzerError, Result};
use crate::interval;
use crate::limits::Limits;
use crate::operand::{LayerData, LayerReader, Needs};
use crate::partition::{Share, split};
use crate::results::step_cycles;
use crate::timing::MercuryCycles;
use crate::timing::memory::Traffic;
use layer::Layer;
use mercury_reuse::{Counts, MatchQuality, Quantiles};
use mercury_trace::Trace;
use mercury_trace::geometry::Pass;
use mercury_trace::layers;
use mercury_trace::manifest::CapturedStep;
use mercury_trace::remote;
use serde::{Deserialize, Serialize};

/// What reuse does to one pass of one layer in one captured step.
///
/// Outcomes are counted over the kept samples and channels. Cycles and MACs are those of the whole
/// training step, its batch and all channels, for which what was kept stands in proportion: the
/// share of folds that is overhead depends on the batch, so a few samples timed alone would say
/// little about the step. Where MCACHE lives longer than a sample this is biased: hits among samples
/// that were not kept are left out, and so are sets that they would have filled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PassResult {
    /// Number of the configuration.
    pub configuration: usize,
    /// The training step.
    pub step: u64,
    /// The layer's place in execution order.
    pub layer_index: usize,
    /// The layer's name.
    pub layer: String,
    /// What the layer computes.
    pub op: String,
    /// The pass.
    pub pass: Pass,
    /// Kept samples.
    pub samples: usize,
    /// Samples of the step.
    pub batch: u32,
    /// Whether the scheme is applied to this pass; if not, no vectors are looked up and the cycles
    /// are the baseline's.
    pub reuse: bool,
    /// Whether the layer was switched off after earlier steps, as reuse slowed it down there.
    pub switched_off: bool,
    /// Whether the step belongs to the trial: the captured steps before any layer can be switched off. Set by [`finish`].
    #[serde(skip)]
    pub trial: bool,
    /// Bits of a signature in force.
    pub bits: u32,
    /// Length of the longest vector.
    pub vector_length: usize,
    /// Streams captured, and how many the layer has, over the products of the pass.
    pub streams: [u64; 2],
    /// Captured vectors, whether looked up or not.
    pub vectors: u64,
    /// Outcomes of those that were looked up.
    pub counts: Counts,
    /// What bounds reuse on these vectors; the weight gradient's are the forward pass's.
    pub limits: Option<Limits>,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Those of them that hits make unnecessary (additions of gradients are not counted off).
    pub macs_skipped: u64,
    /// Cycles of the baseline.
    pub baseline: u64,
    /// Cycles with reuse.
    pub mercury: MercuryCycles,
    /// What the baseline moves.
    pub baseline_traffic: Traffic,
    /// What is moved with reuse.
    pub traffic: Traffic,
    /// Energy of the baseline and with reuse, by the configuration's costs.
    pub energy: [f64; 2],
    /// Output error, where the trace has what it takes.
    pub error: Option<ErrorSums>,
    /// How good the matches are, where errors are computed.
    pub matches: Option<Matches>,
    /// Baseline and MERCURY cycles without each one of the samples in turn.
    pub leave_one_out: Vec<[u64; 2]>,
}

impl PassResult {
    /// 95 % interval of the speed-up over kept samples.
    pub fn interval(&self) -> Option<[f64; 2]> {
        interval::speed_up(&step_cycles([self]))
    }
}

/// How close HITs are to what they reuse; of a seeded sample where there are many.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Matches {
    /// HITs that were looked at.
    pub sampled: u64,
    /// Cosine to the representative that half of them, 90 and 99 % reach; none without HITs.
    pub cosine: Option<[f64; 3]>,
    /// Relative distance |x' - x| / |x| that half of them, 90 and 99 % do not exceed; none without HITs.
    pub distance: Option<[f64; 3]>,
}

impl From<MatchQuality> for Matches {
    fn from(quality: MatchQuality) -> Self {
        // Infinite where a vector of zeros is replaced by another: no number in a file.
        let values = |q: Quantiles| [q.median, q.p90, q.p99].map(|value| f64::from(value.min(f32::MAX)));
        Self {
            sampled: quality.sampled,
            cosine: quality.cosines().map(values),
            distance: quality.distances().map(values),
        }
    }
}

/// The captured steps of a trace, of which there must be one at least.
pub fn captured_steps(trace: &Trace) -> Result<&[CapturedStep]> {
    match trace.manifest().captured.as_slice() {
        [] => Err(AnalyzerError::NothingCaptured { path: trace.dir().to_owned() }),
        steps => Ok(steps),
    }
}

/// What is measured beside outcomes and cycles, and where.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measures {
    /// Layers, steps and passes.
    pub selection: Selection,
    /// Output errors.
    pub errors: Errors,
    /// Bounds and competitors.
    pub bounds: bool,
}

/// Which output errors are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Errors {
    /// None.
    None,
    /// Those of all captured outputs.
    Exact,
    /// Estimates with intervals from so many positions of the outputs of each product of a pass, spread
    /// evenly over its samples, two of each at least; of a weight gradient, from the streams that have so
    /// many vectors.
    Sampled(usize),
}

impl Errors {
    /// How many positions are looked at, if not all.
    pub fn most(self) -> Option<usize> {
        if let Errors::Sampled(most) = self { Some(most) } else { None }
    }

    /// Whether there are none.
    pub fn is_none(self) -> bool {
        self == Errors::None
    }
}

impl Default for Measures {
    fn default() -> Self {
        Self { selection: Selection::default(), errors: Errors::Exact, bounds: true }
    }
}

/// Where a layer's data come from.
#[derive(Clone, Copy)]
struct Place {
    step: u64,
    layer_index: usize,
    batch: u32,
}

/// A layer of a captured step: what is read, and done, at a time.
pub struct Unit<'a> {
    /// The step.
    pub step: &'a CapturedStep,
    /// The layer's place in execution order.
    pub layer_index: usize,
    /// The layer.
    pub layer: &'a layers::Layer,
}

/// A trace, and what is asked of it.
pub struct Replay<'a> {
    trace: &'a Trace,
    configs: &'a [Config],
    measures: &'a Measures,
    /// The signature length in force at each captured step, `[configs][steps]`.
    bits: Vec<Vec<u32>>,
    limit: Limit,
    /// Bytes that what lanes of PE sets do under several caches may take at a time.
    lanes: usize,
}

impl<'a> Replay<'a> {
    /// Checks what is asked for against the trace.
    pub fn new(trace: &'a Trace, configs: &'a [Config], measures: &'a Measures) -> Result<Self> {
        let captured = captured_steps(trace)?;
        measures.selection.check(trace)?;
        let losses: Vec<(u64, f64)> = trace.steps()?.iter().map(|step| (step.step, step.loss)).collect();
        let steps: Vec<u64> = captured.iter().map(|step| step.step).collect();
        let bits = configs.iter().map(|config| adaptation::bits_in_force(config, &losses, &steps)).collect();
        let limit = Limit::default();
        let replay = Self { trace, configs, measures, bits, limit, lanes: limit.lanes() };
        let has = |unit: &Unit, pass: &Pass| {
            measures.selection.pass(*pass) && (*pass != Pass::InputGrad || unit.layer.input_grad)
        };
        if !replay.units().iter().any(|unit| Pass::ALL.iter().any(|pass| has(unit, pass))) {
            let reason = "choose nothing: the chosen layers have none of the chosen passes (the first has no \
                          input-grad), or were not captured in the chosen steps";
            return Err(AnalyzerError::Flag { flag: "--layers, --steps, --passes", reason: reason.to_owned() });
        }
        Ok(replay)
    }

    /// Evaluates no more samples at a time than `limit` has room for. The results are the same.
    ///
    /// # Errors
    /// Where a layer takes more.
    pub fn with_limit(self, limit: Limit) -> Result<Self> {
        let limited = Self { limit, lanes: limit.lanes(), ..self };
        limited.units().iter().try_for_each(|unit| limited.samples_at_a_time(unit).map(drop))?;
        Ok(limited)
    }

    /// Lets what lanes of PE sets do take no more bytes at a time than these, or than one cache takes, until the next
    /// [`Replay::with_limit`]. The results are the same.
    #[doc(hidden)] // For tests.
    #[must_use]
    pub fn with_lanes(self, bytes: usize) -> Self {
        Self { lanes: bytes, ..self }
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

    /// Layers of the model, replayed or not.
    pub fn layers_in_all(&self) -> usize {
        self.trace.layers().len()
    }

    /// Those that one partition of the trace has.
    pub fn units_of(&self, share: Share) -> Vec<Unit<'a>> {
        split::share_of(share, self.trace, self.measures, self.units())
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
        let mut parts = units.iter().flat_map(|unit| {
            let parts: Box<dyn Iterator<Item = Result<LayerData>> + Send> = match self.reader(unit) {
                Ok(reader) => Box::new(reader),
                Err(error) => Box::new(std::iter::once(Err(error))),
            };
            parts.map(move |part| (unit, part))
        });
        let mut next = parts.next();
        let mut layer: Option<Layer> = None;
        while let Some((unit, data)) = next {
            let data = data?;
            if data.first_sample == 0 {
                begin(unit);
                layer = Some(self.layer(unit, &data));
            }
            let layer = layer.as_mut().expect("a layer begins with its first sample");
            let added;
            (added, next) = rayon::join(|| layer.add(&data), || parts.next());
            added?;
            if data.is_last() {
                let results = layer.results();
                tracing::debug!(step = unit.step.step, layer = %unit.layer.name, results = results.len(), "replayed");
                done(unit, results)?;
            }
        }
        Ok(())
    }

    fn layer(&self, unit: &Unit, first: &LayerData) -> Layer<'a> {
        let manifest = self.trace.manifest();
        let number = manifest.captured.iter().position(|step| step.step == unit.step.step).expect("a captured step");
        let mut configs = self.configs.to_vec();
        for (config, bits) in configs.iter_mut().zip(&self.bits) {
            config.rpq.bits = bits[number];
        }
        let place = Place { step: unit.step.step, layer_index: unit.layer_index, batch: manifest.training.batch_size };
        Layer::new(first, configs, self.measures, place, self.lanes)
    }

    fn reader(&self, unit: &Unit<'a>) -> Result<LayerReader<'a>> {
        let Measures { selection, errors, bounds } = self.measures;
        let needs = Needs {
            grad_output: selection.pass(Pass::InputGrad) || !errors.is_none(),
            weight: !errors.is_none() || *bounds,
        };
        LayerReader::open(self.trace, unit.step, unit.layer, self.samples_at_a_time(unit)?, needs)
    }

    fn samples_at_a_time(&self, unit: &Unit) -> Result<usize> {
        let (is_remote, batch) = (remote::is_address(self.trace.dir()), self.trace.manifest().training.batch_size);
        memory::samples_at_a_time(self.limit, unit, self.configs, self.measures, batch, is_remote)
    }

    /// Orders the results of all units by configuration, step, layer and pass, marks the trial, and switches layers
    /// off as each configuration says, unless steps or passes were left out.
    pub fn finish(&self, results: Vec<PassResult>) -> Vec<PassResult> {
        finish(results, self.configs, self.measures.selection.has_all_steps_and_passes())
    }
}

/// [`Replay::finish`], for results that were kept; `whole` if no steps or passes were left out.
pub fn finish(mut results: Vec<PassResult>, configs: &[Config], whole: bool) -> Vec<PassResult> {
    results.sort_by_key(|result| (result.configuration, result.step, result.layer_index, result.pass));
    // A part of the steps or passes does not say what a layer costs.
    let window = |config: &Config| if whole { config.stop.window } else { 0 };
    // The longest, so that all configurations are summed over the same steps.
    let trial = configs.iter().map(window).max().unwrap_or(0);
    for of_one in results.chunk_by_mut(|a, b| a.configuration == b.configuration) {
        adaptation::mark_trial(of_one, trial);
        adaptation::switch_off(of_one, window(&configs[of_one[0].configuration]));
    }
    results
}
