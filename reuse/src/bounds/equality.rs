//! Comparison of two vectors for equality, in place.

use crate::bounds::scan::{Inside, bits};
use crate::vectors::{Piece, VectorView};
use mercury_trace::windows::Axis;
use std::ops::Range;

/// Compares vectors of one stream. They are numbered from the first vector of `first_sample`,
/// sample after sample.
pub(crate) struct Equality<'v, 'a> {
    view: &'v VectorView<'a>,
    first_sample: usize,
    /// Rows and columns of positions at which windows are inside the plane.
    rows: Range<u32>,
    columns: Range<u32>,
    /// Pieces of a vector, each with its offset in values from the window's first tap in channel 0.
    pieces: Vec<(Piece, usize)>,
}

/// A window: its sample, and the row and column of its position.
type Window = (usize, u32, u32);

impl<'v, 'a> Equality<'v, 'a> {
    pub fn new(view: &'v VectorView<'a>, first_sample: usize, stream: usize) -> Self {
        let (y, x) = (&view.windows().y, &view.windows().x);
        let (height, width) = (view.planes().height as usize, view.planes().width as usize);
        let place = |piece: &Piece| {
            (piece.channel * height + (piece.ty * y.step) as usize) * width + piece.tx * x.step as usize
        };
        let pieces = view.pieces(stream).map(|piece| (piece, place(&piece))).collect();
        let [rows, columns] = [(y, height), (x, width)].map(|(axis, size)| {
            let last = axis.origin + i64::from(axis.taps - 1) * i64::from(axis.step);
            let [first, last] =
                [axis.origin, last].map(|origin| Inside::new(origin, axis.stride, axis.positions, size as u32));
            first.first as u32..last.end as u32
        });
        Self { view, first_sample, rows, columns, pieces }
    }

    /// Whether the [`bits`] of all elements of two vectors are equal.
    pub fn are_equal(&self, a: u32, b: u32) -> bool {
        let [a, b] = [a, b].map(|vector| self.locate(vector));
        match (self.find_start(a), self.find_start(b)) {
            (Some(a), Some(b)) => self.pieces.iter().all(|&(Piece { run, .. }, place)| {
                let step = self.view.windows().x.step as usize;
                let values = self.view.planes().values;
                let [a, b] = [a, b].map(|start| &values[start + place..][..=(run - 1) * step]);
                // No early exit within a run, so that the compiler vectorises the loop.
                let differ = |differ, (&a, &b): (&f32, &f32)| differ | (bits(a) ^ bits(b));
                0 == if step == 1 {
                    a.iter().zip(b).fold(0, differ)
                } else {
                    a.iter().step_by(step).zip(b.iter().step_by(step)).fold(0, differ)
                }
            }),
            _ => self.pieces.iter().all(|&(piece, _)| {
                (0..piece.run as u32)
                    .all(|offset| self.element_bits(a, piece, offset) == self.element_bits(b, piece, offset))
            }),
        }
    }

    fn locate(&self, vector: u32) -> Window {
        let (positions, columns) = (self.view.windows().positions() as u32, self.view.windows().x.positions);
        let (sample, position) = (self.first_sample + (vector / positions) as usize, vector % positions);
        (sample, position / columns, position % columns)
    }

    /// Finds the index of a window's first tap in channel 0, if the whole window is inside the
    /// plane.
    fn find_start(&self, (sample, row, column): Window) -> Option<usize> {
        let inside = self.rows.contains(&row) && self.columns.contains(&column);
        inside.then(|| {
            let (planes, windows) = (self.view.planes(), self.view.windows());
            let at = |axis: &Axis, position| (axis.origin + i64::from(position) * i64::from(axis.stride)) as usize;
            let row = sample * planes.channels * planes.height as usize + at(&windows.y, row);
            row * planes.width as usize + at(&windows.x, column)
        })
    }

    /// The [`bits`] of an element, which may lie in the padding.
    fn element_bits(&self, (sample, row, column): Window, piece: Piece, offset: u32) -> u32 {
        let (planes, windows) = (self.view.planes(), self.view.windows());
        let y = windows.y.coordinate(row, piece.ty, planes.height);
        let x = windows.x.coordinate(column, piece.tx as u32 + offset, planes.width);
        let (Some(y), Some(x)) = (y, x) else { return 0 };
        let plane = sample * planes.channels + piece.channel;
        bits(planes.values[(plane * planes.height as usize + y) * planes.width as usize + x])
    }
}
