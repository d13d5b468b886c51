//! How many samples of a layer are evaluated at a time, so that memory is bounded.

use super::layer::LayerReplay;
use crate::error::{AnalyzerError, Result};
use crate::request::Unit;
use mercury_trace::manifest::TensorFile;
use mercury_trace::remote;
use mercury_trace::tensor::TensorKind;

/// Values of an operand that are read and evaluated at a time, unless a single sample has more. This is few enough for
/// memory, and enough for threads to pay.
const VALUES_AT_A_TIME: u64 = 1 << 20;

/// Bytes of the program, its tables and the buffers of its threads. Measured (`docs/tests/test_memory_limit.py`).
const PROGRAM: u64 = 44 << 20;
/// Bytes of a value of X or dY: as it was read, and one of the samples that are read meanwhile.
const STREAMED_VALUE: u64 = 8;
/// Bytes of a weight.
const WEIGHT: u64 = 4;
/// Bytes of the blocks of open objects, if the trace is in a store.
const REMOTE: u64 = 6 * remote::MOST_KEPT;

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

fn files<'a>(unit: &Unit<'a>) -> impl Iterator<Item = &'a TensorFile> {
    let layer = unit.layer;
    unit.step.tensors.iter().filter(move |file| file.layer == layer.name)
}

fn values(file: &TensorFile) -> u64 {
    file.rows.saturating_mul(u64::from(file.width))
}

/// How many samples of a layer are evaluated at a time.
///
/// # Errors
/// If the fewest possible take more than the limit.
pub fn samples_at_a_time(limit: Limit, unit: &Unit, layer: &LayerReplay, is_remote: bool) -> Result<usize> {
    let samples = unit.step.samples.len() as u64;
    let takes_all = layer.takes_all_samples();
    let fewest = if takes_all { samples } else { 1 };
    let most = match limit {
        Limit::Values(most) => {
            let streamed = files(unit).filter(|file| file.kind != TensorKind::Weight);
            let values = streamed.map(values).max().unwrap_or(0).max(1);
            most.saturating_mul(samples) / values
        }
        Limit::Bytes(bytes) => {
            let (fixed, per_sample) = estimate_bytes(unit, layer, is_remote);
            let least = fixed.saturating_add(per_sample.saturating_mul(fewest));
            if least > bytes {
                return Err(over_limit(unit, least, bytes, takes_all));
            }
            // More samples than by default would be of no use.
            let by_default = samples_at_a_time(Limit::default(), unit, layer, is_remote)? as u64;
            by_default.min((bytes - fixed) / per_sample.max(1))
        }
    };
    Ok(most.clamp(fewest, samples) as usize)
}

/// Bytes that evaluating a layer takes, whatever the number of samples at a time, and for each of these.
fn estimate_bytes(unit: &Unit, layer: &LayerReplay, is_remote: bool) -> (u64, u64) {
    let samples = unit.step.samples.len() as u64;
    let count_values = |kind: TensorKind| files(unit).filter(|file| file.kind == kind).map(values).sum::<u64>();
    let streamed = (count_values(TensorKind::Input) + count_values(TensorKind::GradOutput)) / samples;
    let measures = layer.bytes();
    let remote = if is_remote { REMOTE } else { 0 };
    let weights = WEIGHT.saturating_mul(count_values(TensorKind::Weight));
    let fixed = [PROGRAM, remote, weights, measures.fixed].into_iter().fold(0, u64::saturating_add);
    (fixed, STREAMED_VALUE.saturating_mul(streamed).saturating_add(measures.per_sample))
}

fn over_limit(unit: &Unit, least: u64, limit: u64, takes_all: bool) -> AnalyzerError {
    let (why, remedy) = if takes_all {
        let remedy = "raise it, leave the layer out with --layers, or capture fewer samples of it";
        (", as its samples have to be there all at once", remedy)
    } else {
        (" for one sample", "raise it, or leave the layer out with --layers")
    };
    let (least, limit) = (format_bytes(least), format_bytes(limit));
    let reason = format!("takes about {least}{why}, --memory-limit is {limit}; {remedy}");
    AnalyzerError::Layer { layer: unit.layer.name.clone(), reason }
}

/// Whole kilobytes below a megabyte, else whole megabytes, rounded up.
fn format_bytes(bytes: u64) -> String {
    if bytes < 1_000_000 { format!("{} KB", bytes.div_ceil(1000)) } else { format!("{} MB", bytes.div_ceil(1_000_000)) }
}
