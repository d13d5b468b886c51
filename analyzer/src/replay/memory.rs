//! How many samples of a layer are evaluated at a time, so that memory is bounded.

use super::grouped::distinct;
use crate::accuracy::SKETCH;
use crate::config::Config;
use crate::error::{AnalyzerError, Result};
use crate::request::{Measures, Unit};
use crate::timing::row_stationary::Discipline;
use crate::timing::rows::RowProduct;
use mercury_reuse::config::{Granularity, Scope};
use mercury_reuse::vectors_of_sample;
use mercury_trace::geometry::{Geometry, Pass};
use mercury_trace::manifest::TensorFile;
use mercury_trace::remote;
use mercury_trace::tensor::TensorKind;

/// Values of an operand that are read and evaluated at a time, if a sample has no more: so few that
/// memory is no concern, so many that starting threads is none.
const VALUES_AT_A_TIME: u64 = 1 << 20;

/// What the program itself takes, its tables and the buffers of its threads. Measured.
const PROGRAM: u64 = 44 << 20;
/// Bytes of a vector: signatures, a Hitmap, and what is summed up. Measured.
const VECTOR: u64 = 48;
/// More of them where there are several configurations: shortened signatures, sorted copies, who was there before,
/// Hitmaps of several caches. Measured (`docs/tests/test_memory_limit.py`).
const SEVERAL: u64 = 150;
/// Bytes of a value: it is there as it was read, and so is one of the samples that come next.
const VALUE: u64 = 8;
/// Bytes of a weight's gradient: sums in f64 of it and its change, and of a sample's share.
const GRADIENT: u64 = 32;
/// Bytes of a sample's share in a gradient.
const SHARE: u64 = 16 * SKETCH as u64;
/// Bytes of blocks of the objects that are open, where the trace is in a store.
const REMOTE: u64 = 6 * remote::MOST_KEPT;
/// Bytes of the counts of a sample, stream and configuration.
const COUNTS: u64 = 24;
/// Bytes that what lanes of PE sets do under several caches takes at a time, and the share of a limit that it takes at most.
const LANES: u64 = 64 << 20;
const LANES_OF_LIMIT: u64 = 16;
/// Bytes of a time in a schedule: one for each PE set, and for each version.
const TIME: u64 = 8;

/// How much may be in memory at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// So many values of an operand, one sample at least.
    Values(u64),
    /// So many bytes in all, or an error.
    Bytes(u64),
}

impl Default for Limit {
    fn default() -> Self {
        Self::Values(VALUES_AT_A_TIME)
    }
}

impl Limit {
    /// Bytes that what lanes of PE sets do may take at a time.
    pub fn lanes(self) -> usize {
        let bytes = if let Self::Bytes(limit) = self { limit / LANES_OF_LIMIT } else { LANES };
        bytes.min(LANES) as usize
    }
}

/// An estimate of what evaluating a layer takes, in bytes.
#[derive(Debug, Clone, Copy)]
struct Need {
    /// However many samples are there.
    fixed: u64,
    /// For each sample that is there.
    of_sample: u64,
}

impl Need {
    fn of(unit: &Unit, configs: &[Config], measures: &Measures, limit: Limit, batch: u32, is_remote: bool) -> Self {
        let samples = unit.step.samples.len() as u64;
        let geometry = &unit.layer.geometry;
        let values = |kind: TensorKind| files(unit).filter(|file| file.kind == kind).map(values).sum::<u64>();
        let streamed = (values(TensorKind::Input) + values(TensorKind::GradOutput)) / samples;
        let vectors = |granularity: Granularity| {
            let of_pass = |&pass: &Pass| vectors_of_sample(geometry, pass, granularity);
            [Pass::Forward, Pass::InputGrad].iter().map(of_pass).max().unwrap_or(0)
        };
        // Projections are evaluated one after the other, so the one with the most vectors counts.
        let vectors = configs.iter().map(|config| vectors(config.rpq.granularity)).max().unwrap_or(0);
        let streams = u64::from(geometry.inputs().max(geometry.filters()));
        // Each way to hit and to substitute has sums of its own.
        let ways = distinct(configs.iter().map(|config| (&config.rpq, &config.mcache))).len() as u64;
        let sums = if measures.errors.is_none() || !measures.selection.pass(Pass::WeightGrad) {
            0
        } else {
            let looked_at = measures.errors.most().map_or(values(TensorKind::Weight), |most| {
                // Two streams at least.
                let of_stream = values(TensorKind::Weight).div_ceil(streams);
                let vectors_of_stream = (samples * vectors / streams).max(1);
                of_stream.saturating_mul((most as u64 / vectors_of_stream).clamp(2, streams))
            });
            GRADIENT.saturating_mul(looked_at).saturating_add(SHARE * samples).saturating_mul(ways)
        };
        let counts = COUNTS.saturating_mul(samples).saturating_mul(streams).saturating_mul(configs.len() as u64);
        let remote = if is_remote { REMOTE } else { 0 };
        let weights = 4 * values(TensorKind::Weight);
        let deals = configs.len() > 1 && measures.errors.is_none() && configs.iter().any(|c| c.dataflow().is_none());
        let lanes = if deals { limit.lanes() as u64 } else { 0 };
        let schedules = configs.iter().map(|config| schedules(config, geometry, batch)).fold(0, u64::saturating_add);
        let fixed = [PROGRAM, remote, weights, sums, counts, schedules, lanes].into_iter().fold(0, u64::saturating_add);
        let of_vector = if configs.len() > 1 { VECTOR + SEVERAL } else { VECTOR };
        // Beside the sums: counts of all caches.
        let counts = if configs.len() > 1 { counts / samples } else { 0 };
        let of_sample = [VALUE.saturating_mul(streamed), of_vector.saturating_mul(vectors), counts];
        Self { fixed, of_sample: of_sample.into_iter().fold(0, u64::saturating_add) }
    }

    fn of_samples(self, samples: u64) -> u64 {
        self.fixed.saturating_add(self.of_sample.saturating_mul(samples))
    }
}

/// Bytes of the schedules of a configuration's passes.
fn schedules(config: &Config, geometry: &Geometry, batch: u32) -> u64 {
    if config.dataflow().is_some() {
        return 0;
    }
    let array = config.row_array();
    let versions = match array.discipline {
        Discipline::Synchronous => 1,
        Discipline::Asynchronous { versions, .. } => versions,
    };
    let of_pass = |&pass: &Pass| {
        let products = 0..geometry.gemms(pass, batch).len();
        products.map(move |product| RowProduct::new(array, geometry, pass, product, batch, 1).mapping().sets())
    };
    let times = config.reuse.passes.iter().flat_map(of_pass).map(|sets| sets.saturating_add(versions));
    times.fold(0, u64::saturating_add).saturating_mul(TIME)
}

fn files<'a>(unit: &Unit<'a>) -> impl Iterator<Item = &'a TensorFile> {
    let layer = unit.layer;
    unit.step.tensors.iter().filter(move |file| file.layer == layer.name)
}

fn values(file: &TensorFile) -> u64 {
    file.rows.saturating_mul(u64::from(file.width))
}

/// Whether a layer's samples all have to be there: its MCACHE outlives a sample, or a row-stationary array's
/// rounds of a matrix product are dealt at once.
fn is_whole(unit: &Unit, config: &Config) -> bool {
    let geometry = &unit.layer.geometry;
    let convolution = matches!(geometry, Geometry::Conv2d(_));
    (!convolution && config.dataflow().is_none()) || config.mcache.scope_of(geometry) == Scope::Batch
}

/// How many samples of a layer are evaluated at a time.
///
/// # Errors
/// Where the fewest that can be take more than the limit.
pub fn samples_at_a_time(
    limit: Limit,
    unit: &Unit,
    configs: &[Config],
    measures: &Measures,
    batch: u32,
    is_remote: bool,
) -> Result<usize> {
    let samples = unit.step.samples.len() as u64;
    let whole = configs.iter().any(|config| is_whole(unit, config));
    let fewest = if whole { samples } else { 1 };
    let most = match limit {
        Limit::Values(most) => {
            let streamed = files(unit).filter(|file| file.kind != TensorKind::Weight);
            let values = streamed.map(values).max().unwrap_or(0).max(1);
            most.saturating_mul(samples) / values
        }
        Limit::Bytes(bytes) => {
            let need = Need::of(unit, configs, measures, limit, batch, is_remote);
            let least = need.of_samples(fewest);
            if least > bytes {
                let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
                let why = if whole { ", as its samples have to be there all at once" } else { " for one sample" };
                let reason = format!(
                    "takes about {} MB{why}, --memory-limit is {} MB; raise it, leave the layer out with --layers, or \
                     capture fewer samples of it",
                    megabytes(least),
                    megabytes(bytes)
                );
                return Err(AnalyzerError::Layer { layer: unit.layer.name.clone(), reason });
            }
            // More than by default would be of no use.
            let by_default = samples_at_a_time(Limit::default(), unit, configs, measures, batch, is_remote)? as u64;
            by_default.min((bytes - need.fixed) / need.of_sample.max(1))
        }
    };
    Ok(most.clamp(fewest, samples) as usize)
}
