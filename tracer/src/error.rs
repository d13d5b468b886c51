//! Errors of the tracer.

use mercury_trace::TraceError;
use std::path::PathBuf;

/// An error; its message names the flag or file, and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TracerError {
    /// `--model` names no model.
    #[error("--model: {name:?} is not known; choose one of {known}")]
    UnknownModel {
        /// The name given.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// `--dataset` names no data set.
    #[error("--dataset: {name:?} is not known; choose one of {known}")]
    UnknownDataset {
        /// The name given.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// The value of a flag is invalid.
    #[error("{flag}: {reason}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// The reason and the remedy.
        reason: String,
    },
    /// A data file is missing.
    #[error("{}: {error}; fetch the data with `python3 data/fetch.py {dataset}`, or name its folder with --data-dir", path.display())]
    MissingData {
        /// The file.
        path: PathBuf,
        /// Its data set.
        dataset: &'static str,
        /// The error of the operating system.
        error: std::io::Error,
    },
    /// A data file violates its format.
    #[error("{}: {reason}; remove it and fetch the data with `python3 data/fetch.py {dataset}`", path.display())]
    BadData {
        /// The file.
        path: PathBuf,
        /// Its data set.
        dataset: &'static str,
        /// The reason.
        reason: String,
    },
    /// The file or folder that a flag names cannot be used.
    #[error("{flag}: {}: {reason}", path.display())]
    File {
        /// The flag.
        flag: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason and the remedy.
        reason: String,
    },
    /// An image cannot be decoded.
    #[error("{}: {reason}; repair or remove it, or leave such images out with --skip-corrupt", path.display())]
    CorruptImage {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A vocabulary cannot be written or read.
    #[error("{}: {reason}", path.display())]
    Vocabulary {
        /// Its file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A file of weights cannot be used.
    #[error("{}: {reason}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// The reason and the remedy.
        reason: String,
    },
    /// Training has diverged.
    #[error(
        "the loss is {loss} at step {step}: training has diverged; lower --lr and choose another --out, because this one holds the earlier captured steps"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// The loss.
        loss: f64,
    },
    /// A captured step cannot be written.
    #[error("{0}; free space and continue with --resume, or train on without capture with --on-capture-error continue")]
    Capture(TraceError),
    /// The trace cannot be read or written.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// libtorch reported an error.
    #[error("libtorch: {0}")]
    Torch(String),
}

impl TracerError {
    /// A failure of the threads that write a trace.
    pub fn from_sink(error: TraceError) -> Self {
        match error {
            refused @ TraceError::Io { .. } => Self::Capture(refused),
            other => other.into(),
        }
    }
}

impl From<tch::TchError> for TracerError {
    fn from(error: tch::TchError) -> Self {
        // Further lines are the library's stack.
        Self::Torch(error.to_string().lines().next().unwrap_or_default().to_owned())
    }
}

/// The result of a tracer operation.
pub type Result<T> = std::result::Result<T, TracerError>;
