//! What changed between two results: per configuration, layer and pass, over all steps.

use crate::error::{AnalyzerError, Result};
use crate::results::{LAYERS_FILE, RUN_FILE};
use crate::table;
use mercury_trace::input;
use polars::prelude::*;
use serde_json::Value;
use std::path::Path;

/// Most bytes of `run.json`: far above that of the largest grid.
const MAX_BYTES: u64 = 1 << 30;

/// What is compared.
pub const METRICS: [&str; 3] = ["hit_rate", "output_error", "speed_up"];

/// The largest difference of a metric that still passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// One of [`METRICS`].
    pub metric: &'static str,
    /// The absolute difference.
    pub most: f64,
}

impl Threshold {
    /// The threshold of `metric=most`.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let (name, most) = text.split_once('=').ok_or("is not METRIC=DIFFERENCE, such as speed_up=0.02")?;
        let metric = METRICS.into_iter().find(|metric| *metric == name);
        let metric = metric.ok_or_else(|| format!("choose from {}", METRICS.join(", ")))?;
        let most = most.parse().ok().filter(|most: &f64| *most >= 0.0);
        Ok(Self { metric, most: most.ok_or("the difference is not a number of at least 0")? })
    }
}

/// Two results side by side.
pub struct Comparison {
    /// A row per configuration, layer and pass: each metric of the first (`_a`) and second (`_b`) results
    /// and the second's less the first's (`_change`); null where one has no such row or value.
    pub rows: DataFrame,
    /// Settings that differ: key, first, second.
    pub settings: Vec<(String, String, String)>,
}

impl Comparison {
    /// Reads two folders of results.
    ///
    /// # Errors
    /// If one cannot be read, or they have different numbers of configurations: rows belong together by
    /// the configuration's number.
    pub fn read(a: &Path, b: &Path) -> Result<Self> {
        let [run_a, run_b] = [settings_of(a)?, settings_of(b)?];
        let count = |run: &Value| run["configurations"].as_array().map_or(0, Vec::len);
        if count(&run_a) != count(&run_b) {
            let reason = format!(
                "{} has {} configurations and {} has {}; compare results of the same grid, or of one configuration each",
                a.display(),
                count(&run_a),
                b.display(),
                count(&run_b)
            );
            return Err(AnalyzerError::Flag { flag: "results", reason });
        }
        let rows = totals(a)?.join(
            totals(b)?,
            KEYS.map(col),
            KEYS.map(col),
            JoinArgs::new(JoinType::Full).with_coalesce(JoinCoalesce::CoalesceColumns).with_suffix(Some("_b".into())),
        );
        let mut columns = KEYS.map(col).to_vec();
        for metric in METRICS {
            let (first, second) = (col(metric), col(format!("{metric}_b")));
            columns.push(first.clone().alias(format!("{metric}_a")));
            columns.push(second.clone());
            // Two that are both infinite do not differ.
            let change = when(first.clone().eq(second.clone())).then(lit(0.0)).otherwise(second - first);
            columns.push(change.alias(format!("{metric}_change")));
        }
        // Whether a row is in one alone shows in the speed-up, which no row lacks.
        let rows = rows.select(columns).sort(["configuration", "layer_index", "order"], SortMultipleOptions::default());
        let rows = rows.collect()?.drop("order")?;
        let mut settings = Vec::new();
        differences("", &run_a, &run_b, &mut settings);
        Ok(Self { rows, settings })
    }

    /// The rows in which something differs.
    pub fn changed(&self) -> Result<DataFrame> {
        let differs = |metric: &str| {
            let [a, b] = ["a", "b"].map(|side| col(format!("{metric}_{side}")));
            a.neq_missing(b)
        };
        let any = METRICS.into_iter().map(differs).reduce(Expr::or).expect("there are metrics");
        Ok(self.rows.clone().lazy().filter(any).collect()?)
    }

    /// How many rows cross a threshold; a value that only one side has crosses every one.
    pub fn crossed(&self, thresholds: &[Threshold]) -> Result<usize> {
        let crosses = |threshold: &Threshold| {
            let column = |suffix: &str| col(format!("{}_{suffix}", threshold.metric));
            let alone = column("a").is_null().neq(column("b").is_null());
            let change = column("change");
            // Not a number is no small difference.
            let apart = change.clone().gt(lit(threshold.most)).or(change.clone().lt(lit(-threshold.most)));
            alone.or(apart).or(change.is_nan()).fill_null(lit(false))
        };
        let Some(any) = thresholds.iter().map(crosses).reduce(Expr::or) else { return Ok(0) };
        Ok(self.rows.clone().lazy().filter(any).collect()?.height())
    }
}

/// What a row is of; `order` is the pass's place.
const KEYS: [&str; 5] = ["configuration", "layer_index", "layer", "order", "pass"];

fn totals(dir: &Path) -> Result<LazyFrame> {
    let path = dir.join(LAYERS_FILE);
    let frame = table::read_checked(dir, LAYERS_FILE)?;
    let needed = [
        "configuration",
        "layer_index",
        "layer",
        "pass",
        "vectors",
        "hit",
        "error_square",
        "exact_square",
        "baseline_cycles",
        "mercury_cycles",
    ];
    for name in needed {
        let column = frame.column(name).ok();
        let as_expected = |column: &Column| match name {
            "layer" | "pass" => column.dtype() == &DataType::String,
            _ => column.dtype().is_primitive_numeric(),
        };
        if !column.is_some_and(as_expected) {
            let found = column.map_or("none".to_owned(), |column| format!("one of {}", column.dtype()));
            let error = PolarsError::SchemaMismatch(format!("of column {name} it has {found}").into());
            return Err(AnalyzerError::Table { path, error });
        }
    }
    let order = when(col("pass").eq(lit("forward")))
        .then(lit(0))
        .otherwise(when(col("pass").eq(lit("input-grad"))).then(lit(1)).otherwise(lit(2)));
    let float = |name: &str| col(name).sum().cast(DataType::Float64);
    let error = float("error_square") / float("exact_square");
    let known = col("error_square").is_not_null().any(true);
    Ok(frame.lazy().with_column(order.alias("order")).group_by_stable(KEYS.map(col)).agg([
        (float("hit") / float("vectors")).alias("hit_rate"),
        when(known).then(error.sqrt()).otherwise(lit(NULL)).alias("output_error"),
        (float("baseline_cycles") / float("mercury_cycles")).alias("speed_up"),
    ]))
}

fn settings_of(dir: &Path) -> Result<Value> {
    let path = dir.join(RUN_FILE);
    let text = input::read(&path, MAX_BYTES)?;
    table::check_sum(dir, RUN_FILE)?;
    serde_json::from_slice(&text).map_err(|error| AnalyzerError::Folder {
        path,
        reason: format!("is not what `replay` or `sweep` wrote ({error}); run it again"),
    })
}

fn differences(key: &str, a: &Value, b: &Value, found: &mut Vec<(String, String, String)>) {
    let join = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let of = |side: &serde_json::Map<String, Value>| side.get(name).cloned().unwrap_or(Value::Null);
                differences(&join(name), &of(a), &of(b), found);
            }
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            for (number, (a, b)) in x.iter().zip(y).enumerate() {
                differences(&join(&number.to_string()), a, b, found);
            }
        }
        _ if a != b => found.push((key.to_owned(), a.to_string(), b.to_string())),
        _ => (),
    }
}
