//! One configuration as the page shows it.

use super::bounds::{Bound, bounds};
use super::layers::{self, Row, rows};
use super::run::{ReportedRun, Setting};
use super::source::{MODELS, Source};
use crate::adaptation::steady_rows;
use crate::error::Result;
use crate::schema;
use crate::schema::run::RUN_FILE;
use polars::prelude::DataFrame;
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything that is shown of a configuration.
#[derive(Debug, Serialize)]
pub struct View {
    /// What the results are called and, of a sweep, the values of the swept keys.
    pub name: String,
    /// The results' folder.
    pub folder: String,
    /// The model and its data set.
    pub title: String,
    /// What was replayed: name and value.
    pub facts: Vec<(&'static str, String)>,
    /// Identity of the trace.
    pub trace: String,
    /// Totals over all layers, passes and the steps after the trial: the row of `configurations.parquet`.
    pub summary: Row,
    /// A row for each layer and pass, over the steps after the trial.
    pub layers: Vec<Row>,
    /// The same of the vectors that were looked up: without steps in which a layer was switched off.
    pub looked_up: Vec<Row>,
    /// A row for each captured step.
    pub models: Vec<Row>,
    /// What bounds reuse, over the vectors that were looked up in forward passes.
    pub bounds: Vec<Bound>,
    /// Rows, columns and dataflow of the array.
    pub array: String,
    /// Processing elements of the array.
    pub elements: f64,
    /// Clock of the array, MHz.
    pub clock_mhz: f64,
    /// What part of the trace was replayed, if not all.
    pub part: Option<String>,
    /// The preset that is nearest to the configuration.
    pub preset: &'static str,
    /// The configuration.
    pub settings: Vec<Setting>,
    /// What replays it.
    pub command: String,
    /// What swept it, among others.
    pub sweep: Option<String>,
    /// What captured the trace, where the trace says so.
    pub capture: Option<String>,
}

impl View {
    /// The view of a configuration of these results.
    pub fn of(source: &Source, configuration: usize) -> Result<Self> {
        let Source { run, layers, models, configurations, .. } = source;
        let steady = steady_rows(layers)?;
        let of_rows = layers::of_configuration(&steady, configuration as u64)?;
        // Hits and bounds are shares of the same vectors: those that were looked up.
        let looked_up = steady.filter(steady.column(schema::layers::REUSE.name)?.bool()?)?;
        let bounded = layers::of_configuration(&looked_up, configuration as u64)?;
        let path = source.dir.join(RUN_FILE);
        let number = |section: &str, key: &str| run.number(&path, configuration, section, key);
        let (preset, settings) = run.settings(configuration);
        let array = describe_array(&settings);
        let facts = facts(run, &settings, &array);
        let summary = rows(&configurations.slice(configuration as i64, 1))?.pop().unwrap_or_default();
        Ok(Self {
            name: name(source, &summary),
            folder: source.dir.display().to_string(),
            title: format!("{} on {}", run.trace.model.name, run.trace.dataset.name),
            facts,
            trace: run.trace.manifest_sha256.clone(),
            summary,
            bounds: bounds(&bounded, number("bounds", "cosine")?, number("bounds", "weight_bits")?),
            looked_up: bounded,
            layers: of_rows,
            models: steps(layers, models, configuration as u64)?,
            array,
            elements: number("array", "rows")? * number("array", "columns")?,
            clock_mhz: number("array", "clock_mhz")?,
            part: run.part(),
            preset,
            settings,
            command: run.replay_command(configuration),
            sweep: source.axes.as_ref().map(|axes| run.sweep_command(axes)),
            capture: run.trace.command.clone(),
        })
    }
}

/// The results' name and, of a sweep, the values of the swept keys.
fn name(source: &Source, summary: &Row) -> String {
    let values = |axes: &Vec<(String, Vec<String>)>| setting(summary, axes.iter().map(|(key, _)| key.as_str()));
    match source.axes.as_ref().map(values) {
        Some(values) => format!("{}: {values}", source.name),
        None => source.name.clone(),
    }
}

/// Keys and values of a row of a sweep.
pub fn setting<'a>(row: &Row, keys: impl IntoIterator<Item = &'a str>) -> String {
    let value = |key: &str| match row.get(key) {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "-".to_owned(),
    };
    keys.into_iter().map(|key| format!("{key} {}", value(key))).collect::<Vec<_>>().join(", ")
}

fn find_value<'a>(settings: &'a [Setting], key: &str) -> &'a str {
    settings.iter().find(|setting| setting.key == key).map_or("-", |setting| &setting.value)
}

fn describe_array(settings: &[Setting]) -> String {
    let [rows, columns, dataflow] =
        ["rows", "columns", "dataflow"].map(|key| find_value(settings, &format!("array.{key}")));
    format!("{rows} x {columns}, {dataflow}")
}

fn facts(run: &ReportedRun, settings: &[Setting], array: &str) -> Vec<(&'static str, String)> {
    let value = |key: &str| find_value(settings, key);
    let entries = match value("mcache.entries") {
        "0" => "unlimited".to_owned(),
        entries => format!("{entries} entries, {} ways", value("mcache.ways")),
    };
    let steps: Vec<String> = run.trace.captured_steps.iter().map(u64::to_string).collect();
    let mut facts: Vec<(&str, String)> = Vec::new();
    let labels = [("Label", &run.label), ("Label of the trace", &run.trace.label)];
    facts.extend(labels.into_iter().filter_map(|(name, label)| Some((name, label.clone()?))));
    facts.extend([
        ("Model", run.trace.model.name.clone()),
        ("Data set", run.trace.dataset.name.clone()),
        ("Training", format!("batches of {}, seed {}", run.trace.batch_size, run.trace.seed)),
        ("Captured steps", steps.join(", ")),
        ("Signatures", format!("{} bits, {}, {}", value("rpq.bits"), value("rpq.granularity"), value("rpq.variant"))),
        ("MCACHE", entries),
        ("Array", array.to_owned()),
        ("Made by", run.created_by.clone()),
        ("Trace (SHA-256 of its manifest)", run.trace.manifest_sha256.clone()),
    ]);
    facts
}

/// Totals of each captured step, with the signature length in force.
fn steps(layers: &DataFrame, models: &DataFrame, configuration: u64) -> Result<Vec<Row>> {
    use schema::models as columns;
    let bits = find_bits(&layers::select_configuration(layers, configuration)?)?;
    let models = layers::select_configuration(models, configuration)?;
    let mut rows = rows(&models.select(MODELS.iter().map(|column| column.name))?)?;
    for row in &mut rows {
        let step = row[columns::STEP.name].as_u64();
        let bits = step.and_then(|step| bits.get(&step).copied());
        row.insert(schema::layers::SIGNATURE_BITS.name.to_owned(), bits.into());
    }
    rows.sort_by_key(|row| row[columns::STEP.name].as_u64());
    Ok(rows)
}

/// The largest signature length of each step.
fn find_bits(layers: &DataFrame) -> Result<BTreeMap<u64, u64>> {
    let steps = schema::layers::STEP.read_u64s(layers)?;
    let bits = schema::layers::SIGNATURE_BITS.read_u64s(layers)?;
    let mut largest: BTreeMap<u64, u64> = BTreeMap::new();
    for (step, bits) in steps.into_iter().zip(bits) {
        if let (Some(step), Some(bits)) = (step, bits) {
            let known = largest.entry(step).or_insert(bits);
            *known = bits.max(*known);
        }
    }
    Ok(largest)
}
