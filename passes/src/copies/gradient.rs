//! The weight gradient, by the rows of dY that meet one result.

use super::kernels::{Correlate, SumRows, Vectors, WholeRows};
use super::lists::RunLists;
use super::transposed::write_rows;
use super::{CopiedProduct, ThreadBuffers};
use crate::{Room, take};
use pulp::Arch;
use rayon::prelude::*;

/// Streams of a task at most, so that their gradients stay in a core's cache.
const MOST_STREAMS: usize = 16;

/// What a weight gradient is computed from, by sample.
#[derive(Clone, Copy)]
struct Operands<'o> {
    /// dY, `[samples][groups][positions][width]`.
    rows: &'o [f32],
    /// The padded planes of X.
    padded: &'o [f32],
}

impl CopiedProduct<'_> {
    /// Computes dW, `[groups x kernels][elements of a group]`, from dY, `[samples][groups x kernels][positions]`.
    pub fn correlate(&self, dy: &[f32], dw: &mut [f32], room: &mut Room) {
        let (samples, streams) = (self.view.layout().samples, self.view.streams());
        let rows = take(&mut room.product, samples * self.groups * self.size());
        let planes = dy.par_chunks(self.kernels * self.positions());
        let by_group = rows.par_chunks_mut(self.size()).zip(planes);
        let padded = take(&mut room.operand, samples * self.planes.size());
        rayon::join(
            || by_group.for_each(|(rows, planes)| write_rows(planes, self.positions(), rows, self.width())),
            || self.pad_all(padded),
        );
        let operands = Operands { rows, padded };
        let mut gradients: Vec<Vec<f32>> =
            streams.iter().map(|stream| vec![0.0; stream.length * self.width()]).collect();
        let at_a_time = streams.len().div_ceil(2 * rayon::current_num_threads()).min(MOST_STREAMS);
        let tasks = gradients.par_chunks_mut(at_a_time).enumerate();
        tasks.for_each_init(ThreadBuffers::default, |buffers, (task, gradients)| {
            let first = task * at_a_time;
            if self.crosses_samples {
                for (stream, gradient) in (first..).zip(gradients) {
                    self.correlate_across_samples(stream, operands, buffers, gradient);
                }
            } else {
                self.correlate_by_sample(first, operands, buffers, gradients);
            }
        });
        for ((stream, &(group, first)), gradient) in streams.iter().zip(&self.places).zip(&gradients) {
            for kernel in 0..self.kernels {
                let row = &mut dw[(group * self.kernels + kernel) * self.row_length() + first..];
                for (element, place) in row[..stream.length].iter_mut().enumerate() {
                    *place = gradient[element * self.width() + kernel];
                }
            }
        }
    }

    /// Adds to the gradients of some streams' weights, `[elements][width]`, from stream `first` on. All streams of a
    /// sample follow each other, so that its rows are read from memory once.
    fn correlate_by_sample(
        &self,
        first: usize,
        operands: Operands,
        buffers: &mut ThreadBuffers,
        gradients: &mut [Vec<f32>],
    ) {
        let ThreadBuffers { lists, vectors, results: sums, .. } = buffers;
        for sample in 0..self.view.layout().samples {
            let padded = self.sample_planes(operands.padded, sample);
            for (stream, gradient) in (first..).zip(&mut *gradients) {
                self.prepare((sample, stream), padded, lists, vectors);
                let (vectors, rows) = (self.read(stream, vectors, padded), self.find_rows(operands, sample, stream));
                if lists.copies {
                    sums.clear();
                    sums.resize(self.size(), 0.0);
                    self.sum_rows(lists, rows, sums);
                    self.add_products(lists, &vectors, sums, gradient);
                } else {
                    self.add_products(lists, &vectors, rows, gradient);
                }
            }
        }
    }

    /// Adds to the gradient of a stream's weights, where rows of several samples meet one result.
    fn correlate_across_samples(
        &self,
        stream: usize,
        operands: Operands,
        buffers: &mut ThreadBuffers,
        gradient: &mut [f32],
    ) {
        let (size, samples) = (self.size(), self.view.layout().samples);
        let ThreadBuffers { lists, vectors, results: sums, .. } = buffers;
        sums.clear();
        sums.resize(samples * size, 0.0);
        for sample in 0..samples {
            self.list(sample, stream, lists);
            self.sum_rows(lists, self.find_rows(operands, sample, stream), sums);
        }
        for (sample, sums) in sums.chunks_exact(size).enumerate() {
            let padded = self.sample_planes(operands.padded, sample);
            self.prepare((sample, stream), padded, lists, vectors);
            self.add_products(lists, &self.read(stream, vectors, padded), sums, gradient);
        }
    }

    /// The rows of dY that a stream's vectors of a sample meet.
    fn find_rows<'o>(&self, operands: Operands<'o>, sample: usize, stream: usize) -> &'o [f32] {
        let (group, _) = self.places[stream];
        &operands.rows[(sample * self.groups + group) * self.size()..][..self.size()]
    }

    fn sum_rows(&self, lists: &RunLists, rows: &[f32], sums: &mut [f32]) {
        Arch::new().dispatch(WholeRows { width: self.width(), rows: SumRows { lists, rows, sums } });
    }

    fn add_products(&self, lists: &RunLists, vectors: &Vectors, rows: &[f32], gradient: &mut [f32]) {
        let (computed, width) = (&lists.computed, self.width());
        Arch::new().dispatch(Correlate { vectors, computed, rows, width, gradient });
    }
}
