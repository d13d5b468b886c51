//! What the page shows of a configuration's layers: a row for each layer and pass, over the steps after the trial.

use super::source::{COUNTERS, MEASURES};
use crate::error::{AnalyzerError, Result};
use crate::schema::{ColumnSpec, layers as columns};
use mercury_reuse::bounds::Sampled;
use mercury_trace::geometry::Pass;
use polars::prelude::*;
use serde_json::{Map, Value};

/// A row of a table, by column.
pub type Row = Map<String, Value>;

/// A frame's rows.
pub fn rows(frame: &DataFrame) -> Result<Vec<Row>> {
    let mut text = Vec::new();
    JsonWriter::new(&mut text).with_json_format(JsonFormat::Json).finish(&mut frame.clone())?;
    serde_json::from_slice(&text).map_err(|error| {
        let error = PolarsError::ComputeError(error.to_string().into());
        AnalyzerError::Polars(error)
    })
}

/// The layers and passes of one configuration, in execution order, counters and measures added up under
/// the names that they have in `layers.parquet`, so that charts work on either; and what follows from the
/// sums.
pub fn of_configuration(layers: &DataFrame, configuration: u64) -> Result<Vec<Row>> {
    let known = |column: &ColumnSpec| {
        let any = col(column.name).is_not_null().any(true);
        when(any).then(col(column.name).sum()).otherwise(lit(NULL)).alias(column.name)
    };
    let mut sums: Vec<Expr> = COUNTERS.iter().map(|column| col(column.name).sum()).collect();
    sums.extend(MEASURES.iter().map(known));
    sums.push(col("signature_bits").max());
    // The first captured step that ran without reuse because earlier ones did not gain.
    sums.push(col("step").filter(col("switched_off")).min().alias("switched_off_at"));
    let ratio = |name: &str, above: Expr, below: &str| {
        let below = col(below).cast(DataType::Float64);
        when(below.clone().gt(lit(0.0))).then(above / below).otherwise(lit(NULL)).alias(name)
    };
    let float = |name: &str| col(name).cast(DataType::Float64);
    let order = Pass::ALL.iter().enumerate().fold(lit(Pass::ALL.len() as u32), |other, (place, pass)| {
        when(col("pass").eq(lit(pass.name()))).then(lit(place as u32)).otherwise(other)
    });
    let frame = layers
        .clone()
        .lazy()
        .filter(col("configuration").eq(lit(configuration)))
        .group_by_stable([col("layer_index"), col("layer"), col("op"), col("pass")])
        .agg(sums)
        .with_columns([
            ratio("hit_rate", float("hit"), "vectors"),
            ratio("output_error", float("error_square"), "exact_square").sqrt(),
            ratio("speed_up", float("baseline_cycles"), "mercury_cycles"),
            order.alias("pass_order"),
        ])
        .sort(["layer_index", "pass_order"], SortMultipleOptions::default())
        .collect()?;
    let mut rows = rows(&frame)?;
    rows.iter_mut().for_each(add_cosine_share);
    Ok(rows)
}

/// The share of vectors with a similar earlier one, and its 95 % interval.
fn add_cosine_share(row: &mut Row) {
    let sampled = cosine(row);
    let share = sampled.and_then(|sampled| Some((sampled.share()?, sampled.interval())));
    let mut insert = |column: ColumnSpec, value: Option<f64>| row.insert(column.name.to_owned(), value.into());
    insert(columns::COSINE_SHARE, share.map(|(share, _)| share));
    insert(columns::COSINE_SHARE_LOW, share.map(|(_, [low, _])| low));
    insert(columns::COSINE_SHARE_HIGH, share.map(|(_, [_, high])| high));
}

/// What was found of ideal similarity in a row, where it was looked for.
pub fn cosine(row: &Row) -> Option<Sampled> {
    let count = |column: ColumnSpec| row.get(column.name)?.as_u64();
    Some(Sampled {
        vectors: count(columns::VECTORS)?,
        sampled: count(columns::COSINE_SAMPLED)?,
        similar: count(columns::COSINE_SIMILAR)?,
    })
}
