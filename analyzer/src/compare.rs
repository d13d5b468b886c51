//! What changed between two results: per configuration, layer and pass, and for the model, over the steps after the trial.

use crate::adaptation::steady_rows;
use crate::error::{AnalyzerError, Result};
use crate::labels::name_results;
use crate::report::run::ReportedRun;
use crate::report::source::read_json;
use crate::schema::run::RUN_FILE;
use crate::schema::{self, ColumnSpec, configurations, layers};
use crate::table;
use polars::prelude::*;
use serde_json::Value;
use std::path::Path;

/// What is compared with a threshold.
pub const METRICS: [&str; 3] =
    [configurations::HIT_RATE.name, configurations::OUTPUT_ERROR.name, configurations::SPEED_UP.name];

/// Cycles that a speed-up is the quotient of.
const CYCLES: [&str; 2] = [configurations::BASELINE_CYCLES.name, configurations::MERCURY_CYCLES.name];

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
    /// What the two are called.
    pub names: [String; 2],
    /// A row per configuration, layer and pass, and one per configuration for the model, which has no `layer_index`:
    /// each metric of the first (`_a`) and second (`_b`) results and the second's less the first's (`_change`), and
    /// the cycles of both; null where one has no such row or value.
    pub rows: DataFrame,
    /// How many captured steps each is summed over.
    pub steps: [u64; 2],
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
        let [json_a, json_b] = [read_json(a, RUN_FILE)?, read_json(b, RUN_FILE)?];
        let run_a = ReportedRun::parse(&a.join(RUN_FILE), &json_a)?;
        let run_b = ReportedRun::parse(&b.join(RUN_FILE), &json_b)?;
        let [count_a, count_b] = [&run_a, &run_b].map(|run| run.configurations.len());
        if count_a != count_b {
            let reason = format!(
                "{} has {count_a} configurations and {} has {count_b}; compare results of the same grid, or of one configuration each",
                a.display(),
                b.display(),
            );
            return Err(AnalyzerError::Flag { flag: "results", reason });
        }
        let names = name_results(&[(a, &run_a), (b, &run_b)]);
        let mut settings = Vec::new();
        differences("", &json_a, &json_b, &mut settings);
        let (rows_a, rows_b) = (Rows::read(a)?, Rows::read(b)?);
        Ok(Self {
            names: names.try_into().expect("two results have two names"),
            steps: [rows_a.steps, rows_b.steps],
            rows: join(rows_a.frame, rows_b.frame)?,
            settings,
        })
    }

    /// The rows in which something differs.
    pub fn changed(&self) -> Result<DataFrame> {
        let compared = METRICS.into_iter().chain(CYCLES);
        let any = compared.map(has_changed).reduce(Expr::or).expect("there are metrics");
        Ok(self.rows.clone().lazy().filter(any).collect()?)
    }

    /// Whether the baselines differ, so that speed-ups are relative to unlike ones. Rows of one side alone say nothing.
    pub fn has_unlike_baselines(&self) -> Result<bool> {
        let unlike = col("baseline_cycles_a").neq(col("baseline_cycles_b")).fill_null(lit(false));
        Ok(self.rows.clone().lazy().filter(unlike).collect()?.height() > 0)
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

fn has_changed(column: &str) -> Expr {
    let [a, b] = ["a", "b"].map(|side| col(format!("{column}_{side}")));
    a.neq_missing(b)
}

/// What a row is of; `order` is the pass's place.
const KEYS: [&str; 5] = ["configuration", "layer_index", "layer", "order", "pass"];

/// Columns of `layers.parquet` that are compared, or lead to what is.
const LAYERS: &[ColumnSpec] = &[
    layers::CONFIGURATION,
    layers::TRIAL,
    layers::LAYER_INDEX,
    layers::LAYER,
    layers::PASS,
    layers::VECTORS,
    layers::HIT,
    layers::ERROR_SQUARE,
    layers::EXACT_SQUARE,
    layers::BASELINE_CYCLES,
    layers::MERCURY_CYCLES,
];

/// Columns of `configurations.parquet` that are compared.
const MODEL: &[ColumnSpec] = &[
    configurations::CONFIGURATION,
    configurations::STEPS,
    configurations::HIT_RATE,
    configurations::OUTPUT_ERROR,
    configurations::BASELINE_CYCLES,
    configurations::MERCURY_CYCLES,
    configurations::SPEED_UP,
];

/// Rows of both results side by side.
fn join(a: LazyFrame, b: LazyFrame) -> Result<DataFrame> {
    let mut how =
        JoinArgs::new(JoinType::Full).with_coalesce(JoinCoalesce::CoalesceColumns).with_suffix(Some("_b".into()));
    // The model has no place among the layers.
    how.nulls_equal = true;
    let mut columns = KEYS.map(col).to_vec();
    for metric in ["hit_rate", "output_error"] {
        columns.extend(set_side_by_side(metric));
    }
    for cycles in CYCLES {
        columns.extend([col(cycles).alias(format!("{cycles}_a")), col(format!("{cycles}_b"))]);
    }
    columns.extend(set_side_by_side("speed_up"));
    let order = SortMultipleOptions::default().with_nulls_last(true);
    let rows = a.join(b, KEYS.map(col), KEYS.map(col), how).select(columns);
    Ok(rows.sort(["configuration", "layer_index", "order"], order).collect()?.drop("order")?)
}

/// Both values of a metric and their difference. Whether a row is in one alone shows in the speed-up, which no row
/// lacks.
fn set_side_by_side(metric: &str) -> [Expr; 3] {
    let (first, second) = (col(metric), col(format!("{metric}_b")));
    // Two that are both infinite do not differ.
    let change = when(first.clone().eq(second.clone())).then(lit(0.0)).otherwise(second.clone() - first.clone());
    [first.alias(format!("{metric}_a")), second, change.alias(format!("{metric}_change"))]
}

/// The rows of one folder: layers and passes, and the model.
struct Rows {
    frame: LazyFrame,
    /// Captured steps that they are summed over.
    steps: u64,
}

impl Rows {
    fn read(dir: &Path) -> Result<Self> {
        let layers = table::read_checked(dir, layers::TABLE.file)?;
        schema::check(&layers, &dir.join(layers::TABLE.file), LAYERS)?;
        let configurations = table::read_checked(dir, configurations::TABLE.file)?;
        schema::check(&configurations, &dir.join(configurations::TABLE.file), MODEL)?;
        let steps = configurations.column("steps")?.cast(&DataType::UInt64)?.u64()?.iter().flatten().max().unwrap_or(0);
        let layers = sum_layers(steady_rows(&layers)?);
        let frame = concat([layers, select_models(configurations)], UnionArgs::default())?;
        Ok(Self { frame, steps })
    }
}

fn float(name: &str) -> Expr {
    col(name).cast(DataType::Float64)
}

/// A row per configuration, layer and pass, over all steps that are there.
fn sum_layers(layers: DataFrame) -> LazyFrame {
    let order = when(col("pass").eq(lit("forward")))
        .then(lit(0))
        .otherwise(when(col("pass").eq(lit("input-grad"))).then(lit(1)).otherwise(lit(2)));
    let sum = |name: &str| float(name).sum();
    let known = col("error_square").is_not_null().any(true);
    let error = (sum("error_square") / sum("exact_square")).sqrt();
    layers.lazy().with_column(order.alias("order")).group_by_stable(KEYS.map(col)).agg([
        (sum("hit") / sum("vectors")).alias("hit_rate"),
        when(known).then(error).otherwise(lit(NULL)).alias("output_error"),
        col("baseline_cycles").sum(),
        col("mercury_cycles").sum(),
        (sum("baseline_cycles") / sum("mercury_cycles")).alias("speed_up"),
    ])
}

/// A row per configuration for the model: the forward pass's hit rate and error, the cycles of all passes.
fn select_models(configurations: DataFrame) -> LazyFrame {
    configurations.lazy().select([
        col("configuration"),
        lit(NULL).cast(DataType::UInt64).alias("layer_index"),
        lit("model").alias("layer"),
        lit(3).alias("order"),
        lit("all").alias("pass"),
        float("hit_rate"),
        float("output_error"),
        col("baseline_cycles"),
        col("mercury_cycles"),
        float("speed_up"),
    ])
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
