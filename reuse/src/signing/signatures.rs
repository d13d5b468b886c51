//! The signatures of all vectors of an operand.

use crate::config::{Rpq, Variant};
use crate::signing::drawn;
use crate::signing::kernel::{self, Kernel, MAX_TILE, Packed, Strip};
use crate::signing::projection::Projection;
use crate::signing::strips::{Plan, Scratch};
use crate::vectors::VectorView;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Approximate number of vectors that a thread takes at a time.
const PIECE: usize = 1 << 13;

/// Computes the signatures of all vectors, in the order of the layout. They equal [`compute_signature`]
/// on every machine and with any number of threads.
pub fn signatures(view: &VectorView, rpq: &Rpq) -> Vec<u64> {
    let mut out = vec![0; view.layout().vectors()];
    signatures_with(Kernel::best(), view, rpq, &mut out);
    out
}

/// Computes [`signatures`] with a given kernel and writes them to `out`.
///
/// # Panics
/// If the length of `out` is not the number of vectors.
pub fn signatures_with(kernel: Kernel, view: &VectorView, rpq: &Rpq, out: &mut [u64]) {
    assert_eq!(out.len(), view.layout().vectors(), "signatures of the layout");
    Signatures::new(kernel, view, rpq).all(out);
}

/// Computes the signature of one vector by the scalar loops that define it.
///
/// If the variant has a magnitude, it is in the low bits. They are the low bits of
/// floor(log2 |x|) + 64, from the exponent of s = <x, x>. This s accumulates in f32 by fused
/// multiply-add from element 0 up. If it is below 2^-126, as for a zero vector, the bits are 0.
///
/// The bits above the magnitude are [`Projection::signature_scalar`], so that a shorter signature
/// remains a prefix. With `centred`, the mean is subtracted from each element first. The mean is
/// the f32 sum from element 0 up, times the f32 nearest to 1 / length. The mean and the differences
/// are rounded to f32.
///
/// # Panics
/// If the length of the vector is not the length of the projection.
pub fn compute_signature(vector: &[f32], projection: &Projection, variant: Variant) -> u64 {
    assert_eq!(vector.len(), projection.length(), "length of the vector");
    match variant {
        Variant::Sign | Variant::SignRescale => projection.signature_scalar(vector),
        Variant::SignMagnitude(bits) => {
            let square = vector.iter().fold(0.0f32, |sum, x| x.mul_add(*x, sum));
            (projection.signature_scalar(vector) << bits) | u64::from(kernel::compute_magnitude(square, bits))
        }
        Variant::Centred => {
            let mean = mean(vector);
            let centred: Vec<f32> = vector.iter().map(|x| x - mean).collect();
            projection.signature_scalar(&centred)
        }
    }
}

/// Computes the signatures of an operand's vectors.
pub(crate) struct Signatures<'a> {
    kernel: Kernel,
    view: &'a VectorView<'a>,
    variant: Variant,
    /// R for each length of vectors. Lengths are few: only the last sub-vector of a row differs.
    matrices: BTreeMap<usize, Arc<Packed>>,
    /// The plan for each first tap and length of a stream.
    plans: BTreeMap<(usize, usize), Option<Plan>>,
}

impl<'a> Signatures<'a> {
    pub(crate) fn new(kernel: Kernel, view: &'a VectorView<'a>, rpq: &Rpq) -> Self {
        let (mut matrices, mut plans) = (BTreeMap::new(), BTreeMap::new());
        for stream in view.streams() {
            matrices.entry(stream.length).or_insert_with(|| drawn::get_packed(kernel, rpq, stream.length));
            let key = (stream.first % view.windows().taps(), stream.length);
            plans.entry(key).or_insert_with(|| Plan::new(view.windows(), *stream));
        }
        Self { kernel, view, variant: rpq.variant, matrices, plans }
    }

    /// Computes the signatures of all vectors.
    pub(crate) fn all(&self, out: &mut [u64]) {
        if self.has_strips() {
            self.compute_by_strips(out);
        } else {
            self.compute_by_tiles(out);
        }
    }

    /// Whether all streams have a plan for strips of planes.
    pub(crate) fn has_strips(&self) -> bool {
        self.plans.values().all(Option::is_some)
    }

    /// The plan for strips of a run (one sample, one stream), and R for its vectors.
    fn plan(&self, run: usize) -> (&Plan, &Packed) {
        let cut = self.view.streams()[run % self.view.layout().streams];
        let plan = self.plans[&(cut.first % self.view.windows().taps(), cut.length)].as_ref();
        (plan.expect("callers check has_strips first"), &self.matrices[&cut.length])
    }

    /// Computes the signatures of a run. All streams must have plans ([`Signatures::has_strips`]).
    pub(crate) fn run(&self, run: usize, buffers: &mut StripBuffers, out: &mut [u64]) {
        let plan = self.plan(run);
        for (strip, out) in out.chunks_mut(self.strip_vectors(plan.0)).enumerate() {
            self.compute_strip(run, plan, strip, buffers, out);
        }
    }

    /// Computes all signatures strip by strip. All streams must have plans.
    fn compute_by_strips(&self, out: &mut [u64]) {
        let positions = self.view.layout().positions.max(1);
        // Threads rarely start or end together, so tasks are small to leave none with much work.
        let runs = out.par_chunks_mut(positions).with_max_len(1 + PIECE / positions);
        let strips = runs.enumerate().flat_map(|(run, out)| {
            let plan = self.plan(run);
            let strips = out.par_chunks_mut(self.strip_vectors(plan.0)).enumerate();
            strips.map(move |(strip, out)| (run, plan, strip, out))
        });
        strips.for_each_init(StripBuffers::default, |buffers, (run, plan, strip, out)| {
            self.compute_strip(run, plan, strip, buffers, out);
        });
    }

    /// Vectors of a strip.
    fn strip_vectors(&self, plan: &Plan) -> usize {
        plan.rows * self.view.windows().x.positions as usize
    }

    fn compute_strip(
        &self,
        run: usize,
        (plan, matrix): (&Plan, &Packed),
        strip: usize,
        StripBuffers { scratch, numbers }: &mut StripBuffers,
        out: &mut [u64],
    ) {
        let (streams, columns) = (self.view.layout().streams, self.view.windows().x.positions as usize);
        let rows = out.len() / columns;
        let strip = plan.fill_strip(self.view, (run / streams, run % streams), strip * plan.rows, rows, scratch);
        if let Some(lines) = plan.lines(self.kernel.tile(), rows, columns) {
            self.kernel.compute_strip(&strip.with_lines(lines), matrix, self.variant, out);
            return;
        }
        numbers.resize(strip.padded_slots(), 0);
        self.kernel.compute_strip(&strip, matrix, self.variant, numbers);
        plan.copy_signatures(numbers, columns, out);
    }

    /// Computes all signatures by copying vectors one by one and transposing tiles of them. Vectors
    /// of different streams share a tile if they have the same length, and so the same R.
    fn compute_by_tiles(&self, out: &mut [u64]) {
        let size = 4 * self.kernel.tile();
        out.par_chunks_mut(size).enumerate().for_each_init(TileBuffers::default, |buffers, (chunk, out)| {
            for (&length, matrix) in &self.matrices {
                let has_length = |&vector: &usize| {
                    let (_, stream, _) = self.view.layout().locate(vector);
                    self.view.streams()[stream].length == length
                };
                let first = chunk * size;
                buffers.members.clear();
                buffers.members.extend((first..first + out.len()).filter(has_length));
                self.compute_tiles(matrix, length, buffers, first, out);
            }
        });
    }

    /// Computes the signatures of `buffers.members`, which all have this length. `out` begins with
    /// the signature of vector `first`.
    fn compute_tiles(&self, matrix: &Packed, length: usize, buffers: &mut TileBuffers, first: usize, out: &mut [u64]) {
        let TileBuffers { members, rows, columns, offsets, numbers } = buffers;
        let (tile, pitch) = (self.kernel.tile(), length.next_multiple_of(16));
        rows.resize(tile * pitch, 0.0);
        columns.resize(tile * pitch + MAX_TILE, 0.0);
        numbers.resize(tile, 0);
        offsets.clear();
        offsets.extend((0..length).map(|element| (element * tile) as u32));
        for members in members.chunks(tile) {
            for (&member, row) in members.iter().zip(rows.chunks_exact_mut(pitch)) {
                let (sample, stream, position) = self.view.layout().locate(member);
                self.view.gather(sample, stream, position, row);
            }
            // Rows beyond the members keep vectors of an earlier tile. Their signatures are not
            // read.
            self.kernel.transpose(rows, pitch, columns);
            let strip = Strip::new(columns, offsets, ((length - 1) * tile) as u32, tile);
            self.kernel.compute_strip(&strip, matrix, self.variant, numbers);
            for (&member, &signature) in members.iter().zip(&*numbers) {
                out[member - first] = signature;
            }
        }
    }
}

/// Buffers of a thread for strips.
#[derive(Default)]
pub(crate) struct StripBuffers {
    scratch: Scratch,
    numbers: Vec<u64>,
}

/// Buffers of a thread for tiles.
#[derive(Default)]
struct TileBuffers {
    members: Vec<usize>,
    rows: Vec<f32>,
    columns: Vec<f32>,
    offsets: Vec<u32>,
    numbers: Vec<u64>,
}

/// The mean that `centred` subtracts: the f32 sum from element 0 up, times the reciprocal of the
/// length. Every kernel computes it the same way.
pub(crate) fn mean(vector: &[f32]) -> f32 {
    vector.iter().fold(0.0, |sum, x| sum + x) * (1.0 / vector.len() as f32)
}
