//! What can go wrong in the analyzer.

use mercury_hardware::HardwareError;
use mercury_trace::TraceError;
use std::path::{Path, PathBuf};

/// An error that names the file, the field and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnalyzerError {
    /// The trace is not as it should be.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// Training was stopped before a step was captured.
    #[error("{}: no step was captured; let `mercury-tracer capture` run until it has written one", path.display())]
    NothingCaptured {
        /// The trace's folder.
        path: PathBuf,
    },
    /// A flag's value makes no sense.
    #[error("{flag}: {reason}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// The configuration or a topology is not as it should be.
    #[error(transparent)]
    Hardware(#[from] HardwareError),
    /// The trace lacks what the configuration needs.
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
        /// What the operating system said.
        error: std::io::Error,
    },
    /// The folder for the results cannot be made.
    #[error("{}: the results' folder cannot be made here ({error}); choose another with --out", path.display())]
    Output {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// A page cannot be written.
    #[error("{}: the report cannot be written here ({error}); choose another file with --out", path.display())]
    Page {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// A folder that is not what it should be.
    #[error("{}: {reason}", path.display())]
    Folder {
        /// The folder or a file in it.
        path: PathBuf,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A table of results could not be read.
    #[error("{}: {error}; it is no table of results, or was changed", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: polars::error::PolarsError,
    },
    /// A folder that was named as results is none, or of another version.
    #[error("{}: {field}: {reason}", path.display())]
    Results {
        /// The folder or the file in it.
        path: PathBuf,
        /// The file or field.
        field: String,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A result could not be put into a table.
    #[error("results: {0}")]
    Polars(#[from] polars::error::PolarsError),
}

impl AnalyzerError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| AnalyzerError::Io { path, error }
    }

    /// Something wrong in a file of results.
    pub(crate) fn results(path: &Path, field: &str, reason: String) -> Self {
        Self::Results { path: path.to_owned(), field: field.to_owned(), reason }
    }
}

/// The remedy for results of another version.
pub(crate) const REPLAY_AGAIN: &str = "replay the trace again with this version";

/// The result of an analyzer operation.
pub type Result<T> = std::result::Result<T, AnalyzerError>;
