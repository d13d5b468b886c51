//! Products of representatives alone, whose results are copied: what MERCURY's hardware does.
//!
//! The result of a vector that holds an entry is computed once, and each HIT adds that result instead of multiplying.
//! In the weight gradient, the rows of dY that meet one entry are added first, and their sum is multiplied once. Both
//! equal the product of the substituted operand, in another order of additions, and take less time where vectors are
//! long and kernels are many, because a HIT costs one addition per kernel instead of one multiplication per element.

mod kernels;
mod lists;
#[cfg(test)]
mod tests;

use crate::pass::Reuse;
use kernels::{AddHits, Correlate, LANES, Multiply, SumHits, Vectors};
use lists::{Run, RunLists};
use mercury_hardware::config::Config;
use mercury_reuse::config::{Representative, Scope, Variant};
use mercury_reuse::{Outcomes, PaddedPlanes, Substitutes, VectorView, list_scales};
use pulp::Arch;
use rayon::prelude::*;

/// Shorter vectors are multiplied as fast as results are copied.
const LEAST_LENGTH: usize = 4;

/// With fewer kernels, most lanes of a vector register would be empty.
const LEAST_KERNELS: usize = 8;

/// A product of vectors with kernels, with copied results.
pub struct CopiedProduct<'p> {
    view: &'p VectorView<'p>,
    outcomes: &'p Outcomes,
    substitutes: &'p Substitutes<'p, 'p>,
    /// Kernels that a vector meets.
    kernels: usize,
    /// Groups of channels and kernels.
    groups: usize,
    /// Of each stream, the group of its channels and its place among the elements of a group's row.
    places: Vec<(usize, usize)>,
    /// Whether a HIT's entry may have been inserted by a vector of another sample.
    crosses_samples: bool,
    rescales: bool,
    has_centroids: bool,
    planes: PaddedPlanes,
}

/// The computed vectors of a run.
#[derive(Default)]
struct RunVectors {
    /// Where each begins in `centroids`, or else in the sample's padded planes.
    starts: Vec<u32>,
    /// If centroids stand for vectors, `[vectors][elements]`.
    centroids: Vec<f32>,
    /// The distances of elements in `centroids`.
    offsets: Vec<u32>,
}

/// A thread's memory.
#[derive(Default)]
struct ThreadBuffers {
    lists: RunLists,
    vectors: RunVectors,
    /// A sample's padded planes.
    padded: Vec<f32>,
    /// Results or sums of a run or a stream, `[places][kernels]`.
    results: Vec<f32>,
    /// Sums over streams, `[groups][positions][kernels]`.
    sums: Vec<f32>,
    /// A sample's product, `[groups x kernels][positions]`.
    product: Vec<f32>,
}

/// With fewer vectors of a stream, rearranging its weights takes longer than copying saves (`python/benches/reuse.py`).
/// Tests copy the results of few vectors, too.
const LEAST_VECTORS: usize = if cfg!(test) { 1 } else { 4096 };

/// Whether results are copied in a layer's pass whose vectors meet this number of kernels.
fn suits(view: &VectorView, config: &Config, scope: Scope, kernels: usize) -> bool {
    let is_long = view.streams().iter().all(|stream| stream.length >= LEAST_LENGTH);
    let is_large = view.layout().samples * view.layout().positions >= LEAST_VECTORS;
    let variant = match config.rpq.variant {
        Variant::Sign | Variant::SignMagnitude(_) => true,
        Variant::SignRescale => scope != Scope::Batch && config.mcache.representative == Representative::First,
        Variant::Centred => false,
    };
    is_long && is_large && variant && kernels >= LEAST_KERNELS
}

/// Elements of all streams at a position.
fn count_elements(view: &VectorView) -> usize {
    view.streams().iter().map(|stream| stream.length).sum()
}

/// Of each stream, the group of its channels and its place in the group's row. The groups of a view may be others.
fn list_places(view: &VectorView, groups: usize) -> Vec<(usize, usize)> {
    let row_length = count_elements(view) / groups;
    let mut before = 0;
    let place = |length: usize| {
        let place = (before / row_length, before % row_length);
        before += length;
        place
    };
    view.streams().iter().map(|stream| stream.length).map(place).collect()
}

impl<'p> CopiedProduct<'p> {
    /// Prepares a product; `None` where the product of the substituted operand is faster.
    pub fn new(
        reuse: &Reuse,
        view: &'p VectorView<'p>,
        outcomes: &'p Outcomes,
        substitutes: &'p Substitutes<'p, 'p>,
        (groups, kernels): (usize, usize),
    ) -> Option<Self> {
        let scope = reuse.config.mcache.effective_scope(reuse.geometry);
        let rescales = reuse.config.rpq.variant == Variant::SignRescale;
        suits(view, reuse.config, scope, kernels).then(|| Self {
            view,
            outcomes,
            substitutes,
            kernels,
            groups,
            places: list_places(view, groups),
            crosses_samples: scope == Scope::Batch,
            rescales,
            has_centroids: reuse.config.mcache.representative == Representative::Centroid,
            planes: PaddedPlanes::new(view),
        })
    }

    /// Kernels, rounded up to whole registers.
    fn width(&self) -> usize {
        self.kernels.next_multiple_of(LANES)
    }

    fn positions(&self) -> usize {
        self.view.layout().positions
    }

    /// Elements of a group's row.
    fn row_length(&self) -> usize {
        count_elements(self.view) / self.groups
    }

    /// The weights of each stream, `[elements][width]`, from `[groups x kernels][elements of a group]`.
    fn arrange(&self, weights: &[f32]) -> Vec<Vec<f32>> {
        let arranged = self.view.streams().iter().zip(&self.places).map(|(stream, &(group, first))| {
            let mut own = vec![0.0; stream.length * self.width()];
            for kernel in 0..self.kernels {
                let row = &weights[(group * self.kernels + kernel) * self.row_length() + first..];
                for (element, &weight) in row[..stream.length].iter().enumerate() {
                    own[element * self.width() + kernel] = weight;
                }
            }
            own
        });
        arranged.collect()
    }

    /// Computes each sample's product, `[groups x kernels][positions]`; `write` puts it into its part of `out`, which
    /// has `sample_size` values.
    pub fn multiply(
        &self,
        weights: &[f32],
        out: &mut [f32],
        sample_size: usize,
        write: impl Fn(&[f32], &mut [f32]) + Sync,
    ) {
        let weights = self.arrange(weights);
        if self.crosses_samples {
            self.multiply_by_stream(&weights, out, sample_size, write);
            return;
        }
        out.par_chunks_mut(sample_size).enumerate().for_each_init(ThreadBuffers::default, |buffers, (sample, out)| {
            let size = self.positions() * self.width();
            buffers.sums.clear();
            buffers.sums.resize(self.groups * size, 0.0);
            buffers.results.resize(size, 0.0);
            buffers.padded.resize(self.planes.size(), 0.0);
            self.planes.pad(self.view, sample, &mut buffers.padded);
            for (stream, weights) in weights.iter().enumerate() {
                let (group, _) = self.places[stream];
                let ThreadBuffers { lists, vectors, padded, results, sums, .. } = buffers;
                self.prepare((sample, stream), padded, lists, vectors);
                let sums = &mut sums[group * size..][..size];
                self.compute(lists, &self.read(stream, vectors, padded), weights, results, sums);
                self.add_hits(lists, results, sums);
            }
            let ThreadBuffers { sums, product, .. } = buffers;
            self.transpose(sums, product);
            write(product, out);
        });
    }

    /// The same, stream by stream, because results cross from sample to sample.
    fn multiply_by_stream(
        &self,
        weights: &[Vec<f32>],
        out: &mut [f32],
        sample_size: usize,
        write: impl Fn(&[f32], &mut [f32]) + Sync,
    ) {
        let (size, samples) = (self.positions() * self.width(), self.view.layout().samples);
        let padded = self.pad_all();
        let mut results = vec![0.0; samples * size];
        let mut sums = vec![0.0; samples * self.groups * size];
        for (stream, weights) in weights.iter().enumerate() {
            let own = self.places[stream].0 * size..;
            let by_sample = results.par_chunks_mut(size).zip(sums.par_chunks_mut(self.groups * size)).enumerate();
            by_sample.for_each_init(ThreadBuffers::default, |buffers, (sample, (results, sums))| {
                let ThreadBuffers { lists, vectors, .. } = buffers;
                let padded = self.sample_planes(&padded, sample);
                self.prepare((sample, stream), padded, lists, vectors);
                let sums = &mut sums[own.clone()][..size];
                self.compute(lists, &self.read(stream, vectors, padded), weights, results, sums);
            });
            let by_sample = sums.par_chunks_mut(self.groups * size).enumerate();
            by_sample.for_each_init(RunLists::default, |lists, (sample, sums)| {
                self.list(sample, stream, lists);
                self.add_hits(lists, &results, &mut sums[own.clone()][..size]);
            });
        }
        let by_sample = out.par_chunks_mut(sample_size).zip(sums.par_chunks(self.groups * size));
        by_sample.for_each_init(Vec::new, |product, (out, sums)| {
            self.transpose(sums, product);
            write(product, out);
        });
    }

    /// Computes dW, `[groups x kernels][elements of a group]`, from dY, `[samples][groups x kernels][positions]`.
    pub fn correlate(&self, dy: &[f32], dw: &mut [f32]) {
        let (size, samples) = (self.positions() * self.width(), self.view.layout().samples);
        let mut rows = vec![0.0; samples * self.groups * size];
        let planes = self.groups * self.kernels * self.positions();
        rows.par_chunks_mut(self.groups * size).zip(dy.par_chunks(planes)).for_each(|(rows, dy)| {
            for (kernel, plane) in dy.chunks_exact(self.positions()).enumerate() {
                let rows = &mut rows[kernel / self.kernels * size + kernel % self.kernels..];
                rows.iter_mut().step_by(self.width()).zip(plane).for_each(|(row, &value)| *row = value);
            }
        });
        let (streams, padded) = (self.view.streams(), self.pad_all());
        let gradients: Vec<Vec<f32>> = (0..streams.len())
            .into_par_iter()
            .map_init(ThreadBuffers::default, |buffers, stream| self.correlate_stream(stream, &rows, &padded, buffers))
            .collect();
        for ((stream, &(group, first)), gradient) in streams.iter().zip(&self.places).zip(&gradients) {
            for kernel in 0..self.kernels {
                let row = &mut dw[(group * self.kernels + kernel) * self.row_length() + first..];
                for (element, place) in row[..stream.length].iter_mut().enumerate() {
                    *place = gradient[element * self.width() + kernel];
                }
            }
        }
    }

    /// The gradient of a stream's weights, `[elements][width]`; `rows` is dY, `[samples][groups][positions][width]`.
    fn correlate_stream(&self, stream: usize, rows: &[f32], padded: &[f32], buffers: &mut ThreadBuffers) -> Vec<f32> {
        let (size, samples) = (self.positions() * self.width(), self.view.layout().samples);
        let (group, _) = self.places[stream];
        let mut gradient = vec![0.0; self.view.streams()[stream].length * self.width()];
        let sample_rows = |sample: usize| &rows[(sample * self.groups + group) * size..][..size];
        let ThreadBuffers { lists, vectors, results: sums, .. } = buffers;
        if !self.crosses_samples {
            sums.resize(size, 0.0);
            for sample in 0..samples {
                let padded = self.sample_planes(padded, sample);
                self.prepare((sample, stream), padded, lists, vectors);
                self.sum_hits(lists, 0, sample_rows(sample), sums);
                self.add_products(lists, &self.read(stream, vectors, padded), sums, &mut gradient);
            }
            return gradient;
        }
        sums.resize(samples * size, 0.0);
        for sample in 0..samples {
            self.list(sample, stream, lists);
            self.sum_hits(lists, sample * self.positions(), sample_rows(sample), sums);
        }
        for sample in 0..samples {
            let padded = self.sample_planes(padded, sample);
            self.prepare((sample, stream), padded, lists, vectors);
            let sums = &sums[sample * size..][..size];
            self.add_products(lists, &self.read(stream, vectors, padded), sums, &mut gradient);
        }
        gradient
    }

    /// The padded planes of all samples.
    fn pad_all(&self) -> Vec<f32> {
        let mut padded = vec![0.0; self.view.layout().samples * self.planes.size()];
        let by_sample = padded.par_chunks_mut(self.planes.size()).enumerate();
        by_sample.for_each(|(sample, out)| self.planes.pad(self.view, sample, out));
        padded
    }

    fn sample_planes<'v>(&self, padded: &'v [f32], sample: usize) -> &'v [f32] {
        &padded[sample * self.planes.size()..][..self.planes.size()]
    }

    /// Lists the vectors of a run, and finds those whose results are computed.
    fn prepare(
        &self,
        (sample, stream): (usize, usize),
        padded: &[f32],
        lists: &mut RunLists,
        vectors: &mut RunVectors,
    ) {
        self.list(sample, stream, lists);
        let starts = &self.planes.starts;
        if self.rescales {
            let offsets = &self.planes.offsets[stream];
            let squares: Vec<f64> =
                starts.iter().map(|&start| sum_squares(&padded[start as usize..], offsets)).collect();
            list_scales(&squares, &lists.hits, &mut lists.scales);
        }
        vectors.starts.clear();
        if !self.has_centroids {
            vectors.starts.extend(lists.computed.iter().map(|&position| starts[position as usize]));
            return;
        }
        let length = self.view.streams()[stream].length as u32;
        vectors.offsets.clear();
        vectors.offsets.extend(0..length);
        vectors.centroids.clear();
        let mut buffers = self.substitutes.buffers();
        for (number, &position) in (0..).zip(&lists.computed) {
            let (vector, substitute) = self.substitutes.cut(sample, stream, position as usize, &mut buffers);
            vectors.starts.push(number * length);
            vectors.centroids.extend_from_slice(substitute.unwrap_or(vector));
        }
    }

    /// Where the kernels read the computed vectors of a run.
    fn read<'v>(&'v self, stream: usize, vectors: &'v RunVectors, padded: &'v [f32]) -> Vectors<'v> {
        let starts = &vectors.starts;
        if self.has_centroids {
            Vectors { values: &vectors.centroids, starts, offsets: &vectors.offsets }
        } else {
            Vectors { values: padded, starts, offsets: &self.planes.offsets[stream] }
        }
    }

    /// Lists the vectors of a run.
    fn list(&self, sample: usize, stream: usize, lists: &mut RunLists) {
        let (positions, streams) = (self.positions(), self.view.layout().streams);
        let first = (sample * streams + stream) * positions;
        let holders = self.outcomes.holders(first..first + positions);
        let run =
            Run { first: first as u32, stream: stream as u32, positions: positions as u32, streams: streams as u32 };
        lists.fill(&holders, run, self.crosses_samples);
    }

    fn compute(&self, lists: &RunLists, vectors: &Vectors, weights: &[f32], results: &mut [f32], sums: &mut [f32]) {
        let (computed, width) = (&lists.computed, self.width());
        Arch::new().dispatch(Multiply { vectors, computed, weights, width, results, sums });
    }

    fn add_hits(&self, lists: &RunLists, results: &[f32], sums: &mut [f32]) {
        Arch::new().dispatch(AddHits { lists, results, width: self.width(), sums });
    }

    fn sum_hits(&self, lists: &RunLists, first: usize, rows: &[f32], sums: &mut [f32]) {
        Arch::new().dispatch(SumHits { lists, first, rows, width: self.width(), sums });
    }

    fn add_products(&self, lists: &RunLists, vectors: &Vectors, sums: &[f32], gradient: &mut [f32]) {
        let (computed, width) = (&lists.computed, self.width());
        Arch::new().dispatch(Correlate { vectors, computed, sums, width, gradient });
    }

    /// Turns `[groups][positions][width]` into `[groups x kernels][positions]`.
    fn transpose(&self, sums: &[f32], product: &mut Vec<f32>) {
        let (positions, width) = (self.positions(), self.width());
        product.resize(self.groups * self.kernels * positions, 0.0);
        let size = positions * width;
        for (kernel, plane) in product.chunks_exact_mut(positions).enumerate() {
            let rows = &sums[kernel / self.kernels * size + kernel % self.kernels..];
            plane.iter_mut().zip(rows.iter().step_by(width)).for_each(|(value, &row)| *value = row);
        }
    }
}

/// The square of a vector's norm, in f64, in the order of its elements.
fn sum_squares(values: &[f32], offsets: &[u32]) -> f64 {
    offsets.iter().map(|&offset| f64::from(values[offset as usize])).map(|x| x * x).sum()
}
