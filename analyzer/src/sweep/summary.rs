//! `configurations.parquet`: one row per configuration, over the captured steps after the trial.

use super::grid::Grid;
use super::pareto::{self, Metric, Relative};
use crate::accuracy::Estimate;
use crate::adaptation::{steady_state, trial};
use crate::error::{AnalyzerError, Result};
use crate::error_columns::error_columns;
use crate::interval::Sampled;
use crate::request::ErrorMode;
use crate::result::{Demand, PassResult, forward_error, gradient_error, mean_results, step_cycles};
use crate::schema::{self, layers::IS_BOUND};
use mercury_reuse::Counts;
use mercury_trace::geometry::Pass;
use polars::prelude::*;

/// The column that [`mark`] adds; no file has it.
pub const PARETO: &str = "pareto";

/// Totals of some results of one configuration.
pub(super) struct Totals {
    vectors: u64,
    counts: Counts,
    error: Option<Estimate>,
    pub steps: usize,
    /// Cycles of each step, without and with reuse.
    pub step_cycles: Vec<[u64; 2]>,
    pub baseline: u64,
    pub mercury: u64,
    /// Cycles of waiting for DRAM, without and with reuse.
    pub stalls: [u64; 2],
    pub energy: [f64; 2],
    pub sampled: Option<Sampled>,
    pub gradient_error: Option<f64>,
    macs: u64,
    macs_skipped: u64,
    macs_saved_net: i64,
    pub demand: Demand,
    pub mean_results: f64,
}

impl Totals {
    /// Sums results of one configuration, which are ordered by step.
    pub fn new(results: &[&PassResult], layers_in_all: usize) -> Self {
        let forward = || results.iter().filter(|result| result.pass == Pass::Forward);
        let sum = |of: fn(&PassResult) -> u64| results.iter().map(|result| of(result)).sum::<u64>();
        let (baseline, mercury) = (sum(|result| result.baseline), sum(|result| result.mercury.total()));
        let steps = results.chunk_by(|a, b| a.step == b.step);
        let steps: Vec<_> = steps.map(|step| step_cycles(step.iter().copied())).collect();
        Self {
            vectors: forward().map(|result| result.vectors).sum(),
            counts: forward().map(|result| result.counts).sum(),
            error: forward_error(results, layers_in_all),
            steps: steps.len(),
            step_cycles: steps.iter().map(|step| step.total).collect(),
            baseline,
            mercury,
            stalls: [sum(|result| result.baseline_traffic.stall), sum(|result| result.traffic.stall)],
            energy: [0, 1].map(|which| results.iter().map(|result| result.energy[which]).sum()),
            sampled: Sampled::new([baseline, mercury], &steps),
            gradient_error: gradient_error(results),
            macs: sum(|result| result.macs),
            macs_skipped: sum(|result| result.macs_skipped),
            macs_saved_net: results.iter().map(|result| result.macs_saved_net).sum(),
            demand: Demand::combine(results.iter().copied()),
            mean_results: mean_results(results.iter().copied()),
        }
    }

    pub fn hit_rate(&self) -> Option<f64> {
        (self.vectors > 0).then(|| self.counts.hit as f64 / self.vectors as f64)
    }

    /// `None` if there are no steps.
    pub fn speed_up(&self) -> Option<f64> {
        (self.mercury > 0).then(|| self.baseline as f64 / self.mercury as f64)
    }

    pub fn speed_up_equal_macs(&self) -> Option<f64> {
        (self.mercury > 0).then(|| self.demand.baseline_equal_macs as f64 / self.mercury as f64)
    }

    pub fn computations_saved(&self) -> Option<f64> {
        (self.macs > 0).then(|| self.macs_saved_net as f64 / self.macs as f64)
    }

    pub fn speed_up_with_stalls(&self) -> f64 {
        (self.baseline + self.stalls[0]) as f64 / (self.mercury + self.stalls[1]) as f64
    }

    /// Energy divided by the baseline's; `None` if that is 0.
    pub fn relative_energy(&self) -> Option<f64> {
        (self.energy[0] > 0.0).then(|| self.energy[1] / self.energy[0])
    }

    pub fn mean_error(&self) -> Option<Estimate> {
        self.error.map(|error| error.average_over(self.steps))
    }

    pub fn output_error(&self) -> Option<f64> {
        self.mean_error().map(|error| error.relative().value)
    }
}

/// Builds the table: the swept values, totals of the steps after the trial ([`steady_state`]), which
/// are the headline, and totals of the trial. `results` are ordered by configuration and step, and
/// every configuration has some.
pub fn frame(swept: Vec<Column>, results: &[PassResult], layers_in_all: usize) -> Result<DataFrame> {
    use schema::configurations as columns;
    let mut steady = Vec::new();
    let mut trials = Vec::new();
    for results in results.chunk_by(|a, b| a.configuration == b.configuration) {
        steady.push(Totals::new(&steady_state(results), layers_in_all));
        trials.push(Totals::new(&trial(results), layers_in_all));
    }
    let numbers: Vec<u64> = (0..steady.len() as u64).collect();
    let errors: Vec<_> = steady.iter().map(Totals::mean_error).collect();
    let mut table = vec![
        columns::CONFIGURATION.build_u64s(&numbers, |number| *number),
        columns::STEPS.build_u64s(&steady, |totals| totals.steps as u64),
        columns::VECTORS.build_u64s(&steady, |totals| totals.vectors),
        columns::HIT.build_u64s(&steady, |totals| totals.counts.hit),
        columns::MAU.build_u64s(&steady, |totals| totals.counts.mau),
        columns::MNU.build_u64s(&steady, |totals| totals.counts.mnu),
        columns::HIT_RATE.build_f64s(&steady, Totals::hit_rate),
    ];
    table.extend(error_columns(&columns::TABLE, &errors, &[]));
    table.extend([
        columns::GRADIENT_ERROR.build_f64s(&steady, |totals| totals.gradient_error),
        columns::MACS.build_u64s(&steady, |totals| totals.macs),
        columns::MACS_SKIPPED.build_u64s(&steady, |totals| totals.macs_skipped),
        columns::MACS_SAVED_NET.build_i64s(&steady, |totals| totals.macs_saved_net),
        columns::COMPUTATIONS_SAVED.build_f64s(&steady, Totals::computations_saved),
        columns::BASELINE_CYCLES.build_u64s(&steady, |totals| totals.baseline),
        columns::MERCURY_CYCLES.build_u64s(&steady, |totals| totals.mercury),
        columns::BASELINE_MEMORY_STALL.build_u64s(&steady, |totals| totals.stalls[0]),
        columns::MERCURY_MEMORY_STALL.build_u64s(&steady, |totals| totals.stalls[1]),
        columns::BASELINE_ENERGY.build_f64s(&steady, |totals| totals.energy[0]),
        columns::MERCURY_ENERGY.build_f64s(&steady, |totals| totals.energy[1]),
        columns::SPEED_UP.build_f64s(&steady, Totals::speed_up),
        columns::SPEED_UP_LOW.build_f64s(&steady, |totals| totals.sampled.map(|sampled| sampled.interval()[0])),
        columns::SPEED_UP_HIGH.build_f64s(&steady, |totals| totals.sampled.map(|sampled| sampled.interval()[1])),
        columns::SPEED_UP_WITH_STALLS.build_f64s(&steady, Totals::speed_up_with_stalls),
        columns::SPEED_UP_EQUAL_MACS.build_f64s(&steady, Totals::speed_up_equal_macs),
        columns::IS_BOUND.build_bools(&steady, |totals| totals.demand.is_bound),
        columns::MCACHE_RESULTS_MEAN.build_f64s(&steady, |totals| totals.mean_results),
        columns::MCACHE_RESULTS_PEAK.build_f64s(&steady, |totals| totals.demand.peak_results),
        columns::MCACHE_KB.build_f64s(&steady, |totals| totals.demand.mcache_kb),
        columns::ENERGY.build_f64s(&steady, Totals::relative_energy),
        columns::TRIAL_STEPS.build_u64s(&trials, |totals| totals.steps as u64),
        columns::TRIAL_HIT_RATE.build_f64s(&trials, Totals::hit_rate),
        columns::TRIAL_OUTPUT_ERROR.build_f64s(&trials, Totals::output_error),
        columns::TRIAL_SPEED_UP.build_f64s(&trials, Totals::speed_up),
    ]);
    columns::TABLE.verify(&table)?;
    // Swept keys follow the configuration's number.
    let totals = table.split_off(1);
    table.extend(swept);
    table.extend(totals);
    Ok(DataFrame::new(numbers.len(), table)?)
}

/// One column of values per swept key.
pub fn swept(grid: &Grid) -> Vec<Column> {
    grid.axes.iter().enumerate().map(|(number, axis)| values(axis.key, &grid.column(number))).collect()
}

/// A column of values: numbers if all values are numbers, else text.
fn values(key: &str, values: &[&str]) -> Column {
    let numbers: Option<Vec<u64>> = values.iter().map(|value| value.parse().ok()).collect();
    match numbers {
        Some(numbers) => Column::new(key.into(), numbers),
        None => Column::new(key.into(), values.to_vec()),
    }
}

/// Refuses metrics of a flag that the sweep does not compute.
pub fn check(flag: &'static str, grid: &Grid, errors: ErrorMode, metrics: &[Metric]) -> Result<()> {
    let fail = |reason| Err(AnalyzerError::Flag { flag, reason });
    for metric in metrics {
        if metric.name.contains('.') && !grid.axes.iter().any(|axis| axis.key == metric.name) {
            return fail(format!("{} is not swept; add it by --set or leave it out", metric.name));
        }
        if metric.name == schema::configurations::OUTPUT_ERROR.name && errors.is_none() {
            return fail(format!("{} is not computed with --errors none", metric.name));
        }
    }
    Ok(())
}

/// Adds column [`PARETO`]: whether a configuration is on the frontier of the metrics. If some configurations are no
/// bounds, bounds are left out of it.
///
/// Returns the metrics that are relative to different baselines. For each of these, MERCURY's side
/// of the quotient was compared instead.
pub fn mark<'a>(frame: &mut DataFrame, metrics: &'a [Metric]) -> Result<Vec<(&'a Metric, Relative)>> {
    let (mut compared, mut replaced, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for metric in metrics {
        let (by, column) = compare_by(frame, metric)?;
        if let Some(relative) = metric.relative.filter(|_| by != *metric) {
            replaced.push((metric, relative));
        }
        compared.push(by);
        values.push(column);
    }
    let is_bound: Vec<bool> = IS_BOUND.read_bools(frame)?.into_iter().map(|is_bound| is_bound == Some(true)).collect();
    if is_bound.contains(&false) {
        for values in &mut values {
            values.iter_mut().zip(&is_bound).filter(|(_, is_bound)| **is_bound).for_each(|(value, _)| *value = None);
        }
    }
    frame.with_column(Column::new(PARETO.into(), pareto::frontier(&compared, &values)))?;
    Ok(replaced)
}

/// What a metric compares, with its value in each row: the metric itself, or MERCURY's side of a quotient if baselines
/// differ.
pub fn compare_by(frame: &DataFrame, metric: &Metric) -> Result<(Metric, Vec<Option<f64>>)> {
    match metric.relative {
        Some(relative) if !are_alike(&sum_columns(frame, relative.baseline)?) => Ok((
            Metric { name: relative.mercury[0], more: false, relative: None },
            sum_columns(frame, relative.mercury)?,
        )),
        _ => Ok((*metric, sum_columns(frame, &[metric.name])?)),
    }
}

/// Whether all configurations have the same baseline cycles, so that their speed-ups can be
/// compared.
pub fn has_one_baseline(frame: &DataFrame) -> Result<bool> {
    Ok(are_alike(&sum_columns(frame, &[schema::configurations::BASELINE_CYCLES.name])?))
}

fn are_alike(values: &[Option<f64>]) -> bool {
    values.windows(2).all(|pair| pair[0] == pair[1])
}

/// The sum of some columns in each row; `None` if one of them is null.
fn sum_columns(frame: &DataFrame, names: &[&str]) -> Result<Vec<Option<f64>>> {
    let mut sums = vec![Some(0.0); frame.height()];
    for name in names {
        let column = frame.column(name)?.cast(&DataType::Float64)?;
        for (sum, value) in sums.iter_mut().zip(column.f64()?.iter()) {
            *sum = sum.zip(value).map(|(sum, value)| sum + value);
        }
    }
    Ok(sums)
}
