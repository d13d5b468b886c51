//! What changed between two results: per configuration, layer and pass, and for the model, over the steps after the trial.

use crate::adaptation::steady_rows;
use crate::error::{AnalyzerError, Result};
use crate::groups::{group_rows, known_values, pass_order, sum_counts, sum_floats};
use crate::labels::name_results;
use crate::report::run::ReportedRun;
use crate::report::source::read_json;
use crate::schema::run::RUN_FILE;
use crate::schema::{self, ColumnSpec, configurations, layers};
use crate::table;
use polars::prelude::{Column, DataFrame};
use serde_json::Value;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::Path;

/// What is compared with a threshold.
pub const METRICS: [&str; 3] =
    [configurations::HIT_RATE.name, configurations::OUTPUT_ERROR.name, configurations::SPEED_UP.name];
/// Places in [`METRICS`].
const HIT_RATE: usize = 0;
const OUTPUT_ERROR: usize = 1;
const SPEED_UP: usize = 2;

/// Cycles that a speed-up is the quotient of.
const CYCLES: [ColumnSpec; 2] = [configurations::BASELINE_CYCLES, configurations::MERCURY_CYCLES];
/// Place in [`CYCLES`].
const BASELINE: usize = 0;

/// The largest difference of a metric that still passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// Place in [`METRICS`].
    metric: usize,
    /// The absolute difference.
    most: f64,
}

impl Threshold {
    /// The threshold of `metric=most`.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let (name, most) = text.split_once('=').ok_or("is not METRIC=DIFFERENCE, such as speed_up=0.02")?;
        let metric = METRICS.iter().position(|metric| *metric == name);
        let metric = metric.ok_or_else(|| format!("choose from {}", METRICS.join(", ")))?;
        let most = most.parse().ok().filter(|most: &f64| *most >= 0.0);
        Ok(Self { metric, most: most.ok_or("the difference is not a number of at least 0")? })
    }
}

/// Two results side by side.
pub struct Comparison {
    /// What the two are called.
    pub names: [String; 2],
    /// A row per configuration, layer and pass, and one per configuration for the model.
    pub rows: Vec<ComparedRow>,
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
        let (side_a, side_b) = (ComparedSide::read(a)?, ComparedSide::read(b)?);
        Ok(Self {
            names: names.try_into().expect("two results have two names"),
            steps: [side_a.steps, side_b.steps],
            rows: pair_rows(side_a.rows, side_b.rows),
            settings,
        })
    }

    /// The rows in which something differs, as a table: each metric of the first (`_a`) and second (`_b`) results and
    /// the second's less the first's (`_change`), and the cycles of both. Null where one has no such row or value; the
    /// model has no `layer_index`.
    ///
    /// # Errors
    /// If polars refuses the table.
    pub fn changed(&self) -> Result<DataFrame> {
        let rows: Vec<&ComparedRow> = self.rows.iter().filter(|row| row.has_changed()).collect();
        let texts = |column: ColumnSpec, text: fn(&RowKey) -> Option<&str>| {
            let values: Vec<Option<&str>> = rows.iter().map(|row| text(&row.key)).collect();
            Column::new(column.name.into(), values)
        };
        let mut columns = vec![
            layers::CONFIGURATION.build_u64s(&rows, |row| row.key.configuration),
            layers::LAYER_INDEX.build_u64s(&rows, |row| row.key.place.layer_index()),
            texts(layers::LAYER, |key| key.layer.as_deref()),
            texts(layers::PASS, |key| key.pass.as_deref()),
        ];
        columns.extend(metric_columns(&rows, HIT_RATE));
        columns.extend(metric_columns(&rows, OUTPUT_ERROR));
        columns.extend(cycle_columns(&rows));
        columns.extend(metric_columns(&rows, SPEED_UP));
        Ok(DataFrame::new(rows.len(), columns)?)
    }

    /// Whether the baselines differ, so that speed-ups are relative to unlike ones. Rows of one side alone say nothing.
    pub fn has_unlike_baselines(&self) -> bool {
        self.rows.iter().any(|row| {
            let [a, b] = row.sides.map(|side| side.cycles[BASELINE]);
            a.zip(b).is_some_and(|(a, b)| a != b)
        })
    }

    /// How many rows cross a threshold; a value that only one side has crosses every one.
    pub fn count_crossed(&self, thresholds: &[Threshold]) -> usize {
        self.rows.iter().filter(|row| thresholds.iter().any(|threshold| row.crosses(*threshold))).count()
    }
}

/// A layer and pass of a configuration, or its model, in both results.
#[derive(Debug, Clone)]
pub struct ComparedRow {
    key: RowKey,
    /// Without any value for results that lack the row.
    sides: [SideValues; 2],
}

/// What a row is of, in the order of rows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct RowKey {
    configuration: Option<u64>,
    place: LayerPlace,
    /// See [`pass_order`].
    pass_order: usize,
    layer: Option<String>,
    pass: Option<String>,
}

/// A layer's place in execution order; the model, which has none, comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum LayerPlace {
    Layer(u64),
    Nowhere,
}

impl LayerPlace {
    fn layer_index(self) -> Option<u64> {
        match self {
            Self::Layer(index) => Some(index),
            Self::Nowhere => None,
        }
    }
}

/// Values of a row in one of the results.
#[derive(Debug, Clone, Copy, Default)]
struct SideValues {
    /// In the order of [`METRICS`].
    metrics: [Option<f64>; 3],
    /// In the order of [`CYCLES`].
    cycles: [Option<u64>; 2],
}

impl ComparedRow {
    fn has_changed(&self) -> bool {
        let [a, b] = &self.sides;
        let mut metrics = a.metrics.iter().zip(&b.metrics);
        let has_other_metric = metrics.any(|(a, b)| match (a, b) {
            (Some(a), Some(b)) => !are_equal(*a, *b),
            _ => a.is_some() != b.is_some(),
        });
        has_other_metric || a.cycles != b.cycles
    }

    /// The second's metric less the first's.
    fn change(&self, metric: usize) -> Option<f64> {
        let [a, b] = self.sides.map(|side| side.metrics[metric]);
        let (a, b) = a.zip(b)?;
        // Two that are both infinite do not differ.
        Some(if are_equal(a, b) { 0.0 } else { b - a })
    }

    fn crosses(&self, threshold: Threshold) -> bool {
        let [a, b] = self.sides.map(|side| side.metrics[threshold.metric]);
        // Not a number is no small difference.
        let is_large = |change: f64| change.abs() > threshold.most || change.is_nan();
        a.is_some() != b.is_some() || self.change(threshold.metric).is_some_and(is_large)
    }
}

/// Whether two values are the same number, or both none.
fn are_equal(a: f64, b: f64) -> bool {
    a.partial_cmp(&b) == Some(Ordering::Equal) || (a.is_nan() && b.is_nan())
}

fn metric_columns(rows: &[&ComparedRow], metric: usize) -> [Column; 3] {
    let name = METRICS[metric];
    let column = |suffix: &str, value: &dyn Fn(&ComparedRow) -> Option<f64>| {
        let values: Vec<Option<f64>> = rows.iter().map(|row| value(row)).collect();
        Column::new(format!("{name}_{suffix}").into(), values)
    };
    [
        column("a", &|row| row.sides[0].metrics[metric]),
        column("b", &|row| row.sides[1].metrics[metric]),
        column("change", &|row| row.change(metric)),
    ]
}

fn cycle_columns(rows: &[&ComparedRow]) -> Vec<Column> {
    let mut columns = Vec::new();
    for (place, spec) in CYCLES.iter().enumerate() {
        for (side, suffix) in ["a", "b"].into_iter().enumerate() {
            let values: Vec<Option<u64>> = rows.iter().map(|row| row.sides[side].cycles[place]).collect();
            columns.push(Column::new(format!("{}_{suffix}", spec.name).into(), values));
        }
    }
    columns
}

/// Rows of both results side by side, in order.
fn pair_rows(a: Vec<(RowKey, SideValues)>, b: Vec<(RowKey, SideValues)>) -> Vec<ComparedRow> {
    let mut paired: BTreeMap<RowKey, [SideValues; 2]> = BTreeMap::new();
    for (side, rows) in [a, b].into_iter().enumerate() {
        for (key, values) in rows {
            paired.entry(key).or_default()[side] = values;
        }
    }
    paired.into_iter().map(|(key, sides)| ComparedRow { key, sides }).collect()
}

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

/// One of the results.
struct ComparedSide {
    /// Layers and passes, and models.
    rows: Vec<(RowKey, SideValues)>,
    /// Captured steps that they are summed over.
    steps: u64,
}

impl ComparedSide {
    fn read(dir: &Path) -> Result<Self> {
        let layers = table::read_checked(dir, layers::TABLE.file)?;
        schema::check(&layers, &dir.join(layers::TABLE.file), LAYERS)?;
        let models = table::read_checked(dir, configurations::TABLE.file)?;
        schema::check(&models, &dir.join(configurations::TABLE.file), MODEL)?;
        let steps = configurations::STEPS.read_u64s(&models)?.into_iter().flatten().max().unwrap_or(0);
        let mut rows = sum_layers(&steady_rows(&layers)?)?;
        rows.extend(read_models(&models)?);
        Ok(Self { rows, steps })
    }
}

/// A row per configuration, layer and pass, over all steps that are there.
fn sum_layers(table: &DataFrame) -> Result<Vec<(RowKey, SideValues)>> {
    let numbers = layers::CONFIGURATION.read_u64s(table)?;
    let indices = layers::LAYER_INDEX.read_u64s(table)?;
    let names = layers::LAYER.read_texts(table)?;
    let passes = layers::PASS.read_texts(table)?;
    let groups = group_rows((0..table.height()).map(|row| RowKey {
        configuration: numbers[row],
        place: indices[row].map_or(LayerPlace::Nowhere, LayerPlace::Layer),
        pass_order: pass_order(passes[row].as_deref()),
        layer: names[row].clone(),
        pass: passes[row].clone(),
    }));
    let hits = layers::HIT.read_f64s(table)?;
    let vectors = layers::VECTORS.read_f64s(table)?;
    let errors = layers::ERROR_SQUARE.read_f64s(table)?;
    let exact = layers::EXACT_SQUARE.read_f64s(table)?;
    let [baseline, mercury] = [layers::BASELINE_CYCLES, layers::MERCURY_CYCLES];
    let counts = [baseline.read_u64s(table)?, mercury.read_u64s(table)?];
    let floats = [baseline.read_f64s(table)?, mercury.read_f64s(table)?];
    let mut rows = Vec::with_capacity(groups.len());
    for (key, places) in groups {
        let sum = |values: &[Option<f64>]| sum_floats(&known_values(values, &places));
        let is_measured = places.iter().any(|&place| errors[place].is_some());
        let output_error = is_measured.then(|| (sum(&errors) / sum(&exact)).sqrt());
        let metrics = [Some(sum(&hits) / sum(&vectors)), output_error, Some(sum(&floats[0]) / sum(&floats[1]))];
        let cycles = [0, 1].map(|place| Some(sum_counts(&known_values(&counts[place], &places))));
        rows.push((key, SideValues { metrics, cycles }));
    }
    Ok(rows)
}

/// A row per configuration for the model: the forward pass's hit rate and error, the cycles of all passes.
fn read_models(table: &DataFrame) -> Result<Vec<(RowKey, SideValues)>> {
    let numbers = configurations::CONFIGURATION.read_u64s(table)?;
    let hit_rates = configurations::HIT_RATE.read_f64s(table)?;
    let errors = configurations::OUTPUT_ERROR.read_f64s(table)?;
    let speed_ups = configurations::SPEED_UP.read_f64s(table)?;
    let baselines = configurations::BASELINE_CYCLES.read_u64s(table)?;
    let mercuries = configurations::MERCURY_CYCLES.read_u64s(table)?;
    let mut rows = Vec::with_capacity(table.height());
    for row in 0..table.height() {
        let key = RowKey {
            configuration: numbers[row],
            place: LayerPlace::Nowhere,
            pass_order: pass_order(None),
            layer: Some("model".to_owned()),
            pass: Some("all".to_owned()),
        };
        let metrics = [hit_rates[row], errors[row], speed_ups[row]];
        let cycles = [baselines[row], mercuries[row]];
        rows.push((key, SideValues { metrics, cycles }));
    }
    Ok(rows)
}

/// Lists of settings of single layers, which say too much one by one.
const LAYER_LISTS: [&str; 2] = ["layer", "layer_settings"];

fn differences(key: &str, a: &Value, b: &Value, found: &mut Vec<(String, String, String)>) {
    let join = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    let is_of_layers = key.rsplit('.').next().is_some_and(|name| LAYER_LISTS.contains(&name));
    match (a, b) {
        _ if is_of_layers && a != b => {
            let count = |list: &Value| format!("settings of {} layers or passes", list.as_array().map_or(0, Vec::len));
            found.push((key.to_owned(), count(a), count(b)));
        }
        _ if is_of_layers => (),
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
