//! Columns of errors, which several tables of results have.

use crate::accuracy::{Estimate, Interval};
use crate::schema::{ColumnSpec, TableSpec, layers};
use polars::prelude::*;

/// A measure of an estimate, if it is known.
type Measure = fn(&Estimate) -> Option<Interval>;

/// A sum of squares of an estimate.
type Square = fn(&Estimate) -> f64;

/// The middle of an interval, or one of its ends.
type Bound = fn(Interval) -> Option<f64>;

/// In the order of a measure's columns: its value, and the low and high end of its interval.
const BOUNDS: [Bound; 3] = [|i| Some(i.value), |i| i.bounds.map(|b| b[0]), |i| i.bounds.map(|b| b[1])];

/// The columns of `table` that say how far results with reuse are from exact ones, with 95 % intervals. `shares` are the
/// rows' shares in an error, if the table has them.
pub(crate) fn error_columns(table: &TableSpec, estimates: &[Option<Estimate>], shares: &[Option<f64>]) -> Vec<Column> {
    let squares: [(ColumnSpec, Square); 2] =
        [(layers::ERROR_SQUARE, Estimate::change), (layers::EXACT_SQUARE, Estimate::exact)];
    let measures: [([ColumnSpec; 3], Measure); 4] = [
        ([layers::OUTPUT_ERROR, layers::OUTPUT_ERROR_LOW, layers::OUTPUT_ERROR_HIGH], |estimate| {
            Some(estimate.relative())
        }),
        (
            [layers::OUTPUT_COSINE, layers::OUTPUT_COSINE_LOW, layers::OUTPUT_COSINE_HIGH],
            // No angle where a result vanishes.
            |estimate| Some(estimate.cosine()).filter(|cosine| !cosine.value.is_nan()),
        ),
        ([layers::OUTPUT_NORM_RATIO, layers::OUTPUT_NORM_RATIO_LOW, layers::OUTPUT_NORM_RATIO_HIGH], |estimate| {
            Some(estimate.norm_ratio())
        }),
        ([layers::LOSS_CHANGE, layers::LOSS_CHANGE_LOW, layers::LOSS_CHANGE_HIGH], Estimate::loss_change),
    ];
    let mut columns = Vec::new();
    for (column, square) in squares {
        if table.has(column.name) {
            columns.push(column.build_f64s(estimates, |estimate| estimate.as_ref().map(square)));
        }
    }
    if table.has(layers::ERROR_SHARE.name) {
        columns.push(layers::ERROR_SHARE.build_f64s(shares, |share| *share));
    }
    for (names, measure) in measures {
        for (column, bound) in names.into_iter().zip(BOUNDS) {
            if table.has(column.name) {
                columns.push(column.build_f64s(estimates, |estimate| {
                    let interval = estimate.as_ref().and_then(measure);
                    interval.and_then(bound)
                }));
            }
        }
    }
    columns
}
