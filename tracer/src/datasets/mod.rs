//! Data sets: images into classes and sentences into sentences, read from the files in which they
//! are published, or from the user's own.
//!
//! [`DatasetSpec::open`] reads what [`Options`] say into a [`Dataset`] of two [`Split`]s; a
//! [`Loader`] makes a split's batches ahead of the step that needs them.

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
pub use options::Options;

use crate::error::{Result, TracerError};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tch::{Device, Tensor};

/// What a data set asks of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Images into classes.
    Images {
        /// Channels of an image.
        channels: i64,
        /// Its rows and columns.
        size: [i64; 2],
        /// Number of classes.
        classes: i64,
    },
    /// A source sentence into a target sentence; lengths in tokens, padded.
    Text {
        /// Length of a source, with its EOS.
        source: i64,
        /// Length of a target, as the model is given it (with BOS) and as it learns it (with EOS).
        target: i64,
        /// Number of tokens, the same ones for both languages.
        vocabulary: i64,
    },
}

/// SHA-256 of what a data set consists of, its first half in hexadecimal: tells whether a resumed run
/// sees the same data.
fn digest<T: AsRef<[u8]>>(parts: impl IntoIterator<Item = T>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.as_ref().len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Samples that a step works on.
///
/// On the CPU as a [`Split`] makes it.
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
        /// `i64`, `[samples, target + 1]`: BOS, tokens, EOS, PAD. The model is given all but the
        /// last column and learns all but the first.
        target: Tensor,
    },
}

impl Batch {
    /// Number of samples.
    pub fn len(&self) -> usize {
        let (Self::Images { labels: first, .. } | Self::Text { source: first, .. }) = self;
        first.size()[0] as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same on a device.
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

/// Randomness of one epoch's augmentation.
///
/// What becomes of a sample is a function of these and of its index only, never of threads, so that
/// a resumed run repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Augment {
    /// The run's seed.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: u64,
}

/// Samples to train or to validate on.
pub trait Split: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Loads these samples in parallel, in this order; augmented where that is asked for here and
    /// was by [`Options::augment`].
    ///
    /// # Panics
    ///
    /// Where an index is not below [`Split::len`].
    fn load(&self, indices: &[u32], augment: Option<Augment>) -> Result<Batch>;
}

/// A data set that is open.
pub struct Dataset {
    /// Its name on the command line.
    pub name: String,
    /// What it asks of a model.
    pub task: Task,
    /// Samples to train on.
    pub train: Arc<dyn Split>,
    /// Samples to validate on.
    pub validation: Arc<dyn Split>,
    /// The tokens, where it is of text.
    pub vocabulary: Option<text::Vocabulary>,
    /// The validation samples' target lines as they are in the file; empty where it is of images.
    pub reference_lines: Vec<String>,
    /// How it was prepared, for the manifest.
    pub description: BTreeMap<String, String>,
    /// What the user may not have meant, each once.
    pub warnings: Vec<String>,
}

impl Dataset {
    /// Target lines of these validation samples, as they are in the file: what BLEU compares with.
    ///
    /// None where the data set is of images.
    ///
    /// # Panics
    ///
    /// Where an index is not below the number of validation samples.
    pub fn references(&self, indices: &[u32]) -> Vec<String> {
        if self.reference_lines.is_empty() {
            return Vec::new();
        }
        indices.iter().map(|&index| self.reference_lines[index as usize].clone()).collect()
    }

    /// A line for people: what is read, and what is not.
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

/// Where a data set's samples come from, which decides the flags that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
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
    /// What its samples are, for people.
    pub kind: &'static str,
    /// Where it was published, or which flags name it.
    pub reference: &'static str,
    source: Source,
    open: fn(&Options, i64) -> Result<Dataset>,
}

/// All data sets.
pub const DATASETS: &[DatasetSpec] = &[
    DatasetSpec {
        name: "fashion-mnist",
        kind: "1 x 28 x 28, 10 classes",
        reference: "Xiao, Rasul and Vollgraf, Fashion-MNIST (2017), arXiv 1708.07747",
        source: Source::Images,
        open: idx::fashion_mnist,
    },
    DatasetSpec {
        name: "mnist",
        kind: "1 x 28 x 28, 10 classes",
        reference: "LeCun, Cortes and Burges, The MNIST database of handwritten digits (1998)",
        source: Source::Images,
        open: idx::mnist,
    },
    DatasetSpec {
        name: "cifar10",
        kind: "3 x 32 x 32, 10 classes",
        reference: "Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009)",
        source: Source::Images,
        open: cifar::cifar10,
    },
    DatasetSpec {
        name: "cifar100",
        kind: "3 x 32 x 32, 100 classes",
        reference: "Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009)",
        source: Source::Images,
        open: cifar::cifar100,
    },
    DatasetSpec {
        name: "images",
        kind: "3 x 224 x 224, a class a folder",
        reference: "your own: --train-dir, --validation-dir",
        source: Source::OwnImages,
        open: photos::open,
    },
    DatasetSpec {
        name: "multi30k",
        kind: "English to German captions",
        reference: "Elliott, Frank, Sima'an and Specia, Multi30K (2016), arXiv 1605.00459",
        source: Source::Text,
        open: text::multi30k,
    },
    DatasetSpec {
        name: "text",
        kind: "lines into lines",
        reference: "your own: --source, --target, --validation-source, --validation-target",
        source: Source::OwnText,
        open: text::own,
    },
];

impl DatasetSpec {
    /// The data set of a name.
    pub fn find(name: &str) -> Result<&'static Self> {
        DATASETS.iter().find(|dataset| dataset.name == name).ok_or_else(|| TracerError::UnknownDataset {
            name: name.to_owned(),
            known: DATASETS.iter().map(|dataset| dataset.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// Whether its samples are images, rather than text.
    pub fn is_images(&self) -> bool {
        matches!(self.source, Source::Images | Source::OwnImages)
    }

    /// Opens it. `least_size` is the fewest rows and columns that the model can take, 0 for text.
    pub fn open(&self, options: &Options, least_size: i64) -> Result<Dataset> {
        options.check_use(self.name, self.source)?;
        (self.open)(options, least_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mercury_testing::report_skip;
    use std::path::{Path, PathBuf};

    /// Data in the folder `MERCURY_SHARED_DATA`, by default `shared/data` beside the checkout; reports the calling
    /// test as skipped if it is missing.
    #[track_caller]
    pub(super) fn shared(name: &str) -> Option<PathBuf> {
        let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
        let path = std::env::var_os("MERCURY_SHARED_DATA").map_or_else(beside, PathBuf::from).join(name);
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
        let options = Options { data_dir: path.parent().unwrap().to_owned(), ..Options::default() };
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
