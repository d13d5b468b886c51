//! Compares how often signatures collide with the theory of random projections.

use crate::config::{MAX_BITS, Scope, Variant};
use crate::signing::dots::dot;
use crate::signing::signatures::mean;
use crate::vectors::peers::{Peers, below, generator};
use crate::vectors::{SampleRange, VectorView};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Which pairs [`collisions`] draws, and how it bins them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollisionOptions {
    /// Pairs to draw.
    pub pairs: usize,
    /// Bins of equal width over the angles from 0 to pi.
    pub bins: usize,
    /// Seed of the draw.
    pub seed: u64,
    /// The variant of the signatures. With [`Variant::Centred`] angles are between the centred
    /// vectors. The bits of a magnitude hold no signs and are left out.
    pub variant: Variant,
}

impl Default for CollisionOptions {
    fn default() -> Self {
        Self { pairs: 1 << 16, bins: 36, seed: 1, variant: Variant::Sign }
    }
}

/// Counts of the pairs of vectors whose angle falls into one bin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AngleBin {
    /// Pairs.
    pub pairs: u64,
    /// Sum of their angles, radians.
    pub angle: f64,
    /// For each signature length, the expected number of pairs that share a signature: the sum of
    /// (1 - angle / pi)^bits over the pairs.
    pub predicted: Vec<f64>,
    /// For each signature length, the number of pairs that share a signature.
    pub measured: Vec<u64>,
}

impl AngleBin {
    /// An empty bin for `lengths` signature lengths.
    pub fn with_lengths(lengths: usize) -> Self {
        Self { predicted: vec![0.0; lengths], measured: vec![0; lengths], ..Self::default() }
    }

    /// Mean predicted and measured probability at a signature length, which is given by its index;
    /// `None` without pairs.
    pub fn probabilities(&self, length: usize) -> Option<(f64, f64)> {
        let pairs = self.pairs as f64;
        (self.pairs > 0).then(|| (self.predicted[length] / pairs, self.measured[length] as f64 / pairs))
    }

    /// Adds the pairs of another bin of the same lengths.
    pub fn add(&mut self, other: &Self) {
        self.pairs += other.pairs;
        self.angle += other.angle;
        for (sum, predicted) in self.predicted.iter_mut().zip(&other.predicted) {
            *sum += predicted;
        }
        for (sum, measured) in self.measured.iter_mut().zip(&other.measured) {
            *sum += measured;
        }
    }
}

/// Collisions by angle.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Collisions {
    /// Bin i holds the angles from i pi / bins, inclusive, to (i + 1) pi / bins, exclusive. The
    /// last bin includes pi.
    pub bins: Vec<AngleBin>,
    /// Pairs that were left out because one of the vectors has no direction: it is all zeros, or
    /// not finite.
    pub undefined: u64,
}

impl std::ops::AddAssign<&Collisions> for Collisions {
    fn add_assign(&mut self, other: &Collisions) {
        self.undefined += other.undefined;
        let lengths = other.bins.first().map_or(0, |bin| bin.measured.len());
        self.bins.resize_with(other.bins.len().max(self.bins.len()), || AngleBin::with_lengths(lengths));
        for (sum, bin) in self.bins.iter_mut().zip(&other.bins) {
            sum.add(bin);
        }
    }
}

impl<'a> std::iter::Sum<&'a Collisions> for Collisions {
    fn sum<I: Iterator<Item = &'a Collisions>>(iter: I) -> Self {
        iter.fold(Self::default(), |mut sum, collisions| {
            sum += collisions;
            sum
        })
    }
}

/// Draws pairs of vectors and compares how often their signatures are equal with the prediction
/// from their angles.
///
/// A pair is two different vectors of one stream and scope. Pairs are drawn uniformly, with
/// replacement. The result has an element for each sample, with the sample's share of the pairs;
/// under [`Scope::Batch`] one element for all samples. A view of some samples of an operand
/// ([`VectorView::with_range`]) draws the same pairs of these samples as a view of the whole
/// operand.
///
/// A bit of a random projection differs between two vectors with probability angle / pi (Goemans
/// and Williamson 1995; Charikar 2002), independently of other bits. So all bits are equal with
/// probability (1 - angle / pi)^bits. This is the mean over random matrices. Here one matrix serves
/// all pairs, so the deviation of that matrix does not vanish with more pairs. It is largest for
/// short vectors, which have few directions.
///
/// `signatures` are in the order of the view's layout, from any projection of its vectors. `bits`
/// are the lengths to compare, without the bits of a magnitude; none exceeds the length of the
/// signatures. Angles are 2 atan2(|u - v|, |u + v|) of the unit vectors u and v in f64 (Kahan),
/// which keeps small angles exact. Where a stream has a single vector in a scope, no pair is drawn.
///
/// # Panics
/// If the number of signatures is not the view's number of vectors, or is 2^32 or more; if a length
/// is not within 1 to 64; if there are no bins.
pub fn collisions(
    view: &VectorView,
    signatures: &[u64],
    scope: Scope,
    bits: &[u32],
    options: &CollisionOptions,
) -> Vec<Collisions> {
    view.layout().check(signatures);
    assert!(bits.iter().all(|bits| (1..=MAX_BITS).contains(bits)), "signatures have 1 to {MAX_BITS} bits");
    assert!(options.bins > 0, "there are bins");
    let peers = Peers::new(view.layout(), scope);
    (0..peers.blocks())
        .into_par_iter()
        .map(|block| {
            let pairs = draw_pairs(peers, view.range(), block, options);
            count_collisions(view, peers, signatures, bits, options, &pairs)
        })
        .collect()
}

fn count_collisions(
    view: &VectorView,
    peers: Peers,
    signatures: &[u64],
    bits: &[u32],
    options: &CollisionOptions,
    pairs: &[Pair],
) -> Collisions {
    let mut buffers = [vec![0.0; view.max_length()], vec![0.0; view.max_length()]];
    let bins = vec![AngleBin::with_lengths(bits.len()); options.bins];
    let mut collisions = Collisions { bins, undefined: 0 };
    for pair in pairs {
        match pair.measure_angle(view, peers, options.variant, &mut buffers) {
            Some(angle) => {
                let bin = (angle / PI * options.bins as f64) as usize;
                let shared = pair.count_shared_bits(peers, options.variant, signatures);
                collisions.bins[bin.min(options.bins - 1)].count(angle, shared, bits);
            }
            None => collisions.undefined += 1,
        }
    }
    collisions
}

impl AngleBin {
    fn count(&mut self, angle: f64, shared: u32, bits: &[u32]) {
        self.pairs += 1;
        self.angle += angle;
        for ((&bits, predicted), measured) in bits.iter().zip(&mut self.predicted).zip(&mut self.measured) {
            *predicted += libm::pow(1.0 - angle / PI, f64::from(bits));
            *measured += u64::from(shared >= bits);
        }
    }
}

/// Two members of a group of peers.
struct Pair {
    group: usize,
    members: [usize; 2],
}

/// The pairs of one block: of a sample, or of all samples where a group spans them.
fn draw_pairs(peers: Peers, range: SampleRange, block: usize, options: &CollisionOptions) -> Vec<Pair> {
    let (members, groups) = (peers.members(), peers.groups() / peers.blocks());
    if members < 2 || groups == 0 {
        return Vec::new();
    }
    let (first, all) = peers.numbering(range);
    let (number, blocks) = (first / groups + block, all / groups);
    // The first pair of a block. Rounded down, so that all blocks together have all pairs.
    let start = |number: usize| (options.pairs as u128 * number as u128 / blocks as u128) as usize;
    let mut rng = generator(options.seed, number as u64);
    let first_group = block * groups;
    (start(number)..start(number + 1)).map(|_| Pair::draw(&mut rng, first_group, groups, members)).collect()
}

impl Pair {
    /// Draws two different members of one of `groups` groups from `first_group` on.
    fn draw(rng: &mut ChaCha8Rng, first_group: usize, groups: usize, members: usize) -> Self {
        let group = first_group + below(rng, groups);
        let first = below(rng, members);
        let other = below(rng, members - 1);
        Self { group, members: [first, other + usize::from(other >= first)] }
    }

    /// Counts the low bits that the two signatures share, without the bits of a magnitude.
    fn count_shared_bits(&self, peers: Peers, variant: Variant, signatures: &[u64]) -> u32 {
        let [a, b] = self.members.map(|member| signatures[peers.vector(self.group, member)]);
        ((a ^ b) >> variant.magnitude_bits()).trailing_zeros()
    }

    /// The angle between the two vectors, if both have a direction.
    fn measure_angle(
        &self,
        view: &VectorView,
        peers: Peers,
        variant: Variant,
        buffers: &mut [Vec<f32>; 2],
    ) -> Option<f64> {
        let [a, b] = buffers;
        let [(sample, stream, x), (other_sample, _, y)] = self.members.map(|member| peers.locate(self.group, member));
        let vectors = [view.gather(sample, stream, x, a), view.gather(other_sample, stream, y, b)];
        let [x, y] = vectors.map(|vector| {
            if variant == Variant::Centred {
                let mean = mean(vector);
                for x in vector.iter_mut() {
                    *x -= mean;
                }
            }
            &*vector
        });
        measure_angle(x, y)
    }
}

/// The angle between two vectors, in radians; `None` if one of them is zero or not finite.
fn measure_angle(x: &[f32], y: &[f32]) -> Option<f64> {
    let [x_norm, y_norm] = [x, y].map(|vector| dot(vector, vector).sqrt());
    let defined = |norm: f64| norm > 0.0 && norm.is_finite();
    if !defined(x_norm) || !defined(y_norm) {
        return None;
    }
    let (mut apart, mut together) = (0.0, 0.0);
    for (&x, &y) in x.iter().zip(y) {
        let (u, v) = (f64::from(x) / x_norm, f64::from(y) / y_norm);
        apart += (u - v) * (u - v);
        together += (u + v) * (u + v);
    }
    // The libm crate gives the same result on every machine.
    Some(2.0 * libm::atan2(apart.sqrt(), together.sqrt()))
}

#[cfg(test)]
mod tests {
    use super::measure_angle;
    use std::f64::consts::PI;

    #[test]
    fn angles_are_right_at_both_ends_and_between() {
        assert_eq!(measure_angle(&[0.1, 0.2], &[0.1, 0.2]), Some(0.0));
        assert_eq!(measure_angle(&[0.1, 0.2], &[-0.1, -0.2]), Some(PI));
        assert!((measure_angle(&[1.0, 0.0], &[0.0, 1e-20]).unwrap() - PI / 2.0).abs() < 1e-15);
        assert!((measure_angle(&[1.0, 0.0], &[1.0, 1e-10]).unwrap() - 1e-10).abs() < 1e-16);
        assert!((measure_angle(&[1.0, 1.0], &[3e30, 0.0]).unwrap() - PI / 4.0).abs() < 1e-15);
        for undefined in [[0.0, -0.0], [f32::NAN, 1.0], [f32::INFINITY, 1.0]] {
            assert_eq!(measure_angle(&undefined, &[1.0, 1.0]), None);
        }
    }
}
