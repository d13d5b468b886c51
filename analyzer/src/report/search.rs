//! What a search found, in the form that the page shows.

use super::layers::{Row, to_rows};
use super::run::ReportedRun;
use super::source::{self, SEARCH_AGAIN, Source};
use crate::error::{AnalyzerError, Result};
use crate::schema::run::{RUN_FILE, SearchRecord};
use crate::schema::{TableSpec, choices, frontier};
use crate::search::bound::Bound;
use crate::search::judge::Method;
use polars::prelude::DataFrame;
use serde::Serialize;
use std::path::Path;

/// The tables of a search that other results do not have.
struct SearchTables {
    frontier: DataFrame,
    choices: DataFrame,
}

/// All data of a search on the page.
#[derive(Debug, Serialize)]
pub struct SearchView {
    /// Name of the results.
    name: String,
    /// Model and data set.
    title: String,
    /// Name of the model.
    model: String,
    /// Identity of the trace: the SHA-256 of its manifest.
    pub trace: String,
    /// The searched part of the trace, as flags; `None` for all of it.
    part: Option<String>,
    /// The quantity that the design minimises.
    objective: String,
    /// Bounds, each as `layer-error <= 0.1`.
    bounds: Vec<String>,
    /// What the first bound limits.
    bound: &'static str,
    /// The limit of the first bound.
    limit: f64,
    /// The networks whose training the predicted accuracy loss was calibrated on; `None` if they are not known.
    networks: Option<String>,
    /// `steps`, `samples` or `nothing`.
    judged_by: String,
    /// Folds of these.
    folds: usize,
    /// Projections of each candidate.
    seeds: u32,
    /// The file of the recommended design.
    design: String,
    /// Readings of the hardware, the recommended one first.
    readings: Vec<ReadingView>,
    /// The rows of `frontier.parquet`.
    frontier: Vec<Row>,
    /// The rows of `choices.parquet` for the recommended reading.
    choices: Vec<Row>,
}

/// A reading of the hardware: rows of `frontier.parquet` at the limit that was asked for.
#[derive(Debug, Serialize)]
struct ReadingView {
    name: String,
    is_bound: bool,
    configured: Row,
    one_setting: Row,
    per_layer: Row,
    /// What each bound limits, with settings per layer; `None` for an accuracy loss beyond the calibration.
    bound_values: Vec<Option<f64>>,
    /// Speed-up of settings per layer if the first bound were a percentage point higher.
    one_point_more: f64,
}

impl SearchTables {
    /// Reads the tables of a search's folder, and checks what `run.json` says about the search; `None` for other results.
    fn read(dir: &Path, run: &ReportedRun) -> Result<Option<Self>> {
        let Some(record) = &run.search else { return Ok(None) };
        check_record(&dir.join(RUN_FILE), record, run.configurations.len())?;
        let read = |table: &TableSpec| source::read_table(dir, table, table.columns);
        Ok(Some(Self { frontier: read(&frontier::TABLE)?, choices: read(&choices::TABLE)? }))
    }
}

/// Refuses a record that names readings or configurations that are not there.
fn check_record(path: &Path, record: &SearchRecord, configurations: usize) -> Result<()> {
    let fail =
        |field: String, reason: String| Err(AnalyzerError::results(path, &field, format!("{reason}; {SEARCH_AGAIN}")));
    let (best, readings) = (record.best, record.readings.len());
    if best >= readings {
        return fail("search.best".to_owned(), format!("is {best}, but there are {readings} readings"));
    }
    for (number, reading) in record.readings.iter().enumerate() {
        if let Some(missing) = reading.configurations.iter().find(|&&number| number >= configurations) {
            let field = format!("search.readings.{number}.configurations");
            return fail(field, format!("names {missing}, but there are {configurations} configurations"));
        }
    }
    match parse_bound(record) {
        Some(_) => Ok(()),
        None => fail("search.bounds".to_owned(), "has no bound such as \"layer-error <= 0.1\"".to_owned()),
    }
}

/// The first bound: that whose limit varies along the frontier.
fn parse_bound(record: &SearchRecord) -> Option<Bound> {
    record.bounds.first()?.parse().ok()
}

/// Names a configuration of a search by its reading and method; `None` in other results.
pub fn name_design(run: &ReportedRun, configuration: usize) -> Option<String> {
    run.search.iter().flat_map(|search| &search.readings).find_map(|reading| {
        let place = reading.configurations.iter().position(|&number| number == configuration)?;
        Some(format!("{}, {}", reading.name, Method::ALL[place].name()))
    })
}

/// The configurations of a search that the page shows in full: the recommended design, and its reading as configured.
pub fn choose_views(record: &SearchRecord) -> Vec<usize> {
    let [configured, _, per_layer] = record.readings[record.best].configurations;
    vec![per_layer, configured]
}

impl SearchView {
    /// What a search found; `None` if the results are not those of a search.
    pub fn new(source: &Source) -> Result<Option<Self>> {
        let tables = SearchTables::read(&source.dir, &source.run);
        let tables = tables.map_err(|error| source::name_remedy(&source.dir, error))?;
        let (Some(record), Some(tables)) = (&source.run.search, tables) else { return Ok(None) };
        let bound = parse_bound(record).expect("the record is checked when it is read");
        let path = source.dir.join(frontier::TABLE.file);
        let frontier = to_rows(&tables.frontier)?;
        let mut readings = Vec::new();
        for reading in &record.readings {
            let find = |method: Method| find_row(&path, &frontier, &reading.name, method, bound.limit);
            readings.push(ReadingView {
                name: reading.name.clone(),
                is_bound: reading.is_bound,
                configured: find(Method::Configured)?,
                one_setting: find(Method::OneSetting)?,
                per_layer: find(Method::PerLayer)?,
                bound_values: reading.methods.last().map_or_else(Vec::new, |found| found.bound_values.clone()),
                one_point_more: reading.speed_up_one_point_more,
            });
        }
        let best = readings.remove(record.best);
        readings.insert(0, best);
        let mut choices = to_rows(&tables.choices)?;
        choices.retain(|row| row[choices::READING.name] == readings[0].name);
        let run = &source.run;
        Ok(Some(Self {
            name: source.name.clone(),
            title: format!("{} on {}", run.trace.model.name, run.trace.dataset.name),
            model: run.trace.model.name.clone(),
            trace: run.trace.manifest_sha256.clone(),
            part: run.part(),
            objective: record.objective.clone(),
            bounds: record.bounds.clone(),
            bound: bound.kind.name(),
            limit: bound.limit,
            networks: record.accuracy_curve.as_ref().and_then(|curve| curve.networks.clone()),
            judged_by: record.judged_by.clone(),
            folds: record.folds,
            seeds: record.seeds,
            design: source.dir.join(&record.readings[record.best].file).display().to_string(),
            readings,
            frontier,
            choices,
        }))
    }
}

/// The row of a reading and method; of methods with a bound, that at the limit.
fn find_row(path: &Path, rows: &[Row], reading: &str, method: Method, limit: f64) -> Result<Row> {
    let is_wanted = |row: &&Row| {
        row[frontier::READING.name] == reading
            && row[frontier::METHOD.name] == method.name()
            && (method == Method::Configured || row[frontier::LIMIT.name].as_f64() == Some(limit))
    };
    rows.iter().find(is_wanted).cloned().ok_or_else(|| {
        let limit = if method == Method::Configured { String::new() } else { format!(" at limit {limit}") };
        let field = format!("column {}", frontier::METHOD.name);
        let reason = format!("lacks {:?} of reading {reading:?}{limit}; {SEARCH_AGAIN}", method.name());
        AnalyzerError::results(path, &field, reason)
    })
}
