//! The passes of fully connected layers and of products of two activations.

use crate::matrix::{Matrix, multiply};
use crate::pass::Reuse;
use crate::{Room, VALUES_AT_A_TIME};
use mercury_trace::geometry::{Linear, Matmul, Pass};
use std::ops::Range;

impl Reuse<'_> {
    /// Y of a fully connected layer.
    pub(crate) fn multiply_rows(&self, linear: &Linear, w: &[f32], y: &mut [f32], room: &mut Room) {
        let [rows, inputs, outputs] = sizes(linear);
        assert_eq!(y.len(), self.streamed.samples() * rows * outputs, "values of Y");
        let weights = Matrix::new(w, outputs, inputs).transposed();
        self.for_rows(Pass::Forward, w.len(), room, |samples, values| {
            let y = &mut y[samples.start * rows * outputs..];
            multiply(Matrix::new(values, samples.len() * rows, inputs), weights, false, y);
        });
    }

    /// dX of a fully connected layer.
    pub(crate) fn multiply_rows_back(&self, linear: &Linear, w: &[f32], dx: &mut [f32], room: &mut Room) {
        let [rows, inputs, outputs] = sizes(linear);
        assert_eq!(dx.len(), self.streamed.samples() * rows * inputs, "values of dX");
        let weights = Matrix::new(w, outputs, inputs);
        self.for_rows(Pass::InputGrad, w.len(), room, |samples, values| {
            let dx = &mut dx[samples.start * rows * inputs..];
            multiply(Matrix::new(values, samples.len() * rows, outputs), weights, false, dx);
        });
    }

    /// dW of a fully connected layer.
    pub(crate) fn sum_rows(&self, linear: &Linear, dy: &[f32], dw: &mut [f32], room: &mut Room) {
        let [rows, inputs, outputs] = sizes(linear);
        assert_eq!(dy.len(), self.streamed.samples() * rows * outputs, "values of dY");
        assert_eq!(dw.len(), outputs * inputs, "values of dW");
        let mut adds = false;
        self.for_rows(Pass::WeightGrad, inputs * outputs, room, |samples, values| {
            let count = samples.len() * rows;
            let gradient = Matrix::new(&dy[samples.start * rows * outputs..], count, outputs);
            multiply(gradient.transposed(), Matrix::new(values, count, inputs), adds, dw);
            adds = true;
        });
    }

    /// Y of products of two activations.
    pub(crate) fn multiply_activations(&self, matmul: &Matmul, w: &[f32], y: &mut [f32], room: &mut Room) {
        let Sizes { heads, rows, inner, columns } = Sizes::new(matmul);
        assert_eq!(y.len(), self.streamed.samples() * heads * rows * columns, "values of Y");
        self.for_rows(Pass::Forward, 0, room, |samples, values| {
            for (number, left) in values.chunks_exact(rows * inner).enumerate() {
                let product = samples.start * heads + number;
                let right = Matrix::new(&w[product * columns * inner..], columns, inner).transposed();
                multiply(Matrix::new(left, rows, inner), right, false, &mut y[product * rows * columns..]);
            }
        });
    }

    /// dX of products of two activations.
    pub(crate) fn multiply_activations_back(&self, matmul: &Matmul, w: &[f32], dx: &mut [f32], room: &mut Room) {
        let Sizes { heads, rows, inner, columns } = Sizes::new(matmul);
        assert_eq!(dx.len(), self.streamed.samples() * heads * rows * inner, "values of dX");
        self.for_rows(Pass::InputGrad, 0, room, |samples, values| {
            for (number, gradient) in values.chunks_exact(rows * columns).enumerate() {
                let product = samples.start * heads + number;
                let right = Matrix::new(&w[product * columns * inner..], columns, inner);
                multiply(Matrix::new(gradient, rows, columns), right, false, &mut dx[product * rows * inner..]);
            }
        });
    }

    /// The gradient of the right operands of products of two activations.
    pub(crate) fn multiply_gradients(&self, matmul: &Matmul, dy: &[f32], dw: &mut [f32], room: &mut Room) {
        let Sizes { heads, rows, inner, columns } = Sizes::new(matmul);
        assert_eq!(dw.len(), self.streamed.samples() * heads * columns * inner, "values of dW");
        self.for_rows(Pass::WeightGrad, 0, room, |samples, values| {
            for (number, left) in values.chunks_exact(rows * inner).enumerate() {
                let product = samples.start * heads + number;
                let gradient = Matrix::new(&dy[product * rows * columns..], rows, columns).transposed();
                multiply(gradient, Matrix::new(left, rows, inner), false, &mut dw[product * columns * inner..]);
            }
        });
    }

    /// Writes the substituted rows of a few samples at a time, `[samples]([heads])[rows][elements]`.
    ///
    /// `weights` are the values of an operand that every part meets. Parts have at least as many, because with small
    /// parts most of the time would go into reading a large operand again.
    fn for_rows(&self, pass: Pass, weights: usize, room: &mut Room, mut work: impl FnMut(Range<usize>, &[f32])) {
        let (view, outcomes) = self.substituted(pass).next().expect("a matrix product is one product");
        let substitutes = self.substitutes(&view, outcomes);
        let samples = self.streamed.samples();
        let sample_length = self.streamed.length() / samples.max(1);
        let at_a_time = (VALUES_AT_A_TIME.max(weights) / sample_length.max(1)).max(1);
        for first in (0..samples).step_by(at_a_time) {
            let part = first..samples.min(first + at_a_time);
            room.operand.resize(part.len() * sample_length, 0.0);
            for (sample, out) in part.clone().zip(room.operand.chunks_exact_mut(sample_length)) {
                substitutes.rows(sample, out);
            }
            work(part, &room.operand);
        }
    }
}

/// Rows of a sample, inputs and outputs.
fn sizes(linear: &Linear) -> [usize; 3] {
    [linear.rows, linear.in_features, linear.out_features].map(|size| size as usize)
}

/// The sizes of the products of a sample.
struct Sizes {
    heads: usize,
    rows: usize,
    inner: usize,
    columns: usize,
}

impl Sizes {
    fn new(matmul: &Matmul) -> Self {
        let Matmul { heads, rows, inner, columns } = *matmul;
        Self { heads: heads as usize, rows: rows as usize, inner: inner as usize, columns: columns as usize }
    }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
