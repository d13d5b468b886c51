//! Products in which HITs copy results or elements, without a substituted operand in memory.
//!
//! The representative of a HIT is the vector that inserted its entry; any other vector represents itself. Where there are
//! many HITs, only the results of representatives are computed, and each HIT adds its representative's: what MERCURY's
//! hardware does. In the weight gradient, the rows of dY that meet one entry are added first, and their sum is multiplied
//! once. A HIT then costs an addition per kernel instead of a multiplication per element and kernel. Where HITs are few or
//! vectors short, each result is computed from the elements of its vector's representative. Both equal the product of the
//! substituted operand, in another order of additions.

mod gradient;
mod kernels;
mod lists;
#[cfg(test)]
mod tests;
mod transposed;

use crate::pass::Reuse;
use crate::{Room, take};
use kernels::{AddResults, LANES, Multiply, Vectors, WholeRows};
use lists::{Run, RunLists};
use mercury_hardware::config::Config;
use mercury_reuse::config::{Representative, Scope, Variant};
use mercury_reuse::{Outcomes, PaddedPlanes, Substitutes, VectorView, list_scales};
use mercury_trace::geometry::Pass;
use pulp::Arch;
use rayon::prelude::*;
use transposed::write_planes;

/// With shorter vectors, the product of the substituted operand is as fast.
const LEAST_LENGTH: usize = 4;

/// With fewer kernels, most lanes of a vector register would be empty.
const LEAST_KERNELS: usize = 8;

/// Multiplications per kernel that HITs must save per vector, so that copying results is faster than computing all.
///
/// Vectors of 9 elements never save 9, because no run has HITs alone: their weight gradients copy no results.
fn find_least_saved(pass: Pass) -> usize {
    match pass {
        Pass::WeightGrad => 9,
        Pass::Forward | Pass::InputGrad => 5,
    }
}

/// A product of vectors with kernels, in which HITs copy results, or elements of their representatives.
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
    /// Multiplications per kernel that HITs must save per vector, if results are to be copied.
    least_saved: usize,
    planes: PaddedPlanes,
}

/// The vectors from which the results of a run are computed.
#[derive(Default)]
struct RunVectors {
    /// Where each begins in `centroids`, or else in the sample's padded planes.
    starts: Vec<u32>,
    /// If centroids stand for vectors, `[vectors][elements]`.
    centroids: Vec<f32>,
    /// The distances of elements in `centroids`.
    offsets: Vec<u32>,
    /// By position, for `sign+rescale`.
    norms: Vec<f64>,
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

/// With fewer vectors of a stream, rearranging its weights takes longer than it saves (`python/benches/reuse.py`). Tests
/// have few vectors.
const LEAST_VECTORS: usize = if cfg!(test) { 1 } else { 4096 };

/// Whether this is how a layer's pass is computed whose vectors meet this number of kernels.
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
        pass: Pass,
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
            least_saved: find_least_saved(pass),
            planes: PaddedPlanes::new(view),
        })
    }

    /// Kernels, rounded up to whole registers.
    fn width(&self) -> usize {
        self.kernels.next_multiple_of(LANES)
    }

    /// Values of a stream's results for a sample, `[positions][width]`.
    fn size(&self) -> usize {
        self.positions() * self.width()
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

    /// Computes each sample's sums; `write` puts them into its part of `out`, which has `sample_size` values, and may use
    /// a thread's memory.
    pub fn multiply(
        &self,
        weights: &[f32],
        out: &mut [f32],
        sample_size: usize,
        room: &mut Room,
        write: impl Fn(&[f32], &mut [f32], &mut Vec<f32>) + Sync,
    ) {
        let weights = self.arrange(weights);
        if self.crosses_samples {
            self.multiply_by_stream(&weights, out, sample_size, room, write);
            return;
        }
        out.par_chunks_mut(sample_size).enumerate().for_each_init(ThreadBuffers::default, |buffers, (sample, out)| {
            let size = self.size();
            buffers.sums.clear();
            buffers.sums.resize(self.groups * size, 0.0);
            buffers.results.resize(size, 0.0);
            buffers.padded.resize(self.planes.size(), 0.0);
            self.planes.pad(self.view, sample, &mut buffers.padded);
            for (stream, weights) in weights.iter().enumerate() {
                let (group, _) = self.places[stream];
                let ThreadBuffers { lists, vectors, padded, results, sums, .. } = buffers;
                self.prepare((sample, stream), padded, lists, vectors);
                let (vectors, sums) = (self.read(stream, vectors, padded), &mut sums[group * size..][..size]);
                if lists.copies {
                    self.compute(lists, &vectors, weights, results, false);
                    self.add_results(lists, results, sums);
                } else {
                    self.compute(lists, &vectors, weights, sums, true);
                }
            }
            write(&buffers.sums, out, &mut buffers.product);
        });
    }

    /// The same, stream by stream, because results cross from sample to sample.
    fn multiply_by_stream(
        &self,
        weights: &[Vec<f32>],
        out: &mut [f32],
        sample_size: usize,
        room: &mut Room,
        write: impl Fn(&[f32], &mut [f32], &mut Vec<f32>) + Sync,
    ) {
        let (size, samples) = (self.size(), self.view.layout().samples);
        let padded = take(&mut room.operand, samples * self.planes.size());
        self.pad_all(padded);
        let padded = &*padded;
        let mut results = vec![0.0; samples * size];
        let mut sums = vec![0.0; samples * self.groups * size];
        for (stream, weights) in weights.iter().enumerate() {
            let own = self.places[stream].0 * size..;
            let by_sample = results.par_chunks_mut(size).enumerate();
            by_sample.for_each_init(ThreadBuffers::default, |buffers, (sample, results)| {
                let ThreadBuffers { lists, vectors, .. } = buffers;
                let padded = self.sample_planes(padded, sample);
                self.prepare((sample, stream), padded, lists, vectors);
                self.compute(lists, &self.read(stream, vectors, padded), weights, results, false);
            });
            let by_sample = sums.par_chunks_mut(self.groups * size).enumerate();
            by_sample.for_each_init(RunLists::default, |lists, (sample, sums)| {
                self.list(sample, stream, lists);
                self.add_results(lists, &results, &mut sums[own.clone()][..size]);
            });
        }
        let by_sample = out.par_chunks_mut(sample_size).zip(sums.par_chunks(self.groups * size));
        by_sample.for_each_init(Vec::new, |product, (out, sums)| write(sums, out, product));
    }

    /// Writes the padded planes of all samples.
    fn pad_all(&self, padded: &mut [f32]) {
        let by_sample = padded.par_chunks_mut(self.planes.size()).enumerate();
        by_sample.for_each(|(sample, out)| self.planes.pad(self.view, sample, out));
    }

    fn sample_planes<'v>(&self, padded: &'v [f32], sample: usize) -> &'v [f32] {
        &padded[sample * self.planes.size()..][..self.planes.size()]
    }

    /// Lists the vectors of a run, and finds those from which results are computed.
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
            self.planes.list_norms(stream, padded, &mut vectors.norms);
            list_scales(&vectors.norms, (0..).zip(lists.places.iter().copied()), &mut lists.scales);
        }
        vectors.starts.clear();
        if !self.has_centroids {
            let read = if lists.copies { &lists.computed } else { &lists.places };
            vectors.starts.extend(read.iter().map(|&place| starts[place as usize]));
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

    /// Where the kernels read these vectors.
    fn read<'v>(&'v self, stream: usize, vectors: &'v RunVectors, padded: &'v [f32]) -> Vectors<'v> {
        let starts = &vectors.starts;
        if self.has_centroids {
            Vectors { values: &vectors.centroids, starts, offsets: &vectors.offsets }
        } else {
            Vectors { values: padded, starts, offsets: &self.planes.offsets[stream] }
        }
    }

    /// Counts the HITs of a run from which on copying results is faster than computing them.
    fn count_least_hits(&self, stream: usize) -> usize {
        let length = self.view.streams()[stream].length;
        let always_copies = self.crosses_samples || self.has_centroids || self.rescales;
        if always_copies { 0 } else { (self.least_saved * self.positions()).div_ceil(length) }
    }

    /// Lists the vectors of a run.
    fn list(&self, sample: usize, stream: usize, lists: &mut RunLists) {
        let (positions, streams) = (self.positions(), self.view.layout().streams);
        let first = (sample * streams + stream) * positions;
        let holders = self.outcomes.holders(first..first + positions);
        let run =
            Run { first: first as u32, stream: stream as u32, positions: positions as u32, streams: streams as u32 };
        lists.fill(&holders, run, self.crosses_samples, self.count_least_hits(stream));
    }

    fn compute(&self, lists: &RunLists, vectors: &Vectors, weights: &[f32], results: &mut [f32], adds: bool) {
        let rows = Multiply { vectors, computed: &lists.computed, weights, results, adds };
        Arch::new().dispatch(WholeRows { width: self.width(), rows });
    }

    fn add_results(&self, lists: &RunLists, results: &[f32], sums: &mut [f32]) {
        Arch::new().dispatch(WholeRows { width: self.width(), rows: AddResults { lists, results, sums } });
    }

    /// Writes a sample's sums, `[groups][positions][width]`, as its product, `[groups x kernels][positions]`.
    pub fn write_product(&self, sums: &[f32], product: &mut [f32]) {
        let groups = product.chunks_exact_mut(self.kernels * self.positions()).zip(sums.chunks_exact(self.size()));
        groups.for_each(|(planes, rows)| write_planes(rows, self.width(), planes, self.positions()));
    }
}
