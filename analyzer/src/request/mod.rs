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
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measures {
    /// Layers, steps and passes.
    pub selection: Selection,
    /// Output errors.
    pub errors: Errors,
    /// Bounds and competitors.
    pub bounds: bool,
}

/// Which output errors are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Errors {
    /// None.
    None,
    /// Those of all captured outputs.
    Exact,
    /// Estimates with intervals from so many positions of the outputs of each product of a pass, spread
    /// evenly over its samples, two of each at least; of a weight gradient, from the streams that have so
    /// many vectors.
    Sampled(usize),
}

impl Errors {
    /// How many positions are looked at, if not all.
    pub fn most(self) -> Option<usize> {
        if let Errors::Sampled(most) = self { Some(most) } else { None }
    }

    /// Whether there are none.
    pub fn is_none(self) -> bool {
        self == Errors::None
    }
}

impl Default for Measures {
    fn default() -> Self {
        Self { selection: Selection::default(), errors: Errors::Exact, bounds: true }
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
