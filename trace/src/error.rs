//! Errors of traces.

use std::io;
use std::path::PathBuf;

/// An error; its message names the file, the field and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The operating system reported an error.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// A folder without a manifest, which is not a trace.
    #[error("{}: not a trace (it has no manifest.json); give the folder of a trace, as `mercury-tracer capture` and the Python package write it", path.display())]
    NotATrace {
        /// The folder.
        path: PathBuf,
    },
    /// A trace of a newer program.
    #[error("{}: schema_version is {found}, but this program reads up to {known}; update it", path.display())]
    NewerSchema {
        /// The manifest.
        path: PathBuf,
        /// The trace's version.
        found: u32,
        /// The newest version that this program reads.
        known: u32,
    },
    /// An output folder that is not empty.
    #[error("{}: exists and is not empty; choose another folder or remove it", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A missing file that the manifest lists.
    #[error("{}: missing, though manifest.json lists it; write it, or copy the whole trace again", path.display())]
    MissingTensor {
        /// The file.
        path: PathBuf,
    },
    /// A missing table.
    #[error("{}: missing; write it, or copy the whole trace again", path.display())]
    MissingTable {
        /// The file.
        path: PathBuf,
    },
    /// A file that is not a complete Parquet file.
    #[error("{}: not a readable Parquet file ({reason}); it may be truncated: copy it again, or make it anew", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The error of the Parquet reader.
        reason: String,
    },
    /// A file that changed after it was written.
    #[error("{}: {reason}; it was damaged or changed: copy it again, or make it anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The difference.
        reason: String,
    },
    /// A value that contradicts the format or another file.
    #[error("{}: {field}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The column, key or row with the fault.
        field: String,
        /// The reason and the remedy.
        reason: String,
    },
    /// A NaN or infinity among the values.
    #[error(
        "{}: values: row {row} holds {value}; training has diverged at this step, leave the step out (lower the learning rate) or capture anew",
        path.display()
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The row, counted from 0.
        row: u64,
        /// The value.
        value: f32,
    },
    /// A value beyond the range of f16.
    #[error("{}: values: row {row} holds {value}, beyond what f16 can hold (65504); capture with --dtype f32", path.display())]
    F16Range {
        /// The file.
        path: PathBuf,
        /// The row, counted from 0.
        row: u64,
        /// The value.
        value: f32,
    },
    /// An earlier run that cannot be resumed by this one.
    #[error("{}: {reason}", path.display())]
    Resume {
        /// The trace.
        path: PathBuf,
        /// The difference and the remedy.
        reason: String,
    },
}

impl TraceError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| TraceError::Io { path, error }
    }

    pub(crate) fn parquet(path: impl Into<PathBuf>, reason: impl std::fmt::Display) -> Self {
        TraceError::Parquet { path: path.into(), reason: reason.to_string() }
    }

    pub(crate) fn invalid(path: impl Into<PathBuf>, field: impl Into<String>, reason: impl Into<String>) -> Self {
        TraceError::Invalid { path: path.into(), field: field.into(), reason: reason.into() }
    }
}

/// The result of a trace operation.
pub type Result<T> = std::result::Result<T, TraceError>;
