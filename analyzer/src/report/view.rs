//! One configuration in the form that the page shows.

use super::bounds::{Bound, list_bounds};
use super::design::{self, LayerRow};
use super::layers::{Row, select_configuration, sum_steps, to_rows};
use super::run::{ReportedRun, Setting};
use super::search::name_design;
use super::source::{MODELS, Source};
use crate::adaptation::steady_rows;
use crate::error::Result;
use crate::schema;
use crate::schema::run::RUN_FILE;
use crate::sweep::seeds::SEED;
use polars::prelude::DataFrame;
use serde::Serialize;
use std::collections::BTreeMap;

/// All data of a configuration on the page.
#[derive(Debug, Serialize)]
pub struct View {
    /// Name of the results, followed by the values of the swept keys in a sweep.
    pub name: String,
    /// Folder of the results.
    pub folder: String,
    /// Model and data set.
    pub title: String,
    /// Facts about the replayed trace and configuration: name and value.
    pub facts: Vec<(&'static str, String)>,
    /// Identity of the trace: the SHA-256 of its manifest.
    pub trace: String,
    /// Totals over all layers and passes, over the steps after the trial: the row of
    /// `configurations.parquet`.
    pub summary: Row,
    /// One row per layer and pass, summed over the steps after the trial.
    pub layers: Vec<Row>,
    /// As `layers`, but without the steps in which a layer was switched off: the vectors that were
    /// looked up.
    pub looked_up: Vec<Row>,
    /// One row per captured step.
    pub models: Vec<Row>,
    /// Bounds on reuse, over the vectors that were looked up in forward passes.
    pub bounds: Vec<Bound>,
    /// Rows, columns and dataflow of the array.
    pub array: String,
    /// Number of processing elements of the array.
    pub elements: f64,
    /// Clock frequency of the array, MHz.
    pub clock_mhz: f64,
    /// The replayed part of the trace, as flags; `None` for all of it.
    pub part: Option<String>,
    /// The preset that is closest to the configuration.
    pub preset: &'static str,
    /// The configuration.
    pub settings: Vec<Setting>,
    /// The command that reproduces the replay.
    pub command: String,
    /// The command that reproduces the sweep, if the results are a sweep.
    pub sweep: Option<String>,
    /// The command that repeats the search, if the results are a search.
    pub search_command: Option<String>,
    /// The command that captured the trace, if the trace records it.
    pub capture: Option<String>,
    /// The command that measures how the errors of all layers add up.
    pub probe: String,
    /// The file of the configuration, if flags cannot give it.
    pub file: Option<String>,
    /// The settings of each layer, if they may differ.
    pub layer_settings: Vec<LayerRow>,
    /// Place of the search that found the configuration among the page's searches.
    pub search: Option<usize>,
}

impl View {
    /// The view of a configuration, given its index in these results, and the place of the search if they are of one.
    pub fn new(source: &Source, configuration: usize, search: Option<usize>) -> Result<Self> {
        let Source { run, layers, models, configurations, .. } = source;
        let steady = steady_rows(layers)?;
        let layer_rows = sum_steps(&steady, configuration as u64)?;
        // Hits and bounds must be shares of the same vectors: those that were looked up.
        let looked_up = steady.filter(steady.column(schema::layers::REUSE.name)?.bool()?)?;
        let looked_up = sum_steps(&looked_up, configuration as u64)?;
        let path = source.dir.join(RUN_FILE);
        let number = |section: &str, key: &str| run.number(&path, configuration, section, key);
        let (preset, settings) = run.settings(configuration);
        let array = describe_array(&settings);
        let file = design::find_file(run, &source.dir, configuration);
        let facts = list_facts(run, configuration, &settings, &array);
        let summary = to_rows(&configurations.slice(configuration as i64, 1))?.pop().unwrap_or_default();
        Ok(Self {
            name: name_view(source, configuration, &summary),
            folder: source.dir.display().to_string(),
            title: format!("{} on {}", run.trace.model.name, run.trace.dataset.name),
            facts,
            trace: run.trace.manifest_sha256.clone(),
            summary,
            bounds: list_bounds(&looked_up, number("bounds", "cosine")?, number("bounds", "weight_bits")?),
            looked_up,
            layers: layer_rows,
            models: list_steps(layers, models, configuration as u64)?,
            array,
            elements: number("array", "rows")? * number("array", "columns")?,
            clock_mhz: number("array", "clock_mhz")?,
            part: run.part(),
            preset,
            settings,
            command: run.replay_command(configuration, file.as_deref()),
            sweep: source.axes.as_ref().map(|axes| run.sweep_command(axes)),
            search_command: run.search.as_ref().map(|search| search.command.clone()),
            capture: run.trace.command.clone(),
            probe: run.probe(configuration, file.as_deref()),
            file,
            layer_settings: design::list_layers(run, configuration),
            search,
        })
    }
}

/// The results' name, followed by the values of the swept keys in a sweep, by the reading and method in a search, or by
/// the seed of one of several projections.
fn name_view(source: &Source, configuration: usize, summary: &Row) -> String {
    if let Some(design) = name_design(&source.run, configuration) {
        return format!("{}: {design}", source.name);
    }
    let values = match &source.axes {
        Some(axes) => describe_setting(summary, axes.iter().map(|(key, _)| key.as_str())),
        None if source.run.configurations.len() > 1 => describe_setting(summary, [SEED]),
        None => return source.name.clone(),
    };
    format!("{}: {values}", source.name)
}

/// The values of some keys in a row of a sweep, such as `rpq.bits 20, mcache.ways 4`.
pub fn describe_setting<'a>(row: &Row, keys: impl IntoIterator<Item = &'a str>) -> String {
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

fn list_facts(
    run: &ReportedRun,
    configuration: usize,
    settings: &[Setting],
    array: &str,
) -> Vec<(&'static str, String)> {
    let value = |key: &str| find_value(settings, key);
    let signatures = if run.is_per_layer(configuration) {
        design::describe_signatures(run, configuration)
    } else {
        format!("{} bits, {}, {}", value("rpq.bits"), value("rpq.granularity"), value("rpq.variant"))
    };
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
        ("Signatures", signatures),
        ("MCACHE", entries),
        ("Array", array.to_owned()),
        ("Made by", run.created_by.clone()),
        ("Trace (SHA-256 of its manifest)", run.trace.manifest_sha256.clone()),
    ]);
    facts
}

/// Totals of each captured step, with the signature length in force.
fn list_steps(layers: &DataFrame, models: &DataFrame, configuration: u64) -> Result<Vec<Row>> {
    use schema::models as columns;
    let bits = find_bits(&select_configuration(layers, configuration)?)?;
    let models = select_configuration(models, configuration)?;
    let mut rows = to_rows(&models.select(MODELS.iter().map(|column| column.name))?)?;
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
