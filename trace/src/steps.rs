//! `steps.parquet`: one row per training step, captured or not.

use crate::error::Result;
use crate::table::{self, Table};
use std::path::Path;

/// The file's name in a trace.
pub const FILE_NAME: &str = "steps.parquet";

/// Maximum number of training steps.
const MAX_ROWS: i64 = 10_000_000;

/// A training step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The step, counted from 0.
    pub step: u64,
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// Training loss of the batch; NaN if it is unknown.
    pub loss: f64,
    /// Share of correct labels in the batch, from 0 to 1; NaN if it is unknown.
    pub accuracy: f64,
    /// Learning rate of the step; groups of parameters may have others.
    pub learning_rate: f64,
    /// Duration of the step in wall-clock seconds, including capture.
    pub seconds: f64,
    /// Whether the step's tensors are in the trace.
    pub captured: bool,
}

/// Replaces the table of steps of the trace in `dir`.
pub fn write(dir: &Path, steps: &[Step]) -> Result<()> {
    let f64s = |field: fn(&Step) -> f64| table::f64s(steps.iter().map(field));
    table::write(
        &dir.join(FILE_NAME),
        vec![
            ("step", table::u64s(steps.iter().map(|step| step.step))),
            ("epoch", table::u64s(steps.iter().map(|step| step.epoch))),
            ("loss", f64s(|step| step.loss)),
            ("accuracy", f64s(|step| step.accuracy)),
            ("learning_rate", f64s(|step| step.learning_rate)),
            ("seconds", f64s(|step| step.seconds)),
            ("captured", table::bools(steps.iter().map(|step| step.captured))),
        ],
    )
}

/// Reads the table of steps of the trace in `dir`.
pub fn read(dir: &Path) -> Result<Vec<Step>> {
    let table = Table::read(&dir.join(FILE_NAME), MAX_ROWS)?;
    let (step, epoch) = (table.u64("step")?, table.u64("epoch")?);
    let (loss, accuracy) = (table.f64("loss")?, table.f64("accuracy")?);
    let (learning_rate, seconds) = (table.f64("learning_rate")?, table.f64("seconds")?);
    let captured = table.bool("captured")?;
    if let Some(row) = step.windows(2).position(|pair| pair[0] >= pair[1]) {
        let reason = format!("row {} does not come after the one before it; write steps in ascending order", row + 1);
        return Err(table.invalid("step", reason));
    }
    let rows = (0..table.rows()).map(|i| Step {
        step: step[i],
        epoch: epoch[i],
        loss: loss[i],
        accuracy: accuracy[i],
        learning_rate: learning_rate[i],
        seconds: seconds[i],
        captured: captured.value(i),
    });
    Ok(rows.collect())
}
