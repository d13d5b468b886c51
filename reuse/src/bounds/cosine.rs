//! Ideal similarity: a vector is reused if any earlier vector is close enough, regardless of the
//! cost of the search.

use crate::config::Scope;
use crate::signing::dots::{LANES, dot, dots};
use crate::vectors::peers::{Peers, draw_from, generator};
use crate::vectors::{SampleRange, VectorView};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// When [`ideal_cosine`] compares all vectors, and the size of its sample otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CosineOptions {
    /// Most vectors of one stream in one scope for which all of them are examined.
    pub exact: usize,
    /// Total number of vectors to examine otherwise, spread evenly over scopes and streams; at
    /// least one in each.
    pub sample: usize,
    /// Seed of the sample.
    pub seed: u64,
}

impl Default for CosineOptions {
    fn default() -> Self {
        Self { exact: 2048, sample: 4096, seed: 1 }
    }
}

/// The result for a run, or the sum over several runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampled {
    /// Vectors.
    pub vectors: u64,
    /// Vectors that were examined.
    pub sampled: u64,
    /// Examined vectors that have a similar earlier vector.
    pub similar: u64,
}

impl Sampled {
    /// The share of vectors with a similar earlier one, or its estimate; `None` for an empty
    /// sample.
    pub fn share(&self) -> Option<f64> {
        (self.sampled > 0).then(|| self.similar as f64 / self.sampled as f64)
    }

    /// The 95 % confidence interval of that share: the share itself if every vector was examined, 0
    /// to 1 if none was.
    ///
    /// This is Wilson's score interval with z = 1.959964 and a sample size of n (N - 1) / (N - n)
    /// for n of N vectors. The sample is drawn without replacement, which reduces its variance by
    /// that factor. Wilson's interval is used because shares near 0 and 1 are common here, where
    /// the normal interval has no width.
    ///
    /// Single vectors are drawn, each is compared with all earlier ones, and every stratum (stream
    /// and scope) has the same size and sample. So the plain share is unbiased, and its variance is
    /// at most that of a simple random sample: sums over whole operands have at least the stated
    /// coverage. The interval describes how well the sample represents this operand, not other
    /// data.
    pub fn interval(&self) -> [f64; 2] {
        const Z2: f64 = 1.959_964 * 1.959_964;
        let Some(share) = self.share() else { return [0.0, 1.0] };
        if self.sampled >= self.vectors {
            return [share; 2];
        }
        let n = self.sampled as f64 * (self.vectors - 1) as f64 / (self.vectors - self.sampled) as f64;
        let centre = share + Z2 / (2.0 * n);
        let half = (Z2 * (share * (1.0 - share) + Z2 / (4.0 * n)) / n).sqrt();
        let scale = 1.0 + Z2 / n;
        // Exactly 0 and 1 at the ends, without a rounding error.
        let low = if self.similar == 0 { 0.0 } else { (centre - half) / scale };
        let high = if self.similar == self.sampled { 1.0 } else { (centre + half) / scale };
        [low, high]
    }
}

impl std::ops::AddAssign for Sampled {
    fn add_assign(&mut self, other: Self) {
        self.vectors += other.vectors;
        self.sampled += other.sampled;
        self.similar += other.similar;
    }
}

impl std::iter::Sum for Sampled {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |mut sum, sampled| {
            sum += sampled;
            sum
        })
    }
}

/// Counts the vectors of each run, `[samples][streams]`, whose cosine with any earlier vector of
/// their stream and scope is at least `threshold`.
///
/// The count is exact if a stream has at most `options.exact` vectors in a scope. Otherwise a
/// seeded sample of its vectors, drawn without replacement, is compared with all earlier vectors.
/// The first vector, which has no earlier one, is part of the population. A view of some samples of
/// an operand ([`VectorView::with_range`]) draws the same vectors of these samples as a view of the
/// whole operand.
///
/// x is similar to y if <x, y> >= threshold sqrt(<x, x> <y, y>), all in f64, sums in element order:
/// equal vectors are similar at 1. A vector of zeros is similar only to another vector of zeros. A
/// vector with elements that are not finite is similar to none. A bound in f32 decides all but the
/// closest cases, and the definition decides those. O(q n d) to examine q of n vectors of d
/// elements, less if many are similar. Memory holds one block of earlier vectors at a time.
///
/// # Panics
/// If the threshold is not above 0 and at most 1.
pub fn ideal_cosine(view: &VectorView, scope: Scope, threshold: f64, options: &CosineOptions) -> Vec<Sampled> {
    assert!(threshold > 0.0 && threshold <= 1.0, "threshold {threshold}");
    let peers = Peers::new(view.layout(), scope);
    let groups: Vec<Vec<Sampled>> = (0..peers.groups())
        .into_par_iter()
        .map(|group| {
            let members = choose_members(peers, view.range(), group, options);
            count_similar(&Search { view, peers, group, threshold }, &members)
        })
        .collect();
    peers.by_run(&groups)
}

/// Examines members of a group; the result has an element for each run of the group.
fn count_similar(search: &Search, members: &[usize]) -> Vec<Sampled> {
    let peers = search.peers;
    let empty = Sampled { vectors: peers.positions() as u64, ..Sampled::default() };
    let mut runs = vec![empty; peers.samples];
    for query in search.run(members) {
        let run = &mut runs[peers.slot(query.member)];
        run.sampled += 1;
        run.similar += u64::from(query.similar);
    }
    runs
}

/// Chooses the members to examine, ascending: all, or a sample by Floyd's method.
fn choose_members(peers: Peers, range: SampleRange, group: usize, options: &CosineOptions) -> Vec<usize> {
    let members = peers.members();
    if members <= options.exact {
        return (0..members).collect();
    }
    let (first, groups) = peers.numbering(range);
    let count = options.sample.div_ceil(groups).clamp(1, members);
    draw_from(members, count, &mut generator(options.seed, (first + group) as u64))
}

/// A vector that is compared with all earlier ones.
struct Query {
    member: usize,
    /// Whether all elements are zero.
    zero: bool,
    /// Whether a similar earlier vector has been found.
    similar: bool,
    /// The vector divided by its norm.
    unit: Vec<f32>,
}

/// The search in one group.
struct Search<'a> {
    view: &'a VectorView<'a>,
    peers: Peers,
    group: usize,
    threshold: f64,
}

impl Search<'_> {
    fn gather<'o>(&self, member: usize, out: &'o mut [f32]) -> &'o mut [f32] {
        let (sample, stream, position) = self.peers.locate(self.group, member);
        self.view.gather(sample, stream, position, out)
    }

    /// Compares each of the members with all earlier ones. `members` ascend.
    fn run(&self, members: &[usize]) -> Vec<Query> {
        let mut buffer = vec![0.0; self.view.max_length()];
        let mut queries: Vec<Query> = members.iter().map(|&member| self.prepare_query(member, &mut buffer)).collect();
        let Some(last) = queries.last() else { return queries };
        let (end, length) = (last.member, last.unit.len());
        // About 256 KiB, to stay in a core's cache; rounded up to whole tiles.
        let size = ((1 << 16) / length).clamp(1, 1 << 10).next_multiple_of(LANES);
        let mut block = vec![0.0; size * length];
        let mut first_zero = end;
        // From the newest block back, because similar vectors tend to be near.
        for start in (0..end).step_by(size).rev() {
            let vectors = size.min(end - start);
            if let Some(zero) = self.fill_block(start, vectors, &mut buffer, &mut block) {
                first_zero = zero;
            }
            // Members ascend, so the queries before the block have no earlier vector in it.
            let from = queries.partition_point(|query| query.member <= start);
            let open = |query: &&mut Query| !query.similar && !query.zero;
            queries[from..].par_iter_mut().with_min_len(64).filter(open).for_each(|query| {
                query.similar = self.is_similar_to_any(query, &block, start, start + vectors);
            });
        }
        for query in queries.iter_mut().filter(|query| query.zero) {
            query.similar = first_zero < query.member;
        }
        queries
    }

    fn prepare_query(&self, member: usize, buffer: &mut [f32]) -> Query {
        let vector = self.gather(member, buffer);
        let zero = make_unit(vector);
        Query { member, zero, similar: false, unit: vector.to_vec() }
    }

    /// Writes members from `start` on to `block` as unit vectors, in tiles `[length][LANES]`.
    /// Returns the first vector of zeros.
    fn fill_block(&self, start: usize, vectors: usize, buffer: &mut [f32], block: &mut [f32]) -> Option<usize> {
        let mut first_zero = None;
        for offset in 0..vectors {
            let unit = self.gather(start + offset, buffer);
            if make_unit(unit) && first_zero.is_none() {
                first_zero = Some(start + offset);
            }
            let tile = &mut block[offset / LANES * LANES * unit.len()..];
            for (&x, lanes) in unit.iter().zip(tile.chunks_exact_mut(LANES)) {
                lanes[offset % LANES] = x;
            }
        }
        first_zero
    }

    /// Whether a query is similar to any earlier vector of the block, which holds the members from
    /// `start` to `end`.
    fn is_similar_to_any(&self, query: &Query, block: &[f32], start: usize, end: usize) -> bool {
        let length = query.unit.len();
        // The absolute products of two unit vectors add up to at most 1. So rounding the products
        // and sums causes an error of at most (length + 3) 2^-24. The margin is more than twice
        // that, for the rounding of the unit vectors.
        let margin = (length + 8) as f64 * f64::from(f32::EPSILON);
        let end = end.min(query.member);
        for (tile, first) in block.chunks_exact(LANES * length).zip((start..end).step_by(LANES)) {
            let cosines = dots(&query.unit, tile);
            let cosines = &cosines[..LANES.min(end - first)];
            let most = f64::from(cosines.iter().fold(-1.0f32, |most, &cosine| most.max(cosine)));
            if most >= self.threshold + margin {
                return true;
            }
            let near = |&(_, &cosine): &(usize, &f32)| f64::from(cosine) >= self.threshold - margin;
            if most >= self.threshold - margin
                && cosines.iter().enumerate().filter(near).any(|(lane, _)| self.are_similar(first + lane, query.member))
            {
                return true;
            }
        }
        false
    }

    /// Whether two vectors that are not both zero are similar, by the definition.
    fn are_similar(&self, earlier: usize, member: usize) -> bool {
        let mut buffers = [vec![0.0; self.view.max_length()], vec![0.0; self.view.max_length()]];
        let [a, b] = &mut buffers;
        let (x, y) = (self.gather(earlier, a), self.gather(member, b));
        let (xx, yy) = (dot(x, x), dot(y, y));
        xx > 0.0 && yy > 0.0 && (xx * yy).is_finite() && dot(x, y) >= self.threshold * (xx * yy).sqrt()
    }
}

/// Divides a vector by its norm; sets a vector without direction to zeros. Returns whether all
/// elements were zero.
fn make_unit(vector: &mut [f32]) -> bool {
    let norm = dot(vector, vector).sqrt();
    for x in vector {
        *x = if norm > 0.0 && norm.is_finite() { (f64::from(*x) / norm) as f32 } else { 0.0 };
    }
    norm == 0.0
}
