//! A folder of results, checked before anything is made of it.

use crate::error::{AnalyzerError, REPLAY_AGAIN, Result};
use crate::report::run::Run;
use crate::results::RUN_FILE;
use crate::schema;
use crate::sweep::store;
use crate::table;
use mercury_trace::{TraceError, input, manifest};
use polars::prelude::{DataFrame, DataType};
use serde_json::Value;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Results of `replay` or `sweep`.
pub struct Source {
    /// The folder, as it was given.
    pub dir: PathBuf,
    /// What the results are called among those of the report.
    pub name: String,
    /// What was run.
    pub run: Run,
    /// Keys that were swept and their values; none of a replay.
    pub axes: Option<Vec<(String, Vec<String>)>>,
    /// A row per configuration, step, layer and pass.
    pub layers: DataFrame,
    /// A row per configuration and step.
    pub models: DataFrame,
    /// A row per configuration.
    pub configurations: DataFrame,
}

/// What a column has to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Truth,
}

/// Columns of `layers.parquet` that are counted up over steps.
pub const COUNTERS: &[&str] = &[
    "vectors",
    "hit",
    "mau",
    "mnu",
    "macs",
    "macs_skipped",
    "baseline_cycles",
    "mercury_cycles",
    "signature_cycles",
    "compute_cycles",
    "stall_cycles",
    "extra_cycles",
    "baseline_memory_stall",
    "mercury_memory_stall",
    "baseline_dram_words",
    "mercury_dram_words",
    "baseline_energy",
    "mercury_energy",
];

/// Those that are null where they were not measured.
pub const MEASURES: &[&str] = &[
    "unlimited_hit",
    "exact_duplicate",
    "zero_vector",
    "operands",
    "zero_operands",
    "cosine_sampled",
    "cosine_similar",
    "multiplications",
    "multiplications_distinct",
    "error_square",
    "exact_square",
];

/// Others of `layers.parquet`.
const LAYERS: &[&str] = &["configuration", "step", "layer_index", "signature_bits"];

/// Columns of `models.parquet`.
pub const MODELS: &[&str] = &["step", "hit_rate", "output_error", "speed_up", "speed_up_low", "speed_up_high"];

/// Columns of `configurations.parquet`.
pub const CONFIGURATIONS: &[&str] = &[
    "configuration",
    "steps",
    "vectors",
    "hit",
    "mau",
    "mnu",
    "hit_rate",
    "output_error",
    "output_error_low",
    "output_error_high",
    "baseline_cycles",
    "mercury_cycles",
    "speed_up",
    "speed_up_low",
    "speed_up_high",
    "speed_up_with_stalls",
    "energy",
    "trial_steps",
    "trial_hit_rate",
    "trial_output_error",
    "trial_speed_up",
];

/// Most bytes of `run.json`: far above those of the largest sweep.
const MAX_BYTES: u64 = 1 << 30;

impl Source {
    /// Reads the tables of a folder, whose run [`read_run`] has read; `name` is what to call the results.
    ///
    /// # Errors
    /// If it is no folder of results, or of another version: the error names file, field and remedy.
    pub fn read(dir: &Path, run: Run, name: String) -> Result<Self> {
        let layers = read(dir, schema::layers::TABLE.file)?;
        let numbers = || [COUNTERS, MEASURES, LAYERS].concat();
        check(&layers, &dir.join(schema::layers::TABLE.file), numbers(), Kind::Number)?;
        check(&layers, &dir.join(schema::layers::TABLE.file), ["layer", "op", "pass"], Kind::Text)?;
        check(&layers, &dir.join(schema::layers::TABLE.file), ["reuse", "switched_off", "trial"], Kind::Truth)?;
        let models = read(dir, schema::models::TABLE.file)?;
        check(&models, &dir.join(schema::models::TABLE.file), [MODELS, &["configuration"]].concat(), Kind::Number)?;
        let configurations = read(dir, schema::configurations::TABLE.file)?;
        check(
            &configurations,
            &dir.join(schema::configurations::TABLE.file),
            CONFIGURATIONS.iter().copied(),
            Kind::Number,
        )?;
        if configurations.height() != run.configurations.len() {
            let (rows, listed) = (configurations.height(), run.configurations.len());
            let reason = format!("has {rows} rows, but {RUN_FILE} lists {listed} configurations; {REPLAY_AGAIN}");
            return Err(AnalyzerError::results(&dir.join(schema::configurations::TABLE.file), "configuration", reason));
        }
        let axes = match dir.join(store::IDENTITY) {
            path if path.exists() => Some(axes(&path, &read_json(dir, store::IDENTITY)?)?),
            _ => None,
        };
        Ok(Self { dir: dir.to_owned(), name, run, axes, layers, models, configurations })
    }
}

/// What was run for the results in a folder.
///
/// # Errors
/// As of [`Source::read`].
pub fn read_run(dir: &Path) -> Result<Run> {
    Run::parse(&dir.join(RUN_FILE), &read_json(dir, RUN_FILE)?)
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
    let named = "name a folder that `mercury-analyzer replay` or `sweep` wrote (--out)";
    let reason = if dir.is_file() {
        format!("is a file, not a folder of results; {named}")
    } else if !dir.exists() {
        format!("there is no such folder; {named}")
    } else if dir.join(store::IDENTITY).exists() {
        "is missing: the sweep has not ended; run it again, and it goes on".to_owned()
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

fn read(dir: &Path, name: &str) -> Result<DataFrame> {
    if !dir.join(name).exists() {
        return Err(AnalyzerError::results(dir, name, format!("is missing; {REPLAY_AGAIN}")));
    }
    table::read_checked(dir, name)
}

/// Refuses a table that lacks a column, or has another kind of value in it. More columns are fine.
fn check(frame: &DataFrame, path: &Path, names: impl IntoIterator<Item = &'static str>, kind: Kind) -> Result<()> {
    for name in names {
        let Ok(column) = frame.column(name) else {
            return Err(AnalyzerError::results(path, &format!("column {name}"), format!("is missing; {REPLAY_AGAIN}")));
        };
        let fits = match (kind, column.dtype()) {
            // Where nothing was measured the column may have no type.
            (Kind::Number, found) => found.is_primitive_numeric() || *found == DataType::Null,
            (Kind::Text, found) => *found == DataType::String,
            (Kind::Truth, found) => *found == DataType::Boolean,
        };
        if !fits {
            let wanted = match kind {
                Kind::Number => "numbers",
                Kind::Text => "text",
                Kind::Truth => "true or false",
            };
            let reason = format!("holds {}, not {wanted}; {REPLAY_AGAIN}", column.dtype());
            return Err(AnalyzerError::results(path, &format!("column {name}"), reason));
        }
    }
    Ok(())
}
