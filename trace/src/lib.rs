//! The format of a MERCURY trace: a folder of Parquet files with the operands of a model's layers
//! in captured training steps.
//!
//! ```text
//! manifest.json    description of the run, and all tensor files with their checksums; replaced
//!                  atomically after each captured step
//! layers.parquet   one row per layer, in execution order: name, operation, geometry, MACs
//! steps.parquet    one row per training step
//! evaluations.parquet  one row per metric of an evaluation on validation data
//! measurements.parquet, loss_changes.parquet  measurements of reuse in the loop, if there was any
//! SHA256SUMS       checksums of the files above, after the end of the training
//! tensors/step=000200/layer=features.0/{input,grad_output,weight}.parquet
//! ```
//!
//! This crate defines only the format; it does not capture or analyse. Input vectors are not
//! stored; [`windows`] defines where a kernel cuts them.
//!
//! ```
//! use mercury_trace::{geometry::*, layers::Layer, manifest::*, tensor::TensorKind, Trace, TraceWriter};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let linear = Geometry::Linear(Linear { rows: 1, in_features: 3, out_features: 2 });
//! let layers = vec![Layer { name: "fc".into(), geometry: linear, input_grad: false, weight_grad: true }];
//! let manifest = Manifest {
//!     schema_version: SCHEMA_VERSION,
//!     created_by: "an example".into(),
//!     label: None,
//!     command: None,
//!     framework: None,
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
//! let input = writer.files().write(0, &layers[0], TensorKind::Input, [([0, 0], &[1.0, 2.0, 3.0][..])])?;
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
