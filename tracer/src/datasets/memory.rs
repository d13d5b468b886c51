//! Data sets of small images of one size, held in memory as bytes.

use super::pixels::{self, CropWindow, ImagePlanes, NormalisationTable};
use super::{Augment, Batch, DataOptions, Dataset, Split, Task, digest};
use crate::error::Result;
use rand::RngExt;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use tch::{Kind, Tensor};

/// Maximum shift, in pixels, of a random crop of an image with its published or padded size.
const SHIFT: usize = 4;

/// Images as in their files.
#[derive(Debug)]
pub(super) struct RawImages {
    /// `[images, channels, rows, columns]`.
    pub(super) images: Vec<u8>,
    /// `[images]`.
    pub(super) labels: Vec<u8>,
    /// Channels, rows and columns of an image.
    pub(super) shape: [usize; 3],
}

impl RawImages {
    fn bytes_per_image(&self) -> usize {
        self.shape.iter().product()
    }

    /// Computes mean and standard deviation of each channel, in byte values.
    fn statistics(&self) -> Vec<[f32; 2]> {
        let [channels, rows, columns] = self.shape;
        let plane = rows * columns;
        let count = (self.labels.len() * plane) as f64;
        // Integer sums are exact, whatever the order.
        let mut sums = vec![0_u64; channels];
        let mut squares = vec![0_u64; channels];
        for (index, plane) in self.images.chunks_exact(plane).enumerate() {
            for byte in plane.iter().copied().map(u64::from) {
                sums[index % channels] += byte;
                squares[index % channels] += byte * byte;
            }
        }
        sums.into_iter().zip(squares).map(|(sum, square)| mean_and_deviation(sum, square, count)).collect()
    }
}

/// Computes mean and standard deviation from the sums of `count` values and of their squares.
fn mean_and_deviation(sum: u64, square: u64, count: f64) -> [f32; 2] {
    let mean = sum as f64 / count;
    // The minimum keeps normalisation from amplifying a nearly constant channel.
    [mean as f32, (square as f64 / count - mean * mean).sqrt().max(1.0) as f32]
}

/// How images are fitted to the model.
#[derive(Debug, Clone, Copy)]
struct ImageFit {
    /// Whether images are resized to `size`, not padded with black.
    resize: bool,
    /// Rows and columns.
    size: [usize; 2],
    /// Maximum shift of random crops, in pixels; `None` without augmentation.
    shift: Option<usize>,
    /// Whether random images are flipped.
    flip: bool,
}

struct MemorySplit {
    raw: RawImages,
    fit: ImageFit,
    table: Arc<NormalisationTable>,
}

impl MemorySplit {
    /// Writes a normalised image into `out`, `[channels, rows, columns]`.
    fn write(&self, index: u32, augment: Option<Augment>, out: &mut [f32]) {
        let [channels, rows, columns] = self.raw.shape;
        let start = index as usize * self.raw.bytes_per_image();
        let bytes = self.raw.images[start..start + self.raw.bytes_per_image()].into();
        let mut planes = ImagePlanes { bytes, channels, rows, columns };
        if self.fit.resize {
            planes = planes.resize(self.fit.size[0], self.fit.size[1]);
        }
        let mut window = CropWindow::centred([planes.rows, planes.columns], self.fit.size);
        if let Some((augment, shift)) = augment.zip(self.fit.shift) {
            let mut rng = pixels::sample_rng(augment, index);
            window.top += pixels::draw(&mut rng, 2 * shift) - shift as isize;
            window.left += pixels::draw(&mut rng, 2 * shift) - shift as isize;
            window.flip = self.fit.flip && rng.random();
        }
        planes.write(window, &self.table, out);
    }
}

impl Split for MemorySplit {
    fn len(&self) -> usize {
        self.raw.labels.len()
    }

    fn load(&self, indices: &[u32], augment: Option<Augment>) -> Result<Batch> {
        let [rows, columns] = self.fit.size;
        let size = self.raw.shape[0] * rows * columns;
        let mut images = vec![0.0; indices.len() * size];
        images.par_chunks_mut(size).zip(indices).for_each(|(out, &index)| self.write(index, augment, out));
        let labels: Vec<u8> = indices.iter().map(|&index| self.raw.labels[index as usize]).collect();
        let shape = [indices.len(), self.raw.shape[0], rows, columns].map(|size| size as i64);
        Ok(Batch::Images {
            images: Tensor::f_from_slice(&images)?.f_reshape(shape)?,
            labels: Tensor::f_from_slice(&labels)?.f_to_kind(Kind::Int64)?,
        })
    }
}

/// Creates a data set of these images, normalised by mean and deviation of the training images.
pub(super) fn create_dataset(
    name: &str,
    classes: i64,
    [train, validation]: [RawImages; 2],
    options: &DataOptions,
    least_size: i64,
) -> Result<Dataset> {
    let [channels, rows, columns] = train.shape;
    let resize = options.checked_input_size(least_size)?;
    let size = resize.map_or([rows, columns].map(|size| size.max(least_size as usize)), |size| [size; 2]);
    let statistics = train.statistics();
    let table = Arc::new(NormalisationTable::from_byte_statistics(&statistics));
    // A mirrored digit is not a digit.
    let flip = name != "mnist";
    let shift = options.augment.then_some(resize.map_or(SHIFT, |size| size / 8));

    let input = match resize {
        Some(size) => format!("{rows} x {columns} resized to {size} x {size}"),
        None if size == [rows, columns] => format!("{rows} x {columns} as published"),
        None => format!("{rows} x {columns} padded with black to {} x {}", size[0], size[1]),
    };
    let augmentation = match shift {
        Some(shift) => {
            let flips = if flip { ", random flips" } else { "" };
            format!("random crops {shift} pixels around{flips}")
        }
        None => "none".to_owned(),
    };
    let channel = |[mean, deviation]: &[f32; 2]| format!("{mean:.3} ± {deviation:.3}");
    let description = BTreeMap::from([
        ("input".to_owned(), input),
        ("augmentation".to_owned(), augmentation),
        ("normalisation".to_owned(), statistics.iter().map(channel).collect::<Vec<_>>().join(", ")),
        ("validation".to_owned(), "the set's test images".to_owned()),
        ("digest".to_owned(), digest([&train.images, &train.labels, &validation.images, &validation.labels])),
    ]);
    let fit = ImageFit { resize: resize.is_some(), size, shift, flip };
    let train = MemorySplit { raw: train, fit, table: table.clone() };
    // Validation images are not augmented.
    let validation = MemorySplit { raw: validation, fit: ImageFit { shift: None, ..fit }, table };
    Ok(Dataset {
        name: name.to_owned(),
        task: Task::Images { channels: channels as i64, size: size.map(|size| size as i64), classes },
        train: Arc::new(train),
        validation: Arc::new(validation),
        vocabulary: None,
        reference_lines: Vec::new(),
        description,
        warnings: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(images: usize) -> RawImages {
        let bytes = (0..images * 2 * 6 * 6).map(|i| (i * 37 % 251) as u8).collect();
        RawImages { images: bytes, labels: (0..images as u8).map(|i| i % 3).collect(), shape: [2, 6, 6] }
    }

    fn open(options: &DataOptions, least: i64) -> Result<Dataset> {
        create_dataset("cifar10", 3, [raw(12), raw(5)], options, least)
    }

    fn images(split: &dyn Split, indices: &[u32], augment: Option<Augment>) -> (Vec<f32>, Vec<i64>) {
        let Batch::Images { images, labels } = split.load(indices, augment).unwrap() else { panic!("not images") };
        (images.flatten(0, -1).try_into().unwrap(), labels.try_into().unwrap())
    }

    #[test]
    fn training_images_are_normalised() {
        let set = open(&DataOptions::default(), 0).unwrap();
        assert_eq!(set.task, Task::Images { channels: 2, size: [6, 6], classes: 3 });
        let all: Vec<u32> = (0..12).collect();
        let Batch::Images { images, .. } = set.train.load(&all, None).unwrap() else { panic!("not images") };
        assert_eq!(images.size(), [12, 2, 6, 6]);
        for channel in 0..2 {
            let channel = images.select(1, channel).to_kind(Kind::Double);
            assert!(channel.mean(Kind::Double).double_value(&[]).abs() < 1e-6);
            assert!((channel.std(false).double_value(&[]) - 1.0).abs() < 1e-6);
        }
        // Validation images are normalised by the training images' statistics.
        let (own, _) = self::images(set.validation.as_ref(), &[0], None);
        let (train, _) = self::images(set.train.as_ref(), &[0], None);
        assert_eq!(own, train);
    }

    #[test]
    fn small_images_are_padded_with_black_or_resized() {
        let set = open(&DataOptions::default(), 9).unwrap();
        assert_eq!(set.task, Task::Images { channels: 2, size: [9, 9], classes: 3 });
        let Batch::Images { images, labels } = set.train.load(&[4, 2], None).unwrap() else { panic!("not images") };
        assert_eq!(Vec::<i64>::try_from(labels).unwrap(), [1, 2]);
        let plain = open(&DataOptions::default(), 6).unwrap();
        let Batch::Images { images: inner, .. } = plain.train.load(&[4, 2], None).unwrap() else {
            panic!("not images")
        };
        assert_eq!(images.narrow(2, 1, 6).narrow(3, 1, 6), inner);
        let black = images.select(3, 8).select(1, 0);
        assert_eq!(black.max(), images.select(1, 0).min());

        let options = DataOptions { input_size: Some(12), ..DataOptions::default() };
        let set = open(&options, 9).unwrap();
        assert_eq!(set.task, Task::Images { channels: 2, size: [12, 12], classes: 3 });
        let error = open(&options, 13).unwrap_err().to_string();
        assert_eq!(error, "--input-size: is 12, but the model needs at least 13");
        let error = open(&DataOptions { input_size: Some(0), ..DataOptions::default() }, 0).unwrap_err().to_string();
        assert!(error.starts_with("--input-size: is 0, but must be "), "{error}");
    }

    #[test]
    fn augmentation_depends_on_seed_epoch_and_index_alone() {
        let indices = [3, 0, 7, 11, 5, 6];
        for input_size in [None, Some(16)] {
            let options = DataOptions { augment: true, input_size, ..DataOptions::default() };
            let set = open(&options, 0).unwrap();
            let first = Augment { seed: 1, epoch: 0 };
            let load = |augment| images(set.train.as_ref(), &indices, augment).0;
            let batch = load(Some(first));
            assert_eq!(batch, load(Some(first)));
            assert_ne!(batch, load(Some(Augment { seed: 1, epoch: 1 })));
            assert_ne!(batch, load(Some(Augment { seed: 2, epoch: 0 })));
            assert_ne!(batch, load(None));
            // Neither threads nor other samples of the batch matter.
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                assert_eq!(batch, pool.install(|| load(Some(first))));
            }
            let (alone, _) = images(set.train.as_ref(), &[7], Some(first));
            let size = batch.len() / indices.len();
            assert_eq!(alone, batch[2 * size..3 * size]);
            // Validation images are never augmented.
            let validation = |augment| images(set.validation.as_ref(), &[0, 1], augment);
            assert_eq!(validation(Some(first)), validation(None));
        }
        let plain = open(&DataOptions::default(), 0).unwrap();
        let load = |augment| images(plain.train.as_ref(), &indices, augment);
        assert_eq!(load(None), load(Some(Augment { seed: 1, epoch: 0 })));
    }
}
