//! The errors of the analyzer.

use mercury_hardware::HardwareError;
use mercury_reuse::config::ConfigError;
use mercury_trace::TraceError;
use std::path::{Path, PathBuf};

/// An error. Its message names the file or flag, the field, and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnalyzerError {
    /// The trace is invalid or damaged.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// Training was stopped before a step was captured.
    #[error("{}: no step was captured; let `mercury-tracer capture` run until it has written one", path.display())]
    NothingCaptured {
        /// The trace's folder.
        path: PathBuf,
    },
    /// The value of a flag is invalid.
    #[error("{flag}: {reason}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// The configuration or a topology file is invalid.
    #[error(transparent)]
    Hardware(#[from] HardwareError),
    /// A value of the scheme does not fit the trace.
    #[error(transparent)]
    Scheme(#[from] ConfigError),
    /// The trace lacks data that the configuration needs.
    #[error("layer {layer}: {reason}")]
    Layer {
        /// The layer.
        layer: String,
        /// What is missing, and the remedy.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        error: std::io::Error,
    },
    /// The folder for the results cannot be created.
    #[error("{}: the results' folder cannot be created ({error}); choose another with --out", path.display())]
    Output {
        /// The folder.
        path: PathBuf,
        /// The error of the operating system.
        error: std::io::Error,
    },
    /// The report cannot be written.
    #[error("{}: the report cannot be written ({error}); choose another file with --out", path.display())]
    Page {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        error: std::io::Error,
    },
    /// A folder, or a file in it, has unexpected contents.
    #[error("{}: {reason}", path.display())]
    Folder {
        /// The folder or a file in it.
        path: PathBuf,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A table of results could not be read.
    #[error("{}: {error}; the file is not a table of results, or was changed", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: polars::error::PolarsError,
    },
    /// A folder holds no results, or results of another version.
    #[error("{}: {field}: {reason}", path.display())]
    Results {
        /// The folder or the file in it.
        path: PathBuf,
        /// The file or field.
        field: String,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// The work was asked to stop.
    #[error("stopped; the same command continues where a folder of finished parts was kept")]
    Stopped,
    /// A table of results could not be built.
    #[error("results: {0}")]
    Polars(#[from] polars::error::PolarsError),
}

impl AnalyzerError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| AnalyzerError::Io { path, error }
    }

    /// An error about a field of a file of results.
    pub(crate) fn results(path: &Path, field: &str, reason: String) -> Self {
        Self::Results { path: path.to_owned(), field: field.to_owned(), reason }
    }
}

/// The remedy for results of another version.
pub(crate) const REPLAY_AGAIN: &str = "replay the trace again with this version";

/// The result of an analyzer operation.
pub type Result<T> = std::result::Result<T, AnalyzerError>;
