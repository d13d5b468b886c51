//! Data sets of labelled images, read from the files in which they are published.

mod cifar;
mod idx;

use crate::error::{Result, TracerError};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// A data set that can be read by name.
pub struct DatasetSpec {
    /// The name on the command line, and of its folder.
    pub name: &'static str,
    /// Channels, rows and columns of an image.
    pub input: [i64; 3],
    /// Number of classes.
    pub classes: i64,
    /// Where it was published.
    pub reference: &'static str,
    read: fn(&Path) -> Result<Dataset>,
}

/// All data sets.
pub const DATASETS: &[DatasetSpec] = &[
    DatasetSpec {
        name: "fashion-mnist",
        input: [1, 28, 28],
        classes: 10,
        reference: "Xiao, Rasul and Vollgraf, Fashion-MNIST (2017), arXiv 1708.07747",
        read: idx::fashion_mnist,
    },
    DatasetSpec {
        name: "cifar10",
        input: [3, 32, 32],
        classes: 10,
        reference: "Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009)",
        read: cifar::cifar10,
    },
];

impl DatasetSpec {
    /// The data set of a name.
    pub fn find(name: &str) -> Result<&'static DatasetSpec> {
        DATASETS.iter().find(|dataset| dataset.name == name).ok_or_else(|| TracerError::UnknownDataset {
            name: name.to_owned(),
            known: DATASETS.iter().map(|dataset| dataset.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// Reads it from its folder in `data_dir`.
    pub fn read(&self, data_dir: &Path) -> Result<Dataset> {
        (self.read)(&data_dir.join(self.name))
    }
}

/// Images of one kind with their labels.
#[derive(Debug)]
pub struct Split {
    /// `[images, channels, rows, columns]`, bytes.
    images: Tensor,
    /// `[images]`.
    labels: Tensor,
}

impl Split {
    /// From bytes as they lie in the files.
    fn new(images: &[u8], labels: &[u8], [channels, rows, columns]: [i64; 3]) -> Result<Self> {
        let size = [labels.len() as i64, channels, rows, columns];
        Ok(Self {
            images: Tensor::f_from_data_size(images, &size, Kind::Uint8)?,
            labels: Tensor::f_from_slice(labels)?.to_kind(Kind::Int64),
        })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.size()[0] as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A data set, images scaled so that training images have mean 0 and standard deviation 1 in each
/// channel.
#[derive(Debug)]
pub struct Dataset {
    /// Images to train on.
    pub train: Split,
    /// Images to validate on.
    pub validation: Split,
    mean: Tensor,
    deviation: Tensor,
}

impl Dataset {
    fn new(train: Split, validation: Split) -> Self {
        // Sums of bytes and of their squares are exact in f64, whatever the order.
        let channels = train.images.size()[1];
        let (mut means, mut deviations) = (Vec::new(), Vec::new());
        for channel in 0..channels {
            let bytes = train.images.select(1, channel).to_kind(Kind::Double);
            let (mean, square) = (bytes.mean(Kind::Double), bytes.square().mean(Kind::Double));
            let mean = mean.double_value(&[]);
            means.push(mean as f32);
            deviations.push((square.double_value(&[]) - mean * mean).sqrt().max(1.0) as f32);
        }
        let shape = [1, channels, 1, 1];
        Self {
            train,
            validation,
            mean: Tensor::from_slice(&means).reshape(shape),
            deviation: Tensor::from_slice(&deviations).reshape(shape),
        }
    }

    /// Surrounds images of fewer rows or columns than `size` with black, as even on both sides as
    /// can be; the scaling stays that of the images as published.
    pub fn pad_to(&mut self, size: i64) {
        for split in [&mut self.train, &mut self.validation] {
            let [rows, columns] = [2, 3].map(|axis| (size - split.images.size()[axis]).max(0));
            let (left, top) = (columns / 2, rows / 2);
            split.images = split.images.constant_pad_nd([left, columns - left, top, rows - top]);
        }
    }

    /// Channels, rows and columns of an image.
    pub fn input(&self) -> [i64; 3] {
        let size = self.train.images.size();
        [size[1], size[2], size[3]]
    }

    /// Images and labels of these indices of a split, on a device.
    pub fn batch(&self, split: &Split, indices: &[i64], device: Device) -> (Tensor, Tensor) {
        let indices = Tensor::from_slice(indices);
        let images = split.images.index_select(0, &indices).to_kind(Kind::Float);
        let images = (images - &self.mean) / &self.deviation;
        (images.to_device(device), split.labels.index_select(0, &indices).to_device(device))
    }
}

/// Reads a file of a data set whole.
fn read_file(path: &Path, dataset: &'static str) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| TracerError::MissingData { path: path.to_owned(), dataset, error })
}
