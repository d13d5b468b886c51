//! The Pareto frontier of configurations.

use crate::schema::configurations as columns;

/// A column by which configurations are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The column of `configurations.parquet`.
    pub name: &'static str,
    /// Whether more is better.
    pub more: bool,
    /// Dividend and divisor, if the column is a quotient of baseline and MERCURY.
    pub relative: Option<Relative>,
}

/// The two sides of a quotient of baseline and MERCURY, each a sum of columns.
///
/// Baselines differ between arrays. So quotients rank only configurations of one array, and
/// MERCURY's side ranks those of several arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relative {
    /// Columns of the baseline.
    pub baseline: &'static [&'static str],
    /// Columns of MERCURY; less is better.
    pub mercury: &'static [&'static str],
}

/// Sides of a speed-up.
const CYCLES: Relative =
    Relative { baseline: &[columns::BASELINE_CYCLES.name], mercury: &[columns::MERCURY_CYCLES.name] };
/// Sides of a speed-up with memory stalls.
const CYCLES_WITH_STALLS: Relative = Relative {
    baseline: &[columns::BASELINE_CYCLES.name, columns::BASELINE_MEMORY_STALL.name],
    mercury: &[columns::MERCURY_CYCLES.name, columns::MERCURY_MEMORY_STALL.name],
};
/// Sides of relative energy.
const ENERGY: Relative =
    Relative { baseline: &[columns::BASELINE_ENERGY.name], mercury: &[columns::MERCURY_ENERGY.name] };

/// All metrics.
pub const METRICS: &[Metric] = &[
    Metric::new(columns::HIT_RATE.name, true),
    Metric::new(columns::OUTPUT_ERROR.name, false),
    Metric::relative(columns::SPEED_UP.name, true, CYCLES),
    Metric::relative(columns::SPEED_UP_WITH_STALLS.name, true, CYCLES_WITH_STALLS),
    Metric::new(columns::MERCURY_CYCLES.name, false),
    Metric::relative(columns::ENERGY.name, false, ENERGY),
    Metric::new("rpq.bits", false),
    Metric::new("mcache.entries", false),
    Metric::new("mcache.ways", false),
];

impl Metric {
    const fn new(name: &'static str, more: bool) -> Self {
        Self { name, more, relative: None }
    }

    const fn relative(name: &'static str, more: bool, sides: Relative) -> Self {
        Self { name, more, relative: Some(sides) }
    }

    /// Finds a metric by its name.
    pub fn parse(name: &str) -> Result<Self, String> {
        METRICS.iter().find(|metric| metric.name == name).copied().ok_or_else(|| {
            let names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
            format!("choose from {}", names.join(", "))
        })
    }
}

/// Marks the rows on the frontier: those that no other row beats. A row beats another if it is at
/// least as good in every metric and better in one. Rows without a value in some metric are never
/// on the frontier. `values` are `[metrics][rows]`. Takes O(rows²) time.
pub fn frontier(metrics: &[Metric], values: &[Vec<Option<f64>>]) -> Vec<bool> {
    let rows = values.first().map_or(0, Vec::len);
    // Negated where less is better, so that more is better in every metric.
    let score = |row: usize| -> Option<Vec<f64>> {
        metrics
            .iter()
            .zip(values)
            .map(|(metric, values)| if metric.more { values[row] } else { values[row].map(|v| -v) })
            .collect()
    };
    let scores: Vec<Option<Vec<f64>>> = (0..rows).map(score).collect();
    let beats = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| a >= b) && a != b;
    let unbeaten = |score: &Vec<f64>| !scores.iter().flatten().any(|other| beats(other, score));
    scores.iter().map(|score| score.as_ref().is_some_and(unbeaten)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unbeaten_rows_are_the_frontier() {
        let metrics = [Metric::parse("hit_rate").unwrap(), Metric::parse("output_error").unwrap()];
        let hits = [0.9, 0.5, 0.5, 0.9, 0.1].map(Some).to_vec();
        let errors = vec![Some(0.4), Some(0.1), Some(0.2), Some(0.4), None];
        assert_eq!(frontier(&metrics, &[hits, errors]), [true, true, false, true, false]);
        assert!(Metric::parse("hits").is_err());
    }

    proptest! {
        #[test]
        fn every_row_is_on_it_or_beaten_by_one_on_it(rows in prop::collection::vec((0u8..6, 0u8..6), 1..30)) {
            let metrics = [Metric::parse("hit_rate").unwrap(), Metric::parse("output_error").unwrap()];
            let column = |of: fn(&(u8, u8)) -> u8| rows.iter().map(|row| Some(f64::from(of(row)))).collect::<Vec<_>>();
            let on = frontier(&metrics, &[column(|row| row.0), column(|row| row.1)]);
            for (row, &unbeaten) in rows.iter().zip(&on) {
                let beaten = rows.iter().zip(&on).any(|(other, &on)| {
                    on && other.0 >= row.0 && other.1 <= row.1 && other != row
                });
                prop_assert_eq!(unbeaten, !beaten);
            }
        }
    }
}
