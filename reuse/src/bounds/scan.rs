//! Sums over the elements of each vector, without gathering vectors. The rows of an operand are
//! read in place, and the sums of neighbouring vectors grow side by side.

#[cfg(target_arch = "x86_64")]
use crate::cpu::{Instructions, may_use};
use crate::vectors::{Piece, VectorView};
use mercury_trace::windows::Axis;

/// Adds up a term of each element of each vector. Elements in the padding add nothing.
pub(crate) struct Sweep<'v, 'a> {
    view: &'v VectorView<'a>,
    /// Whether the innermost loop iterates over columns of positions, or over taps: over the
    /// longer.
    across: bool,
    /// With `across`, for each tap the columns at which it is inside the plane; otherwise for each
    /// column the taps that are inside.
    inside: Vec<Inside>,
    /// The factor of each element of a vector in hashes.
    factors: Vec<u32>,
}

/// Low bits of a hash, which count the nonzero elements.
const COUNT_BITS: u32 = 16;

/// The points `origin + i * stride` that are inside a plane.
#[derive(Clone, Copy)]
pub(crate) struct Inside {
    /// The first `i`.
    pub first: usize,
    /// One past the last `i`.
    pub end: usize,
    origin: i64,
}

impl Inside {
    pub fn new(origin: i64, stride: u32, count: u32, size: u32) -> Self {
        // The least i whose point is at or beyond a coordinate.
        let least = |at: i64| ((at - origin).max(0) as u64).div_ceil(u64::from(stride)) as usize;
        let end = least(i64::from(size)).min(count as usize);
        Self { first: least(0).min(end), end, origin }
    }

    /// Clips the points to those from `first` to `end`. Returns the new bounds, and the coordinate
    /// of the first point.
    fn clip(&self, first: usize, end: usize, stride: u32) -> Option<(usize, usize, usize)> {
        let (first, end) = (self.first.max(first), self.end.min(end));
        (first < end).then(|| (first, end, (self.origin + first as i64 * i64::from(stride)) as usize))
    }
}

impl<'v, 'a> Sweep<'v, 'a> {
    pub fn new(view: &'v VectorView<'a>) -> Self {
        let Axis { positions, stride, origin, taps, step, .. } = view.windows().x;
        let width = view.planes().width;
        let across = positions >= taps;
        let inside = if across {
            let origin = |tap| origin + i64::from(tap) * i64::from(step);
            (0..taps).map(|tap| Inside::new(origin(tap), stride, positions, width)).collect()
        } else {
            let origin = |column| origin + i64::from(column) * i64::from(stride);
            (0..positions).map(|column| Inside::new(origin(column), step, taps, width)).collect()
        };
        let factors = (0..view.max_length() as u64).map(factor).collect();
        Self { view, across, inside, factors }
    }

    /// Rows of positions in a block: enough to make calls rare, and few enough for a core's cache.
    pub fn block_rows(&self) -> usize {
        (4096 / (self.view.windows().x.positions as usize).max(1)).max(1)
    }

    /// Vectors in a block: those of [`Sweep::block_rows`] rows.
    pub fn block(&self) -> usize {
        (self.block_rows() * self.view.windows().x.positions as usize).max(1)
    }

    /// Whether the count of nonzero elements in a hash cannot overflow.
    pub fn zero_is_exact(&self) -> bool {
        self.factors.len() < 1 << COUNT_BITS
    }

    /// Counts the nonzero elements of each vector of a run, from row `first` of positions on.
    /// `counts` holds whole rows and sets their number.
    pub fn nonzeros(&self, sample: usize, stream: usize, first: usize, counts: &mut [u32]) {
        #[cfg(target_arch = "x86_64")]
        if may_use(Instructions::Avx2) {
            // SAFETY: the CPU has the feature that the function is compiled for.
            return unsafe { self.nonzeros_avx2(sample, stream, first, counts) };
        }
        self.accumulate(sample, stream, first, counts, count);
    }

    /// Hashes the same vectors as [`Sweep::nonzeros`]. Vectors with equal [`bits`] have equal
    /// hashes.
    ///
    /// The high 48 bits are a multilinear hash: the sum of the bits of each element times the
    /// factor of its place, modulo 2^48. The low 16 bits are the number of nonzero elements, modulo
    /// 2^16. The order of the sum does not matter, and zeros add nothing, so padding and edges need
    /// no special case. Vectors that differ collide for about one in 2^32 choices of the factors.
    /// If [`Sweep::zero_is_exact`], a hash of 0 means a vector of zeros.
    pub fn hashes(&self, sample: usize, stream: usize, first: usize, hashes: &mut [u64]) {
        #[cfg(target_arch = "x86_64")]
        if may_use(Instructions::Avx2) {
            // SAFETY: the CPU has the feature that the function is compiled for.
            return unsafe { self.hashes_avx2(sample, stream, first, hashes) };
        }
        self.accumulate(sample, stream, first, hashes, hash);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn nonzeros_avx2(&self, sample: usize, stream: usize, first: usize, counts: &mut [u32]) {
        self.accumulate(sample, stream, first, counts, count);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn hashes_avx2(&self, sample: usize, stream: usize, first: usize, hashes: &mut [u64]) {
        self.accumulate(sample, stream, first, hashes, hash);
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
    fn accumulate<T: Copy + Default>(
        &self,
        sample: usize,
        stream: usize,
        first: usize,
        sums: &mut [T],
        add: impl Fn(T, f32, u32) -> T + Copy,
    ) {
        sums.fill(T::default());
        let planes = self.view.planes();
        let (y, x) = (&self.view.windows().y, &self.view.windows().x);
        let (height, width) = (planes.height as usize, planes.width as usize);
        for (row, sums) in sums.chunks_exact_mut((x.positions as usize).max(1)).enumerate() {
            for piece in self.view.pieces(stream) {
                let Some(at) = y.coordinate((first + row) as u32, piece.ty, planes.height) else { continue };
                let plane = sample * planes.channels + piece.channel;
                let line = &planes.values[(plane * height + at) * width..][..width];
                if self.across {
                    self.add_across(piece, line, sums, add);
                } else {
                    self.add_along(piece, line, sums, add);
                }
            }
        }
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
    fn add_across<T: Copy>(&self, piece: Piece, line: &[f32], sums: &mut [T], add: impl Fn(T, f32, u32) -> T) {
        let stride = self.view.windows().x.stride;
        let factors = &self.factors[piece.element..][..piece.run];
        for (inside, &factor) in self.inside[piece.tx..].iter().zip(factors) {
            let Some((first, end, start)) = inside.clip(0, usize::MAX, stride) else { continue };
            let sums = &mut sums[first..end];
            if stride == 1 {
                for (sum, &x) in sums.iter_mut().zip(&line[start..]) {
                    *sum = add(*sum, x, factor);
                }
            } else if stride == 2 {
                // Compilers vectorise loads of pairs. The last pair may lack its second element.
                let (pairs, last) = line[start..].as_chunks::<2>();
                for (sum, [x, _]) in sums.iter_mut().zip(pairs) {
                    *sum = add(*sum, *x, factor);
                }
                if let (Some(sum), [x]) = (sums.get_mut(pairs.len()), last) {
                    *sum = add(*sum, *x, factor);
                }
            } else {
                for (sum, &x) in sums.iter_mut().zip(line[start..].iter().step_by(stride as usize)) {
                    *sum = add(*sum, x, factor);
                }
            }
        }
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
    fn add_along<T: Copy>(&self, piece: Piece, line: &[f32], sums: &mut [T], add: impl Fn(T, f32, u32) -> T) {
        let step = self.view.windows().x.step;
        for (sum, inside) in sums.iter_mut().zip(&self.inside) {
            let Some((first, end, start)) = inside.clip(piece.tx, piece.tx + piece.run, step) else { continue };
            let factors = &self.factors[piece.element + first - piece.tx..][..end - first];
            let add = |sum, (&x, &factor): (&f32, &u32)| add(sum, x, factor);
            *sum = if step == 1 {
                line[start..].iter().zip(factors).fold(*sum, add)
            } else {
                line[start..].iter().step_by(step as usize).zip(factors).fold(*sum, add)
            };
        }
    }
}

fn count(sum: u32, x: f32, _: u32) -> u32 {
    sum + u32::from(x != 0.0)
}

fn hash(sum: u64, x: f32, factor: u32) -> u64 {
    let term = (u64::from(bits(x)) * u64::from(factor)) << COUNT_BITS;
    sum.wrapping_add(term | u64::from(x != 0.0))
}

/// The bits of an element; -0.0 has the bits of 0.0.
pub(crate) fn bits(x: f32) -> u32 {
    if x == 0.0 { 0 } else { x.to_bits() }
}

/// The factor of a place in hashes: an odd pseudo-random number, the high word of `SplitMix64`
/// (Steele et al. 2014).
fn factor(place: u64) -> u32 {
    let mut z = (place + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 32) as u32 | 1
}
