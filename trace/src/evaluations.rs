//! `evaluations.parquet`: what was measured on data that was not trained on, one row a metric.

use crate::error::Result;
use crate::table::{self, Table};
use std::path::Path;

/// The file's name within a trace.
pub const FILE_NAME: &str = "evaluations.parquet";

/// Most measurements of a training.
const MAX_ROWS: i64 = 10_000_000;

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Training steps done before it.
    pub steps_done: u64,
    /// What was measured: `loss`, `top1`, `top5`, `token_accuracy`, `perplexity`, `bleu`.
    pub metric: String,
    /// Its value; accuracies from 0 to 1, BLEU from 0 to 100.
    pub value: f64,
    /// Samples it was measured on.
    pub samples: u64,
}

/// Replaces the evaluations of the trace in `dir`.
pub fn write(dir: &Path, evaluations: &[Evaluation]) -> Result<()> {
    table::write(
        &dir.join(FILE_NAME),
        vec![
            ("steps_done", table::u64s(evaluations.iter().map(|row| row.steps_done))),
            ("metric", table::strings(evaluations.iter().map(|row| row.metric.as_str()))),
            ("value", table::f64s(evaluations.iter().map(|row| row.value))),
            ("samples", table::u64s(evaluations.iter().map(|row| row.samples))),
        ],
    )
}

/// Reads the evaluations of the trace in `dir`.
pub fn read(dir: &Path) -> Result<Vec<Evaluation>> {
    let table = Table::read(&dir.join(FILE_NAME), MAX_ROWS)?;
    let (steps_done, samples) = (table.u64("steps_done")?, table.u64("samples")?);
    let (metric, value) = (table.string("metric")?, table.f64("value")?);
    let row = |i: usize| Evaluation {
        steps_done: steps_done[i],
        metric: metric.value(i).to_owned(),
        value: value[i],
        samples: samples[i],
    };
    Ok((0..table.rows()).map(row).collect())
}
