//! Which columns of a weight gradient are evaluated, where not all are.

use super::products::{Source, measure_columns, padded_width};
use super::sampling::{allowed_variance, columns_needed, residual_variance};
use super::sums::{self, CHANGE, EXACT, covariance, estimate_total};
use super::{Moments, Sums, sampling_seed};
use mercury_reuse::{PRODUCT_LANES, shuffle};
use mercury_trace::geometry::Pass;
use rayon::prelude::*;

/// Streams whose gradient from the first sample decides how many columns are evaluated.
const PILOT_STREAMS: usize = 32;
/// Weights of such a stream, at most, and columns, at least.
const PILOT_WEIGHTS: usize = 1 << 16;
const PILOT_COLUMNS: usize = 16;

/// The part of each stream's columns to evaluate, by the gradient from the first sample of some streams.
pub struct Pilot {
    seed: u64,
    part: f64,
}

impl Pilot {
    /// Evaluates some streams of the first sample.
    pub fn run(source: Source, precision: f64) -> Self {
        let Source { data, substitutes, .. } = source;
        let seed = sampling_seed(&data.kept, Pass::WeightGrad, 0);
        let streams = substitutes.view().streams();
        let step = streams.len().div_ceil(PILOT_STREAMS).max(1);
        let samples = substitutes.view().layout().samples.min(1);
        let evaluate = |stream: usize| {
            let length = streams[stream].length;
            let mut columns = shuffle_columns(&source.columns(stream), seed.wrapping_add(stream as u64));
            let all = columns.len();
            columns.truncate((PILOT_WEIGHTS / length).max(PILOT_COLUMNS));
            let mut sums = Sums::new(length * padded_width(&columns));
            (0..samples).for_each(|sample| source.add_products(sample, stream, &columns, &mut sums));
            PilotStream { all, columns: measure_columns(&sums, columns.len()) }
        };
        let pilots: Vec<usize> = (0..streams.len()).step_by(step).collect();
        let found: Vec<PilotStream> = pilots.into_par_iter().map(evaluate).collect();
        Self { seed, part: plan_part(&found, precision, streams.len()) }
    }

    /// The columns of a stream that are evaluated.
    pub fn draw_columns(&self, stream: usize, columns: Vec<usize>) -> Vec<usize> {
        // Whole registers, as fewer columns take no less time.
        let count = ((self.part * columns.len() as f64).ceil() as usize).max(2).next_multiple_of(PRODUCT_LANES);
        if count >= columns.len() {
            return columns;
        }
        let mut drawn = shuffle_columns(&columns, self.seed.wrapping_add(stream as u64));
        drawn.truncate(count);
        drawn
    }
}

fn shuffle_columns(columns: &[usize], seed: u64) -> Vec<usize> {
    shuffle(columns.len(), seed).into_iter().map(|at| columns[at as usize]).collect()
}

/// A stream's columns of which some were evaluated.
struct PilotStream {
    all: usize,
    columns: Vec<Moments>,
}

/// The part of each stream's columns that a precise error needs, from some of `streams_in_all` streams.
fn plan_part(streams: &[PilotStream], precision: f64, streams_in_all: usize) -> f64 {
    let mut sums = Moments::default();
    for PilotStream { all, columns } in streams {
        sums::add(&mut sums, &estimate_total(columns, *all).0);
    }
    let ratio = sums[CHANGE] / sums[EXACT];
    let variance = streams.iter().map(|stream| residual_variance(&covariance(&stream.columns), ratio)).sum();
    // Sums over all streams vary by as many times the variance, but are as many times larger.
    let allowed = allowed_variance(sums[CHANGE], precision) * streams_in_all as f64 / streams.len().max(1) as f64;
    let all = streams.iter().map(|stream| stream.all).max().unwrap_or(0);
    columns_needed(variance, allowed, all) as f64 / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(changes: impl Iterator<Item = f64>) -> PilotStream {
        let columns: Vec<Moments> = changes.map(|change| [1.0, change, 0.0, 0.0]).collect();
        PilotStream { all: columns.len(), columns }
    }

    #[test]
    fn equal_columns_tell_of_each_other() {
        assert!(plan_part(&[stream([2.0; 100].into_iter())], 0.02, 1) < 0.05);
    }

    #[test]
    fn fewer_columns_of_many_streams_tell_as_much() {
        let uneven = || stream((0..100).map(|i| 1.0 + f64::from(i % 5)));
        let (few, many) = (plan_part(&[uneven()], 0.02, 1), plan_part(&[uneven()], 0.02, 50));
        assert!(many < few && few < 1.0, "{many} {few}");
    }

    /// Half of the columns hold all of the change: all are needed where the error has to be known that well.
    #[test]
    fn columns_that_differ_are_all_evaluated() {
        let part = plan_part(&[stream((0..20).map(|i| f64::from(i % 2)))], 0.02, 1);
        assert!(part > 0.9, "{part}");
    }
}
