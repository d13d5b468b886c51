//! Ideal similarity: a vector is reused where any earlier one is close enough, whatever finding it
//! would cost.

use crate::config::Scope;
use crate::dots::{LANES, dots};
use crate::peers::{Peers, draw_from, generator};
use crate::vectors::{SampleRange, VectorView};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How far [`ideal_cosine`] is exact, and how large a sample it takes beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CosineOptions {
    /// Vectors of one stream in one scope up to which all of them are looked at.
    pub exact: usize,
    /// Vectors that are looked at in all where there are more, spread evenly over scopes and
    /// streams; at least one in each.
    pub sample: usize,
    /// Seed of the sample.
    pub seed: u64,
}

impl Default for CosineOptions {
    fn default() -> Self {
        Self { exact: 2048, sample: 4096, seed: 1 }
    }
}

/// What was found of a run, or of several added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampled {
    /// Vectors.
    pub vectors: u64,
    /// Those that were looked at.
    pub sampled: u64,
    /// Those among them that have a similar earlier vector.
    pub similar: u64,
}

impl Sampled {
    /// The share of vectors with a similar earlier one, or its estimate; none of an empty sample.
    pub fn share(&self) -> Option<f64> {
        (self.sampled > 0).then(|| self.similar as f64 / self.sampled as f64)
    }

    /// The 95 % interval of that share: the share itself where every vector was looked at, 0 to 1
    /// where none was.
    ///
    /// Wilson's score interval with z = 1.959964, in which the number sampled is
    /// n (N - 1) / (N - n) for n of N vectors: the sample is drawn without replacement, and its
    /// variance is smaller by that much. Wilson's, because shares near 0 and 1 are common here, where
    /// the normal interval has no width. Vectors are drawn, not clusters of them, each is compared
    /// with all earlier ones, and every stratum (stream and scope) has the same size and sample, so
    /// the plain share is unbiased and its variance at most that of a simple random sample: sums
    /// over whole operands have at least the stated coverage. It says how well the sample stands for
    /// this operand, not for other data.
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
        // Exactly 0 and 1 at the ends, where rounding would leave a little.
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

/// How many vectors of each run, `[samples][streams]`, have a cosine of at least `threshold` with
/// any earlier vector of their stream and scope.
///
/// Exact where a stream has at most `options.exact` vectors in a scope. Beyond, a seeded sample of
/// its vectors, drawn without replacement (of a part of an operand those that would be drawn of the
/// whole), is compared with all that came earlier; the first vector,
/// which has none, is part of the population.
///
/// x is similar to y where <x, y> >= threshold sqrt(<x, x> <y, y>), all in f64, sums in element
/// order: equal vectors are similar at 1. A vector of zeros is similar to another of zeros alone; one
/// with elements that are not finite to none. A bound in f32 decides all but the closest cases, the
/// definition those. O(q n d) for q vectors looked at of n of d elements, fewer where many are
/// similar; earlier vectors are held a block at a time.
///
/// # Panics
/// If the threshold is not above 0 and at most 1.
pub fn ideal_cosine(view: &VectorView, scope: Scope, threshold: f64, options: &CosineOptions) -> Vec<Sampled> {
    assert!(threshold > 0.0 && threshold <= 1.0, "threshold {threshold}");
    let peers = Peers::new(view.layout(), scope);
    let of_group = |group: usize| {
        let mut runs = vec![Sampled { vectors: peers.positions() as u64, ..Sampled::default() }; peers.samples];
        for query in (Search { view, peers, group, threshold }).run(&chosen(peers, view.range(), group, options)) {
            let run = &mut runs[peers.slot(query.member)];
            run.sampled += 1;
            run.similar += u64::from(query.similar);
        }
        runs
    };
    let groups: Vec<Vec<Sampled>> = (0..peers.groups()).into_par_iter().map(of_group).collect();
    peers.by_run(&groups)
}

/// The members to look at, ascending: all, or as many as the options say by Floyd's method.
fn chosen(peers: Peers, range: SampleRange, group: usize, options: &CosineOptions) -> Vec<usize> {
    let members = peers.members();
    if members <= options.exact {
        return (0..members).collect();
    }
    let (first, groups) = peers.numbering(range);
    let count = options.sample.div_ceil(groups).clamp(1, members);
    draw_from(members, count, &mut generator(options.seed, (first + group) as u64))
}

struct Query {
    member: usize,
    /// Has zeros only.
    zero: bool,
    similar: bool,
    unit: Vec<f32>,
}

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

    /// Compares each of the members with those before it.
    fn run(&self, members: &[usize]) -> Vec<Query> {
        let mut buffer = vec![0.0; self.view.max_length()];
        let mut query = |&member: &usize| {
            let vector = self.gather(member, &mut buffer);
            let zero = make_unit(vector);
            Query { member, zero, similar: false, unit: vector.to_vec() }
        };
        let mut queries: Vec<Query> = members.iter().map(&mut query).collect();
        let Some(last) = queries.last() else { return queries };
        let (end, length) = (last.member, last.unit.len());
        // Up to 256 KiB, to stay in a core's cache.
        let size = ((1 << 16) / length).clamp(1, 1 << 10).next_multiple_of(LANES);
        let mut block = vec![0.0; size * length];
        let mut first_zero = end;
        // From the newest back: similar vectors tend to be near.
        for start in (0..end).step_by(size).rev() {
            let vectors = size.min(end - start);
            for offset in 0..vectors {
                let unit = self.gather(start + offset, &mut buffer);
                if make_unit(unit) {
                    first_zero = first_zero.min(start + offset);
                }
                let tile = &mut block[offset / LANES * LANES * length..];
                for (&x, lanes) in unit.iter().zip(tile.chunks_exact_mut(LANES)) {
                    lanes[offset % LANES] = x;
                }
            }
            // Members ascend: those before the block have nothing to find in it.
            let from = queries.partition_point(|query| query.member <= start);
            let open = |query: &&mut Query| !query.similar && !query.zero;
            queries[from..].par_iter_mut().with_min_len(64).filter(open).for_each(|query| {
                query.similar = self.finds(query, &block, start, start + vectors);
            });
        }
        for query in queries.iter_mut().filter(|query| query.zero) {
            query.similar = first_zero < query.member;
        }
        queries
    }

    /// Whether a query is similar to any of the block's vectors, `start` to `end`, that are earlier.
    fn finds(&self, query: &Query, block: &[f32], start: usize, end: usize) -> bool {
        let length = query.unit.len();
        // The products' and sums' rounding comes to at most (length + 3) 2^-24, as the absolute
        // products of two unit vectors add up to no more than 1; twice that leaves room for theirs.
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
                && cosines.iter().enumerate().filter(near).any(|(lane, _)| self.similar(first + lane, query.member))
            {
                return true;
            }
        }
        false
    }

    /// The definition, of two vectors that are not both zero.
    fn similar(&self, earlier: usize, member: usize) -> bool {
        let mut buffers = [vec![0.0; self.view.max_length()], vec![0.0; self.view.max_length()]];
        let [a, b] = &mut buffers;
        let (x, y) = (self.gather(earlier, a), self.gather(member, b));
        let (xx, yy) = (dot(x, x), dot(y, y));
        xx > 0.0 && yy > 0.0 && (xx * yy).is_finite() && dot(x, y) >= self.threshold * (xx * yy).sqrt()
    }
}

/// In f64, where squares of f32 and products of two of them neither overflow nor vanish.
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).fold(0.0, |sum, (&x, &y)| sum + f64::from(x) * f64::from(y))
}

/// Divides a vector by its length, or makes one without a direction zeros; says whether it had zeros
/// only.
fn make_unit(vector: &mut [f32]) -> bool {
    let norm = dot(vector, vector).sqrt();
    for x in vector {
        *x = if norm > 0.0 && norm.is_finite() { (f64::from(*x) / norm) as f32 } else { 0.0 };
    }
    norm == 0.0
}
