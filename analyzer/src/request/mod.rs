//! What is asked of a trace: which part of it, and what is measured.

mod selection;

pub use selection::Selection;

use crate::error::{AnalyzerError, Result};
use mercury_trace::Trace;
use mercury_trace::layers;
use mercury_trace::manifest::CapturedStep;
use serde::{Deserialize, Serialize};

/// The captured steps of a trace, of which there must be one at least.
pub fn captured_steps(trace: &Trace) -> Result<&[CapturedStep]> {
    match trace.manifest().captured.as_slice() {
        [] => Err(AnalyzerError::NothingCaptured { path: trace.dir().to_owned() }),
        steps => Ok(steps),
    }
}

/// What is measured beside outcomes and cycles, and where.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Measures {
    /// Layers, steps and passes.
    pub selection: Selection,
    /// Output errors.
    pub errors: ErrorMode,
    /// Bounds and competitors.
    pub bounds: bool,
}

/// How much of the outputs is evaluated for output errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorMode {
    /// Some output positions, drawn until sampling widens the 95 % interval by no more than 2 % of the error to either
    /// side; of a weight gradient, the filters that a pilot on the first sample asks for.
    #[default]
    Sampled,
    /// The same, up to 5 % of the error: enough to tell settings apart, in a fraction of the time.
    Rough,
    /// All that was captured.
    All,
    /// Nothing: there are no errors.
    None,
}

impl ErrorMode {
    /// Half the width that sampling may give the 95 % interval of a relative error, as a part of the error; `None` if
    /// nothing is sampled.
    pub fn precision(self) -> Option<f64> {
        match self {
            Self::Sampled => Some(0.02),
            Self::Rough => Some(0.05),
            Self::All | Self::None => None,
        }
    }

    /// Whether there are no errors.
    pub fn is_none(self) -> bool {
        self == ErrorMode::None
    }
}

/// A layer of a captured step: what is read, and done, at a time.
pub struct Unit<'a> {
    /// The step.
    pub step: &'a CapturedStep,
    /// The layer's place in execution order.
    pub layer_index: usize,
    /// The layer.
    pub layer: &'a layers::Layer,
}
