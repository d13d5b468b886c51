//! `manifest.json`: the description of a trace, and the list of its files.

use crate::error::{Result, TraceError};
use crate::geometry::Pass;
use crate::input;
use crate::tensor::{Dtype, TensorKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Version of the format that this crate writes, and the newest that it reads.
///
/// Since version 3, products of two activations are called `matmul` (before: `attention`), and
/// layers.parquet says which layers are frozen. Since version 2, every file has a checksum.
/// Traces of version 1 can be read, but not verified.
pub const SCHEMA_VERSION: u32 = 3;

/// The first version in which every tensor file has a checksum.
pub const CHECKSUMS_SINCE: u32 = 2;

/// Maximum size of a manifest in bytes, far above any run's.
const MAX_BYTES: u64 = 1 << 30;

/// The file's name in a trace.
pub const FILE_NAME: &str = "manifest.json";

/// The description of a trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the format, [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The program and version that wrote the trace.
    pub created_by: String,
    /// The user's name of the trace, see [`parse_label`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The command that writes the trace again, with TRACE for its folder.
    ///
    /// Flags without effect on the trace are left out, so that equal runs write equal manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The framework that ran the training; `None` in traces before version 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framework: Option<Framework>,
    /// The model.
    pub model: Model,
    /// The data set.
    pub dataset: Dataset,
    /// Seed of initial weights, sample order and sampling.
    pub seed: u64,
    /// Hyper-parameters of the training.
    pub training: Training,
    /// Versions of the programs that computed it.
    pub versions: BTreeMap<String, String>,
    /// The device that computed it, such as `cpu`.
    pub device: String,
    /// The part of each captured step that is kept.
    pub sampling: Sampling,
    /// The captured steps with all their files, in ascending order.
    pub captured: Vec<CapturedStep>,
    /// Whether the training reached its end.
    pub complete: bool,
}

/// The framework that ran a training.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Framework {
    /// Its name: `pytorch`, `libtorch` or another program's.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The model of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Its name, such as `vgg13`.
    pub name: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Channels, rows and columns of an image, or tokens of a source and of a target sentence.
    pub input: Vec<u32>,
    /// Number of classes, or of tokens in the vocabulary.
    pub classes: u32,
}

/// The data set of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// Its name, such as `fashion-mnist`.
    pub name: String,
    /// Number of training samples.
    pub train_samples: u64,
    /// Number of validation samples.
    pub validation_samples: u64,
    /// Its origin and preparation.
    #[serde(default)]
    pub description: BTreeMap<String, String>,
}

/// Hyper-parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Number of training steps requested.
    pub steps: u64,
    /// Samples per step.
    pub batch_size: u32,
    /// Maximum learning rate; groups of parameters may have others.
    pub learning_rate: f64,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// All settings that the result depends on, by the name of their flag.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Validation accuracy after the last step, if measured: the share of images with the correct
    /// class, or of tokens with the correct next token.
    pub validation_accuracy: Option<f64>,
}

/// The part of each captured step that is kept; layers missing from a map are kept whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampling {
    /// Passes whose operands are kept.
    #[serde(default = "all_passes")]
    pub passes: Vec<Pass>,
    /// The data type of stored values.
    #[serde(default)]
    pub dtype: Dtype,
    /// Maximum number of samples kept per captured step; `None` keeps the whole batch.
    pub samples: Option<u32>,
    /// Kept channels of the input by layer, in ascending order.
    pub channels: BTreeMap<String, Vec<u32>>,
    /// Kept channels of the output gradient by layer, in ascending order.
    pub grad_channels: BTreeMap<String, Vec<u32>>,
    /// Kept filters by layer, in ascending order.
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

/// A captured step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedStep {
    /// The training step, counted from 0.
    pub step: u64,
    /// Positions of the kept samples in the batch, in ascending order.
    pub samples: Vec<u32>,
    /// Indices of the kept samples in the data set, in the same order.
    pub dataset_indices: Vec<u64>,
    /// The tensor files of this step.
    pub tensors: Vec<TensorFile>,
}

/// A tensor file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorFile {
    /// The layer's name.
    pub layer: String,
    /// The kind of tensor.
    pub kind: TensorKind,
    /// Number of rows.
    pub rows: u64,
    /// Number of values per row.
    pub width: u32,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the file; `None` in a trace of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Maximum number of characters of a label, so that it fits next to a chart.
const MAX_LABEL: usize = 100;

/// Parses the label of a trace or of results; it must be one line of text.
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

/// The version, whose key never changes.
#[derive(Deserialize)]
struct Version {
    schema_version: u32,
}

impl Manifest {
    /// Whether `mercury-tracer` can train the model again.
    pub fn has_tracer_model(&self) -> bool {
        self.framework.as_ref().is_none_or(|framework| framework.name == "libtorch")
    }

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
        // The version is read first, because a newer manifest may have another structure.
        let Version { schema_version } = serde_json::from_slice(&text).map_err(broken)?;
        if schema_version > SCHEMA_VERSION {
            return Err(TraceError::NewerSchema { path, found: schema_version, known: SCHEMA_VERSION });
        }
        if schema_version == 0 {
            return Err(TraceError::invalid(
                &path,
                "schema_version",
                "is 0, but versions start with 1; correct it, or capture anew",
            ));
        }
        serde_json::from_slice(&text).map_err(broken)
    }

    /// Formats the manifest as JSON.
    pub(crate) fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a manifest has string keys and finite numbers");
        text.push('\n');
        text
    }

    /// Atomically replaces the manifest of the trace in `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE_NAME);
        let text = self.text();
        crate::atomic::write(&path, |file| file.write_all(text.as_bytes())).map_err(TraceError::io(&path))
    }
}
