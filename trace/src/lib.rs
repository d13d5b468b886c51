//! What a MERCURY trace is: a folder of Parquet files that hold what each layer of a model computed
//! on during captured training steps.
//!
//! ```text
//! manifest.json    what the trace is of, and its tensors' files with their checksums; replaced atomically after
//!                  each captured step
//! layers.parquet   one row a layer, in execution order: name, operation, geometry, MACs
//! steps.parquet    one row for every training step
//! evaluations.parquet  one row for every measurement on data that was not trained on
//! measurements.parquet, loss_changes.parquet  what reuse did, where it was in the loop
//! SHA256SUMS       checksums of the files above, once the training has ended
//! tensors/step=000200/layer=features.0/{input,grad_output,weight}.parquet
//! ```
//!
//! This crate knows the format alone: nothing about who captures, nothing about what is looked for
//! in it. Input vectors are not stored; [`windows`] says where a kernel would cut them.
//!
//! ```
//! use mercury_trace::{geometry::*, layers::Layer, manifest::*, tensor::TensorKind, Trace, TraceWriter};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let linear = Geometry::Linear(Linear { rows: 1, in_features: 3, out_features: 2 });
//! let layers = vec![Layer { name: "fc".into(), geometry: linear, input_grad: false }];
//! let manifest = Manifest {
//!     schema_version: SCHEMA_VERSION,
//!     created_by: "an example".into(),
//!     label: None,
//!     command: None,
//!     model: Model { name: "tiny".into(), parameters: 6, input: vec![3, 1, 1], classes: 2 },
//!     dataset: Dataset { name: "none".into(), train_samples: 1, validation_samples: 0, description: Default::default() },
//!     seed: 1,
//!     training: Training {
//!         steps: 1, batch_size: 1, learning_rate: 0.1, momentum: 0.0, weight_decay: 0.0,
//!         settings: Default::default(), validation_accuracy: None,
//!     },
//!     versions: Default::default(),
//!     device: "cpu".into(),
//!     sampling: Sampling::default(),
//!     captured: vec![],
//!     complete: false,
//! };
//! let mut writer = TraceWriter::create(dir.path(), manifest, &layers)?;
//! let input = writer.files().write(0, "fc", TensorKind::Input, [([0, 0], &[1.0, 2.0, 3.0][..])])?;
//! let step = CapturedStep { step: 0, samples: vec![0], dataset_indices: vec![7], tensors: vec![input] };
//! writer.commit(step, &[])?;
//!
//! let trace = Trace::open(dir.path())?;
//! let step = &trace.manifest().captured[0];
//! let tensor = trace.tensor(step, &trace.layers()[0], TensorKind::Input)?;
//! assert_eq!(tensor.row(0), [1.0, 2.0, 3.0]);
//! # Ok(()) }
//! ```

#![forbid(unsafe_code)]

pub mod atomic;
pub mod checksum;
mod columns;
mod decode;
pub mod error;
pub mod evaluations;
pub mod geometry;
pub mod input;
pub mod kind;
pub mod layers;
pub mod manifest;
pub mod measurements;
mod pages;
mod quiet;
pub mod read;
#[cfg(feature = "remote")]
pub mod remote;
pub mod steps;
pub mod table;
pub mod tensor;
mod trace;
mod verify;
pub mod windows;
mod write;

pub use error::TraceError;
pub use trace::{SampleReader, Trace};
pub use verify::Verified;
pub use write::{TensorFiles, TraceWriter, check_empty_dir, check_new_trace};
