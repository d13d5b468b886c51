//! Columns of errors, which several tables of results have.

use crate::accuracy::{Estimate, Interval};
use polars::prelude::*;

/// What is told of an estimate, where it is known.
type Measure = fn(&Estimate) -> Option<Interval>;

/// One end of an interval, or its middle.
type Bound = fn(Interval) -> Option<f64>;

/// An interval's columns, by what comes behind its name.
const BOUNDS: [(&str, Bound); 3] =
    [("", |i| Some(i.value)), ("_low", |i| i.bounds.map(|b| b[0])), ("_high", |i| i.bounds.map(|b| b[1]))];

/// How far results with reuse are from exact ones, with 95 % intervals.
pub(crate) fn error_columns(estimates: &[Option<Estimate>]) -> Vec<Column> {
    let column = |name: &str, of: &dyn Fn(&Estimate) -> Option<f64>| {
        Column::new(name.into(), estimates.iter().map(|estimate| estimate.as_ref().and_then(of)).collect::<Vec<_>>())
    };
    let mut columns = vec![
        column("error_square", &|estimate| Some(estimate.change())),
        column("exact_square", &|estimate| Some(estimate.exact())),
    ];
    let measures: [(&str, Measure); 4] = [
        ("output_error", |estimate| Some(estimate.relative())),
        // No angle where a result vanishes.
        ("output_cosine", |estimate| Some(estimate.cosine()).filter(|cosine| !cosine.value.is_nan())),
        ("output_norm_ratio", |estimate| Some(estimate.norm_ratio())),
        ("loss_change", Estimate::loss_change),
    ];
    for (name, measure) in measures {
        for (suffix, bound) in BOUNDS {
            columns.push(column(&format!("{name}{suffix}"), &|estimate| measure(estimate).and_then(bound)));
        }
    }
    columns
}
