//! From bytes of an image to the numbers that a model is given: resize, crop, flip, normalise.

use super::Augment;
use image::imageops::{self, FilterType};
use image::{GrayImage, Rgb, RgbImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::borrow::Cow;

/// An image as planes of bytes: all of a channel's rows, then the next channel's.
#[derive(Debug, Clone)]
pub(super) struct Planes<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    pub(super) channels: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Planes<'_> {
    /// From pixels of red, green and blue side by side.
    pub(super) fn from_rgb(image: &RgbImage) -> Planes<'static> {
        let pixels = image.as_raw();
        let bytes = (0..3).flat_map(|channel| pixels.iter().skip(channel).step_by(3).copied()).collect();
        Planes { bytes, channels: 3, rows: image.height() as usize, columns: image.width() as usize }
    }

    fn to_rgb(&self) -> RgbImage {
        let plane = self.rows * self.columns;
        RgbImage::from_fn(self.columns as u32, self.rows as u32, |x, y| {
            let pixel = y as usize * self.columns + x as usize;
            Rgb([0, 1, 2].map(|channel| self.bytes[channel * plane + pixel]))
        })
    }

    /// Resized bilinearly, each new pixel the mean over what it covers where that is more than one
    /// (antialiasing), rounded to bytes.
    pub(super) fn resized(self, rows: usize, columns: usize) -> Self {
        if (rows, columns) == (self.rows, self.columns) {
            return self;
        }
        let (width, height) = (columns as u32, rows as u32);
        // Three channels at once take as long as one.
        if self.channels == 3 {
            return Planes::from_rgb(&imageops::resize(&self.to_rgb(), width, height, FilterType::Triangle));
        }
        let mut bytes = Vec::with_capacity(self.channels * rows * columns);
        for plane in self.bytes.chunks_exact(self.rows * self.columns) {
            let plane = GrayImage::from_raw(self.columns as u32, self.rows as u32, plane.to_vec())
                .expect("a plane has as many bytes as pixels");
            bytes.extend(imageops::resize(&plane, width, height, FilterType::Triangle).into_raw());
        }
        Planes { bytes: bytes.into(), channels: self.channels, rows, columns }
    }

    /// Writes the window's pixels, normalised, into `out`: `[channels, rows, columns]` of the window.
    pub(super) fn write(&self, window: Window, table: &Table, out: &mut [f32]) {
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
                    // Black outside.
                    *out = values[usize::from(byte.unwrap_or(0))];
                }
            }
        }
    }
}

/// What of an image is taken: it may reach over the edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) top: isize,
    pub(super) left: isize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Left and right exchanged.
    pub(super) flip: bool,
}

impl Window {
    /// In the middle of an image; where the window is larger, the image is in the middle of it.
    pub(super) fn centred(image: [usize; 2], window: [usize; 2]) -> Self {
        // Halves round towards zero: of an odd margin, the smaller half is above and left.
        let middle = |axis: usize| (image[axis] as isize - window[axis] as isize) / 2;
        Self { top: middle(0), left: middle(1), rows: window[0], columns: window[1], flip: false }
    }
}

/// For every channel and byte, the normalised number.
#[derive(Debug, Clone)]
pub(super) struct Table(Vec<[f32; 256]>);

impl Table {
    /// `(byte - mean) / deviation`, channel by channel.
    pub(super) fn of_bytes(channels: &[[f32; 2]]) -> Self {
        Self::new(channels, 1.0)
    }

    /// `(byte / 255 - mean) / deviation`, channel by channel.
    pub(super) fn of_shares(channels: &[[f32; 2]]) -> Self {
        Self::new(channels, 255.0)
    }

    fn new(channels: &[[f32; 2]], scale: f32) -> Self {
        let table =
            |&[mean, deviation]: &[f32; 2]| std::array::from_fn(|byte| ((byte as f32) / scale - mean) / deviation);
        Self(channels.iter().map(table).collect())
    }
}

/// Random numbers of one sample in one epoch.
///
/// A function of seed, epoch and index alone: neither threads nor the batch that a sample is in
/// have a say, and a resumed run repeats them.
pub(super) fn sample_rng(augment: Augment, index: u32) -> ChaCha8Rng {
    rng([augment.seed, AUGMENT, augment.epoch, u64::from(index)])
}

/// Random numbers of the choice of validation samples.
pub(super) fn validation_rng(seed: u64) -> ChaCha8Rng {
    rng([seed, VALIDATION, 0, 0])
}

/// Second words of the keys, other than those of [`crate::sampling`].
const AUGMENT: u64 = 0x100;
const VALIDATION: u64 = 0x101;

fn rng(words: [u64; 4]) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip(words) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// A number from `0..=most`.
pub(super) fn draw(rng: &mut ChaCha8Rng, most: usize) -> isize {
    // As u32, whose draws are the same on every machine.
    rng.random_range(0..=most as u32) as isize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planes(bytes: &[u8], channels: usize, rows: usize, columns: usize) -> Planes<'_> {
        Planes { bytes: bytes.into(), channels, rows, columns }
    }

    #[test]
    fn resizing_keeps_constants_and_gradients() {
        let constant = planes(&[77; 5 * 7], 1, 5, 7).resized(9, 3);
        assert_eq!((constant.rows, constant.columns, constant.bytes.len()), (9, 3, 27));
        assert!(constant.bytes.iter().all(|&byte| byte == 77));
        // Twice as large: new pixel centres lie a quarter pixel off the old, edges repeat.
        let gradient = planes(&[0, 40, 80, 120], 1, 1, 4).resized(1, 8);
        assert_eq!(*gradient.bytes, [0, 10, 30, 50, 70, 90, 110, 120]);
        // Half as large: a triangle over four pixels, weights 1 3 3 1, cut at the edges.
        let gradient = planes(&[0, 40, 80, 120, 160, 200], 1, 1, 6).resized(1, 3);
        assert_eq!(*gradient.bytes, [29, 100, 171]);
        // Channels stay apart.
        let two = planes(&[10, 10, 10, 10, 90, 90, 90, 90], 2, 2, 2).resized(1, 1);
        assert_eq!(*two.bytes, [10, 90]);
        // Three at once as one by one.
        let bytes: Vec<u8> = (0..3 * 5 * 4).map(|i| (i * 89 % 256) as u8).collect();
        let three = planes(&bytes, 3, 5, 4).resized(7, 3);
        let single = bytes.chunks(20).map(|plane| planes(plane, 1, 5, 4).resized(7, 3).bytes.into_owned());
        assert_eq!(*three.bytes, single.collect::<Vec<_>>().concat());
    }

    #[test]
    fn windows_crop_pad_and_flip() {
        let image = planes(&[1, 2, 3, 4, 5, 6], 1, 2, 3);
        let table = Table::of_bytes(&[[0.0, 1.0]]);
        let cut = |window: Window| {
            let mut out = vec![9.0; window.rows * window.columns];
            image.write(window, &table, &mut out);
            out
        };
        assert_eq!(cut(Window::centred([2, 3], [1, 1])), [2.0]);
        let padded = Window::centred([2, 3], [3, 5]);
        assert_eq!((padded.top, padded.left), (0, -1));
        assert_eq!(cut(padded), [0., 1., 2., 3., 0., 0., 4., 5., 6., 0., 0., 0., 0., 0., 0.]);
        let flipped = Window { top: 1, left: 1, rows: 2, columns: 2, flip: true };
        assert_eq!(cut(flipped), [6., 5., 0., 0.]);
        let outside = Window { top: -9, left: 9, rows: 1, columns: 2, flip: false };
        assert_eq!(cut(outside), [0., 0.]);
    }

    #[test]
    fn tables_normalise() {
        let Table(bytes) = Table::of_bytes(&[[10.0, 2.0], [0.0, 1.0]]);
        assert_eq!((bytes[0][14], bytes[1][255]), (2.0, 255.0));
        let Table(shares) = Table::of_shares(&[[0.5, 0.25]]);
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
        let planes = Planes::from_rgb(&image);
        assert_eq!((planes.rows, planes.columns), (1, 2));
        assert_eq!(*planes.bytes, [1, 4, 2, 5, 3, 6]);
    }
}
