//! Planes cut into strips: padded copies of a few of their rows. In a strip, a given element of all
//! windows in these rows is one contiguous run.
//!
//! Position (row, column) of a band of window rows is number `row * pitch + column` of the strip.
//! Tap (ty, tx) of each position lies at a constant offset from there. With a stride above 1, the
//! coordinates of each residue modulo the stride form a plane of their own, so that the elements of
//! neighbouring windows are contiguous. At the end of a row a few numbers belong to no window: as
//! many as the taps reach beyond the positions. Their signatures are computed, but not part of the
//! result.

use crate::signing::kernel::{Lines, MAX_TILE, Strip};
use crate::vectors::{Planes, Stream, VectorView};
use mercury_trace::windows::{Axis, Windows};

/// Values of a strip that fit into the first-level cache. Strips with small windows stay below
/// this, all others fit into the second level. [`MIN_NUMBERS`] takes precedence.
const SMALL_STRIP: usize = 4096;

/// Numbers of a strip from which on a partial last tile costs little.
const MIN_NUMBERS: usize = 16 * MAX_TILE;

/// The layout of a stream's vectors in strips. Streams with the same first tap and length share a
/// plan.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Window rows of a strip.
    pub(crate) rows: usize,
    /// Rows of each plane in a strip.
    lines: usize,
    /// Length of such a row.
    pitch: usize,
    /// The planes of a strip: channel, counted from the stream's first; residue of the row; residue
    /// of the column.
    parts: Vec<(usize, u32, u32)>,
    /// The index of each element of the vector at number 0.
    offsets: Vec<u32>,
    /// The largest offset.
    last: u32,
}

impl Plan {
    /// The plan of a stream; `None` if less than half of a strip's numbers would be windows, or a
    /// strip would be too large.
    pub(crate) fn new(windows: &Windows, stream: Stream) -> Option<Self> {
        let (y, x) = (&windows.y, &windows.x);
        let taps = windows.taps();
        let elements = (stream.first % taps..).take(stream.length).map(|element| {
            let (channel, tap) = (element / taps, (element % taps) as u32);
            let (ty, tx) = (tap / x.taps * y.step, tap % x.taps * x.step);
            ((channel, ty % y.stride, tx % x.stride), ty / y.stride, tx / x.stride)
        });
        let elements: Vec<_> = elements.collect();
        let mut parts: Vec<_> = elements.iter().map(|&(part, ..)| part).collect();
        parts.sort_unstable();
        parts.dedup();

        let reach = |axis: &Axis| ((axis.taps - 1) * axis.step / axis.stride) as usize;
        let pitch = (x.positions as usize + reach(x)).max(1);
        let small = (SMALL_STRIP / (pitch * parts.len())).saturating_sub(reach(y));
        let rows = small.max(MIN_NUMBERS / pitch).clamp(1, y.positions.max(1) as usize);
        let lines = rows + reach(y);
        let area = lines * pitch;

        let numbers = Self::count_numbers(rows, pitch, x.positions as usize).next_multiple_of(MAX_TILE);
        let useful = rows * x.positions as usize;
        // The limit keeps offsets within 32 bits. Strips of that size would not be fast either.
        if useful * 2 < numbers || parts.len() * area + MAX_TILE > 1 << 26 {
            return None;
        }
        let offset = |(part, down, right)| {
            let part = parts.binary_search(&part).expect("the parts come from these elements");
            (part * area + down as usize * pitch + right as usize) as u32
        };
        let offsets: Vec<u32> = elements.into_iter().map(offset).collect();
        let last = offsets.iter().copied().max().unwrap_or(0);
        Some(Self { rows, lines, pitch, parts, offsets, last })
    }

    /// Numbers from the first position of `rows` window rows to the last.
    fn count_numbers(rows: usize, pitch: usize, columns: usize) -> usize {
        (rows - 1) * pitch + columns
    }

    /// Copies `rows` window rows from `row` on to `scratch`, as a strip.
    pub(crate) fn fill_strip<'s>(
        &'s self,
        view: &VectorView,
        (sample, stream): (usize, usize),
        row: usize,
        rows: usize,
        scratch: &'s mut Scratch,
    ) -> Strip<'s> {
        let Windows { y, x } = view.windows();
        let (planes, channel) = (view.planes(), view.first_channel(stream));
        let numbers = Self::count_numbers(rows, self.pitch, x.positions as usize);
        let area = self.lines * self.pitch;
        let size = (self.parts.len() * area).max(self.last as usize + numbers.next_multiple_of(MAX_TILE));
        let Scratch { values, plan } = scratch;
        let this = Some(std::ptr::from_ref(self).addr());
        if *plan != this {
            *plan = this;
            values.clear();
        }
        if values.len() < size {
            values.resize(size, 0.0);
        }
        let lines = rows + self.lines - self.rows;
        for (&(beyond, residue_y, residue_x), part) in self.parts.iter().zip(values.chunks_exact_mut(area)) {
            let plane = plane(planes, sample, channel + beyond);
            let first = y.origin + row as i64 * i64::from(y.stride) + i64::from(residue_y);
            for (line, copy) in part.chunks_exact_mut(self.pitch).take(lines).enumerate() {
                let at = first + line as i64 * i64::from(y.stride);
                if (0..i64::from(planes.height)).contains(&at) {
                    let line = &plane[at as usize * planes.width as usize..][..planes.width as usize];
                    copy_inside(line, x.origin + i64::from(residue_x), x.stride as usize, copy);
                } else {
                    copy.fill(0.0);
                }
            }
        }
        Strip::new(values, &self.offsets, self.last, numbers)
    }

    /// Lines for `rows` rows of windows, so that tiles end with each row. `None` if a row is
    /// shorter than a tile, or if the overlap of its tiles would exceed the unused numbers between
    /// rows. With lines, signatures need not be copied.
    pub(crate) fn lines(&self, tile: usize, rows: usize, columns: usize) -> Option<Lines> {
        let pays = columns >= tile && columns.next_multiple_of(tile) <= self.pitch;
        pays.then_some(Lines { rows, pitch: self.pitch, columns })
    }

    /// Copies the signatures of a strip's windows to `out`, without those of unused numbers.
    pub(crate) fn copy_signatures(&self, numbers: &[u64], columns: usize, out: &mut [u64]) {
        for (from, out) in numbers.chunks(self.pitch).zip(out.chunks_exact_mut(columns)) {
            out.copy_from_slice(&from[..columns]);
        }
    }
}

/// Buffers of a thread for strips.
#[derive(Default)]
pub(crate) struct Scratch {
    values: Vec<f32>,
    /// The address of the previous strip's plan. If the plan is the same, the padding at the sides
    /// of all lines is zero already.
    plan: Option<usize>,
}

/// The values of one channel of one sample.
fn plane<'a>(planes: &Planes<'a>, sample: usize, channel: usize) -> &'a [f32] {
    let area = planes.height as usize * planes.width as usize;
    &planes.values[(sample * planes.channels + channel) * area..][..area]
}

/// Sets `copy[i] = line[origin + i * stride]` for each index inside the line; other elements of
/// `copy` keep their values.
fn copy_inside(line: &[f32], origin: i64, stride: usize, copy: &mut [f32]) {
    let length = copy.len();
    // The first number at or after a coordinate.
    let number = |coordinate: i64| {
        let number = (coordinate - origin).max(0) as usize;
        if stride == 1 { number.min(length) } else { number.div_ceil(stride).min(length) }
    };
    let (start, end) = (number(0), number(line.len() as i64));
    if start >= end {
        return;
    }
    let from = &line[(origin + (start * stride) as i64) as usize..];
    let copy = &mut copy[start..end];
    match stride {
        1 => copy_short(&from[..copy.len()], copy),
        2 => {
            // The compiler turns pairs into shuffles. The last pair may lack its second element.
            let pairs = copy.len().min(from.len() / 2);
            for (to, pair) in copy.iter_mut().zip(from.chunks_exact(2)) {
                *to = pair[0];
            }
            for (index, to) in copy.iter_mut().enumerate().skip(pairs) {
                *to = from[2 * index];
            }
        }
        _ => {
            for (to, &value) in copy.iter_mut().zip(from.iter().step_by(stride)) {
                *to = value;
            }
        }
    }
}

/// Copies slices of mostly a few dozen values, where a call of memcpy costs more than the copy
/// itself. Copies whole pieces, and then one piece that ends with the last value.
fn copy_short(from: &[f32], to: &mut [f32]) {
    fn copy_pieces<const N: usize>(from: &[f32], to: &mut [f32]) {
        for (to, from) in to.chunks_exact_mut(N).zip(from.chunks_exact(N)) {
            to.copy_from_slice(from);
        }
        let last = from.len() - N;
        to[last..].copy_from_slice(&from[last..]);
    }
    match from.len() {
        0..4 => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
        4..16 => copy_pieces::<4>(from, to),
        16..128 => copy_pieces::<16>(from, to),
        _ => to.copy_from_slice(from),
    }
}
