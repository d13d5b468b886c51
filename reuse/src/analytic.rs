//! Does a signature tell angles as the theory of random projections says?

use crate::config::{MAX_BITS, Scope, Variant};
use crate::cosine::dot;
use crate::peers::{Peers, below, generator};
use crate::repeats::check;
use crate::signatures::mean;
use crate::vectors::{SampleRange, VectorView};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Which pairs [`collisions`] looks at, and how it sorts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollisionOptions {
    /// Pairs to draw.
    pub pairs: usize,
    /// Bins of equal width over the angles from 0 to pi.
    pub bins: usize,
    /// Seed of the draw.
    pub seed: u64,
    /// What the signatures say: where vectors are centred, angles are of what was projected; bits of a
    /// magnitude, which are no signs, are left out.
    pub variant: Variant,
}

impl Default for CollisionOptions {
    fn default() -> Self {
        Self { pairs: 1 << 16, bins: 36, seed: 1, variant: Variant::Sign }
    }
}

/// Pairs of vectors whose angle falls into one bin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AngleBin {
    /// Pairs.
    pub pairs: u64,
    /// Sum of their angles, radians.
    pub angle: f64,
    /// For each signature length, the number of pairs that are expected to share a signature: the sum
    /// of their probabilities, (1 - angle / pi)^bits each.
    pub predicted: Vec<f64>,
    /// For each signature length, the number of pairs that do.
    pub measured: Vec<u64>,
}

impl AngleBin {
    /// An empty bin for so many signature lengths.
    pub fn of_lengths(lengths: usize) -> Self {
        Self { predicted: vec![0.0; lengths], measured: vec![0; lengths], ..Self::default() }
    }

    /// Mean predicted and measured probability at a signature length, by its place in the list;
    /// none without pairs.
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
    /// Bin i has the angles from i pi / bins up to the next one's, the last one pi, too.
    pub bins: Vec<AngleBin>,
    /// Pairs left out because a vector of them has no direction: of zeros, or not finite.
    pub undefined: u64,
}

impl std::ops::AddAssign<&Collisions> for Collisions {
    fn add_assign(&mut self, other: &Collisions) {
        self.undefined += other.undefined;
        let lengths = other.bins.first().map_or(0, |bin| bin.measured.len());
        self.bins.resize_with(other.bins.len().max(self.bins.len()), || AngleBin::of_lengths(lengths));
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

/// Draws pairs of different vectors of one stream and scope, every such pair as likely as any other
/// (with replacement), and compares how often their signatures of each length are equal with what
/// their angles predict. One result for each sample, which has its share of the pairs (under
/// [`Scope::Batch`] one for all); of a part of an operand those of the whole.
///
/// A random projection tells two vectors apart in a bit with probability angle / pi (Goemans and
/// Williamson 1995; Charikar 2002), independently of other bits: (1 - angle / pi)^bits to share them
/// all. That is the mean over random matrices. One matrix serves all pairs, so the difference that
/// it makes does not vanish with more pairs: short vectors, with few directions, show it most.
///
/// `signatures` are in the order of the view's layout, by any projection of it; `bits` are the lengths to
/// compare, without a magnitude's, none longer than the signatures. Angles are 2 atan2(|u - v|, |u + v|) in f64 of the unit vectors u and v
/// (Kahan), which keeps small angles exact. No pair is drawn where a stream has a single vector in
/// a scope.
///
/// # Panics
/// If there are not as many signatures as the view has vectors, or 2^32 or more; if a length is not
/// within 1 to 64; if there are no bins.
pub fn collisions(
    view: &VectorView,
    signatures: &[u64],
    scope: Scope,
    bits: &[u32],
    options: &CollisionOptions,
) -> Vec<Collisions> {
    check(view.layout(), signatures);
    assert!(bits.iter().all(|bits| (1..=MAX_BITS).contains(bits)), "signatures have 1 to {MAX_BITS} bits");
    assert!(options.bins > 0, "there are bins");
    let peers = Peers::new(view.layout(), scope);
    let of_block = |block: usize| {
        let mut buffers = [vec![0.0; view.max_length()], vec![0.0; view.max_length()]];
        let bins = vec![AngleBin::of_lengths(bits.len()); options.bins];
        let mut collisions = Collisions { bins, undefined: 0 };
        for pair in draw(peers, view.range(), block, options) {
            match pair.angle(view, peers, options.variant, &mut buffers) {
                Some(angle) => {
                    let bin = (angle / PI * options.bins as f64) as usize;
                    let shared = pair.shared(peers, options.variant, signatures);
                    collisions.bins[bin.min(options.bins - 1)].count(angle, shared, bits);
                }
                None => collisions.undefined += 1,
            }
        }
        collisions
    };
    (0..peers.blocks()).into_par_iter().map(of_block).collect()
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

/// The pairs of a sample (of all, where a group has all), whose groups are numbered from its first.
fn draw(peers: Peers, range: SampleRange, block: usize, options: &CollisionOptions) -> Vec<Pair> {
    let (members, groups) = (peers.members(), peers.groups() / peers.blocks());
    if members < 2 || groups == 0 {
        return Vec::new();
    }
    let (first, all) = peers.numbering(range);
    let (number, blocks) = (first / groups + block, all / groups);
    // So that the shares add up.
    let until = |number: usize| (options.pairs as u128 * number as u128 / blocks as u128) as usize;
    let mut rng = generator(options.seed, number as u64);
    let mut pair = || {
        let (group, first) = (block * groups + below(&mut rng, groups), below(&mut rng, members));
        let other = below(&mut rng, members - 1);
        Pair { group, members: [first, other + usize::from(other >= first)] }
    };
    (until(number)..until(number + 1)).map(|_| pair()).collect()
}

impl Pair {
    /// Low bits, above a magnitude's, that the two signatures share.
    fn shared(&self, peers: Peers, variant: Variant, signatures: &[u64]) -> u32 {
        let [a, b] = self.members.map(|member| signatures[peers.vector(self.group, member)]);
        ((a ^ b) >> variant.magnitude_bits()).trailing_zeros()
    }

    /// The angle between the two vectors, if both have a direction.
    fn angle(&self, view: &VectorView, peers: Peers, variant: Variant, buffers: &mut [Vec<f32>; 2]) -> Option<f64> {
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
        angle(x, y)
    }
}

fn angle(x: &[f32], y: &[f32]) -> Option<f64> {
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
    // From libm, so that every machine finds the same.
    Some(2.0 * libm::atan2(apart.sqrt(), together.sqrt()))
}

#[cfg(test)]
mod tests {
    use super::angle;
    use std::f64::consts::PI;

    #[test]
    fn angles_are_right_at_their_ends_and_between() {
        assert_eq!(angle(&[0.1, 0.2], &[0.1, 0.2]), Some(0.0));
        assert_eq!(angle(&[0.1, 0.2], &[-0.1, -0.2]), Some(PI));
        assert!((angle(&[1.0, 0.0], &[0.0, 1e-20]).unwrap() - PI / 2.0).abs() < 1e-15);
        assert!((angle(&[1.0, 0.0], &[1.0, 1e-10]).unwrap() - 1e-10).abs() < 1e-16);
        assert!((angle(&[1.0, 1.0], &[3e30, 0.0]).unwrap() - PI / 4.0).abs() < 1e-15);
        for none in [[0.0, -0.0], [f32::NAN, 1.0], [f32::INFINITY, 1.0]] {
            assert_eq!(angle(&none, &[1.0, 1.0]), None);
        }
    }
}
