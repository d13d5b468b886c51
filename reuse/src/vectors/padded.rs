//! Planes with their padding, in which each element of a vector has a fixed distance from its first.

use crate::simd::{Loops, simd_dispatch};
use crate::vectors::VectorView;
use std::iter;

/// Where the vectors of a view lie in a sample's padded planes.
///
/// Element `e` of stream `s` at position `p` is the value at `starts[p] + offsets[s][e]`.
#[derive(Debug, Clone)]
pub struct PaddedPlanes {
    /// By position.
    pub starts: Vec<u32>,
    /// By stream and element.
    pub offsets: Vec<Vec<u32>>,
    /// Positions of a line, and the distance of their starts.
    line: usize,
    stride: usize,
    rows: usize,
    columns: usize,
    channels: usize,
}

impl PaddedPlanes {
    /// Lays out the padded planes of a view.
    pub fn new(view: &VectorView) -> Self {
        let (y, x) = (view.windows().y, view.windows().x);
        let extent = |axis: &mercury_trace::windows::Axis| {
            (axis.positions - 1) as usize * axis.stride as usize + (axis.taps - 1) as usize * axis.step as usize + 1
        };
        let (rows, columns) = (extent(&y), extent(&x));
        let start = |row: u32| {
            (0..x.positions).map(move |column| {
                let (row, column) = (row as usize * y.stride as usize, column as usize * x.stride as usize);
                (row * columns + column) as u32
            })
        };
        let starts = (0..y.positions).flat_map(start).collect();
        let offsets = (0..view.layout().streams).map(|stream| {
            let pieces = view.pieces(stream).flat_map(|piece| iter::repeat_n(piece, piece.run).enumerate());
            let offsets = pieces.map(|(offset, piece)| {
                let (row, column) = (piece.ty as usize * y.step as usize, (piece.tx + offset) * x.step as usize);
                ((piece.channel * rows + row) * columns + column) as u32
            });
            offsets.collect()
        });
        let offsets = offsets.collect();
        let (line, stride) = (x.positions as usize, x.stride as usize);
        Self { starts, offsets, line, stride, rows, columns, channels: view.planes().channels }
    }

    /// Values of a sample's padded planes.
    pub fn size(&self) -> usize {
        self.channels * self.rows * self.columns
    }

    /// Lists the norms of a stream's vectors by position, with squares added in the order of elements.
    pub fn list_norms(&self, stream: usize, padded: &[f32], norms: &mut Vec<f64>) {
        norms.clear();
        norms.resize(self.starts.len(), 0.0);
        simd_dispatch(Norms { planes: self, offsets: &self.offsets[stream], padded, out: norms });
    }

    /// Writes a sample's padded planes.
    ///
    /// # Panics
    /// If `out` does not have [`PaddedPlanes::size`] values.
    pub fn pad(&self, view: &VectorView, sample: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.size(), "values of padded planes");
        let planes = view.planes();
        let (height, width) = (planes.height as usize, planes.width as usize);
        let [first_row, first_column] = [view.windows().y.origin, view.windows().x.origin];
        // The part of a line that lies inside the plane.
        let inside = (-first_column).max(0) as usize;
        let from = first_column.max(0) as usize;
        let count = width.saturating_sub(from).min(self.columns.saturating_sub(inside));
        let sample_planes = &planes.values[sample * self.channels * height * width..][..self.channels * height * width];
        for (channel, out) in out.chunks_exact_mut(self.rows * self.columns).enumerate() {
            let plane = &sample_planes[channel * height * width..][..height * width];
            for (row, line) in (first_row..).zip(out.chunks_exact_mut(self.columns)) {
                line.fill(0.0);
                if (0..height as i64).contains(&row) && count > 0 {
                    line[inside..][..count].copy_from_slice(&plane[row as usize * width + from..][..count]);
                }
            }
        }
    }
}

/// The norms of a stream's vectors.
struct Norms<'a> {
    planes: &'a PaddedPlanes,
    offsets: &'a [u32],
    padded: &'a [f32],
    /// By position, zeros.
    out: &'a mut [f64],
}

impl Loops for Norms<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
    fn run<const FUSED: bool>(self) {
        let PaddedPlanes { line, stride, starts, .. } = self.planes;
        for (squares, starts) in self.out.chunks_mut(*line).zip(starts.chunks(*line)) {
            for &offset in self.offsets {
                let values = &self.padded[(starts[0] + offset) as usize..];
                if *stride == 1 {
                    add_squares(squares, values.iter());
                } else {
                    add_squares(squares, values.iter().step_by(*stride));
                }
            }
        }
        for square in self.out {
            *square = square.sqrt();
        }
    }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
fn add_squares<'v>(sums: &mut [f64], values: impl Iterator<Item = &'v f32>) {
    for (sum, &value) in sums.iter_mut().zip(values) {
        *sum += f64::from(value) * f64::from(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Granularity;
    use crate::vectors::operand::views;
    use mercury_trace::geometry::{Conv2d, Geometry, Pass};

    #[test]
    fn elements_are_those_of_vectors() {
        for (kernel, stride, padding, dilation, groups) in [
            ([3, 3], [1, 1], [1, 1], [1, 1], 1),
            ([3, 2], [2, 3], [2, 0], [1, 2], 2),
            ([1, 1], [2, 2], [0, 0], [1, 1], 1),
            ([5, 1], [1, 2], [0, 3], [2, 1], 4),
        ] {
            let conv =
                Conv2d { in_channels: 4, out_channels: 8, input: [11, 9], kernel, stride, padding, dilation, groups };
            for pass in [Pass::Forward, Pass::InputGrad] {
                let (channels, area) = match pass {
                    Pass::InputGrad => (8, conv.output()),
                    _ => (4, conv.input),
                };
                let count = 2 * channels * (area[0] * area[1]) as usize;
                let values: Vec<f32> = (1..=count).map(|value| value as f32).collect();
                for granularity in ["channel-patch", "patch", "sub-vector(4)"] {
                    let granularity: Granularity = granularity.parse().unwrap();
                    for view in views(&Geometry::Conv2d(conv), pass, granularity, &values, 2, channels) {
                        check(&view);
                    }
                }
            }
        }
    }

    fn check(view: &VectorView) {
        let planes = PaddedPlanes::new(view);
        let mut padded = vec![f32::NAN; planes.size()];
        let (mut vector, mut norms) = (vec![0.0; view.max_length()], Vec::new());
        for sample in 0..2 {
            planes.pad(view, sample, &mut padded);
            for (stream, offsets) in planes.offsets.iter().enumerate() {
                planes.list_norms(stream, &padded, &mut norms);
                for (position, &start) in planes.starts.iter().enumerate() {
                    let expected = view.gather(sample, stream, position, &mut vector);
                    let found: Vec<f32> = offsets.iter().map(|offset| padded[(start + offset) as usize]).collect();
                    assert_eq!(found, expected, "sample {sample}, stream {stream}, position {position}");
                    let square: f64 = found.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
                    assert_eq!(norms[position..=position], [square.sqrt()], "norm");
                }
            }
        }
    }
}
