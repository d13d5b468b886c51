//! Conditions on the rows of a sweep, and the best row.

use super::grid::Axis;
use super::pareto::Metric;
use super::summary;
use crate::error::{AnalyzerError, Result};
use crate::schema::layers::IS_BOUND;
use crate::schema::{configurations, designs};
use crate::suggest::did_you_mean;
use polars::prelude::*;
use std::fmt;
use std::str::FromStr;

/// A condition on a column of numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    column: String,
    comparison: Comparison,
    limit: f64,
}

/// How a value is compared with a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    AtMost,
    AtLeast,
    Below,
    Above,
    Equal,
}

impl Comparison {
    /// All, those first whose sign begins with another one's.
    const ALL: [(&'static str, Self); 5] =
        [("<=", Self::AtMost), (">=", Self::AtLeast), ("<", Self::Below), (">", Self::Above), ("=", Self::Equal)];

    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::AtMost => value <= limit,
            Self::AtLeast => value >= limit,
            Self::Below => value < limit,
            Self::Above => value > limit,
            Self::Equal => value.total_cmp(&limit).is_eq(),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = Comparison::ALL.iter().find(|(_, comparison)| *comparison == self.comparison);
        write!(f, "{} {} {}", self.column, sign.map_or("", |(sign, _)| sign), self.limit)
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let example = "such as output_error<=0.1";
        let split = |&(sign, comparison): &(&str, Comparison)| Some((text.split_once(sign)?, comparison));
        let ((column, limit), comparison) =
            Comparison::ALL.iter().find_map(split).ok_or_else(|| format!("{text:?} is not COLUMN<=X, {example}"))?;
        let limit = limit.trim();
        let (number, unit) = limit.strip_suffix('%').map_or((limit, 1.0), |percent| (percent.trim(), 100.0));
        let limit = number.parse::<f64>().ok().map(|number| number / unit).filter(|limit| limit.is_finite());
        let limit = limit.ok_or_else(|| format!("{text:?} does not end with a number, {example}"))?;
        Ok(Self { column: column.trim().to_owned(), comparison, limit })
    }
}

/// Refuses conditions on columns that a sweep over these axes does not have.
pub fn check(conditions: &[Condition], axes: &[Axis]) -> Result<()> {
    let columns = designs::TABLE.columns.iter().chain(configurations::TABLE.columns).map(|column| column.name);
    let known: Vec<&str> = columns.chain(axes.iter().map(|axis| axis.key)).collect();
    match conditions.iter().find(|condition| !known.contains(&condition.column.as_str())) {
        Some(Condition { column, .. }) => {
            let meant = did_you_mean(column, known.iter().copied());
            let reason = format!("{column:?} is no column of a sweep; docs/formats.md lists them{meant}");
            Err(AnalyzerError::Flag { flag: "--where", reason })
        }
        None => Ok(()),
    }
}

/// The numbers of a column.
fn read_numbers(frame: &DataFrame, name: &str, flag: &'static str) -> Result<Vec<Option<f64>>> {
    let columns = || frame.columns().iter().filter(|column| column.dtype().is_primitive_numeric());
    if !columns().any(|column| column.name() == name) {
        let known: Vec<&str> = columns().map(|column| column.name().as_str()).collect();
        let meant = did_you_mean(name, known.iter().copied());
        let reason = format!("{name:?} is no column of numbers; choose one of {}{meant}", known.join(", "));
        return Err(AnalyzerError::Flag { flag, reason });
    }
    Ok(frame.column(name)?.cast(&DataType::Float64)?.f64()?.iter().collect())
}

/// Keeps the rows that meet all conditions; a row without a value does not meet one.
///
/// # Errors
/// If a column is not there, or no row meets the conditions: the error names the row that comes nearest to the first of
/// them that leaves none.
pub fn keep_rows(mut frame: DataFrame, conditions: &[Condition]) -> Result<DataFrame> {
    const FLAG: &str = "--where";
    for condition in conditions {
        let values = read_numbers(&frame, &condition.column, FLAG)?;
        let holds = |value: &Option<f64>| value.is_some_and(|value| condition.comparison.holds(value, condition.limit));
        let kept: Vec<bool> = values.iter().map(holds).collect();
        if !kept.contains(&true) {
            let distance = |value: &f64| (value - condition.limit).abs();
            let nearest = values.iter().flatten().copied().min_by(|a, b| distance(a).total_cmp(&distance(b)));
            let nearest =
                nearest.map_or_else(|| "no row has a value".to_owned(), |value| format!("the nearest has {value}"));
            return Err(AnalyzerError::Flag { flag: FLAG, reason: format!("no row meets {condition}; {nearest}") });
        }
        frame = frame.filter(&kept.into_iter().collect::<BooleanChunked>())?;
    }
    Ok(frame)
}

/// Keeps the best row by a metric, the first of equal ones. If some rows are no bounds, bounds are left out.
///
/// # Errors
/// If no row has a value.
pub fn keep_best(frame: &DataFrame, metric: &Metric) -> Result<DataFrame> {
    let (compared, values) = summary::compare_by(frame, metric)?;
    let is_bound: Vec<bool> = IS_BOUND.read_bools(frame)?.into_iter().map(|bound| bound == Some(true)).collect();
    let any_real = is_bound.contains(&false);
    let mut best: Option<(f64, usize)> = None;
    for (row, value) in values.iter().enumerate() {
        let Some(value) = value.filter(|_| !(any_real && is_bound[row])) else { continue };
        let is_better = |known: f64| if compared.more { value > known } else { value < known };
        if best.is_none_or(|(known, _)| is_better(known)) {
            best = Some((value, row));
        }
    }
    let Some((_, row)) = best else {
        return Err(AnalyzerError::Flag { flag: "--best", reason: format!("no row has a value of {}", metric.name) });
    };
    Ok(frame.slice(row as i64, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> DataFrame {
        let columns = vec![
            Column::new("output_error".into(), [Some(0.05), Some(0.2), None, Some(0.1)]),
            Column::new("speed_up".into(), [1.1, 1.9, 3.0, 1.5]),
            Column::new("baseline_cycles".into(), [100u64, 100, 100, 100]),
            Column::new("mercury_cycles".into(), [91u64, 53, 33, 67]),
            Column::new("is_bound".into(), [false, false, false, false]),
        ];
        DataFrame::new(4, columns).unwrap()
    }

    fn conditions(texts: &[&str]) -> Vec<Condition> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn rows_that_meet_all_conditions_are_kept_and_the_best_of_them() {
        let kept = keep_rows(frame(), &conditions(&["output_error<=0.1", "speed_up > 1"])).unwrap();
        assert_eq!(kept.height(), 2);
        let best = keep_best(&kept, &Metric::parse("speed_up").unwrap()).unwrap();
        assert_eq!(best.column("speed_up").unwrap().f64().unwrap().get(0), Some(1.5));
        let least = keep_best(&frame(), &Metric::parse("mercury_cycles").unwrap()).unwrap();
        assert_eq!(least.column("mercury_cycles").unwrap().u64().unwrap().get(0), Some(33));
    }

    #[test]
    fn conditions_that_nothing_meets_name_the_nearest() {
        let error = |texts: &[&str]| keep_rows(frame(), &conditions(texts)).unwrap_err().to_string();
        assert!(error(&["output_error<=0.01"]).contains("no row meets output_error <= 0.01; the nearest has 0.05"));
        assert!(error(&["speed_upp>=1"]).contains("did you mean speed_up"));
        assert!(["output_error", "a<=", "a<=x", "a<=nan"].iter().all(|text| text.parse::<Condition>().is_err()));
    }
}
