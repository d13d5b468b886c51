//! `manifest.json`: what a trace is of, and which files it has.

use crate::error::{Result, TraceError};
use crate::geometry::Pass;
use crate::input;
use crate::tensor::{Dtype, TensorKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Version of the format that this crate writes, and the newest that it reads. Since 2 every file has a checksum;
/// a trace of version 1 is read as ever, but cannot be verified.
pub const SCHEMA_VERSION: u32 = 2;

/// The first version in which every tensor file has a checksum.
pub const CHECKSUMS_SINCE: u32 = 2;

/// Most bytes of a manifest: far above what any run captures.
const MAX_BYTES: u64 = 1 << 30;

/// The file's name within a trace.
pub const FILE_NAME: &str = "manifest.json";

/// What a trace is of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format, [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The program and version that wrote the trace.
    pub created_by: String,
    /// What its user calls the trace, see [`parse_label`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The command that writes it again, with TRACE for its folder. Flags that the trace does not depend on are left
    /// out, so that equal runs write equal manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The model.
    pub model: Model,
    /// The data it was trained on.
    pub dataset: Dataset,
    /// Seed of initial weights, order of samples and choice of what to keep.
    pub seed: u64,
    /// Hyper-parameters of the training.
    pub training: Training,
    /// Versions of what computed it.
    pub versions: BTreeMap<String, String>,
    /// The device it was computed on, such as `cpu`.
    pub device: String,
    /// What was kept of each captured step.
    pub sampling: Sampling,
    /// The captured steps whose files are complete, ascending.
    pub captured: Vec<CapturedStep>,
    /// Whether the training ran to its end.
    pub complete: bool,
}

/// The model of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Its name, such as `vgg13`.
    pub name: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Channels, rows and columns of an image; or tokens of a source and of a target sentence.
    pub input: Vec<u32>,
    /// Number of classes, or tokens of the vocabulary.
    pub classes: u32,
}

/// The data set of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// Its name, such as `fashion-mnist`.
    pub name: String,
    /// Samples that were trained on.
    pub train_samples: u64,
    /// Samples for validation.
    pub validation_samples: u64,
    /// Where it came from and what was done to it.
    #[serde(default)]
    pub description: BTreeMap<String, String>,
}

/// Hyper-parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Training steps asked for.
    pub steps: u64,
    /// Samples per step.
    pub batch_size: u32,
    /// Learning rate.
    pub learning_rate: f64,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Every other setting that the run depends on, by the name of its flag.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Validation accuracy after the last step, where it was measured: share of images whose class,
    /// or of tokens whose successor, the model found.
    pub validation_accuracy: Option<f64>,
}

/// What was kept of each captured step. Where a layer is missing from the maps, all was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampling {
    /// Passes whose operands are kept.
    #[serde(default = "all_passes")]
    pub passes: Vec<Pass>,
    /// How values are stored.
    #[serde(default)]
    pub dtype: Dtype,
    /// Most samples kept per captured step; `None` keeps the whole batch.
    pub samples: Option<u32>,
    /// Channels kept of the input, by layer, ascending.
    pub channels: BTreeMap<String, Vec<u32>>,
    /// Channels kept of the output gradient, by layer, ascending.
    pub grad_channels: BTreeMap<String, Vec<u32>>,
    /// Filters kept of the weight, by layer, ascending.
    pub filters: BTreeMap<String, Vec<u32>>,
}

fn all_passes() -> Vec<Pass> {
    Pass::ALL.to_vec()
}

impl Default for Sampling {
    /// Everything is kept.
    fn default() -> Self {
        Self {
            passes: all_passes(),
            dtype: Dtype::F32,
            samples: None,
            channels: BTreeMap::new(),
            grad_channels: BTreeMap::new(),
            filters: BTreeMap::new(),
        }
    }
}

/// One captured step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedStep {
    /// The training step, from 0.
    pub step: u64,
    /// Position within the batch of each kept sample, ascending.
    pub samples: Vec<u32>,
    /// Index within the data set of each kept sample, in the same order.
    pub dataset_indices: Vec<u64>,
    /// The files of this step.
    pub tensors: Vec<TensorFile>,
}

/// One tensor file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorFile {
    /// The layer's name.
    pub layer: String,
    /// Which of its tensors.
    pub kind: TensorKind,
    /// Rows in the file.
    pub rows: u64,
    /// Values in a row.
    pub width: u32,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file; none in a trace of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Most characters of a label: more do not fit beside a chart.
const MAX_LABEL: usize = 100;

/// The label of a trace or of results in a text; refuses what is empty or more than a line.
pub fn parse_label(text: &str) -> std::result::Result<String, String> {
    if text.trim().is_empty() {
        return Err("is empty; give it a text, or leave it out".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("holds a line break or another control character; give it one line of plain text".to_owned());
    }
    match text.chars().count() {
        ..=MAX_LABEL => Ok(text.to_owned()),
        count => Err(format!("has {count} characters, but must have at most {MAX_LABEL}; shorten it")),
    }
}

/// The one key whose meaning never changes.
#[derive(Deserialize)]
struct Version {
    schema_version: u32,
}

impl Manifest {
    /// Reads the manifest of the trace in `dir`.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE_NAME);
        let text = match input::read(&path, MAX_BYTES) {
            Err(TraceError::Io { error, .. })
                if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                return Err(TraceError::NotATrace { path: dir.to_owned() });
            }
            other => other?,
        };
        let broken = |error: serde_json::Error| {
            TraceError::invalid(&path, "manifest", format!("{error}; correct it, or capture anew"))
        };
        // First: the rest of a newer manifest may not fit today's structure.
        let Version { schema_version } = serde_json::from_slice(&text).map_err(broken)?;
        if schema_version > SCHEMA_VERSION {
            return Err(TraceError::NewerSchema { path, found: schema_version, known: SCHEMA_VERSION });
        }
        if schema_version == 0 {
            return Err(TraceError::invalid(
                &path,
                "schema_version",
                "is 0, but versions begin with 1; correct it, or capture anew",
            ));
        }
        serde_json::from_slice(&text).map_err(broken)
    }

    /// What is written.
    pub(crate) fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a manifest has string keys and finite numbers");
        text.push('\n');
        text
    }

    /// Replaces the manifest of the trace in `dir` atomically.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE_NAME);
        let text = self.text();
        crate::atomic::write(&path, |file| file.write_all(text.as_bytes())).map_err(TraceError::io(&path))
    }
}
