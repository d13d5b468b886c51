//! How good the matches are: how near a HIT's vector is to what stands for it.

use crate::caching::outcomes::Outcomes;
use crate::signing::dots::dot;
use crate::substitution::substitute::{Buffers, Substitutes};
use crate::vectors::peers::draw;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How many matches [`match_quality`] looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatchOptions {
    /// HITs of an operand that are looked at, spread evenly over its samples.
    pub sample: usize,
    /// Seed of the sample.
    pub seed: u64,
}

impl Default for MatchOptions {
    fn default() -> Self {
        Self { sample: 4096, seed: 1 }
    }
}

/// One HIT.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Match {
    /// Cosine of the angle between the vector and its representative, before the variant (the
    /// centroid, where that stands for the vectors); of two vectors of zeros 1, of one 0.
    pub cosine: f32,
    /// |x' - x| / |x|; where x has zeros only, 0 if x' has, otherwise infinite.
    pub distance: f32,
    /// HITs that it stands for: more than one where a sample was drawn.
    pub weight: f32,
}

/// What was found of an operand's HITs, or of several operands' added up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MatchQuality {
    /// HITs.
    pub hits: u64,
    /// Those that were looked at.
    pub sampled: u64,
    /// Those among them left out because an element is not finite.
    pub undefined: u64,
    /// All others, in order of arrival.
    pub matches: Vec<Match>,
}

/// The values that so many of the HITs keep to, the better ones first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half of them.
    pub median: f32,
    /// 90 %.
    pub p90: f32,
    /// 99 %.
    pub p99: f32,
}

impl MatchQuality {
    /// The cosines that half, 90 % and 99 % of the HITs reach or exceed: lower tails, as a match is
    /// the worse the lower its cosine. None without matches.
    pub fn cosines(&self) -> Option<Quantiles> {
        let best_first = |a: &(f32, f32), b: &(f32, f32)| b.0.total_cmp(&a.0);
        quantiles(self.matches.iter().map(|found| (found.cosine, found.weight)).collect(), best_first)
    }

    /// The distances that half, 90 % and 99 % of the HITs do not exceed. None without matches.
    pub fn distances(&self) -> Option<Quantiles> {
        let best_first = |a: &(f32, f32), b: &(f32, f32)| a.0.total_cmp(&b.0);
        quantiles(self.matches.iter().map(|found| (found.distance, found.weight)).collect(), best_first)
    }
}

/// The first values at which the sum of weights comes to each share of all.
fn quantiles(
    mut values: Vec<(f32, f32)>,
    order: impl Fn(&(f32, f32), &(f32, f32)) -> std::cmp::Ordering,
) -> Option<Quantiles> {
    values.sort_by(order);
    let total: f64 = values.iter().map(|&(_, weight)| f64::from(weight)).sum();
    let last = values.last()?.0;
    let at = |percent: f64| {
        let mut sum = 0.0;
        let reached = values.iter().find(|&&(_, weight)| {
            sum += f64::from(weight);
            sum * 100.0 >= total * percent
        });
        reached.map_or(last, |found| found.0)
    };
    Some(Quantiles { median: at(50.0), p90: at(90.0), p99: at(99.0) })
}

impl std::iter::Sum for MatchQuality {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |mut sum, quality| {
            sum += quality;
            sum
        })
    }
}

impl std::ops::AddAssign for MatchQuality {
    fn add_assign(&mut self, other: Self) {
        self.hits += other.hits;
        self.sampled += other.sampled;
        self.undefined += other.undefined;
        self.matches.extend(other.matches);
    }
}

/// Compares the vectors of an operand's HITs with what replaces them: of each sample all of them where
/// there are few, otherwise a seeded choice, drawn without replacement, every HIT of the sample as likely
/// as any other; of a part of an operand those of the whole. (A MAU that a centroid replaces is no
/// HIT.) Products and norms are in f64, element order. The result does not depend on the number of
/// threads.
pub fn match_quality(substitutes: &Substitutes, options: &MatchOptions) -> MatchQuality {
    let (view, outcomes) = (substitutes.view(), substitutes.outcomes());
    let (layout, range) = (view.layout(), view.range());
    let most = options.sample.div_ceil(range.of.max(1));
    let match_sample = |sample: usize| {
        let runs = &outcomes.counts()[sample * layout.streams..][..layout.streams];
        let hits = runs.iter().map(|counts| counts.hit as usize).sum();
        let seed = options.seed.wrapping_add((range.first + sample) as u64);
        let chosen: Vec<usize> = if hits <= most { (0..hits).collect() } else { draw(hits, most, seed) };
        let weight = hits as f32 / chosen.len() as f32;
        let (mut before, mut numbers) = (0, chosen.as_slice());
        let mut chosen_runs = Vec::new();
        for (stream, counts) in runs.iter().enumerate() {
            let of_run;
            (of_run, numbers) =
                numbers.split_at(numbers.partition_point(|&number| number < before + counts.hit as usize));
            // Many runs have none of the chosen.
            if !of_run.is_empty() {
                chosen_runs.push((stream, before, of_run));
            }
            before += counts.hit as usize;
        }
        let of_run = |buffers: &mut _, &(stream, before, chosen): &(usize, usize, &[usize])| -> Vec<Match> {
            let first = (sample * layout.streams + stream) * layout.positions;
            let holders = outcomes.holders(first..first + layout.positions);
            let positions = positions_of_hits(&holders, first, chosen.iter().map(|number| number - before));
            let positions = positions.into_iter();
            positions.filter_map(|position| compare(substitutes, (sample, stream, position), weight, buffers)).collect()
        };
        let matches: Vec<Vec<Match>> = chosen_runs.par_iter().map_init(|| substitutes.buffers(), of_run).collect();
        let matches = matches.concat();
        let undefined = (chosen.len() - matches.len()) as u64;
        MatchQuality { hits: hits as u64, sampled: chosen.len() as u64, undefined, matches }
    };
    let samples: Vec<MatchQuality> = (0..layout.samples).into_par_iter().map(match_sample).collect();
    samples.into_iter().sum()
}

/// The positions of a run's HITs that have these numbers, ascending, among them; the run's first vector has number `first`.
fn positions_of_hits(holders: &[u32], first: usize, numbers: impl Iterator<Item = usize>) -> Vec<usize> {
    const PIECE: usize = 128;
    let is_hit = |holder: u32, own: u32| holder != Outcomes::NONE && holder != own;
    let (mut numbers, mut before, mut positions) = (numbers.peekable(), 0, Vec::new());
    for (number, piece) in holders.chunks(PIECE).enumerate() {
        let Some(&next) = numbers.peek() else { break };
        let list_piece = || piece.iter().copied().zip((first + number * PIECE) as u32..);
        let hits: u32 = list_piece().map(|(holder, own)| u32::from(is_hit(holder, own))).sum();
        // Most pieces have none that was asked for, and are only counted.
        if next < before + hits as usize {
            let hits = list_piece().enumerate().filter(|&(_, (holder, own))| is_hit(holder, own));
            let wanted = |(hit, (at, _))| numbers.next_if_eq(&(before + hit)).map(|_| number * PIECE + at);
            positions.extend(hits.enumerate().filter_map(wanted));
        }
        before += hits as usize;
    }
    positions
}

/// Compares a HIT with what replaces it; none where that is no number.
fn compare(
    substitutes: &Substitutes,
    (sample, stream, position): (usize, usize, usize),
    weight: f32,
    buffers: &mut Buffers,
) -> Option<Match> {
    let (x, found) = substitutes.cut_representative(sample, stream, position, buffers);
    let substitute = found.expect("a HIT has a representative");
    let (xx, cosine) = (dot(x, x), cosine(x, substitute));
    substitutes.vary(x, substitute);
    let distance = x.iter().zip(substitute).map(|(&x, y)| f64::from(*y) - f64::from(x));
    let distance = distance.fold(0.0, |sum, change| sum + change * change);
    let relative = if distance == 0.0 { 0.0 } else { (distance / xx).sqrt() };
    let defined = xx.is_finite() && distance.is_finite();
    defined.then_some(Match { cosine: cosine as f32, distance: relative as f32, weight })
}

fn cosine(x: &[f32], y: &[f32]) -> f64 {
    let (xx, yy) = (dot(x, x), dot(y, y));
    match (xx > 0.0, yy > 0.0) {
        (true, true) => (dot(x, y) / (xx * yy).sqrt()).clamp(-1.0, 1.0),
        (false, false) => 1.0,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Of each vector whether it hits (1), inserts (2) or neither, and whether it is asked for if it hits.
        #[test]
        fn hits_are_found_by_their_numbers(
            vectors in prop::collection::vec((0u8..3, any::<bool>()), 0..600),
            rare: bool,
            first in 1usize..1000,
        ) {
            let holder = |(at, &(outcome, _)): (usize, &(u8, bool))| match outcome {
                1 => 0,
                2 => (first + at) as u32,
                _ => Outcomes::NONE,
            };
            let holders: Vec<u32> = vectors.iter().enumerate().map(holder).collect();
            let hits = vectors.iter().enumerate().filter(|(_, (outcome, _))| *outcome == 1).enumerate();
            let asked_for = |&(number, (_, (_, asked))): &(usize, (usize, &(u8, bool)))| *asked && (!rare || number % 90 == 7);
            let (numbers, expected): (Vec<usize>, Vec<usize>) =
                hits.filter(asked_for).map(|(number, (at, _))| (number, at)).unzip();
            prop_assert_eq!(positions_of_hits(&holders, first, numbers.into_iter()), expected);
        }
    }
}
