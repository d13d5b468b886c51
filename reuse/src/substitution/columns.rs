//! The substituted operand as a matrix, which is what a computation with reuse multiplies.

use crate::caching::outcomes::Outcomes;
use crate::config::{Representative, Variant};
use crate::substitution::substitute::{Buffers, Substitutes};
use crate::vectors::{Piece, VectorView};
use mercury_trace::windows::Axis;
use rayon::prelude::*;
use std::ops::Range;

impl Substitutes<'_, '_> {
    /// The vectors of some samples, each replaced by its substitute, as the columns of im2col: an element
    /// a row, `[elements][samples][positions]`, where the elements of all streams follow each other in the
    /// streams' order. The result does not depend on the number of threads, and each column is, bit for
    /// bit, what [`Substitutes::cut`] gives.
    ///
    /// # Panics
    /// If `out` is not as long, or there are not as many samples.
    pub fn columns(&self, samples: Range<usize>, out: &mut [f32]) {
        let layout = self.view().layout();
        assert!(samples.end <= layout.samples, "samples of the view");
        let width = samples.len() * layout.positions;
        let elements: usize = self.view().streams().iter().map(|stream| stream.length).sum();
        assert_eq!(out.len(), elements * width, "elements of the samples' vectors");
        let mut rest = out;
        let mut streams = Vec::with_capacity(layout.streams);
        for (number, stream) in self.view().streams().iter().enumerate() {
            let (own, others) = rest.split_at_mut(stream.length * width);
            rest = others;
            streams.push((number, own));
        }
        let seen = Seen::new(self.view());
        let room = || (RunBuffers::default(), self.buffers());
        streams.into_par_iter().for_each_init(room, |(room, buffers), (stream, out)| {
            for (number, sample) in samples.clone().enumerate() {
                let place = Place { sample, stream, first: number * layout.positions, width };
                self.run(place, &seen, out, room, buffers);
            }
        });
    }

    /// The vectors of a sample, each replaced by its substitute, as the rows of a matrix: `[groups]
    /// [positions][elements]`, the elements of a group's streams side by side. Of an operand that was a
    /// matrix product's, these are its rows.
    ///
    /// # Panics
    /// If `out` is not as long.
    pub fn rows(&self, sample: usize, out: &mut [f32]) {
        let layout = self.view().layout();
        let streams = self.view().streams();
        let groups = streams.last().map_or(0, |stream| stream.group + 1);
        let length: usize = streams.iter().take_while(|stream| stream.group == 0).map(|stream| stream.length).sum();
        assert_eq!(out.len(), groups * layout.positions * length, "elements of the sample's vectors");
        let rows = out.par_chunks_mut(length.max(1)).enumerate();
        rows.for_each_init(
            || self.buffers(),
            |buffers, (row, out)| {
                let (group, position) = (row / layout.positions, row % layout.positions);
                let group_streams = streams.iter().enumerate().filter(|(_, stream)| stream.group == group);
                for (number, stream) in group_streams {
                    let (vector, substitute) = self.cut(sample, number, position, buffers);
                    out[stream.first..][..stream.length].copy_from_slice(substitute.unwrap_or(vector));
                }
            },
        );
    }

    /// Lists the vectors of a run that are replaced; `first` is the number of its first vector.
    fn find_replaced(&self, first: usize, room: &mut RunBuffers) {
        room.far.clear();
        let vectors = first..first + self.view().layout().positions;
        let holders = self.outcomes().holders(vectors);
        if self.representative() == Representative::Centroid {
            room.near.clear();
            // A centroid stands for the inserting vector, too.
            let has_entry = holders.iter().enumerate().filter(|(_, holder)| **holder != Outcomes::NONE);
            room.far.extend(has_entry.map(|(position, _)| position));
        } else if list_near_hits(&holders, first as u32, &mut room.near) > 0 {
            let is_far = |position: usize, holder: u32| {
                (holder as usize) != first + position
                    && holder != Outcomes::NONE
                    && !(first..first + position).contains(&(holder as usize))
            };
            let far = holders.iter().enumerate().filter(|(position, holder)| is_far(*position, **holder));
            room.far.extend(far.map(|(position, _)| position));
        }
    }

    /// One run (a sample, a stream).
    fn run(&self, place: Place, seen: &Seen, out: &mut [f32], room: &mut RunBuffers, buffers: &mut Buffers) {
        let layout = self.view().layout();
        let Place { sample, stream, .. } = place;
        elements(self.view(), place, seen, out);
        let first = (sample * layout.streams + stream) * layout.positions;
        self.find_replaced(first, room);
        // Those that hold an entry stand for themselves here, so none is read after it was replaced.
        replace(self.variant(), layout.positions, place, out, room);
        for &position in &room.far {
            let (_, substitute) = self.cut(sample, stream, position, buffers);
            let rows = out.chunks_exact_mut(place.width);
            for (row, &value) in rows.zip(substitute.into_iter().flatten()) {
                row[place.first + position] = value;
            }
        }
    }
}

/// Lists the HITs of a run whose entry a vector of the same run holds, as pairs of positions in order of arrival.
/// Returns how many other vectors are HITs.
fn list_near_hits(holders: &[u32], first: u32, near: &mut Vec<(u32, u32)>) -> usize {
    near.clear();
    near.resize(holders.len(), (0, 0));
    let (mut hits, mut far) = (0, 0);
    for (position, &holder) in (0..).zip(holders) {
        let from = holder.wrapping_sub(first);
        let is_near = from < position;
        // Without a branch: whether a vector is a HIT cannot be predicted.
        near[hits] = (position, from);
        hits += usize::from(is_near);
        far += usize::from(!is_near && from != position && holder != Outcomes::NONE);
    }
    near.truncate(hits);
    far
}

/// Which run, and where in the rows it lies.
#[derive(Clone, Copy)]
struct Place {
    sample: usize,
    stream: usize,
    first: usize,
    width: usize,
}

/// A thread's memory.
#[derive(Default)]
struct RunBuffers {
    /// HITs and what they are replaced by, positions of one run.
    near: Vec<(u32, u32)>,
    /// Vectors that are replaced by what is not in their run as it is.
    far: Vec<usize>,
    norms: Vec<f64>,
    scales: Vec<f32>,
    sums: Vec<f32>,
}

/// The elements of a run's vectors as they are.
fn elements(view: &VectorView, place: Place, seen: &Seen, out: &mut [f32]) {
    let (y, x) = (&view.windows().y, &view.windows().x);
    let planes = view.planes();
    let (height, width) = (planes.height, planes.width as usize);
    for Piece { channel, ty, tx, run, element } in view.pieces(place.stream) {
        let plane = &planes.values[(place.sample * planes.channels + channel) * height as usize * width..];
        for offset in 0..run {
            let row = &mut out[(element + offset) * place.width + place.first..][..view.layout().positions];
            let by_x = &seen.x[tx + offset];
            if by_x.is_whole && seen.y[ty as usize].is_whole {
                row.copy_from_slice(&plane[..row.len()]);
                continue;
            }
            for (position, out) in (0..).zip(row.chunks_exact_mut(x.positions as usize)) {
                match y.coordinate(position, ty, height) {
                    None => out.fill(0.0),
                    Some(at) => by_x.copy(&plane[at * width..][..width], out),
                }
            }
        }
    }
}

/// What each tap sees of a plane, along both axes.
struct Seen {
    y: Vec<Span>,
    x: Vec<Span>,
}

impl Seen {
    fn new(view: &VectorView) -> Self {
        let (windows, planes) = (view.windows(), view.planes());
        let spans = |axis: &Axis, size: u32| (0..axis.taps).map(|tap| Span::new(axis, tap, size)).collect();
        Self { y: spans(&windows.y, planes.height), x: spans(&windows.x, planes.width) }
    }
}

/// What a tap sees along an axis of a plane: the positions from `start` to `end` see the values from `from` on,
/// `stride` apart; the others see padding.
struct Span {
    start: usize,
    end: usize,
    from: usize,
    stride: usize,
    /// Whether each position sees the value of its own place, and there are no others.
    is_whole: bool,
}

impl Span {
    fn new(axis: &Axis, tap: u32, size: u32) -> Self {
        let origin = axis.origin + i64::from(tap) * i64::from(axis.step);
        let (stride, positions) = (i64::from(axis.stride), axis.positions as usize);
        // The first position at or after a coordinate.
        let position = |coordinate: i64| ((coordinate - origin).max(0) as u64).div_ceil(stride as u64) as usize;
        let start = position(0).min(positions);
        let end = position(i64::from(size)).min(positions).max(start);
        let from = (origin + start as i64 * stride).max(0) as usize;
        let is_whole = stride == 1 && origin == 0 && axis.positions == size;
        Self { start, end, from, stride: stride as usize, is_whole }
    }

    /// Writes what the positions see of a line.
    fn copy(&self, line: &[f32], out: &mut [f32]) {
        out[..self.start].fill(0.0);
        out[self.end..].fill(0.0);
        let own = &mut out[self.start..self.end];
        if own.is_empty() {
            return;
        }
        if self.stride == 1 {
            own.copy_from_slice(&line[self.from..][..own.len()]);
        } else {
            own.iter_mut().zip(line[self.from..].iter().step_by(self.stride)).for_each(|(out, &value)| *out = value);
        }
    }
}

/// Adds the squares of an element of each vector.
fn add_squares(row: &[f32], squares: &mut [f64]) {
    for (square, &x) in squares.iter_mut().zip(row) {
        *square += f64::from(x) * f64::from(x);
    }
}

/// Lists what `sign+rescale` multiplies the results of a run's vectors by: |x| / |r|. A vector is given as its position
/// and that of the vector r that inserted its entry.
pub fn list_scales(norms: &[f64], vectors: impl Iterator<Item = (u32, u32)>, scales: &mut Vec<f32>) {
    scales.clear();
    scales.extend(vectors.map(|(position, from)| {
        let scale = (norms[position as usize] / norms[from as usize]) as f32;
        if scale.is_finite() { scale } else { 1.0 }
    }));
}

/// Replaces the HITs of a run by what is in it, as [`Substitutes::vary`] does one by one.
fn replace(variant: Variant, positions: usize, place: Place, out: &mut [f32], room: &mut RunBuffers) {
    let RunBuffers { near, norms, scales, sums, .. } = room;
    if near.is_empty() {
        return;
    }
    let rows = |out: &mut [f32], each: &mut dyn FnMut(&mut [f32])| {
        for row in out.chunks_exact_mut(place.width) {
            each(&mut row[place.first..][..positions]);
        }
    };
    match variant {
        Variant::Sign | Variant::SignMagnitude(_) => rows(out, &mut |row| {
            for &(position, from) in &*near {
                row[position as usize] = row[from as usize];
            }
        }),
        Variant::SignRescale => {
            norms.clear();
            norms.resize(positions, 0.0);
            rows(out, &mut |row| add_squares(row, norms));
            for square in norms.iter_mut() {
                *square = square.sqrt();
            }
            list_scales(norms, near.iter().copied(), scales);
            rows(out, &mut |row| {
                for (&(position, from), scale) in near.iter().zip(&*scales) {
                    row[position as usize] = row[from as usize] * scale;
                }
            });
        }
        Variant::Centred => {
            sums.clear();
            sums.resize(positions, 0.0);
            rows(out, &mut |row| sums.iter_mut().zip(&*row).for_each(|(sum, &x)| *sum += x));
            let reciprocal = 1.0 / (out.len() / place.width) as f32;
            let mean = |position: u32| f64::from(sums[position as usize] * reciprocal);
            let shifts: Vec<f64> = near.iter().map(|&(position, from)| mean(position) - mean(from)).collect();
            rows(out, &mut |row| {
                for (&(position, from), shift) in near.iter().zip(&shifts) {
                    row[position as usize] = (f64::from(row[from as usize]) + shift) as f32;
                }
            });
        }
    }
}
