//! `configurations.parquet`: one row per configuration, over the captured steps after the trial.

use super::grid::Grid;
use super::pareto::{self, Metric, Relative};
use crate::accuracy::Estimate;
use crate::adaptation::{steady_state, trial};
use crate::error::{AnalyzerError, Result};
use crate::error_columns::error_columns;
use crate::interval;
use crate::request::ErrorMode;
use crate::result::{PassResult, forward_error, step_cycles};
use mercury_reuse::Counts;
use mercury_trace::geometry::Pass;
use polars::prelude::*;

/// The file's name.
pub const FILE: &str = "configurations.parquet";

/// The error columns of the summary; `layers.parquet` has all of them.
const ERRORS: [&str; 2] = ["output_error", "loss_change"];

/// Totals of some results of one configuration.
struct Row {
    vectors: u64,
    counts: Counts,
    error: Option<Estimate>,
    steps: usize,
    baseline: u64,
    mercury: u64,
    /// Cycles of waiting for DRAM, without and with reuse.
    stalls: [u64; 2],
    energy: [f64; 2],
    interval: Option<[f64; 2]>,
}

impl Row {
    /// Sums results of one configuration, which are ordered by step.
    fn of(results: &[&PassResult], layers_in_all: usize) -> Self {
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
            baseline,
            mercury,
            stalls: [sum(|result| result.baseline_traffic.stall), sum(|result| result.traffic.stall)],
            energy: [0, 1].map(|which| results.iter().map(|result| result.energy[which]).sum()),
            interval: interval::stratified([baseline, mercury], &steps),
        }
    }

    fn hit_rate(&self) -> Option<f64> {
        (self.vectors > 0).then(|| self.counts.hit as f64 / self.vectors as f64)
    }

    /// `None` if there are no steps.
    fn speed_up(&self) -> Option<f64> {
        (self.mercury > 0).then(|| self.baseline as f64 / self.mercury as f64)
    }

    fn output_error(&self) -> Option<f64> {
        self.error.map(|error| error.mean_of(self.steps).relative().value)
    }
}

/// Totals of a configuration: of the steps after the trial, which are the headline, and of the
/// trial.
struct Totals {
    steady: Row,
    trial: Row,
}

/// Builds the table: the swept values, totals of the steps after the trial ([`steady_state`]), and
/// totals of the trial. `results` are ordered by configuration and step, and every configuration
/// has some.
pub fn frame(swept: Vec<Column>, results: &[PassResult], layers_in_all: usize) -> Result<DataFrame> {
    let totals: Vec<Totals> = results
        .chunk_by(|a, b| a.configuration == b.configuration)
        .map(|results| Totals {
            steady: Row::of(&steady_state(results), layers_in_all),
            trial: Row::of(&trial(results), layers_in_all),
        })
        .collect();
    let u64s = |name: &str, of: fn(&Row) -> u64| {
        Column::new(name.into(), totals.iter().map(|totals| of(&totals.steady)).collect::<Vec<_>>())
    };
    let f64s = |name: &str, of: fn(&Row) -> Option<f64>| {
        Column::new(name.into(), totals.iter().map(|totals| of(&totals.steady)).collect::<Vec<_>>())
    };
    let trial_f64s = |name: &str, of: fn(&Row) -> Option<f64>| {
        Column::new(name.into(), totals.iter().map(|totals| of(&totals.trial)).collect::<Vec<_>>())
    };
    let mut columns = vec![Column::new("configuration".into(), (0..totals.len() as u64).collect::<Vec<_>>())];
    columns.extend(swept);
    columns.extend([
        u64s("steps", |row| row.steps as u64),
        u64s("vectors", |row| row.vectors),
        u64s("hit", |row| row.counts.hit),
        u64s("mau", |row| row.counts.mau),
        u64s("mnu", |row| row.counts.mnu),
        f64s("hit_rate", Row::hit_rate),
    ]);
    let errors: Vec<_> =
        totals.iter().map(|totals| totals.steady.error.map(|error| error.mean_of(totals.steady.steps))).collect();
    let shown = |column: &Column| ERRORS.iter().any(|name| column.name().starts_with(name));
    columns.extend(error_columns(&errors).into_iter().filter(shown));
    columns.extend([
        u64s("baseline_cycles", |row| row.baseline),
        u64s("mercury_cycles", |row| row.mercury),
        u64s("baseline_memory_stall", |row| row.stalls[0]),
        u64s("mercury_memory_stall", |row| row.stalls[1]),
        f64s("baseline_energy", |row| Some(row.energy[0])),
        f64s("mercury_energy", |row| Some(row.energy[1])),
        f64s("speed_up", Row::speed_up),
        f64s("speed_up_low", |row| row.interval.map(|bounds| bounds[0])),
        f64s("speed_up_high", |row| row.interval.map(|bounds| bounds[1])),
        f64s("speed_up_with_stalls", |row| {
            Some((row.baseline + row.stalls[0]) as f64 / (row.mercury + row.stalls[1]) as f64)
        }),
        f64s("energy", |row| (row.energy[0] > 0.0).then(|| row.energy[1] / row.energy[0])),
        Column::new("trial_steps".into(), totals.iter().map(|totals| totals.trial.steps as u64).collect::<Vec<_>>()),
        trial_f64s("trial_hit_rate", Row::hit_rate),
        trial_f64s("trial_output_error", Row::output_error),
        trial_f64s("trial_speed_up", Row::speed_up),
    ]);
    Ok(DataFrame::new(totals.len(), columns)?)
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

/// Refuses metrics that the sweep does not compute.
pub fn check(grid: &Grid, errors: ErrorMode, metrics: &[Metric]) -> Result<()> {
    let fail = |reason| Err(AnalyzerError::Flag { flag: "--pareto", reason });
    for metric in metrics {
        if metric.name.contains('.') && !grid.axes.iter().any(|axis| axis.key == metric.name) {
            return fail(format!("{} is not swept; add it by --set or leave it out", metric.name));
        }
        if metric.name == "output_error" && errors.is_none() {
            return fail("output_error is not computed with --errors none".to_owned());
        }
    }
    Ok(())
}

/// Adds column `pareto`: whether a configuration is on the frontier of the metrics.
///
/// Returns the metrics that are relative to different baselines. For each of these, MERCURY's side
/// of the quotient was compared instead.
pub fn mark<'a>(frame: &mut DataFrame, metrics: &'a [Metric]) -> Result<Vec<(&'a Metric, Relative)>> {
    let mut compared = metrics.to_vec();
    let mut replaced = Vec::new();
    let mut values = Vec::new();
    for (metric, compared) in metrics.iter().zip(&mut compared) {
        match metric.relative {
            Some(relative) if !are_alike(&sum_columns(frame, relative.baseline)?) => {
                values.push(sum_columns(frame, relative.mercury)?);
                compared.more = false;
                replaced.push((metric, relative));
            }
            _ => values.push(sum_columns(frame, &[metric.name])?),
        }
    }
    frame.with_column(Column::new("pareto".into(), pareto::frontier(&compared, &values)))?;
    Ok(replaced)
}

/// Whether all configurations have the same baseline cycles, so that their speed-ups can be
/// compared.
pub fn has_one_baseline(frame: &DataFrame) -> Result<bool> {
    Ok(are_alike(&sum_columns(frame, &["baseline_cycles"])?))
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
