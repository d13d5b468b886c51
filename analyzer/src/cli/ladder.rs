//! `ladder`: what decides the speed-up of a trace, one assumption after the other.

use super::ONE_PROJECTION;
use super::console::Console;
use super::overrides::Configuration;
use super::work::{Work, advance, on_threads};
use crate::error::AnalyzerError;
use crate::export::Format;
use crate::ladder::{self, Rung};
use crate::replay::Replay;
use crate::request::Measures;
use crate::schema::designs as columns;
use crate::sweep::designs;
use anyhow::Result;
use clap::Args;
use mercury_trace::Trace;
use polars::prelude::{Column, DataFrame};
use std::path::PathBuf;

/// Print the speed-up from one reading of the hardware to the bound, one assumption after the other.
///
/// Each rung makes one assumption more than the rung before; `flags` are the keys that change, so that a rung equals a
/// replay with all flags up to its own. `factor` is the speed-up divided by that of the rung before. `preset` is the preset
/// that a rung equals, but for stop.window. Rungs with `is_bound` are bounds that no hardware reaches. All rungs are over
/// the same steps: if layers are switched off (stop.window), those after the trial.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  mercury-analyzer ladder trace\n  mercury-analyzer ladder trace --readings --seeds 6\n  \
                        mercury-analyzer ladder trace --preset patch-os --format csv > ladder.csv"
)]
pub struct Ladder {
    /// Folder of the trace.
    trace: PathBuf,
    /// Print only the readings that presets name (mercury, mercury-skip, mercury-ahead) and the bound.
    #[arg(long)]
    readings: bool,
    #[command(flatten)]
    work: Work,
    #[command(flatten)]
    configuration: Configuration,
}

impl Ladder {
    /// Replays the trace under all rungs in one pass, and prints them.
    pub fn run(self, console: Console) -> Result<()> {
        if self.work.label.is_some() {
            let reason = "names results, but a ladder writes none; leave it out".to_owned();
            return Err(AnalyzerError::Flag { flag: "--label", reason }.into());
        }
        let rungs = if self.readings {
            self.configuration.refuse("--readings")?;
            ladder::list_readings()?
        } else {
            ladder::list_rungs(&self.configuration.resolve()?)
        };
        let configs: Vec<_> = rungs.iter().map(|rung| rung.config.clone()).collect();
        let configs = self.work.with_seeds(&configs)?;
        let measures = Measures { selection: self.work.chosen.selection()?, errors: self.work.errors(), bounds: false };
        let trace = Trace::open(&self.trace)?;
        let replay =
            Replay::new(&trace, &configs, &measures)?.with_stop(console.stop()).with_limit(self.work.limit())?;
        let units = replay.units();
        let progress = console.progress(units.len(), "replaying", "layers");
        let mut results = Vec::new();
        on_threads(self.work.threads, || {
            replay.run(
                &units,
                |unit| advance(&progress, unit),
                |_, fresh| {
                    results.extend(fresh);
                    Ok(())
                },
            )?;
            Ok(())
        })?;
        progress.finish();
        let results = replay.finish(results);
        let found = designs::find_designs(&configs, &results, trace.layers().len());
        let mut frame = build_frame(&rungs, &designs::build_frame(&[], &found)?, !self.readings)?;
        if self.work.seeds == 1 {
            console.note(ONE_PROJECTION);
        }
        if self.work.format == Format::Table {
            let only_in_files = [
                columns::PROJECTIONS,
                columns::GRADIENT_ERROR,
                columns::SPEED_UP_STEPS_LOW,
                columns::SPEED_UP_STEPS_HIGH,
            ];
            frame = frame.drop_many(only_in_files.map(|column| column.name));
        }
        console.print_table(&frame, self.work.format)
    }
}

/// The rungs with their figures; `has_factors`: with the quotient of a rung's speed-up and that of the rung before.
fn build_frame(rungs: &[Rung], designs: &DataFrame, has_factors: bool) -> Result<DataFrame> {
    let texts = |value: fn(&Rung) -> &str| rungs.iter().map(value).collect::<Vec<_>>();
    let mut table = vec![
        Column::new("assumption".into(), texts(|rung| &rung.assumption)),
        Column::new("flags".into(), texts(|rung| &rung.flags)),
        Column::new("preset".into(), texts(|rung| rung.preset.unwrap_or_default())),
    ];
    let speed_ups = columns::SPEED_UP.read_f64s(designs)?;
    for column in [
        columns::PROJECTIONS,
        columns::HIT_RATE,
        columns::OUTPUT_ERROR,
        columns::GRADIENT_ERROR,
        columns::COMPUTATIONS_SAVED,
        columns::SPEED_UP,
        columns::SPEED_UP_LOW,
        columns::SPEED_UP_HIGH,
        columns::SPEED_UP_STEPS_LOW,
        columns::SPEED_UP_STEPS_HIGH,
    ] {
        table.push(designs.column(column.name)?.clone());
    }
    if has_factors {
        let factor = |number: usize| Some(speed_ups[number]? / speed_ups[number.checked_sub(1)?]?);
        table.push(Column::new("factor".into(), (0..speed_ups.len()).map(factor).collect::<Vec<Option<f64>>>()));
    }
    for column in [
        columns::SPEED_UP_WITH_STALLS,
        columns::SPEED_UP_EQUAL_MACS,
        columns::IS_BOUND,
        columns::MCACHE_RESULTS_MEAN,
        columns::MCACHE_RESULTS_PEAK,
        columns::MCACHE_KB,
    ] {
        table.push(designs.column(column.name)?.clone());
    }
    Ok(DataFrame::new(rungs.len(), table)?)
}
