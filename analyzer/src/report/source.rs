//! A folder of results, checked before anything is made of it.

use crate::error::{AnalyzerError, REPLAY_AGAIN, Result};
use crate::report::run::ReportedRun;
use crate::schema::run::RUN_FILE;
use crate::schema::{self, ColumnSpec, TableSpec, configurations, layers, models};
use crate::search::store as search_store;
use crate::sweep::store;
use crate::table;
use mercury_trace::{TraceError, input, manifest};
use polars::prelude::DataFrame;
use serde_json::Value;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The remedy for a damaged folder of a search. Results of layers are kept, so this takes seconds.
pub const SEARCH_AGAIN: &str = "run the search again with this version";

/// Results of `replay`, `sweep` or `search`.
pub struct Source {
    /// The folder, as it was given.
    pub dir: PathBuf,
    /// What the results are called among those of the report.
    pub name: String,
    /// What was run.
    pub run: ReportedRun,
    /// Keys that were swept and their values; none of a replay.
    pub axes: Option<Vec<(String, Vec<String>)>>,
    /// A row per configuration, step, layer and pass.
    pub layers: DataFrame,
    /// A row per configuration and step.
    pub models: DataFrame,
    /// A row per configuration.
    pub configurations: DataFrame,
}

/// Columns of `layers.parquet` that are counted up over steps.
pub const COUNTERS: &[ColumnSpec] = &[
    layers::VECTORS,
    layers::HIT,
    layers::MAU,
    layers::MNU,
    layers::MACS,
    layers::MACS_SKIPPED,
    layers::MACS_SAVED_NET,
    layers::BASELINE_CYCLES,
    layers::BASELINE_EQUAL_MACS_CYCLES,
    layers::MERCURY_CYCLES,
    layers::SIGNATURE_CYCLES,
    layers::COMPUTE_CYCLES,
    layers::STALL_CYCLES,
    layers::EXTRA_CYCLES,
    layers::BASELINE_MEMORY_STALL,
    layers::MERCURY_MEMORY_STALL,
    layers::BASELINE_DRAM_WORDS,
    layers::MERCURY_DRAM_WORDS,
    layers::BASELINE_ENERGY,
    layers::MERCURY_ENERGY,
];

/// Those that are null where they were not measured.
pub const MEASURES: &[ColumnSpec] = &[
    layers::UNLIMITED_HIT,
    layers::EXACT_DUPLICATE,
    layers::ZERO_VECTOR,
    layers::OPERANDS,
    layers::ZERO_OPERANDS,
    layers::COSINE_SAMPLED,
    layers::COSINE_SIMILAR,
    layers::MULTIPLICATIONS,
    layers::MULTIPLICATIONS_DISTINCT,
    layers::ERROR_SQUARE,
    layers::EXACT_SQUARE,
];

/// Columns of `layers.parquet` that say what a row is of.
const LAYERS: &[ColumnSpec] = &[
    layers::CONFIGURATION,
    layers::STEP,
    layers::LAYER_INDEX,
    layers::SIGNATURE_BITS,
    layers::LAYER,
    layers::OP,
    layers::PASS,
    layers::REUSE,
    layers::SWITCHED_OFF,
    layers::TRIAL,
    layers::IS_BOUND,
];

/// Columns of `models.parquet` that are shown.
pub const MODELS: &[ColumnSpec] = &[
    models::STEP,
    models::HIT_RATE,
    models::OUTPUT_ERROR,
    models::SPEED_UP,
    models::SPEED_UP_LOW,
    models::SPEED_UP_HIGH,
];

/// Columns of `configurations.parquet` that are shown.
const CONFIGURATIONS: &[ColumnSpec] = &[
    configurations::CONFIGURATION,
    configurations::STEPS,
    configurations::VECTORS,
    configurations::HIT,
    configurations::MAU,
    configurations::MNU,
    configurations::HIT_RATE,
    configurations::OUTPUT_ERROR,
    configurations::OUTPUT_ERROR_LOW,
    configurations::OUTPUT_ERROR_HIGH,
    configurations::GRADIENT_ERROR,
    configurations::BASELINE_CYCLES,
    configurations::MERCURY_CYCLES,
    configurations::SPEED_UP,
    configurations::SPEED_UP_LOW,
    configurations::SPEED_UP_HIGH,
    configurations::SPEED_UP_WITH_STALLS,
    configurations::SPEED_UP_EQUAL_MACS,
    configurations::IS_BOUND,
    configurations::MCACHE_RESULTS_MEAN,
    configurations::MCACHE_RESULTS_PEAK,
    configurations::MCACHE_KB,
    configurations::ENERGY,
    configurations::TRIAL_STEPS,
    configurations::TRIAL_HIT_RATE,
    configurations::TRIAL_OUTPUT_ERROR,
    configurations::TRIAL_SPEED_UP,
];

/// Most bytes of `run.json`: far above those of the largest sweep.
const MAX_BYTES: u64 = 1 << 30;

impl Source {
    /// Reads the tables of a folder, whose run [`read_run`] has read; `name` is what to call the results.
    ///
    /// # Errors
    /// If it is no folder of results, or of another version: the error names file, field and remedy.
    pub fn read(dir: &Path, run: ReportedRun, name: String) -> Result<Self> {
        Self::read_tables(dir, run, name).map_err(|error| name_remedy(dir, error))
    }

    fn read_tables(dir: &Path, run: ReportedRun, name: String) -> Result<Self> {
        let layer_rows = read_table(dir, &layers::TABLE, &[COUNTERS, MEASURES, LAYERS].concat())?;
        let model_rows = read_table(dir, &models::TABLE, &[MODELS, &[models::CONFIGURATION]].concat())?;
        let configurations = read_table(dir, &configurations::TABLE, CONFIGURATIONS)?;
        if configurations.height() != run.configurations.len() {
            let (rows, listed) = (configurations.height(), run.configurations.len());
            let reason = format!("has {rows} rows, but {RUN_FILE} lists {listed} configurations; {REPLAY_AGAIN}");
            let column = configurations::CONFIGURATION.name;
            return Err(AnalyzerError::results(&dir.join(configurations::TABLE.file), column, reason));
        }
        let axes = match dir.join(store::IDENTITY) {
            path if path.exists() => Some(axes(&path, &read_json(dir, store::IDENTITY)?)?),
            _ => None,
        };
        let dir = dir.to_owned();
        Ok(Self { dir, name, run, axes, layers: layer_rows, models: model_rows, configurations })
    }
}

/// What was run for the results in a folder.
///
/// # Errors
/// As of [`Source::read`].
pub fn read_run(dir: &Path) -> Result<ReportedRun> {
    let json = read_json(dir, RUN_FILE)?;
    ReportedRun::parse(&dir.join(RUN_FILE), &json).map_err(|error| name_remedy(dir, error))
}

/// Names the remedy of a search in an error about its folder.
pub fn name_remedy(dir: &Path, error: AnalyzerError) -> AnalyzerError {
    match error {
        AnalyzerError::Results { path, field, reason } if dir.join(search_store::IDENTITY).exists() => {
            AnalyzerError::Results { path, field, reason: reason.replace(REPLAY_AGAIN, SEARCH_AGAIN) }
        }
        other => other,
    }
}

fn axes(path: &Path, identity: &Value) -> Result<Vec<(String, Vec<String>)>> {
    serde_json::from_value(identity["axes"].clone())
        .map_err(|error| AnalyzerError::results(path, "axes", format!("{error}; sweep into another folder")))
}

/// The JSON in a file of the folder, which has to hold results.
pub fn read_json(dir: &Path, name: &str) -> Result<Value> {
    let path = dir.join(name);
    let text = match input::read(&path, MAX_BYTES) {
        Err(TraceError::Io { error, .. }) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(missing(dir, name));
        }
        other => other?,
    };
    table::check_sum(dir, name)?;
    serde_json::from_slice(&text)
        .map_err(|error| AnalyzerError::results(&path, "JSON", format!("{error}; {REPLAY_AGAIN}")))
}

/// A folder without the file of results that every one has.
fn missing(dir: &Path, name: &str) -> AnalyzerError {
    let named = "name a folder that `mercury-analyzer replay`, `sweep` or `search` wrote (--out)";
    let reason = if dir.is_file() {
        format!("is a file, not a folder of results; {named}")
    } else if !dir.exists() {
        format!("there is no such folder; {named}")
    } else if dir.join(store::IDENTITY).exists() {
        "is missing: the sweep has not ended; run it again, and it goes on".to_owned()
    } else if dir.join(search_store::IDENTITY).exists() {
        "is missing: the search has not ended; run it again, and it goes on (of partitions, with --parts)".to_owned()
    } else if dir.join(manifest::FILE_NAME).exists() {
        format!(
            "is missing: this is a trace, not results; run `mercury-analyzer replay {} --out results` first",
            dir.display()
        )
    } else {
        format!("is missing, so this is no folder of results; {named}")
    };
    AnalyzerError::Results { path: dir.to_owned(), field: name.to_owned(), reason }
}

/// A table of the folder, which has to have these columns.
pub(super) fn read_table(dir: &Path, table: &TableSpec, columns: &[ColumnSpec]) -> Result<DataFrame> {
    let path = dir.join(table.file);
    if !path.exists() {
        return Err(AnalyzerError::results(dir, table.file, format!("is missing; {REPLAY_AGAIN}")));
    }
    let frame = table::read_checked(dir, table.file)?;
    schema::check(&frame, &path, columns)?;
    Ok(frame)
}
