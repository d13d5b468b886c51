//! Input vectors as a view of a layer's operand: they are cut on demand and never stored.

pub(crate) mod operand;
pub(crate) mod padded;
pub(crate) mod peers;

use crate::config::Granularity;
use mercury_trace::windows::{Axis, Windows};

/// A layer's streamed operand: `[samples][channels][height][width]`.
///
/// The rows of a matrix product are planes, too: one channel (or one per head) of `rows x length`.
#[derive(Debug, Clone, Copy)]
pub struct Planes<'a> {
    /// `samples * channels * height * width` values.
    pub values: &'a [f32],
    /// Samples.
    pub samples: usize,
    /// Channels per sample.
    pub channels: usize,
    /// Rows of a plane.
    pub height: u32,
    /// Columns of a plane.
    pub width: u32,
}

/// The number of vectors and their order: by sample, then by stream, then by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Samples.
    pub samples: usize,
    /// Streams per sample. A stream is a set of vectors that meet the same weights.
    pub streams: usize,
    /// Vectors per stream of one sample.
    pub positions: usize,
}

impl Layout {
    /// Number of vectors.
    pub fn vectors(&self) -> usize {
        self.samples * self.streams * self.positions
    }

    /// Panics if the signatures are not this layout's, or more than 32 bits can number.
    pub(crate) fn check(&self, signatures: &[u64]) {
        assert_eq!(signatures.len(), self.vectors(), "signatures of the layout");
        assert!(u32::try_from(self.vectors()).is_ok(), "vectors are numbered in 32 bits");
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

/// The section of an im2col row that a stream's vectors hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// The group of channels and filters.
    pub group: usize,
    /// Index of the vector's first element in the group's row (channel, kernel row, kernel column).
    pub first: usize,
    /// Length of the vector.
    pub length: usize,
}

/// How the vectors of an operand are cut, without its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Number and order of the vectors.
    pub layout: Layout,
    /// The streams.
    pub streams: Vec<Stream>,
}

impl Cut {
    /// The vectors that `windows` cut from `samples` samples of channels in `groups` equal groups.
    pub(crate) fn new(
        windows: &Windows,
        samples: usize,
        channels: usize,
        groups: usize,
        granularity: Granularity,
    ) -> Self {
        let group = channels / groups;
        let row = group * windows.taps();
        let length = match granularity {
            Granularity::ChannelPatch(channels) => {
                windows.taps() * channels.resolve([windows.y.taps, windows.x.taps], group)
            }
            Granularity::Patch => row,
            Granularity::SubVector(length) => length as usize,
        };
        let cut_group = |group| {
            let firsts = (0..row).step_by(length);
            firsts.map(move |first| Stream { group, first, length: length.min(row - first) })
        };
        let streams: Vec<Stream> = (0..groups).flat_map(cut_group).collect();
        let layout = Layout { samples, streams: streams.len(), positions: windows.positions() };
        Self { layout, streams }
    }
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
    /// Index of the first tap in the vector.
    pub element: usize,
}

/// The samples of an operand that a view holds. Seeded draws from the view then are the same as
/// from the whole operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleRange {
    /// Index of the view's first sample in the operand.
    pub first: usize,
    /// Number of samples of the operand.
    pub of: usize,
}

/// The input vectors of one operand at a granularity.
///
/// All granularities are cuts of im2col rows into sub-vectors: patches of q channels have `q taps`
/// elements, patches of all channels have the length of the row.
#[derive(Debug, Clone)]
pub struct VectorView<'a> {
    planes: Planes<'a>,
    windows: Windows,
    channels_per_group: usize,
    streams: Vec<Stream>,
    /// For windows inside their planes, the offset of each element of a group's row from the first
    /// tap in the group's first channel.
    places: Vec<usize>,
    /// For each position, the offset of its first tap in a plane; [`OUTSIDE`] if the window is not
    /// inside the plane.
    starts: Vec<usize>,
    range: SampleRange,
}

const OUTSIDE: usize = usize::MAX;

/// The offset of the first tap of each window in its plane, [`OUTSIDE`] for windows that are not inside.
fn list_starts(Windows { y, x }: &Windows, height: u32, width: u32) -> Vec<usize> {
    let lefts: Vec<Option<usize>> = (0..x.positions).map(|position| x.first_inside(position, width)).collect();
    let mut starts = Vec::with_capacity(y.positions as usize * lefts.len());
    for row in 0..y.positions {
        let top = y.first_inside(row, height).map(|top| top * width as usize);
        starts.extend(lefts.iter().map(|left| Some(top? + (*left)?)).map(|start| start.unwrap_or(OUTSIDE)));
    }
    starts
}

/// The rows of a matrix product: each a window as wide as its plane.
pub(crate) fn row_windows(rows: u32, length: u32) -> Windows {
    Windows { y: Axis::forward(rows, 1, 1, 0, 1), x: Axis::forward(1, length, 1, 0, 1) }
}

/// Taps in a row of a window from which on they are copied at once.
const LONG_ROW: u32 = 16;

impl<'a> VectorView<'a> {
    /// The vectors that `windows` cut from `planes`. The channels form `groups` equal groups.
    ///
    /// # Panics
    /// If the number of values does not match the sizes of the planes, `groups` does not divide the
    /// channels, the windows have no taps, or there are 2^32 positions or more.
    pub fn new(planes: Planes<'a>, windows: Windows, groups: usize, granularity: Granularity) -> Self {
        let area = planes.height as usize * planes.width as usize;
        assert_eq!(planes.values.len(), planes.samples * planes.channels * area, "values of the planes");
        assert_eq!(planes.channels % groups, 0, "channels fall into groups");
        assert!(windows.taps() > 0, "windows have taps");
        assert!(u32::try_from(windows.positions()).is_ok(), "positions have numbers");
        let channels_per_group = planes.channels / groups;
        let row = channels_per_group * windows.taps();
        let Cut { streams, .. } = Cut::new(&windows, planes.samples, planes.channels, groups, granularity);
        let range = SampleRange { first: 0, of: planes.samples };
        let [down, right] = [windows.y.step as usize * planes.width as usize, windows.x.step as usize];
        let mut places = Vec::with_capacity(row);
        for channel in 0..channels_per_group {
            for ty in 0..windows.y.taps as usize {
                places.extend((0..windows.x.taps as usize).map(|tx| channel * area + ty * down + tx * right));
            }
        }
        let starts = list_starts(&windows, planes.height, planes.width);
        Self { planes, windows, channels_per_group, streams, places, starts, range }
    }

    /// The same view, as the given samples of an operand.
    #[must_use]
    pub fn with_range(self, range: SampleRange) -> Self {
        Self { range, ..self }
    }

    /// The samples of the operand that this view holds; all of them unless set by
    /// [`VectorView::with_range`].
    pub fn range(&self) -> SampleRange {
        self.range
    }

    /// The rows of a matrix product, `[samples][heads][rows][length]`. Each row is a window.
    pub fn from_rows(
        values: &'a [f32],
        samples: usize,
        heads: usize,
        rows: u32,
        length: u32,
        cut: Granularity,
    ) -> Self {
        let planes = Planes { values, samples, channels: heads, height: rows, width: length };
        Self::new(planes, row_windows(rows, length), heads, cut)
    }

    /// The number of vectors and their order.
    pub fn layout(&self) -> Layout {
        Layout { samples: self.planes.samples, streams: self.streams.len(), positions: self.windows.positions() }
    }

    /// The streams.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// The windows that cut the vectors.
    pub fn windows(&self) -> &Windows {
        &self.windows
    }

    /// The operand that the vectors are cut from.
    pub(crate) fn planes(&self) -> &Planes<'a> {
        &self.planes
    }

    /// The channel of the first element of a stream's vectors.
    pub(crate) fn first_channel(&self, stream: usize) -> usize {
        let Stream { group, first, .. } = self.streams[stream];
        group * self.channels_per_group + first / self.windows.taps()
    }

    /// Length of the longest vector.
    pub fn max_length(&self) -> usize {
        self.streams.iter().map(|stream| stream.length).max().unwrap_or(0)
    }

    /// The channel of an element of a stream's vectors, and the kernel row and column of the weight
    /// that it meets.
    pub fn element(&self, stream: usize, offset: usize) -> (usize, usize, usize) {
        let Stream { group, first, .. } = self.streams[stream];
        let (channel, tap) = ((first + offset) / self.windows.taps(), (first + offset) % self.windows.taps());
        let columns = self.windows.x.taps as usize;
        let (ty, tx) = ((tap / columns) as u32, (tap % columns) as u32);
        let kernel = (self.windows.y.kernel_element(ty), self.windows.x.kernel_element(tx));
        (group * self.channels_per_group + channel, kernel.0, kernel.1)
    }

    /// Splits a stream's vectors into pieces. Each lies in one kernel row, and so in one row of a
    /// plane.
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

    /// The taps of a kernel row, if a stream's vectors are whole patches of one channel whose rows
    /// are neighbours in the plane.
    pub(crate) fn patch_rows(&self, stream: usize) -> Option<u32> {
        let Stream { first, length, .. } = self.streams[stream];
        let taps = self.windows.taps();
        let is_patch = length == taps && first.is_multiple_of(taps);
        (is_patch && self.windows.x.step == 1).then_some(self.windows.x.taps)
    }

    /// The plane in which a stream's vectors begin, and the distance of kernel rows in it.
    #[inline]
    pub(crate) fn plane(&self, sample: usize, stream: usize) -> (&'a [f32], usize) {
        let Planes { values, channels, height, width, .. } = self.planes;
        let area = height as usize * width as usize;
        let plane = sample * channels + self.first_channel(stream);
        (&values[plane * area..][..area], self.windows.y.step as usize * width as usize)
    }

    /// The offset in its plane of the first tap at a position, if the window is inside the plane.
    #[inline]
    pub(crate) fn start(&self, position: usize) -> Option<usize> {
        Some(self.starts[position]).filter(|&start| start != OUTSIDE)
    }

    /// A vector in place, if its window is inside the plane: a slice of the values, and the index
    /// of each of the vector's elements in that slice.
    #[inline]
    pub(crate) fn in_place(&self, sample: usize, stream: usize, position: usize) -> Option<(&'a [f32], &[usize])> {
        let Stream { group, first, length } = self.streams[stream];
        let Planes { values, channels, height, width, .. } = self.planes;
        let start = self.starts[position];
        if start == OUTSIDE {
            return None;
        }
        let plane = sample * channels + group * self.channels_per_group;
        let start = plane * height as usize * width as usize + start;
        Some((&values[start..], &self.places[first..first + length]))
    }

    /// Copies a vector to the front of `out` and returns it. Padding is zero.
    pub fn gather<'o>(&self, sample: usize, stream: usize, position: usize, out: &'o mut [f32]) -> &'o mut [f32] {
        let Stream { group, first, length } = self.streams[stream];
        let out = &mut out[..length];
        // Copying the values of a short row one by one is faster than calling memcpy.
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
            // One kernel row at a time, which lies in one row of the plane.
            let run = (taps_x - tx as usize).min(length - filled);
            let target = &mut out[filled..filled + run];
            match y.coordinate(row, ty, height) {
                None => target.fill(0.0),
                Some(at) => {
                    let line = &values[(plane + channel) * area + at * width as usize..][..width as usize];
                    let start = x.origin + i64::from(column) * i64::from(x.stride) + i64::from(tx) * i64::from(x.step);
                    if x.step == 1 && x.taps >= LONG_ROW && start >= 0 && start as usize + run <= line.len() {
                        target.copy_from_slice(&line[start as usize..start as usize + run]);
                    } else if x.step == 1 {
                        target.fill(0.0);
                        let first = start.clamp(0, i64::from(width));
                        let end = (start + run as i64).clamp(first, i64::from(width));
                        if first < end {
                            let line = &line[first as usize..end as usize];
                            for (slot, &value) in target[(first - start) as usize..].iter_mut().zip(line) {
                                *slot = value;
                            }
                        }
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
