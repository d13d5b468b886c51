//! Which columns of a weight gradient are evaluated, where not all are.

use super::sampling::{allowed_variance, columns_needed};
use super::sums::{self, CHANGE, EXACT};
use super::weight_gradient::{Source, measure_columns, padded_width};
use super::{Moments, Sums, sampling_seed};
use mercury_reuse::{PRODUCT_LANES, shuffle};
use mercury_trace::geometry::Pass;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Streams whose gradient from the first sample decides which columns are evaluated.
const PILOT_STREAMS: usize = 32;
/// Weights of such a stream, at most, and columns, at least.
const PILOT_WEIGHTS: usize = 1 << 16;
const PILOT_COLUMNS: usize = 16;

/// What the gradient from the first sample, of some streams, says of the columns to evaluate.
///
/// A few filters may hold most of a gradient, in all streams alike: those are evaluated with certainty, others drawn in
/// each stream by itself (stratified sampling; Cochran, Sampling Techniques, 1977, chapter 5).
pub struct Pilot {
    seed: u64,
    /// Columns that are evaluated in each stream that has them, ascending.
    certain: Vec<usize>,
    /// The part of the other columns of a stream that is drawn.
    part: f64,
}

impl Pilot {
    /// Evaluates some streams of the first sample.
    pub fn run(source: Source) -> Self {
        let Source { data, substitutes, .. } = source;
        let seed = sampling_seed(&data.kept.layer.name, Pass::WeightGrad);
        let streams = substitutes.view().streams();
        let layout = substitutes.view().layout();
        let step = streams.len().div_ceil(PILOT_STREAMS).max(1);
        let samples = layout.samples.min(1);
        let evaluate = |stream: usize| {
            let length = streams[stream].length;
            let mut columns = shuffled(source.columns(stream), seed.wrapping_add(stream as u64));
            let all = columns.len();
            columns.truncate((PILOT_WEIGHTS / length).max(PILOT_COLUMNS));
            let mut sums = Sums::new(length * padded_width(&columns));
            for sample in 0..samples {
                source.add_products(sample, stream, &mut [(&columns, &mut sums)]);
            }
            let moments = measure_columns(&sums, columns.len());
            PilotStream { all, columns: columns.into_iter().zip(moments).collect() }
        };
        let pilots: Vec<usize> = (0..streams.len()).step_by(step).collect();
        let found: Vec<PilotStream> = pilots.into_par_iter().map(evaluate).collect();
        let (certain, part) = plan_columns(&found, streams.len());
        Self { seed, certain, part }
    }

    /// The columns of a stream that are evaluated with certainty, those that are drawn, and from how many.
    pub fn draw_columns(&self, stream: usize, columns: Vec<usize>) -> (Vec<usize>, Vec<usize>, usize) {
        let is_certain = |column: &usize| self.certain.binary_search(column).is_ok();
        let (mut certain, others): (Vec<usize>, Vec<usize>) = columns.into_iter().partition(is_certain);
        let all = others.len();
        // Whole registers, as fewer columns take no less time.
        let count = ((self.part * all as f64).ceil() as usize).max(2).next_multiple_of(PRODUCT_LANES);
        if count >= all {
            certain.extend(others);
            certain.sort_unstable();
            return (certain, Vec::new(), 0);
        }
        let mut drawn = shuffled(others, self.seed.wrapping_add(stream as u64));
        drawn.truncate(count);
        (certain, drawn, all)
    }
}

fn shuffled(columns: Vec<usize>, seed: u64) -> Vec<usize> {
    shuffle(columns.len(), seed).into_iter().map(|at| columns[at as usize]).collect()
}

/// Columns of a stream that were evaluated, and how many it has.
struct PilotStream {
    all: usize,
    columns: Vec<(usize, Moments)>,
}

/// Which columns to evaluate with certainty, and which part of the others, given some of so many streams: the fewest
/// columns that are precise.
fn plan_columns(streams: &[PilotStream], streams_in_all: usize) -> (Vec<usize>, f64) {
    let mut sums = Moments::default();
    for PilotStream { all, columns } in streams {
        let scale = *all as f64 / columns.len().max(1) as f64;
        columns.iter().for_each(|(_, moments)| sums::add(&mut sums, &moments.map(|moment| scale * moment)));
    }
    let ratio = sums[CHANGE] / sums[EXACT];
    let residuals: Vec<Vec<(usize, f64)>> = streams
        .iter()
        .map(|stream| {
            let columns = stream.columns.iter();
            columns.map(|(column, moments)| (*column, moments[CHANGE] - ratio * moments[EXACT])).collect()
        })
        .collect();
    // Sums over all streams vary by as many times the variance, but are as many times larger.
    let allowed = allowed_variance(sums[CHANGE]) * streams_in_all as f64 / streams.len().max(1) as f64;
    let order = order_columns(&residuals);
    let within = sum_variances(&residuals, &order);
    let columns = streams.iter().map(|stream| stream.all).max().unwrap_or(0);
    // Columns that the pilot left out are not known to be large.
    let most_certain = if streams.iter().all(|stream| stream.columns.len() == stream.all) { order.len() } else { 0 };
    let mut best = (usize::MAX, 0, 1.0);
    for (certain, &variance) in within.iter().enumerate().take(most_certain + 1) {
        let others = columns.saturating_sub(certain);
        let needed = columns_needed(variance, allowed, others);
        if certain + needed < best.0 {
            best = (certain + needed, certain, needed as f64 / others.max(1) as f64);
        }
    }
    let (_, certain, part) = best;
    let mut certain = order[..certain].to_vec();
    certain.sort_unstable();
    (certain, part)
}

/// Columns by their residuals in all streams, the largest first.
fn order_columns(residuals: &[Vec<(usize, f64)>]) -> Vec<usize> {
    let mut energy: BTreeMap<usize, f64> = BTreeMap::new();
    for (column, residual) in residuals.iter().flatten() {
        *energy.entry(*column).or_default() += residual * residual;
    }
    let mut order: Vec<usize> = energy.keys().copied().collect();
    order.sort_by(|a, b| energy[b].total_cmp(&energy[a]).then(a.cmp(b)));
    order
}

/// Variances of the residuals within streams, added up: at each place those of the columns from there on in the order.
fn sum_variances(residuals: &[Vec<(usize, f64)>], order: &[usize]) -> Vec<f64> {
    let places: BTreeMap<usize, usize> = order.iter().enumerate().map(|(place, &column)| (column, place)).collect();
    let mut sums = vec![0.0; order.len() + 1];
    for stream in residuals {
        let mut stream: Vec<(usize, f64)> =
            stream.iter().map(|(column, residual)| (places[column], *residual)).collect();
        stream.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
        let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
        let mut end = sums.len();
        for (place, residual) in stream {
            let variance = variance_of(count, sum, squares);
            sums[place + 1..end].iter_mut().for_each(|sum| *sum += variance);
            end = place + 1;
            (count, sum, squares) = (count + 1.0, sum + residual, squares + residual * residual);
        }
        let variance = variance_of(count, sum, squares);
        sums[..end].iter_mut().for_each(|sum| *sum += variance);
    }
    sums
}

fn variance_of(count: f64, sum: f64, squares: f64) -> f64 {
    if count < 2.0 { 0.0 } else { ((squares - sum * sum / count) / (count - 1.0)).max(0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(changes: &[f64]) -> PilotStream {
        let columns = changes.iter().enumerate().map(|(column, &change)| (column, [1.0, change, 0.0, 0.0]));
        PilotStream { all: changes.len(), columns: columns.collect() }
    }

    #[test]
    fn columns_that_hold_most_of_a_gradient_are_certain() {
        let changes: Vec<f64> = (0..100).map(|i| if i == 7 { 1e4 } else { 1.0 + 0.1 * f64::from(i % 3) }).collect();
        let (certain, part) = plan_columns(&[stream(&changes), stream(&changes)], 2);
        assert_eq!(certain, [7]);
        assert!(part < 0.05, "{part}");
        // Of many streams fewer columns tell as much of the whole.
        let even: Vec<f64> = (0..100).map(|i| 1.0 + f64::from(i % 5)).collect();
        let (_, of_few) = plan_columns(&[stream(&even)], 1);
        let (_, of_many) = plan_columns(&[stream(&even)], 50);
        assert!(of_many < of_few && of_few < 1.0, "{of_many} {of_few}");
    }

    #[test]
    fn variances_are_those_of_the_columns_behind() {
        let residuals = vec![vec![(0, 4.0), (1, 1.0), (2, 3.0)], vec![(1, 2.0)]];
        let order = order_columns(&residuals);
        assert_eq!(order, [0, 2, 1]);
        // Of 3 and 1, of one, of none.
        assert_eq!(sum_variances(&residuals, &order)[1..], [2.0, 0.0, 0.0]);
    }
}
