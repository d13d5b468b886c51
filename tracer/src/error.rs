//! What can go wrong in the tracer.

use mercury_trace::TraceError;
use std::path::PathBuf;

/// An error that names the flag or file and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TracerError {
    /// `--model` names none.
    #[error("--model: {name:?} is not known; choose one of {known}")]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// `--dataset` names none.
    #[error("--dataset: {name:?} is not known; choose one of {known}")]
    UnknownDataset {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A flag's value makes no sense.
    #[error("{flag}: {reason}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A data file is missing.
    #[error("{}: {error}; fetch the data with `python3 data/fetch.py {dataset}`, or name its folder with --data-dir", path.display())]
    MissingData {
        /// The file.
        path: PathBuf,
        /// Its data set.
        dataset: &'static str,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// A data file does not hold what its format says.
    #[error("{}: {reason}; remove it and fetch the data with `python3 data/fetch.py {dataset}`", path.display())]
    BadData {
        /// The file.
        path: PathBuf,
        /// Its data set.
        dataset: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A file or folder that a flag names cannot be used.
    #[error("{flag}: {}: {reason}", path.display())]
    File {
        /// The flag.
        flag: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// An image cannot be decoded.
    #[error("{}: {reason}; mend or remove it, or leave such images out with --skip-corrupt", path.display())]
    CorruptImage {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A vocabulary could not be written or read.
    #[error("{}: {reason}", path.display())]
    Vocabulary {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file of weights cannot be used.
    #[error("{}: {reason}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// Training has diverged.
    #[error(
        "the loss is {loss} at step {step}: training has diverged; lower --lr and choose another --out, as this one holds the steps captured before"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// The loss.
        loss: f64,
    },
    /// A captured step could not be written.
    #[error("{0}; make room and go on with --resume, or let training go on with --on-capture-error continue")]
    Capture(TraceError),
    /// The trace could not be written.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// libtorch refused.
    #[error("libtorch: {0}")]
    Torch(String),
}

impl From<tch::TchError> for TracerError {
    fn from(error: tch::TchError) -> Self {
        // What follows is the stack of the library.
        Self::Torch(error.to_string().lines().next().unwrap_or_default().to_owned())
    }
}

/// The result of a tracer operation.
pub type Result<T> = std::result::Result<T, TracerError>;
