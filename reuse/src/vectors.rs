//! Input vectors as a view: cut from a layer's operand where they lie, never stored.

use crate::config::Granularity;
use mercury_trace::windows::{Axis, Windows};

/// A layer's streamed operand: `[samples][channels][height][width]`.
///
/// The rows of a matrix product are planes too: one channel (or one a head) of `rows x length`.
#[derive(Debug, Clone, Copy)]
pub struct Planes<'a> {
    /// `samples * channels * height * width` values.
    pub values: &'a [f32],
    /// Samples.
    pub samples: usize,
    /// Channels of a sample.
    pub channels: usize,
    /// Rows of a plane.
    pub height: u32,
    /// Columns of a plane.
    pub width: u32,
}

/// How many vectors there are, and in which order: sample by sample, in it stream by stream, in it
/// position by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Samples.
    pub samples: usize,
    /// Streams of a sample: sets of vectors that meet the same weights.
    pub streams: usize,
    /// Vectors of a stream of one sample.
    pub positions: usize,
}

impl Layout {
    /// Number of vectors.
    pub fn vectors(&self) -> usize {
        self.samples * self.streams * self.positions
    }

    /// Number of (sample, stream) pairs.
    pub fn runs(&self) -> usize {
        self.samples * self.streams
    }

    /// Sample, stream and position of a vector.
    pub fn locate(&self, vector: usize) -> (usize, usize, usize) {
        let run = vector / self.positions;
        (run / self.streams, run % self.streams, vector % self.positions)
    }
}

/// Which part of an im2col row a stream's vectors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// The group of channels, and with it of filters.
    pub group: usize,
    /// First element of the vector in the group's row (channel, kernel row, kernel column).
    pub first: usize,
    /// Length of the vector.
    pub length: usize,
}

/// Consecutive elements of a vector that lie in one row of a plane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    /// The plane's channel.
    pub channel: usize,
    /// Tap along rows.
    pub ty: u32,
    /// First tap along columns.
    pub tx: usize,
    /// Number of taps along columns.
    pub run: usize,
    /// The first one's place in the vector.
    pub element: usize,
}

/// Which samples of an operand a view has, where it has only some: what is drawn by a seed then is the
/// same as of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleRange {
    /// Number of the first sample.
    pub first: usize,
    /// How many samples there are.
    pub of: usize,
}

/// The input vectors of one operand at a granularity.
///
/// Granularities are all one cut: sub-vectors of `taps` elements are channel patches, sub-vectors
/// as long as the row are patches.
#[derive(Debug, Clone)]
pub struct VectorView<'a> {
    planes: Planes<'a>,
    windows: Windows,
    channels_per_group: usize,
    streams: Vec<Stream>,
    /// Of windows within their planes, where each element of a group's row lies behind the first one's first tap.
    places: Vec<usize>,
    range: SampleRange,
}

/// Taps in a row of a window from which on they are copied at once.
const LONG_ROW: u32 = 16;

impl<'a> VectorView<'a> {
    /// The vectors that `windows` cut from `planes`, whose channels fall into `groups` equal groups.
    ///
    /// # Panics
    /// If the planes' values are not as many as their sizes say, `groups` does not divide the
    /// channels, or the windows have no taps.
    pub fn new(planes: Planes<'a>, windows: Windows, groups: usize, granularity: Granularity) -> Self {
        let area = planes.height as usize * planes.width as usize;
        assert_eq!(planes.values.len(), planes.samples * planes.channels * area, "values of the planes");
        assert_eq!(planes.channels % groups, 0, "channels fall into groups");
        assert!(windows.taps() > 0, "windows have taps");
        assert!(u32::try_from(windows.positions()).is_ok(), "positions have numbers");
        let channels_per_group = planes.channels / groups;
        let row = channels_per_group * windows.taps();
        let length = match granularity {
            Granularity::ChannelPatch => windows.taps(),
            Granularity::Patch => row,
            Granularity::SubVector(length) => length as usize,
        };
        let cut =
            |group| (0..row).step_by(length).map(move |first| Stream { group, first, length: length.min(row - first) });
        let streams = (0..groups).flat_map(cut).collect();
        let range = SampleRange { first: 0, of: planes.samples };
        let [down, right] = [windows.y.step as usize * planes.width as usize, windows.x.step as usize];
        let mut places = Vec::with_capacity(row);
        for channel in 0..channels_per_group {
            for ty in 0..windows.y.taps as usize {
                places.extend((0..windows.x.taps as usize).map(|tx| channel * area + ty * down + tx * right));
            }
        }
        Self { planes, windows, channels_per_group, streams, places, range }
    }

    /// The same, as some of the operand's samples.
    #[must_use]
    pub fn with_range(self, range: SampleRange) -> Self {
        Self { range, ..self }
    }

    /// Which samples these are.
    pub fn range(&self) -> SampleRange {
        self.range
    }

    /// The rows of a matrix product, `[samples][heads][rows][length]`: each row a window.
    pub fn of_rows(values: &'a [f32], samples: usize, heads: usize, rows: u32, length: u32, cut: Granularity) -> Self {
        let planes = Planes { values, samples, channels: heads, height: rows, width: length };
        let windows = Windows { y: Axis::forward(rows, 1, 1, 0, 1), x: Axis::forward(1, length, 1, 0, 1) };
        Self::new(planes, windows, heads, cut)
    }

    /// How many vectors there are.
    pub fn layout(&self) -> Layout {
        Layout { samples: self.planes.samples, streams: self.streams.len(), positions: self.windows.positions() }
    }

    /// The streams.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// Where the vectors are cut.
    pub fn windows(&self) -> &Windows {
        &self.windows
    }

    /// Where the vectors are cut from.
    pub(crate) fn planes(&self) -> &Planes<'a> {
        &self.planes
    }

    /// The channel in which a stream's vectors begin.
    pub(crate) fn first_channel(&self, stream: usize) -> usize {
        let Stream { group, first, .. } = self.streams[stream];
        group * self.channels_per_group + first / self.windows.taps()
    }

    /// Length of the longest vector.
    pub fn max_length(&self) -> usize {
        self.streams.iter().map(|stream| stream.length).max().unwrap_or(0)
    }

    /// Where an element of a stream's vectors comes from and what it meets: the plane's channel, the
    /// kernel's row and column.
    pub fn element(&self, stream: usize, offset: usize) -> (usize, usize, usize) {
        let Stream { group, first, .. } = self.streams[stream];
        let (channel, tap) = ((first + offset) / self.windows.taps(), (first + offset) % self.windows.taps());
        let columns = self.windows.x.taps as usize;
        let (ty, tx) = ((tap / columns) as u32, (tap % columns) as u32);
        let kernel = (self.windows.y.kernel_element(ty), self.windows.x.kernel_element(tx));
        (group * self.channels_per_group + channel, kernel.0, kernel.1)
    }

    /// A stream's vectors in pieces, each within one kernel row and so within one row of a plane.
    pub(crate) fn pieces(&self, stream: usize) -> impl Iterator<Item = Piece> {
        let Stream { group, first, length } = self.streams[stream];
        let (taps, columns) = (self.windows.taps(), self.windows.x.taps as usize);
        let first_channel = group * self.channels_per_group;
        let mut element = 0;
        std::iter::from_fn(move || {
            let at = first + element;
            let tx = at % columns;
            let run = (columns - tx).min(length - element);
            let piece =
                Piece { channel: first_channel + at / taps, ty: (at % taps / columns) as u32, tx, run, element };
            element += run;
            (run > 0).then_some(piece)
        })
    }

    /// A vector where it lies, if its windows are within their planes: values, and the place of each of its elements among
    /// them.
    #[inline]
    pub(crate) fn in_place(&self, sample: usize, stream: usize, position: usize) -> Option<(&'a [f32], &[usize])> {
        let Stream { group, first, length } = self.streams[stream];
        let Planes { values, channels, height, width, .. } = self.planes;
        let Windows { y, x } = &self.windows;
        let top = y.first_inside(position as u32 / x.positions, height)?;
        let left = x.first_inside(position as u32 % x.positions, width)?;
        let plane = sample * channels + group * self.channels_per_group;
        let start = (plane * height as usize + top) * width as usize + left;
        Some((&values[start..], &self.places[first..first + length]))
    }

    /// Copies a vector to the front of `out` and returns it; padding is zero.
    pub fn gather<'o>(&self, sample: usize, stream: usize, position: usize, out: &'o mut [f32]) -> &'o mut [f32] {
        let Stream { group, first, length } = self.streams[stream];
        let out = &mut out[..length];
        // A short row's values are copied faster one by one than by a call.
        if self.windows.x.taps < LONG_ROW
            && let Some((values, places)) = self.in_place(sample, stream, position)
        {
            for (slot, &place) in out.iter_mut().zip(places) {
                *slot = values[place];
            }
            return out;
        }
        let Planes { values, channels, height, width, .. } = self.planes;
        let area = height as usize * width as usize;
        let (y, x) = (&self.windows.y, &self.windows.x);
        let (row, column) = (position as u32 / x.positions, position as u32 % x.positions);
        let plane = sample * channels + group * self.channels_per_group;
        let (taps, taps_x) = (self.windows.taps(), x.taps as usize);
        let mut channel = first / taps;
        let mut ty = (first % taps / taps_x) as u32;
        let mut tx = (first % taps % taps_x) as u32;
        let mut filled = 0;
        while filled < length {
            // One kernel row at a time: it lies in one row of the plane.
            let run = (taps_x - tx as usize).min(length - filled);
            let target = &mut out[filled..filled + run];
            match y.coordinate(row, ty, height) {
                None => target.fill(0.0),
                Some(at) => {
                    let line = &values[(plane + channel) * area + at * width as usize..][..width as usize];
                    let start = x.origin + i64::from(column) * i64::from(x.stride) + i64::from(tx) * i64::from(x.step);
                    if x.step == 1 && x.taps >= LONG_ROW && start >= 0 && start as usize + run <= line.len() {
                        target.copy_from_slice(&line[start as usize..start as usize + run]);
                    } else {
                        for (offset, slot) in target.iter_mut().enumerate() {
                            *slot = x.coordinate(column, tx + offset as u32, width).map_or(0.0, |at| line[at]);
                        }
                    }
                }
            }
            filled += run;
            tx = 0;
            ty += 1;
            if ty == y.taps {
                ty = 0;
                channel += 1;
            }
        }
        out
    }
}
