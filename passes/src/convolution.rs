//! The passes of a convolution: products of the kernels with the columns of im2col.

use crate::copies::CopiedProduct;
use crate::matrix::{Matrix, multiply};
use crate::pass::{Reuse, area};
use crate::{Room, VALUES_AT_A_TIME};
use mercury_reuse::Substitutes;
use mercury_trace::geometry::{Conv2d, Pass};
use mercury_trace::windows::{Axis, Windows};
use std::ops::Range;

/// The columns of a few samples, `[groups][elements][samples x positions]`.
struct Columns<'c> {
    samples: Range<usize>,
    positions: usize,
    /// Elements of a vector of one group.
    elements: usize,
    values: &'c [f32],
}

impl Columns<'_> {
    fn width(&self) -> usize {
        self.samples.len() * self.positions
    }

    /// The columns of a group.
    fn group(&self, group: usize) -> Matrix<'_> {
        let size = self.elements * self.width();
        Matrix::new(&self.values[group * size..], self.elements, self.width())
    }
}

impl Reuse<'_> {
    /// Y of a convolution.
    pub(crate) fn convolve(&self, conv: &Conv2d, w: &[f32], y: &mut [f32], room: &mut Room) {
        let (groups, filters) = (conv.groups as usize, conv.out_channels as usize);
        let positions = area(conv.output());
        assert_eq!(y.len(), self.streamed.samples() * filters * positions, "values of Y");
        let kernels = conv.in_channels as usize / groups * area(conv.kernel);
        assert_eq!(w.len(), filters * kernels, "values of W");
        let share = filters / groups;
        for (view, outcomes) in self.substituted(Pass::Forward) {
            let substitutes = self.substitutes(&view, outcomes);
            if let Some(copied) =
                CopiedProduct::new(self, Pass::Forward, &view, outcomes, &substitutes, (groups, share))
            {
                copied.multiply(w, y, filters * positions, room, |sums, y, _| copied.write_product(sums, y));
                continue;
            }
            self.for_columns(conv, &substitutes, room, |columns, product| {
                let width = columns.width();
                product.resize(filters * width, 0.0);
                for (group, out) in product.chunks_exact_mut(share * width).enumerate() {
                    let weights = Matrix::new(&w[group * share * kernels..], share, kernels);
                    multiply(weights, columns.group(group), false, out);
                }
                let y = &mut y[columns.samples.start * filters * positions..];
                for (number, planes) in y.chunks_exact_mut(filters * positions).take(columns.samples.len()).enumerate()
                {
                    for (plane, row) in planes.chunks_exact_mut(positions).zip(product.chunks_exact(width)) {
                        plane.copy_from_slice(&row[number * positions..][..positions]);
                    }
                }
            });
        }
    }

    /// dX of a convolution.
    pub(crate) fn convolve_back(&self, conv: &Conv2d, w: &[f32], dx: &mut [f32], room: &mut Room) {
        let (groups, channels) = (conv.groups as usize, conv.in_channels as usize);
        let size = channels * area(conv.input);
        assert_eq!(dx.len(), self.streamed.samples() * size, "values of dX");
        // Inputs that no output depends on have no walk, so they keep a zero.
        dx.fill(0.0);
        let share = channels / groups;
        for (walk, (view, outcomes)) in conv.windows(Pass::InputGrad).iter().zip(self.substituted(Pass::InputGrad)) {
            let kernels = rotate(w, conv, walk);
            let substitutes = self.substitutes(&view, outcomes);
            if let Some(copied) =
                CopiedProduct::new(self, Pass::InputGrad, &view, outcomes, &substitutes, (groups, share))
            {
                let positions = view.layout().positions;
                copied.multiply(&kernels, dx, size, room, |sums, dx, product| {
                    product.resize(channels * positions, 0.0);
                    copied.write_product(sums, product);
                    scatter(conv, walk, product, dx);
                });
                continue;
            }
            self.for_columns(conv, &substitutes, room, |columns, product| {
                let (width, positions) = (columns.width(), columns.positions);
                product.resize(channels * width, 0.0);
                for (group, out) in product.chunks_exact_mut(share * width).enumerate() {
                    let weights = &kernels[group * share * columns.elements..];
                    multiply(Matrix::new(weights, share, columns.elements), columns.group(group), false, out);
                }
                let dx = &mut dx[columns.samples.start * size..];
                let mut planes = vec![0.0; channels * positions];
                for (number, dx) in dx.chunks_exact_mut(size).take(columns.samples.len()).enumerate() {
                    for (plane, row) in planes.chunks_exact_mut(positions).zip(product.chunks_exact(width)) {
                        plane.copy_from_slice(&row[number * positions..][..positions]);
                    }
                    scatter(conv, walk, &planes, dx);
                }
            });
        }
    }

    /// dW of a convolution.
    pub(crate) fn correlate(&self, conv: &Conv2d, dy: &[f32], dw: &mut [f32], room: &mut Room) {
        let (groups, filters) = (conv.groups as usize, conv.out_channels as usize);
        let positions = area(conv.output());
        assert_eq!(dy.len(), self.streamed.samples() * filters * positions, "values of dY");
        let share = filters / groups;
        assert_eq!(dw.len(), filters * (conv.in_channels as usize / groups) * area(conv.kernel), "values of dW");
        for (view, outcomes) in self.substituted(Pass::WeightGrad) {
            let substitutes = self.substitutes(&view, outcomes);
            if let Some(copied) =
                CopiedProduct::new(self, Pass::WeightGrad, &view, outcomes, &substitutes, (groups, share))
            {
                copied.correlate(dy, dw, room);
                continue;
            }
            let mut adds = false;
            self.for_columns(conv, &substitutes, room, |columns, gradient| {
                let width = columns.width();
                gradient.resize(filters * width, 0.0);
                // dY in the order of the columns, `[filters][samples x positions]`.
                let dy = &dy[columns.samples.start * filters * positions..];
                for (number, planes) in dy.chunks_exact(filters * positions).take(columns.samples.len()).enumerate() {
                    for (plane, row) in planes.chunks_exact(positions).zip(gradient.chunks_exact_mut(width)) {
                        row[number * positions..][..positions].copy_from_slice(plane);
                    }
                }
                for (group, out) in dw.chunks_exact_mut(share * columns.elements).enumerate() {
                    let gradient = Matrix::new(&gradient[group * share * width..], share, width);
                    multiply(gradient, columns.group(group).transposed(), adds, out);
                }
                adds = true;
            });
        }
    }

    /// Writes the columns of a few samples at a time; `work` gets them and memory for a product.
    fn for_columns(
        &self,
        conv: &Conv2d,
        substitutes: &Substitutes,
        room: &mut Room,
        mut work: impl FnMut(&Columns, &mut Vec<f32>),
    ) {
        let view = substitutes.view();
        let elements: usize = view.streams().iter().map(|stream| stream.length).sum();
        let positions = view.layout().positions;
        let at_a_time = (VALUES_AT_A_TIME / (elements * positions).max(1)).max(1);
        for first in (0..self.streamed.samples()).step_by(at_a_time) {
            let samples = first..self.streamed.samples().min(first + at_a_time);
            room.operand.resize(elements * samples.len() * positions, 0.0);
            substitutes.columns(samples.clone(), &mut room.operand);
            let elements = elements / conv.groups as usize;
            let columns = Columns { samples, positions, elements, values: &room.operand };
            work(&columns, &mut room.product);
        }
    }
}

/// The weights of one walk of the input gradient: `[groups][channels][filters x taps]`.
fn rotate(w: &[f32], conv: &Conv2d, walk: &Windows) -> Vec<f32> {
    let (groups, filters) = (conv.groups as usize, (conv.out_channels / conv.groups) as usize);
    let channels = (conv.in_channels / conv.groups) as usize;
    let [kernel_rows, kernel_columns] = conv.kernel.map(|size| size as usize);
    let taps = |axis: &Axis| (0..axis.taps).map(|tap| axis.kernel_element(tap)).collect::<Vec<_>>();
    let (rows, columns) = (taps(&walk.y), taps(&walk.x));
    let mut rotated = Vec::with_capacity(groups * channels * filters * rows.len() * columns.len());
    for group in 0..groups {
        for channel in 0..channels {
            for filter in 0..filters {
                let kernel = ((group * filters + filter) * channels + channel) * kernel_rows * kernel_columns;
                for row in &rows {
                    rotated.extend(columns.iter().map(|column| w[kernel + row * kernel_columns + column]));
                }
            }
        }
    }
    rotated
}

/// Writes a sample's results of a walk, `[channels][positions]`, to their places in its dX.
fn scatter(conv: &Conv2d, walk: &Windows, product: &[f32], dx: &mut [f32]) {
    let [height, width] = conv.input.map(|size| size as usize);
    let residue = |axis: usize, walk: &Axis| walk.residue(conv.stride[axis], conv.padding[axis], conv.dilation[axis]);
    let first = [residue(0, &walk.y), residue(1, &walk.x)].map(|place| place as usize);
    let [down, right] = conv.stride.map(|stride| stride as usize);
    let (rows, line) = (walk.y.positions as usize, walk.x.positions as usize);
    for (plane, values) in dx.chunks_exact_mut(height * width).zip(product.chunks_exact(rows * line)) {
        for (row, values) in values.chunks_exact(line).enumerate() {
            let out = &mut plane[(first[0] + row * down) * width + first[1]..];
            for (place, &value) in out.iter_mut().step_by(right).zip(values) {
                *place = value;
            }
        }
    }
}
