//! `run.json`: what was run, and on what.

use crate::layer_settings::LayerSettings;
use crate::request::{ErrorMode, Measures};
use mercury_trace::manifest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// The file's name.
pub const RUN_FILE: &str = "run.json";

/// What a run computed and from what: enough to do it again.
///
/// It holds no times, and no paths but those that the trace's manifest has, so that equal runs write equal bytes.
/// Readers choose `C`: [`crate::config::Config`], or JSON where keys of a later version are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunRecord<C> {
    /// Version of the results, [`super::VERSION`].
    pub schema_version: u32,
    /// The program and its version.
    pub created_by: String,
    /// The user's name for the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The configurations; tables hold places in this list.
    pub configurations: Vec<C>,
    /// The settings of each layer, in order of configurations with `[[layer]]` tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layer_settings: Vec<LayerSettings>,
    /// What was searched for and found; none in the results of other commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchRecord>,
    /// The selection, and what was measured.
    pub measures: MeasuresRecord,
    /// The trace that was replayed.
    pub trace: TraceIdentity,
}

/// What a search was asked for, and the design that it recommends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SearchRecord {
    /// The command, with TRACE and SEARCH for its folders.
    pub command: String,
    /// The quantity that a design minimises.
    pub objective: String,
    /// Bounds, each as `layer-error <= 0.1`.
    pub bounds: Vec<String>,
    /// The curve that predicted accuracy losses; none in results of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_curve: Option<CurveRecord>,
    /// What choices are judged by: `steps` or `samples` that they were not chosen by, or `nothing`.
    pub judged_by: String,
    /// Folds of these.
    pub folds: usize,
    /// Projections of each candidate.
    pub seeds: u32,
    /// What was found by reading.
    pub readings: Vec<ReadingRecord>,
    /// Place of the recommended design in `readings`.
    pub best: usize,
}

/// The curve of a calibration, as far as a search used it: the same bound means another design under another curve.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CurveRecord {
    /// SHA-256 of the curve's file.
    pub sha256: String,
    /// The networks of the calibration; none if the file does not name them.
    pub networks: Option<String>,
    /// The largest step error of the calibration.
    pub last_step_error: f64,
    /// The step error that a bound on the accuracy loss allows; none without such a bound.
    pub allowed_step_error: Option<f64>,
}

/// What was found under a reading of the hardware.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReadingRecord {
    /// The reading: a preset, or the values of shared keys.
    pub name: String,
    /// Whether cycles are a bound that no hardware reaches.
    pub is_bound: bool,
    /// The file of the design with settings per layer.
    pub file: String,
    /// Numbers of the configurations: as configured, one setting for all layers, settings per layer.
    pub configurations: [usize; 3],
    /// What these do, in the same order.
    pub methods: Vec<MethodRecord>,
    /// Speed-up of settings per layer if the first bound were a percentage point higher.
    pub speed_up_one_point_more: f64,
}

/// What a way to choose settings gives, by steps or samples by which they were not chosen if there are folds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MethodRecord {
    /// `configured`, `one setting` or `per layer`.
    pub method: String,
    /// Speed-up.
    pub speed_up: f64,
    /// Its 95 % interval; none for a single sample.
    pub speed_up_interval: Option<[f64; 2]>,
    /// Relative output error of the forward passes with reuse together.
    pub output_error: f64,
    /// Relative error of the weight gradients with reuse together.
    pub gradient_error: f64,
    /// Largest error of a layer's pass.
    pub largest_error: f64,
    /// Passes with reuse, in each fold.
    pub passes: usize,
    /// Those of them whose error exceeds the bound on layers; 0 without such a bound.
    pub exceeding: usize,
    /// What each bound limits, the largest of all folds; none for an accuracy loss beyond the calibration.
    pub bound_values: Vec<Option<f64>>,
}

/// [`Measures`], as files hold them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MeasuresRecord {
    /// Layers, steps and passes.
    pub selection: SelectionRecord,
    /// `sampled`, `all` or `none`.
    pub errors: ErrorMode,
    /// Whether bounds were computed.
    pub bounds: bool,
}

/// The part of a trace that was replayed; each list chooses all where it is empty.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SelectionRecord {
    /// Names and patterns of layers.
    pub layers: Vec<String>,
    /// Ranges of steps.
    pub steps: Vec<RangeInclusive<u64>>,
    /// Names of passes.
    pub passes: Vec<String>,
}

/// The trace that was replayed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TraceIdentity {
    /// SHA-256 of its manifest.
    pub manifest_sha256: String,
    /// The user's name for the trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The command that wrote it; none in results of earlier versions, and of traces by other programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The model.
    pub model: manifest::Model,
    /// The data set.
    pub dataset: manifest::Dataset,
    /// Seed of the training.
    pub seed: u64,
    /// Samples of a training step.
    pub batch_size: u32,
    /// Other settings of the training by flag; none in results of earlier versions.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// The steps that were captured.
    pub captured_steps: Vec<u64>,
}

impl From<&Measures> for MeasuresRecord {
    fn from(measures: &Measures) -> Self {
        let json = serde_json::to_value(measures).expect("measures have string keys");
        serde_json::from_value(json).expect("the record has the keys of measures")
    }
}
