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
    /// The selection, and what was measured.
    pub measures: MeasuresRecord,
    /// The trace that was replayed.
    pub trace: TraceIdentity,
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
