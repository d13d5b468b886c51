//! `designs.parquet`: one row per design, over the projections that it was replayed with.

use super::seeds::{SEED, group_by_design};
use super::summary::Totals;
use crate::adaptation::steady_state;
use crate::config::Config;
use crate::error::Result;
use crate::interval::{self, Sampled};
use crate::result::PassResult;
use crate::schema::designs as columns;
use polars::prelude::*;
use std::collections::BTreeMap;

/// A design's figures: means over its projections.
pub struct Design {
    /// Its configurations.
    pub configurations: Vec<usize>,
    totals: Vec<Totals>,
}

impl Design {
    fn mean(&self, value: impl Fn(&Totals) -> Option<f64>) -> Option<f64> {
        let values: Option<Vec<f64>> = self.totals.iter().map(value).collect();
        values.map(|values| values.iter().sum::<f64>() / values.len() as f64)
    }

    fn mean_of(&self, value: impl Fn(&Totals) -> f64) -> f64 {
        self.totals.iter().map(value).sum::<f64>() / self.totals.len() as f64
    }

    /// Mean speed-up; `None` without steps.
    pub fn speed_up(&self) -> Option<f64> {
        self.mean(Totals::speed_up)
    }

    /// 95 % interval of the speed-up over samples and, of several projections, over these.
    pub fn speed_up_interval(&self) -> Option<[f64; 2]> {
        let sampled: Option<Vec<Sampled>> = self.totals.iter().map(|totals| totals.sampled).collect();
        interval::cover(&sampled?)
    }

    /// 95 % interval of the mean speed-up over training steps and projections; `None` for a single step.
    pub fn interval_over_steps(&self) -> Option<[f64; 2]> {
        let cycles: Vec<_> = self.totals.iter().map(|totals| totals.step_cycles.clone()).collect();
        interval::over_steps(&cycles)
    }

    /// Smallest and largest speed-up of a projection.
    pub fn speed_up_range(&self) -> Option<[f64; 2]> {
        let values: Option<Vec<f64>> = self.totals.iter().map(Totals::speed_up).collect();
        let values = values?;
        Some([values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?])
    }

    /// Mean output error of forward passes.
    pub fn output_error(&self) -> Option<f64> {
        self.mean(Totals::output_error)
    }

    /// 95 % interval of the output error, as of the speed-up.
    pub fn output_error_interval(&self) -> Option<[f64; 2]> {
        if let [totals] = self.totals.as_slice() {
            return totals.mean_error()?.relative().bounds;
        }
        let sampled = |totals: &Totals| {
            let estimate = totals.mean_error()?;
            let error = estimate.relative();
            Some(Sampled::from_interval(error.value, error.bounds?, estimate.freedom()))
        };
        let sampled: Option<Vec<Sampled>> = self.totals.iter().map(sampled).collect();
        let [low, high] = interval::cover(&sampled?)?;
        Some([low.max(0.0), high])
    }

    fn peak_results(&self) -> Option<f64> {
        let peaks: Option<Vec<f64>> = self.totals.iter().map(|totals| totals.demand.peak_results).collect();
        peaks?.into_iter().reduce(f64::max)
    }
}

/// The designs of these configurations. `results` are ordered by configuration and step, and every configuration has
/// some.
pub fn find_designs(configs: &[Config], results: &[PassResult], layers_in_all: usize) -> Vec<Design> {
    let by_configuration: BTreeMap<usize, &[PassResult]> = results
        .chunk_by(|a, b| a.configuration == b.configuration)
        .map(|results| (results[0].configuration, results))
        .collect();
    let totals = |number: &usize| Totals::new(&steady_state(by_configuration[number]), layers_in_all);
    let design =
        |configurations: Vec<usize>| Design { totals: configurations.iter().map(totals).collect(), configurations };
    group_by_design(configs).into_iter().map(design).collect()
}

/// Builds the table. `swept` are the values of swept keys by configuration.
pub fn build_frame(swept: &[Column], designs: &[Design]) -> Result<DataFrame> {
    let first = |design: &Design| design.totals.first().map_or(0, |totals| totals.baseline);
    let mut table = vec![
        Column::new(columns::DESIGN.name.into(), (0..designs.len() as u64).collect::<Vec<_>>()),
        columns::CONFIGURATION.build_u64s(designs, |design| design.configurations[0] as u64),
        columns::PROJECTIONS.build_u64s(designs, |design| design.configurations.len() as u64),
        columns::STEPS.build_u64s(designs, |design| design.totals[0].steps as u64),
        columns::HIT_RATE.build_f64s(designs, |design| design.mean(Totals::hit_rate)),
        columns::OUTPUT_ERROR.build_f64s(designs, Design::output_error),
        columns::OUTPUT_ERROR_LOW.build_f64s(designs, |design| design.output_error_interval().map(|bounds| bounds[0])),
        columns::OUTPUT_ERROR_HIGH.build_f64s(designs, |design| design.output_error_interval().map(|bounds| bounds[1])),
        columns::GRADIENT_ERROR.build_f64s(designs, |design| design.mean(|totals| totals.gradient_error)),
        columns::COMPUTATIONS_SAVED.build_f64s(designs, |design| design.mean(Totals::computations_saved)),
        columns::BASELINE_CYCLES.build_u64s(designs, first),
        columns::MERCURY_CYCLES.build_f64s(designs, |design| design.mean_of(|totals| totals.mercury as f64)),
        columns::BASELINE_MEMORY_STALL.build_u64s(designs, |design| design.totals[0].stalls[0]),
        columns::MERCURY_MEMORY_STALL.build_f64s(designs, |design| design.mean_of(|totals| totals.stalls[1] as f64)),
        columns::BASELINE_ENERGY.build_f64s(designs, |design| design.mean_of(|totals| totals.energy[0])),
        columns::MERCURY_ENERGY.build_f64s(designs, |design| design.mean_of(|totals| totals.energy[1])),
        columns::SPEED_UP.build_f64s(designs, Design::speed_up),
        columns::SPEED_UP_LOW.build_f64s(designs, |design| design.speed_up_interval().map(|bounds| bounds[0])),
        columns::SPEED_UP_HIGH.build_f64s(designs, |design| design.speed_up_interval().map(|bounds| bounds[1])),
        columns::SPEED_UP_STEPS_LOW.build_f64s(designs, |design| design.interval_over_steps().map(|bounds| bounds[0])),
        columns::SPEED_UP_STEPS_HIGH.build_f64s(designs, |design| design.interval_over_steps().map(|bounds| bounds[1])),
        columns::SPEED_UP_MIN.build_f64s(designs, |design| design.speed_up_range().map(|range| range[0])),
        columns::SPEED_UP_MAX.build_f64s(designs, |design| design.speed_up_range().map(|range| range[1])),
        columns::SPEED_UP_WITH_STALLS.build_f64s(designs, |design| design.mean_of(Totals::speed_up_with_stalls)),
        columns::SPEED_UP_EQUAL_MACS.build_f64s(designs, |design| design.mean(Totals::speed_up_equal_macs)),
        columns::IS_BOUND.build_bools(designs, |design| design.totals.iter().any(|totals| totals.demand.is_bound)),
        columns::MCACHE_RESULTS_MEAN.build_f64s(designs, |design| design.mean_of(|totals| totals.mean_results)),
        columns::MCACHE_RESULTS_PEAK.build_f64s(designs, Design::peak_results),
        columns::MCACHE_KB.build_f64s(designs, |design| design.mean(|totals| totals.demand.mcache_kb)),
        columns::ENERGY.build_f64s(designs, |design| design.mean(Totals::relative_energy)),
    ];
    columns::TABLE.verify(&table)?;
    let firsts: Vec<usize> = designs.iter().map(|design| design.configurations[0]).collect();
    let totals = table.split_off(1);
    for column in swept.iter().filter(|column| column.name() != SEED) {
        table.push(Column::new(
            column.name().clone(),
            column.as_materialized_series().take_slice(&to_indices(&firsts))?,
        ));
    }
    table.extend(totals);
    Ok(DataFrame::new(designs.len(), table)?)
}

fn to_indices(numbers: &[usize]) -> Vec<IdxSize> {
    numbers.iter().map(|&number| number as IdxSize).collect()
}
