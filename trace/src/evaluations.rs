//! `evaluations.parquet`: results on validation data, one row per metric of an evaluation.

use crate::error::Result;
use crate::table::{self, Table};
use std::path::Path;

/// The file's name in a trace.
pub const FILE_NAME: &str = "evaluations.parquet";

/// Maximum number of rows.
const MAX_ROWS: i64 = 10_000_000;

/// One metric of an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Number of training steps before the evaluation.
    pub steps_done: u64,
    /// The metric: `loss`, `top1`, `top5`, `token_accuracy`, `perplexity` or `bleu`; `reuse_`
    /// precedes metrics with reuse.
    pub metric: String,
    /// Its value; accuracies are from 0 to 1, BLEU from 0 to 100.
    pub value: f64,
    /// Number of evaluated samples.
    pub samples: u64,
}

/// Replaces the table of evaluations of the trace in `dir`.
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

/// Reads the table of evaluations of the trace in `dir`.
pub fn read(dir: &Path) -> Result<Vec<Evaluation>> {
    let table = Table::read(&dir.join(FILE_NAME), MAX_ROWS)?;
    let (steps_done, samples) = (table.u64("steps_done")?, table.u64("samples")?);
    let (metric, value) = (table.string("metric")?, table.f64("value")?);
    let rows = (0..table.rows()).map(|i| Evaluation {
        steps_done: steps_done[i],
        metric: metric.value(i).to_owned(),
        value: value[i],
        samples: samples[i],
    });
    Ok(rows.collect())
}
