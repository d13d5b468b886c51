//! Errors of configurations and topology files.

use mercury_trace::TraceError;
use std::path::PathBuf;

/// An error that names the file or flag, the field and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HardwareError {
    /// The file could not be read.
    #[error(transparent)]
    Input(#[from] TraceError),
    /// No preset has this name.
    #[error("{0}")]
    Preset(String),
    /// The configuration is not valid.
    #[error("configuration ({origin}): {reason}")]
    Config {
        /// The file, or another origin of the configuration.
        origin: String,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// The configuration does not fit the layers of the model.
    #[error("{reason}")]
    Layers {
        /// What does not fit, and the remedy.
        reason: String,
    },
    /// The topology file is not valid. SCALE-Sim would not read it either.
    #[error("{}: line {line}: {reason}", path.display())]
    Topology {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
}

/// The result of reading a configuration or a topology.
pub type Result<T> = std::result::Result<T, HardwareError>;
