//! Turns an image's bytes into the model's input: resizes, crops, flips and normalises.

use super::Augment;
use image::imageops::{self, FilterType};
use image::{GrayImage, Rgb, RgbImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::borrow::Cow;

/// An image as planes of bytes, channel by channel.
#[derive(Debug, Clone)]
pub(super) struct ImagePlanes<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    pub(super) channels: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl ImagePlanes<'_> {
    /// Converts interleaved pixels of red, green and blue.
    pub(super) fn from_rgb(image: &RgbImage) -> ImagePlanes<'static> {
        let pixels = image.as_raw();
        let bytes = (0..3).flat_map(|channel| pixels.iter().skip(channel).step_by(3).copied()).collect();
        ImagePlanes { bytes, channels: 3, rows: image.height() as usize, columns: image.width() as usize }
    }

    fn to_rgb(&self) -> RgbImage {
        let plane = self.rows * self.columns;
        RgbImage::from_fn(self.columns as u32, self.rows as u32, |x, y| {
            let pixel = y as usize * self.columns + x as usize;
            Rgb([0, 1, 2].map(|channel| self.bytes[channel * plane + pixel]))
        })
    }

    /// Resizes bilinearly with antialiasing; rounds to bytes.
    pub(super) fn resize(self, rows: usize, columns: usize) -> Self {
        if (rows, columns) == (self.rows, self.columns) {
            return self;
        }
        let (width, height) = (columns as u32, rows as u32);
        // Resizing three channels together takes as long as one channel.
        if self.channels == 3 {
            return ImagePlanes::from_rgb(&imageops::resize(&self.to_rgb(), width, height, FilterType::Triangle));
        }
        let mut bytes = Vec::with_capacity(self.channels * rows * columns);
        for plane in self.bytes.chunks_exact(self.rows * self.columns) {
            let plane = GrayImage::from_raw(self.columns as u32, self.rows as u32, plane.to_vec())
                .expect("a plane has as many bytes as pixels");
            bytes.extend(imageops::resize(&plane, width, height, FilterType::Triangle).into_raw());
        }
        ImagePlanes { bytes: bytes.into(), channels: self.channels, rows, columns }
    }

    /// Writes the normalised pixels of the window into `out`, `[channels, rows, columns]`.
    pub(super) fn write(&self, window: CropWindow, table: &NormalisationTable, out: &mut [f32]) {
        let planes = self.bytes.chunks_exact(self.rows * self.columns);
        let outs = out.chunks_exact_mut(window.rows * window.columns);
        for ((plane, out), values) in planes.zip(outs).zip(&table.0) {
            for (y, out) in out.chunks_exact_mut(window.columns).enumerate() {
                let row = usize::try_from(window.top + y as isize).ok().filter(|&row| row < self.rows);
                let row = row.map(|row| &plane[row * self.columns..(row + 1) * self.columns]);
                for (x, out) in out.iter_mut().enumerate() {
                    let x = if window.flip { window.columns - 1 - x } else { x };
                    let column = usize::try_from(window.left + x as isize).ok();
                    let byte = row.zip(column).and_then(|(row, column)| row.get(column)).copied();
                    // Pixels outside the image are black.
                    *out = values[usize::from(byte.unwrap_or(0))];
                }
            }
        }
    }
}

/// The part of an image that is used; it may extend over the edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CropWindow {
    pub(super) top: isize,
    pub(super) left: isize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Whether left and right are exchanged.
    pub(super) flip: bool,
}

impl CropWindow {
    /// Centres a window on an image; the window may be larger than the image.
    pub(super) fn centred(image: [usize; 2], window: [usize; 2]) -> Self {
        // Division rounds towards zero, so the smaller half of an odd margin is above and left.
        let middle = |axis: usize| (image[axis] as isize - window[axis] as isize) / 2;
        Self { top: middle(0), left: middle(1), rows: window[0], columns: window[1], flip: false }
    }
}

/// The normalised number for every channel and byte.
#[derive(Debug, Clone)]
pub(super) struct NormalisationTable(Vec<[f32; 256]>);

impl NormalisationTable {
    /// Normalises `(byte - mean) / deviation`, channel by channel.
    pub(super) fn from_byte_statistics(channels: &[[f32; 2]]) -> Self {
        Self::new(channels, 1.0)
    }

    /// Normalises `(byte / 255 - mean) / deviation`, channel by channel.
    pub(super) fn from_share_statistics(channels: &[[f32; 2]]) -> Self {
        Self::new(channels, 255.0)
    }

    fn new(channels: &[[f32; 2]], scale: f32) -> Self {
        let normalise =
            |&[mean, deviation]: &[f32; 2]| std::array::from_fn(|byte| ((byte as f32) / scale - mean) / deviation);
        Self(channels.iter().map(normalise).collect())
    }
}

/// Creates the random numbers of one sample in one epoch.
///
/// They depend only on seed, epoch and index, so that threads and batches do not matter and a
/// resumed run repeats them.
pub(super) fn sample_rng(augment: Augment, index: u32) -> ChaCha8Rng {
    rng([augment.seed, AUGMENT, augment.epoch, u64::from(index)])
}

/// Creates the random numbers that choose validation samples.
pub(super) fn validation_rng(seed: u64) -> ChaCha8Rng {
    rng([seed, VALIDATION, 0, 0])
}

/// Second words of the keys; they differ from those of [`crate::sampling`].
const AUGMENT: u64 = 0x100;
const VALIDATION: u64 = 0x101;

fn rng(words: [u64; 4]) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip(words) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// Draws a number from `0..=most`.
pub(super) fn draw(rng: &mut ChaCha8Rng, most: usize) -> isize {
    // Draws of u32 are the same on every machine, unlike those of usize.
    rng.random_range(0..=most as u32) as isize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planes(bytes: &[u8], channels: usize, rows: usize, columns: usize) -> ImagePlanes<'_> {
        ImagePlanes { bytes: bytes.into(), channels, rows, columns }
    }

    #[test]
    fn resizing_keeps_constants_and_gradients() {
        let constant = planes(&[77; 5 * 7], 1, 5, 7).resize(9, 3);
        assert_eq!((constant.rows, constant.columns, constant.bytes.len()), (9, 3, 27));
        assert!(constant.bytes.iter().all(|&byte| byte == 77));
        // Twice as large: new pixel centres are a quarter pixel off the old ones; edges repeat.
        let gradient = planes(&[0, 40, 80, 120], 1, 1, 4).resize(1, 8);
        assert_eq!(*gradient.bytes, [0, 10, 30, 50, 70, 90, 110, 120]);
        // Half as large: a triangle over four pixels, weights 1 3 3 1, cut at the edges.
        let gradient = planes(&[0, 40, 80, 120, 160, 200], 1, 1, 6).resize(1, 3);
        assert_eq!(*gradient.bytes, [29, 100, 171]);
        // Channels stay apart.
        let two = planes(&[10, 10, 10, 10, 90, 90, 90, 90], 2, 2, 2).resize(1, 1);
        assert_eq!(*two.bytes, [10, 90]);
        // Three channels together give the same as one by one.
        let bytes: Vec<u8> = (0..3 * 5 * 4).map(|i| (i * 89 % 256) as u8).collect();
        let three = planes(&bytes, 3, 5, 4).resize(7, 3);
        let single = bytes.chunks(20).map(|plane| planes(plane, 1, 5, 4).resize(7, 3).bytes.into_owned());
        assert_eq!(*three.bytes, single.collect::<Vec<_>>().concat());
    }

    #[test]
    fn windows_crop_pad_and_flip() {
        let image = planes(&[1, 2, 3, 4, 5, 6], 1, 2, 3);
        let table = NormalisationTable::from_byte_statistics(&[[0.0, 1.0]]);
        let cut = |window: CropWindow| {
            let mut out = vec![9.0; window.rows * window.columns];
            image.write(window, &table, &mut out);
            out
        };
        assert_eq!(cut(CropWindow::centred([2, 3], [1, 1])), [2.0]);
        let padded = CropWindow::centred([2, 3], [3, 5]);
        assert_eq!((padded.top, padded.left), (0, -1));
        assert_eq!(cut(padded), [0., 1., 2., 3., 0., 0., 4., 5., 6., 0., 0., 0., 0., 0., 0.]);
        let flipped = CropWindow { top: 1, left: 1, rows: 2, columns: 2, flip: true };
        assert_eq!(cut(flipped), [6., 5., 0., 0.]);
        let outside = CropWindow { top: -9, left: 9, rows: 1, columns: 2, flip: false };
        assert_eq!(cut(outside), [0., 0.]);
    }

    #[test]
    fn tables_normalise() {
        let NormalisationTable(bytes) = NormalisationTable::from_byte_statistics(&[[10.0, 2.0], [0.0, 1.0]]);
        assert_eq!((bytes[0][14], bytes[1][255]), (2.0, 255.0));
        let NormalisationTable(shares) = NormalisationTable::from_share_statistics(&[[0.5, 0.25]]);
        assert_eq!((shares[0][255], shares[0][0]), (2.0, -2.0));
    }

    #[test]
    fn random_numbers_depend_on_seed_epoch_and_index() {
        let draws = |seed, epoch, index| {
            let mut rng = sample_rng(Augment { seed, epoch }, index);
            [0; 8].map(|_: i32| draw(&mut rng, 1000))
        };
        assert_eq!(draws(1, 2, 3), draws(1, 2, 3));
        for other in [draws(2, 2, 3), draws(1, 3, 3), draws(1, 2, 4)] {
            assert_ne!(draws(1, 2, 3), other);
        }
        assert!(draws(5, 5, 5).iter().all(|draw| (0..=1000).contains(draw)));
    }

    #[test]
    fn pixels_become_planes() {
        let image = RgbImage::from_raw(2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap();
        let planes = ImagePlanes::from_rgb(&image);
        assert_eq!((planes.rows, planes.columns), (1, 2));
        assert_eq!(*planes.bytes, [1, 4, 2, 5, 3, 6]);
    }
}
