//! `sweep`: one trace under a grid of configurations.

use super::console::Console;
use super::overrides::{Configuration, KEYS};
use super::work::{Work, advance, on_threads};
use crate::export::Format;
use crate::replay::Replay;
use crate::request::Measures;
use crate::schema::{ColumnSpec, configurations as columns};
use crate::sweep::filter::{self, Condition};
use crate::sweep::grid::{Axis, Grid};
use crate::sweep::pareto::Metric;
use crate::sweep::seeds::SEED;
use crate::sweep::store::SweepDir;
use crate::sweep::summary::PARETO;
use crate::sweep::{self, designs, summary};
use anyhow::Result;
use clap::Args;
use mercury_trace::Trace;
use polars::prelude::DataFrame;
use std::path::PathBuf;

/// Replay a trace under many configurations at once: hit rate, error, cycles and energy.
///
/// The grid is every combination of the values of the swept keys; invalid combinations are left
/// out. The results are written to a folder: run.json, configurations.parquet (one row per
/// configuration), designs.parquet (one row for configurations that differ in the seed), layers.parquet and models.parquet as from `replay`. A sweep that was stopped
/// continues when the command is run again. Bounds are not computed; mcache.entries=0 is an
/// unlimited MCACHE.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mercury-analyzer sweep trace --set rpq.bits=8..=64:4 --set mcache.ways=1,2,4,8,16 \
                        --out sweep --pareto hit_rate,output_error\n  mercury-analyzer sweep trace --set rpq.bits=8..=64:4 --out sweep \
                        --where 'output_error<=0.1' --best speed_up"
)]
pub struct Sweep {
    /// Folder of the trace.
    trace: PathBuf,
    /// Folder for the results: empty, missing, or begun by the same sweep.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A key and its values: KEY=A,B,FIRST..=LAST:STEP. May be repeated for other keys.
    #[arg(long = "set", value_name = "KEY=VALUES", required = true, value_parser = parse_axis)]
    axes: Vec<Axis>,
    /// Mark the Pareto frontier of these columns: `hit_rate`, `output_error`, `speed_up`,
    /// `speed_up_with_stalls`, `mercury_cycles`, `energy`, `rpq.bits`, `mcache.entries`,
    /// `mcache.ways`. The table shows only the frontier. Speed-ups and energy are relative to the
    /// baseline of the same array, so absolute cycles and energy are compared instead where
    /// baselines differ. Bounds that no hardware reaches are left out.
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS", value_parser = Metric::parse)]
    pareto: Vec<Metric>,
    /// Print only the rows that meet a condition on a column of numbers, such as `output_error<=0.1`. May be repeated: all
    /// must hold.
    #[arg(long = "where", value_name = "COLUMN<=X")]
    conditions: Vec<Condition>,
    /// Print only the best row by this column, one of those of --pareto. Bounds that no hardware reaches are left out.
    #[arg(long, value_name = "COLUMN", value_parser = Metric::parse, conflicts_with = "pareto")]
    best: Option<Metric>,
    #[command(flatten)]
    work: Work,
    #[command(flatten)]
    configuration: Configuration,
}

/// Columns that the table leaves out if all configurations have one baseline: the quotients by it
/// rank configurations in the same order.
const ABSOLUTE: [ColumnSpec; 4] =
    [columns::BASELINE_MEMORY_STALL, columns::MERCURY_MEMORY_STALL, columns::BASELINE_ENERGY, columns::MERCURY_ENERGY];

/// Columns that the table leaves out: interval bounds, and details of other columns.
const DETAILS: [ColumnSpec; 12] = [
    columns::MAU,
    columns::MNU,
    columns::GRADIENT_ERROR,
    columns::MACS,
    columns::MACS_SKIPPED,
    columns::MACS_SAVED_NET,
    columns::OUTPUT_ERROR_LOW,
    columns::OUTPUT_ERROR_HIGH,
    columns::LOSS_CHANGE_LOW,
    columns::LOSS_CHANGE_HIGH,
    columns::TRIAL_STEPS,
    columns::TRIAL_OUTPUT_ERROR,
];

/// Columns that the table leaves out if there was no trial.
const TRIAL: [ColumnSpec; 2] = [columns::TRIAL_HIT_RATE, columns::TRIAL_SPEED_UP];

fn parse_axis(text: &str) -> Result<Axis, String> {
    // A sweep computes no bounds, so their keys would have no effect.
    Axis::parse(text, KEYS.iter().map(|&(key, ..)| key).filter(|key| !key.starts_with("bounds.")))
}

impl Sweep {
    /// Begins or continues the sweep and prints the table of configurations.
    pub fn run(self, console: Console) -> Result<()> {
        let (origin, table, overrides) = self.configuration.parts()?;
        let grid = Grid::new(self.axes, &origin, &table, &overrides)?.with_seeds(self.work.seeds)?;
        if let Some((count, reason)) = &grid.left_out {
            console.note(format_args!("{count} invalid combinations are left out; the first: {reason}"));
        }
        summary::check("--pareto", &grid, self.work.errors(), &self.pareto)?;
        filter::check(&self.conditions, &grid.axes)?;
        summary::check("--best", &grid, self.work.errors(), self.best.as_slice())?;
        let measures = Measures { selection: self.work.chosen.selection()?, errors: self.work.errors(), bounds: false };
        let trace = Trace::open(&self.trace)?;
        let replay =
            Replay::new(&trace, &grid.configs, &measures)?.with_stop(console.stop()).with_limit(self.work.limit())?;
        let dir = SweepDir::open(&self.out, &trace, &grid, &measures, self.work.label.as_deref())?;
        let mut frame = if dir.is_complete() {
            console.note(format_args!("{} is already complete; nothing is replayed", self.out.display()));
            if self.work.seeds > 1 { dir.designs()? } else { dir.summary()? }
        } else {
            let progress = console.progress(replay.units().len(), "replaying", "layers");
            let results =
                on_threads(self.work.threads, || Ok(sweep::run(&replay, &dir, |unit| advance(&progress, unit))?))?;
            progress.finish();
            let (swept, layers) = (summary::swept(&grid), trace.layers().len());
            let designs = designs::build_frame(&swept, &designs::find_designs(&grid.configs, &results, layers))?;
            let frame = summary::frame(swept, &results, layers)?;
            dir.finish(&results, &frame, &designs)?;
            if self.work.seeds > 1 { designs } else { frame }
        };
        if self.work.seeds == 1 && !grid.axes.iter().any(|axis| axis.key == SEED) {
            console.note(super::ONE_PROJECTION);
        }
        let has_one_baseline = summary::has_one_baseline(&frame)?;
        if !has_one_baseline {
            console.note(super::UNLIKE_BASELINES);
        }
        frame = filter::keep_rows(frame, &self.conditions)?;
        if let Some(metric) = &self.best {
            let compared = frame.height();
            let (by, _) = summary::compare_by(&frame, metric)?;
            frame = filter::keep_best(&frame, metric)?;
            console.note(format_args!(
                "the best of {compared} rows by {}, on the data that it was chosen by, which flatters it; `search` judges by \
                 other steps",
                by.name
            ));
        }
        if !self.pareto.is_empty() {
            for (metric, relative) in summary::mark(&mut frame, &self.pareto)? {
                let cycles = relative.mercury.join(" + ");
                console.note(format_args!("--pareto: {cycles} is compared instead of {}", metric.name));
            }
            let all = frame.height();
            if self.work.format == Format::Table {
                frame = frame.filter(frame.column(PARETO)?.bool()?)?.drop(PARETO)?;
                console.note(format_args!("{} of {all} configurations are on the frontier:", frame.height()));
            }
        }
        if self.work.format == Format::Table {
            frame = drop_details(&frame, has_one_baseline)?;
        }
        console.print_table(&frame, self.work.format)
    }
}

/// Drops columns from the printed table to keep its rows readable. JSON, CSV and the results'
/// folder have all columns.
fn drop_details(frame: &DataFrame, has_one_baseline: bool) -> Result<DataFrame> {
    let has_trial = frame.column(columns::TRIAL_STEPS.name).is_ok()
        && columns::TRIAL_STEPS.read_u64s(frame)?.into_iter().flatten().any(|steps| steps > 0);
    let is_bound = columns::IS_BOUND.read_bools(frame)?.contains(&Some(true));
    let has_unit = columns::SPEED_UP_EQUAL_MACS.read_f64s(frame)? != columns::SPEED_UP.read_f64s(frame)?;
    let names = |columns: &[ColumnSpec]| columns.iter().map(|column| column.name).collect::<Vec<_>>();
    let mut frame = frame.drop_many(names(&DETAILS));
    for (is_shown, columns) in
        [(has_trial, &TRIAL[..]), (is_bound, &[columns::IS_BOUND]), (has_unit, &[columns::SPEED_UP_EQUAL_MACS])]
    {
        if !is_shown {
            frame = frame.drop_many(names(columns));
        }
    }
    Ok(if has_one_baseline { frame.drop_many(names(&ABSOLUTE)) } else { frame })
}
