//! Rows of the page's tables and charts: one per layer and pass of a configuration.

use super::source::{COUNTERS, MEASURES};
use crate::error::{AnalyzerError, Result};
use mercury_reuse::bounds::Sampled;
use mercury_trace::geometry::Pass;
use polars::prelude::*;
use serde_json::{Map, Value};

/// A row of a table: values by column name.
pub type Row = Map<String, Value>;

/// Converts a frame to rows.
pub fn to_rows(frame: &DataFrame) -> Result<Vec<Row>> {
    let mut text = Vec::new();
    JsonWriter::new(&mut text).with_json_format(JsonFormat::Json).finish(&mut frame.clone())?;
    serde_json::from_slice(&text).map_err(|error| {
        let error = PolarsError::ComputeError(error.to_string().into());
        AnalyzerError::Polars(error)
    })
}

/// One row per layer and pass of a configuration, in execution order, summed over the steps in
/// `layers`.
///
/// Sums of counters and measures keep the column names of `layers.parquet`, so that the same charts
/// draw both. Ratios of the sums, such as the hit rate, are added.
pub fn sum_steps(layers: &DataFrame, configuration: u64) -> Result<Vec<Row>> {
    let mut sums: Vec<Expr> = COUNTERS.iter().map(|name| col(*name).sum()).collect();
    for &name in MEASURES {
        // Null, not 0, if the measure was left out.
        let any = col(name).is_not_null().any(true);
        sums.push(when(any).then(col(name).sum()).otherwise(lit(NULL)).alias(name));
    }
    sums.push(col("signature_bits").max());
    // The first captured step in which the layer was switched off.
    sums.push(col("step").filter(col("switched_off")).min().alias("switched_off_at"));
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
            divide(float("hit"), float("vectors"), "hit_rate"),
            divide(float("error_square"), float("exact_square"), "output_error").sqrt(),
            divide(float("baseline_cycles"), float("mercury_cycles"), "speed_up"),
            order.alias("pass_order"),
        ])
        .sort(["layer_index", "pass_order"], SortMultipleOptions::default())
        .collect()?;
    let mut rows = to_rows(&frame)?;
    rows.iter_mut().for_each(add_cosine_share);
    Ok(rows)
}

/// A quotient; null unless the divisor is positive.
fn divide(dividend: Expr, divisor: Expr, name: &str) -> Expr {
    when(divisor.clone().gt(lit(0.0))).then(dividend / divisor).otherwise(lit(NULL)).alias(name)
}

/// Adds the share of vectors that are similar to an earlier one, and its 95 % interval.
fn add_cosine_share(row: &mut Row) {
    let sampled = read_cosine(row);
    let share = sampled.and_then(|sampled| Some((sampled.share()?, sampled.interval())));
    row.insert("cosine_share".to_owned(), share.map(|(share, _)| share).into());
    row.insert("cosine_share_low".to_owned(), share.map(|(_, [low, _])| low).into());
    row.insert("cosine_share_high".to_owned(), share.map(|(_, [_, high])| high).into());
}

/// The ideal similarity in a row, `None` if it was not measured.
pub fn read_cosine(row: &Row) -> Option<Sampled> {
    let count = |name: &str| row.get(name)?.as_u64();
    Some(Sampled { vectors: count("vectors")?, sampled: count("cosine_sampled")?, similar: count("cosine_similar")? })
}
