//! Planes cut into strips: padded copies of a few of their rows, laid out so that every element of
//! the windows in these rows is one contiguous run.
//!
//! Position (row, column) of a band of window rows is number `row * pitch + column` of the strip,
//! and tap (ty, tx) of every position lies a constant distance on. Where windows are more than one
//! coordinate apart, coordinates of each residue modulo the stride make a plane of their own, so
//! that neighbours still lie side by side. At the end of a row a few numbers belong to no window:
//! as many as taps reach beyond the positions. They are computed, and left out of the result.

use crate::kernel::{Lines, MAX_TILE, Strip};
use crate::vectors::{Planes, Stream, VectorView};
use mercury_trace::windows::{Axis, Windows};

/// A strip should stay in the first level's cache where its windows are small, and in the second's
/// always; but tiles should not be cut short too often either. Values.
const SMALL: usize = 4096;

/// Numbers of a strip that few unused ones at its end do not matter to.
const ENOUGH: usize = 16 * MAX_TILE;

/// How the vectors of a stream lie in strips. Streams that begin with the same tap and are as long
/// share one.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Window rows of a strip.
    pub(crate) rows: usize,
    /// Plane rows of each plane in a strip, and their length.
    lines: usize,
    pitch: usize,
    /// Channel beyond the stream's first, residue of the row, residue of the column.
    parts: Vec<(usize, u32, u32)>,
    /// Where each element of the vector at number 0 lies.
    offsets: Vec<u32>,
    last: u32,
}

impl Plan {
    /// The plan of a stream; `None` if too little of a strip would be windows.
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
        let small = (SMALL / (pitch * parts.len())).saturating_sub(reach(y));
        let rows = small.max(ENOUGH / pitch).clamp(1, y.positions.max(1) as usize);
        let lines = rows + reach(y);
        let area = lines * pitch;

        let numbers = Self::numbers(rows, pitch, x.positions as usize).next_multiple_of(MAX_TILE);
        let useful = rows * x.positions as usize;
        // Offsets are of 32 bits; a strip as large would not be worth its while.
        if useful * 2 < numbers || parts.len() * area + MAX_TILE > 1 << 26 {
            return None;
        }
        let offset = |(part, down, right)| {
            let part = parts.binary_search(&part).expect("the parts are of these elements");
            (part * area + down as usize * pitch + right as usize) as u32
        };
        let offsets: Vec<u32> = elements.into_iter().map(offset).collect();
        let last = offsets.iter().copied().max().unwrap_or(0);
        Some(Self { rows, lines, pitch, parts, offsets, last })
    }

    /// Numbers from the first position of `rows` window rows to the last.
    fn numbers(rows: usize, pitch: usize, columns: usize) -> usize {
        (rows - 1) * pitch + columns
    }

    /// The strip of `rows` window rows from `row` on.
    pub(crate) fn strip<'s>(
        &'s self,
        view: &VectorView,
        (sample, stream): (usize, usize),
        row: usize,
        rows: usize,
        scratch: &'s mut Scratch,
    ) -> Strip<'s> {
        let Windows { y, x } = view.windows();
        let (planes, channel) = (view.planes(), view.first_channel(stream));
        let numbers = Self::numbers(rows, self.pitch, x.positions as usize);
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
                    inside(line, x.origin + i64::from(residue_x), x.stride as usize, copy);
                } else {
                    copy.fill(0.0);
                }
            }
        }
        Strip::new(values, &self.offsets, self.last, numbers)
    }

    /// The windows of `rows` rows, for tiles that end with each row, if those repeat fewer windows than
    /// there are numbers between rows. It also saves the copy that leaves these out.
    pub(crate) fn lines(&self, tile: usize, rows: usize, columns: usize) -> Option<Lines> {
        let worth = columns >= tile && columns.next_multiple_of(tile) <= self.pitch;
        worth.then_some(Lines { rows, pitch: self.pitch, columns })
    }

    /// Copies the signatures of a strip's windows.
    pub(crate) fn pick(&self, numbers: &[u64], columns: usize, out: &mut [u64]) {
        for (from, out) in numbers.chunks(self.pitch).zip(out.chunks_exact_mut(columns)) {
            out.copy_from_slice(&from[..columns]);
        }
    }
}

/// A thread's memory for strips.
#[derive(Default)]
pub(crate) struct Scratch {
    values: Vec<f32>,
    /// Where the plan of the strip before lies: if it is the same, the sides of all lines are zeros already.
    plan: Option<usize>,
}

/// The values of one channel of one sample.
fn plane<'a>(planes: &Planes<'a>, sample: usize, channel: usize) -> &'a [f32] {
    let area = planes.height as usize * planes.width as usize;
    &planes.values[(sample * planes.channels + channel) * area..][..area]
}

/// `copy[i] = line[origin + i * stride]` where there is such a value; the others stay.
fn inside(line: &[f32], origin: i64, stride: usize, copy: &mut [f32]) {
    let length = copy.len();
    // The first number at or after coordinate 0, and the first at or after the line's end.
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
            // Pairs, which the compiler turns into shuffles; the last may be cut short.
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

/// Copies what is mostly a few dozen values, where a call costs more than the copy: whole pieces,
/// and one that ends with the last value.
fn copy_short(from: &[f32], to: &mut [f32]) {
    fn pieces<const N: usize>(from: &[f32], to: &mut [f32]) {
        for (to, from) in to.chunks_exact_mut(N).zip(from.chunks_exact(N)) {
            to.copy_from_slice(from);
        }
        let last = from.len() - N;
        to[last..].copy_from_slice(&from[last..]);
    }
    match from.len() {
        0..4 => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
        4..16 => pieces::<4>(from, to),
        16..128 => pieces::<16>(from, to),
        _ => to.copy_from_slice(from),
    }
}
