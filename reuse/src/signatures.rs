//! The signatures of all vectors of an operand.

use crate::config::{Rpq, Variant};
use crate::drawn;
use crate::kernel::{self, Kernel, MAX_TILE, Packed, Strip};
use crate::projection::Projection;
use crate::strips::{Plan, Scratch};
use crate::vectors::VectorView;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Vectors that a thread takes at a time, about.
const PIECE: usize = 1 << 13;

/// Signatures of all vectors, in the layout's order. Each is as [`signature_of`] defines it, whatever
/// the machine and the number of threads.
pub fn signatures(view: &VectorView, rpq: &Rpq) -> Vec<u64> {
    let mut out = vec![0; view.layout().vectors()];
    signatures_with(Kernel::best(), view, rpq, &mut out);
    out
}

/// As [`signatures`], by a kernel of the caller's choice, to memory that the caller keeps.
///
/// # Panics
/// If `out` is not as long as there are vectors.
pub fn signatures_with(kernel: Kernel, view: &VectorView, rpq: &Rpq, out: &mut [u64]) {
    assert_eq!(out.len(), view.layout().vectors(), "signatures of the layout");
    Signatures::new(kernel, view, rpq).all(out);
}

/// The signature of one vector, by the plain scalar loops that define it.
///
/// The low bits hold the magnitude, if the variant has one: with s = <x, x>, accumulated in f32 by
/// fused multiply-add from element 0 up, these are the low bits of floor(log2 |x|) + 64 as
/// the exponent of s gives it (0 where s is below 2^-126, as of a zero vector). The bits above
/// them are [`Projection::signature_scalar`], so that shorter signatures remain prefixes: of the
/// vector, or, where it is `centred`, of each element less the mean. The mean is the f32 sum from
/// element 0 up, times the f32 nearest to 1 / length; it and the differences are rounded to f32.
///
/// # Panics
/// If the vector is not of the projection's length.
pub fn signature_of(vector: &[f32], projection: &Projection, variant: Variant) -> u64 {
    assert_eq!(vector.len(), projection.length(), "length of the vector");
    match variant {
        Variant::Sign | Variant::SignRescale => projection.signature_scalar(vector),
        Variant::SignMagnitude(bits) => {
            let square = vector.iter().fold(0.0f32, |sum, x| x.mul_add(*x, sum));
            (projection.signature_scalar(vector) << bits) | u64::from(kernel::magnitude(square, bits))
        }
        Variant::Centred => {
            let mean = mean(vector);
            let centred: Vec<f32> = vector.iter().map(|x| x - mean).collect();
            projection.signature_scalar(&centred)
        }
    }
}

/// How an operand's vectors are signed.
pub(crate) struct Signatures<'a> {
    kernel: Kernel,
    view: &'a VectorView<'a>,
    variant: Variant,
    /// R for each length of vectors. A handful at most: only the last sub-vector of a row differs.
    matrices: BTreeMap<usize, Arc<Packed>>,
    /// Of the first tap and length of a stream.
    plans: BTreeMap<(usize, usize), Option<Plan>>,
}

impl<'a> Signatures<'a> {
    pub(crate) fn new(kernel: Kernel, view: &'a VectorView<'a>, rpq: &Rpq) -> Self {
        let (mut matrices, mut plans) = (BTreeMap::new(), BTreeMap::new());
        for stream in view.streams() {
            matrices.entry(stream.length).or_insert_with(|| drawn::packed(kernel, rpq, stream.length));
            let key = (stream.first % view.windows().taps(), stream.length);
            plans.entry(key).or_insert_with(|| Plan::new(view.windows(), *stream));
        }
        Self { kernel, view, variant: rpq.variant, matrices, plans }
    }

    /// Signs all vectors.
    pub(crate) fn all(&self, out: &mut [u64]) {
        if self.has_strips() {
            self.strips(out);
        } else {
            self.tiles(out);
        }
    }

    /// Whether the vectors of all streams lie well in strips of planes.
    pub(crate) fn has_strips(&self) -> bool {
        self.plans.values().all(Option::is_some)
    }

    /// How the vectors of a run (one sample, one stream) lie in strips, and R for them.
    fn plan(&self, run: usize) -> (&Plan, &Packed) {
        let cut = self.view.streams()[run % self.view.layout().streams];
        let plan = self.plans[&(cut.first % self.view.windows().taps(), cut.length)].as_ref();
        (plan.expect("the caller asked for plans"), &self.matrices[&cut.length])
    }

    /// Signs the vectors of a run; all streams have plans.
    pub(crate) fn run(&self, run: usize, buffers: &mut StripBuffers, out: &mut [u64]) {
        let plan = self.plan(run);
        for (strip, out) in out.chunks_mut(self.of_strip(plan.0)).enumerate() {
            self.strip(run, plan, strip, buffers, out);
        }
    }

    /// By strips of planes; all streams have plans.
    fn strips(&self, out: &mut [u64]) {
        let positions = self.view.layout().positions.max(1);
        // Several threads rarely begin or end together: none should be left with much.
        let runs = out.par_chunks_mut(positions).with_max_len(1 + PIECE / positions);
        let strips = runs.enumerate().flat_map(|(run, out)| {
            let plan = self.plan(run);
            out.par_chunks_mut(self.of_strip(plan.0)).enumerate().map(move |(strip, out)| (run, plan, strip, out))
        });
        strips.for_each_init(StripBuffers::default, |buffers, (run, plan, strip, out)| {
            self.strip(run, plan, strip, buffers, out);
        });
    }

    /// Vectors of a strip.
    fn of_strip(&self, plan: &Plan) -> usize {
        plan.rows * self.view.windows().x.positions as usize
    }

    fn strip(
        &self,
        run: usize,
        (plan, matrix): (&Plan, &Packed),
        strip: usize,
        StripBuffers { scratch, numbers }: &mut StripBuffers,
        out: &mut [u64],
    ) {
        let (streams, columns) = (self.view.layout().streams, self.view.windows().x.positions as usize);
        let rows = out.len() / columns;
        let strip = plan.strip(self.view, (run / streams, run % streams), strip * plan.rows, rows, scratch);
        if let Some(lines) = plan.lines(self.kernel.tile(), rows, columns) {
            self.kernel.strip(&strip.with_lines(lines), matrix, self.variant, out);
            return;
        }
        numbers.resize(strip.padded_slots(), 0);
        self.kernel.strip(&strip, matrix, self.variant, numbers);
        plan.pick(numbers, columns, out);
    }

    /// By copying vectors one by one and transposing tiles of them. Vectors of different streams
    /// share a tile, as they do R if they are as long.
    fn tiles(&self, out: &mut [u64]) {
        let size = 4 * self.kernel.tile();
        out.par_chunks_mut(size).enumerate().for_each_init(TileBuffers::default, |buffers, (chunk, out)| {
            for (&length, matrix) in &self.matrices {
                let of_length = |&vector: &usize| {
                    let (_, stream, _) = self.view.layout().locate(vector);
                    self.view.streams()[stream].length == length
                };
                let first = chunk * size;
                buffers.members.clear();
                buffers.members.extend((first..first + out.len()).filter(of_length));
                self.tiles_of_length(matrix, length, buffers, first, out);
            }
        });
    }

    fn tiles_of_length(
        &self,
        matrix: &Packed,
        length: usize,
        buffers: &mut TileBuffers,
        first: usize,
        out: &mut [u64],
    ) {
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
            // Rows beyond the members are of an earlier tile; so are their signatures, then.
            self.kernel.transpose(rows, pitch, columns);
            let strip = Strip::new(columns, offsets, ((length - 1) * tile) as u32, tile);
            self.kernel.strip(&strip, matrix, self.variant, numbers);
            for (&member, &signature) in members.iter().zip(&*numbers) {
                out[member - first] = signature;
            }
        }
    }
}

/// A thread's memory for strips.
#[derive(Default)]
pub(crate) struct StripBuffers {
    scratch: Scratch,
    numbers: Vec<u64>,
}

/// A thread's memory for tiles.
#[derive(Default)]
struct TileBuffers {
    members: Vec<usize>,
    rows: Vec<f32>,
    columns: Vec<f32>,
    offsets: Vec<u32>,
    numbers: Vec<u64>,
}

/// The mean that `centred` takes off, as every kernel computes it: the f32 sum from element 0 up, times
/// the reciprocal of the length.
pub(crate) fn mean(vector: &[f32]) -> f32 {
    vector.iter().fold(0.0, |sum, x| sum + x) * (1.0 / vector.len() as f32)
}
