//! What is found of one pass of one layer in one captured step.

use crate::accuracy::{ErrorSums, Estimate};
use crate::config::Config;
use crate::interval::{self, Sampled};
use crate::limits::Limits;
use crate::timing::MercuryCycles;
use crate::timing::memory::Traffic;
use mercury_reuse::config::{Granularity, Matrix, Representative, Rpq, Scope, Variant};
use mercury_reuse::{Counts, MatchQuality, Quantiles};
use mercury_trace::geometry::{Geometry, Pass};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// Whether the step belongs to the trial: the captured steps before any layer can be switched off. Set by
    /// [`crate::adaptation::finish`].
    #[serde(skip)]
    pub trial: bool,
    /// Bits of a signature in force.
    pub bits: u32,
    /// The layer's own settings, which `[[layer]]` tables may decide.
    pub settings: Settings,
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
    /// Those of them that HITs skip.
    pub macs_skipped: u64,
    /// Those that reuse saves: skipped, less the operations of HITs and variants.
    pub macs_saved_net: i64,
    /// Cycles of the baseline.
    pub baseline: u64,
    /// Cycles with reuse.
    pub mercury: MercuryCycles,
    /// What reuse asks of the hardware.
    pub demand: Demand,
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

/// Settings of a pass that may differ between layers, beside the signature length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// How vectors are cut.
    pub granularity: Granularity,
    /// What a signature says.
    pub variant: Variant,
    /// The projection matrix.
    pub projection: Matrix,
    /// Seed of the projection matrix.
    pub seed: u64,
    /// What stands for the vectors that share an entry.
    pub representative: Representative,
    /// When MCACHE is flushed in this layer.
    pub scope: Scope,
}

impl Settings {
    /// Those of a configuration in a layer.
    pub fn new(config: &Config, geometry: &Geometry) -> Self {
        let Rpq { granularity, variant, ref projection, seed, .. } = config.rpq;
        let representative = config.mcache.representative;
        let scope = config.mcache.effective_scope(geometry);
        Self { granularity, variant, projection: projection.clone(), seed, representative, scope }
    }
}

/// What reuse asks of the hardware, beside cycles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Demand {
    /// Cycles of the baseline with the multiply-accumulates of a unit for signatures as more columns of the array.
    pub baseline_equal_macs: u64,
    /// Whether HITs or signatures take less time than real processing elements need.
    pub is_bound: bool,
    /// Results that MCACHE delivers; none in a weight gradient.
    pub results: u64,
    /// Most results that the array takes in a cycle, 0 if it takes none; `None` if nothing limits them.
    pub peak_results: Option<f64>,
    /// Size of a bank of MCACHE, KB; `None` without reuse or limit.
    pub mcache_kb: Option<f64>,
}

impl Demand {
    /// That of a pass without reuse.
    pub fn baseline(baseline_equal_macs: u64) -> Self {
        Self { baseline_equal_macs, peak_results: Some(0.0), ..Self::default() }
    }

    /// Sums and maxima over several passes.
    pub fn combine<'a>(results: impl IntoIterator<Item = &'a PassResult>) -> Self {
        let mut sum = Self::baseline(0);
        for PassResult { demand, .. } in results {
            sum.baseline_equal_macs += demand.baseline_equal_macs;
            sum.is_bound |= demand.is_bound;
            sum.results += demand.results;
            sum.peak_results = sum.peak_results.zip(demand.peak_results).map(|(a, b)| a.max(b));
            sum.mcache_kb = sum.mcache_kb.into_iter().chain(demand.mcache_kb).reduce(f64::max);
        }
        sum
    }
}

/// Results per cycle of computing and stalls that MCACHE delivers to forward passes and input gradients with reuse; 0
/// without these.
pub fn mean_results<'a>(results: impl IntoIterator<Item = &'a PassResult>) -> f64 {
    let (mut delivered, mut cycles) = (0, 0);
    for result in results.into_iter().filter(|result| result.reuse && result.pass != Pass::WeightGrad) {
        delivered += result.demand.results;
        cycles += result.mercury.compute + result.mercury.stall;
    }
    if cycles == 0 { 0.0 } else { delivered as f64 / cycles as f64 }
}

impl PassResult {
    /// 95 % interval of the speed-up over kept samples.
    pub fn interval(&self) -> Option<[f64; 2]> {
        step_interval(&[self])
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

/// The speed-up from all results of a step under one configuration.
pub fn sample_step(results: &[&PassResult]) -> Option<Sampled> {
    let step = step_cycles(results.iter().copied());
    Sampled::new(step.total, std::slice::from_ref(&step))
}

/// The speed-up's interval from all results of a step.
pub fn step_interval(results: &[&PassResult]) -> Option<[f64; 2]> {
    Some(sample_step(results)?.interval())
}

/// Cycles of all results of a step.
pub fn step_cycles<'a>(results: impl IntoIterator<Item = &'a PassResult>) -> interval::Step {
    let mut step = interval::Step::default();
    for result in results {
        step.left_out = 1.0 - result.samples as f64 / f64::from(result.batch);
        step.total[0] += result.baseline;
        step.total[1] += result.mercury.total();
        step.leave_one_out.resize(result.leave_one_out.len(), [0; 2]);
        for (sum, cycles) in step.leave_one_out.iter_mut().zip(&result.leave_one_out) {
            sum[0] += cycles[0];
            sum[1] += cycles[1];
        }
    }
    step
}

/// The share of each result's squared error in that of all results of the same configuration, step and pass; `None`
/// where no error is known, or none was made. `estimates` are those of the results.
pub fn error_shares(results: &[PassResult], estimates: &[Option<Estimate>]) -> Vec<Option<f64>> {
    let key = |result: &PassResult| (result.configuration, result.step, result.pass);
    let mut sums: BTreeMap<(usize, u64, Pass), f64> = BTreeMap::new();
    for (result, estimate) in results.iter().zip(estimates) {
        *sums.entry(key(result)).or_default() += estimate.as_ref().map_or(0.0, |estimate| estimate.change().max(0.0));
    }
    let share = |(result, estimate): (&PassResult, &Option<Estimate>)| {
        let sum = sums[&key(result)];
        estimate.as_ref().filter(|_| sum > 0.0).map(|estimate| estimate.change().max(0.0) / sum)
    };
    results.iter().zip(estimates).map(share).collect()
}

/// Relative error of all weight gradients together: the root of the quotient of their squared changes and squared
/// norms. `None` if none was computed.
pub fn gradient_error(results: &[&PassResult]) -> Option<f64> {
    let gradients = results.iter().filter(|result| result.pass == Pass::WeightGrad);
    let estimates: Vec<Estimate> =
        gradients.filter_map(|result| result.error.as_ref()).map(ErrorSums::estimate).collect();
    let sum = |square: fn(&Estimate) -> f64| estimates.iter().map(square).sum::<f64>();
    let exact = sum(Estimate::exact);
    (exact > 0.0).then(|| (sum(Estimate::change).max(0.0) / exact).sqrt())
}

/// Output error of all forward outputs together, where any was computed: of layers of one step that share
/// samples, and of several steps that do not. Their changes of the loss add up, to first order, if all
/// layers are there.
pub fn forward_error(results: &[&PassResult], layers_in_all: usize) -> Option<Estimate> {
    let mut steps: BTreeMap<u64, (ErrorSums, usize)> = BTreeMap::new();
    let mut exact_layers: BTreeMap<u64, usize> = BTreeMap::new();
    for result in results.iter().filter(|result| result.pass == Pass::Forward) {
        if !result.reuse && result.error.is_none() {
            // A layer without reuse does not change the loss.
            *exact_layers.entry(result.step).or_default() += 1;
        }
        let Some(error) = &result.error else { continue };
        steps
            .entry(result.step)
            .and_modify(|(sum, layers)| {
                sum.add(error);
                *layers += 1;
            })
            .or_insert_with(|| (error.clone(), 1));
    }
    let estimate_step = |(step, (sum, layers)): (&u64, &(ErrorSums, usize))| {
        let known = layers + exact_layers.get(step).copied().unwrap_or(0);
        sum.estimate().with_loss_if(known == layers_in_all)
    };
    (!steps.is_empty()).then(|| steps.iter().map(estimate_step).sum())
}
