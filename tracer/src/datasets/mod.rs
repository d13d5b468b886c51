//! Data sets for image classification and translation, from published files or the user's own.
//!
//! [`DatasetSpec::open`] opens a [`Dataset`] of two [`Split`]s according to [`DataOptions`]. A
//! [`Loader`] loads a split's batches ahead of the training step.

mod cifar;
mod files;
mod folder;
mod idx;
mod jpeg;
mod left_out;
mod loader;
mod memory;
mod options;
mod photos;
mod pixels;
pub mod text;

pub use loader::Loader;
pub use options::DataOptions;

use crate::error::{Result, TracerError};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tch::{Device, Tensor};

/// The task that a data set sets for a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Classifying images.
    Images {
        /// Channels of an image.
        channels: i64,
        /// Rows and columns of an image.
        size: [i64; 2],
        /// Number of classes.
        classes: i64,
    },
    /// Translating sentences; lengths are in tokens, with padding.
    Text {
        /// Length of a source, EOS included.
        source: i64,
        /// Length of a target: of the model's input, with BOS, and of its labels, with EOS.
        target: i64,
        /// Number of tokens; both languages share the vocabulary.
        vocabulary: i64,
    },
}

/// Computes the first half of a data set's SHA-256, in hexadecimal.
///
/// By it, a resumed run checks that it has the same data.
fn digest<T: AsRef<[u8]>>(parts: impl IntoIterator<Item = T>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.as_ref().len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The samples of a step; a [`Split`] loads them on the CPU.
#[derive(Debug)]
pub enum Batch {
    /// Images and their classes.
    Images {
        /// `f32`, `[samples, channels, rows, columns]`, normalised.
        images: Tensor,
        /// `i64`, `[samples]`.
        labels: Tensor,
    },
    /// Sentences and their translations, as tokens of [`text::Vocabulary`].
    Text {
        /// `i64`, `[samples, source]`: tokens, EOS, PAD.
        source: Tensor,
        /// `i64`, `[samples, target + 1]`: BOS, tokens, EOS, PAD. All columns but the last are the
        /// model's input, all but the first its labels.
        target: Tensor,
    },
}

impl Batch {
    /// Number of samples.
    pub fn len(&self) -> usize {
        let (Self::Images { labels: first, .. } | Self::Text { source: first, .. }) = self;
        first.size()[0] as usize
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the batch to a device.
    #[must_use]
    pub fn to_device(&self, device: Device) -> Self {
        match self {
            Self::Images { images, labels } => {
                Self::Images { images: images.to_device(device), labels: labels.to_device(device) }
            }
            Self::Text { source, target } => {
                Self::Text { source: source.to_device(device), target: target.to_device(device) }
            }
        }
    }
}

/// The random numbers of one epoch's augmentation.
///
/// They and its index alone determine how a sample is augmented, so that a resumed run repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Augment {
    /// The run's seed.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: u64,
}

/// Samples for training or validation.
pub trait Split: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Loads these samples, in parallel and in this order.
    ///
    /// They are augmented if both `augment` and [`DataOptions::augment`] are set.
    ///
    /// # Panics
    ///
    /// If an index is not below [`Split::len`].
    fn load(&self, indices: &[u32], augment: Option<Augment>) -> Result<Batch>;
}

/// An open data set.
pub struct Dataset {
    /// Its name on the command line.
    pub name: String,
    /// The task.
    pub task: Task,
    /// Training samples.
    pub train: Arc<dyn Split>,
    /// Validation samples.
    pub validation: Arc<dyn Split>,
    /// The vocabulary of text; `None` for images.
    pub vocabulary: Option<text::Vocabulary>,
    /// The validation samples' target lines as in the file; empty for images.
    pub reference_lines: Vec<String>,
    /// A description of the preparation, for the manifest.
    pub description: BTreeMap<String, String>,
    /// Warnings about probable mistakes of the user, each once.
    pub warnings: Vec<String>,
}

impl Dataset {
    /// Returns the target lines of these validation samples, for BLEU; none for images.
    ///
    /// # Panics
    ///
    /// If an index is not below the number of validation samples.
    pub fn references(&self, indices: &[u32]) -> Vec<String> {
        if self.reference_lines.is_empty() {
            return Vec::new();
        }
        indices.iter().map(|&index| self.reference_lines[index as usize].clone()).collect()
    }

    /// Summarises in one line the samples that are used and those that are not.
    pub fn summary(&self, samples: &str) -> String {
        let mut line = format!("{}: {samples}", self.name);
        for key in ["classes", "left out", "truncated"] {
            match self.description.get(key) {
                Some(note) if !note.starts_with("0 ") => line.push_str(&format!("; {key}: {note}")),
                _ => {}
            }
        }
        line
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("name", &self.name)
            .field("task", &self.task)
            .field("train", &self.train.len())
            .field("validation", &self.validation.len())
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

/// The origin of a data set's samples, which decides the flags that it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DataSource {
    /// Images in the data folder.
    Images,
    /// The user's images.
    OwnImages,
    /// Text in the data folder.
    Text,
    /// The user's text.
    OwnText,
}

/// A data set that can be opened by name.
pub struct DatasetSpec {
    /// The name on the command line, and of its folder.
    pub name: &'static str,
    /// A description of its samples.
    pub kind: &'static str,
    /// The publication, or the flags that name the user's files.
    pub reference: &'static str,
    source: DataSource,
    open: fn(&DataOptions, i64) -> Result<Dataset>,
}

/// All data sets.
pub const DATASETS: &[DatasetSpec] = &[
    DatasetSpec {
        name: "fashion-mnist",
        kind: "1 x 28 x 28, 10 classes",
        reference: "Xiao, Rasul and Vollgraf, Fashion-MNIST (2017), arXiv 1708.07747",
        source: DataSource::Images,
        open: idx::fashion_mnist,
    },
    DatasetSpec {
        name: "mnist",
        kind: "1 x 28 x 28, 10 classes",
        reference: "LeCun, Cortes and Burges, The MNIST database of handwritten digits (1998)",
        source: DataSource::Images,
        open: idx::mnist,
    },
    DatasetSpec {
        name: "cifar10",
        kind: "3 x 32 x 32, 10 classes",
        reference: "Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009)",
        source: DataSource::Images,
        open: cifar::cifar10,
    },
    DatasetSpec {
        name: "cifar100",
        kind: "3 x 32 x 32, 100 classes",
        reference: "Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009)",
        source: DataSource::Images,
        open: cifar::cifar100,
    },
    DatasetSpec {
        name: "images",
        kind: "3 x 224 x 224, one folder per class",
        reference: "your own: --train-dir, --validation-dir",
        source: DataSource::OwnImages,
        open: photos::open,
    },
    DatasetSpec {
        name: "multi30k",
        kind: "English to German captions",
        reference: "Elliott, Frank, Sima'an and Specia, Multi30K (2016), arXiv 1605.00459",
        source: DataSource::Text,
        open: text::multi30k,
    },
    DatasetSpec {
        name: "text",
        kind: "lines into lines",
        reference: "your own: --source, --target, --validation-source, --validation-target",
        source: DataSource::OwnText,
        open: text::own,
    },
];

impl DatasetSpec {
    /// Finds a data set by name.
    pub fn find(name: &str) -> Result<&'static Self> {
        DATASETS.iter().find(|dataset| dataset.name == name).ok_or_else(|| TracerError::UnknownDataset {
            name: name.to_owned(),
            known: DATASETS.iter().map(|dataset| dataset.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// Whether its samples are images, not text.
    pub fn is_images(&self) -> bool {
        matches!(self.source, DataSource::Images | DataSource::OwnImages)
    }

    /// Opens the data set. `least_size` is the model's minimum of rows and columns, 0 for text.
    pub fn open(&self, options: &DataOptions, least_size: i64) -> Result<Dataset> {
        options.check_use(self.name, self.source)?;
        (self.open)(options, least_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mercury_testing::report_skip;
    use std::path::{Path, PathBuf};

    /// Finds data in the folder `MERCURY_SHARED_DATA`, by default `shared/data` next to the
    /// checkout.
    ///
    /// If it is missing, the calling test is reported as skipped.
    #[track_caller]
    pub(super) fn shared(name: &str) -> Option<PathBuf> {
        let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
        let path = std::env::var_os("MERCURY_SHARED_DATA").map_or_else(default, PathBuf::from).join(name);
        if !path.exists() {
            report_skip(&format!("{} is missing; MERCURY_SHARED_DATA names its folder", path.display()));
            return None;
        }
        Some(path)
    }

    #[test]
    fn names_are_unique_and_found() {
        for spec in DATASETS {
            assert_eq!(DatasetSpec::find(spec.name).unwrap().kind, spec.kind);
            assert_eq!(DATASETS.iter().filter(|other| other.name == spec.name).count(), 1);
        }
        let error = DatasetSpec::find("imagenet").err().unwrap().to_string();
        assert!(error.contains("fashion-mnist, mnist, cifar10, cifar100, images, multi30k, text"), "{error}");
    }

    #[test]
    fn real_cifar10_is_read() {
        let Some(path) = shared("cifar10") else { return };
        let options = DataOptions { data_dir: path.parent().unwrap().to_owned(), ..DataOptions::default() };
        let set = DatasetSpec::find("cifar10").unwrap().open(&options, 0).unwrap();
        assert_eq!((set.train.len(), set.validation.len()), (10_000, 10_000));
        assert!(set.references(&[0]).is_empty());
        // The well-known statistics of all 50,000 are 125.3 ± 63.0, 123.0 ± 62.1, 113.9 ± 66.7.
        let numbers: Vec<f64> =
            set.description["normalisation"].split([',', '±']).map(|number| number.trim().parse().unwrap()).collect();
        for (number, expected) in numbers.iter().zip([125.3, 63.0, 123.0, 62.1, 113.9, 66.7]) {
            assert!((number - expected).abs() < 0.7, "{numbers:?}");
        }
        let batch = set.train.load(&[0, 9_999], None).unwrap().to_device(Device::Cpu);
        assert_eq!(batch.len(), 2);
        // The first image of the first batch is a frog (6).
        let Batch::Images { labels, .. } = batch else { panic!("not images") };
        assert_eq!(labels.int64_value(&[0]), 6);
    }
}
