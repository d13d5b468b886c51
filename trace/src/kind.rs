//! The tensors of a layer.

use serde::{Deserialize, Serialize};

/// Which tensor of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TensorKind {
    /// X, what the layer was given.
    Input,
    /// dY, the loss' gradient with respect to what it returned.
    GradOutput,
    /// W, its filters (of an attention product: its right operand).
    Weight,
}

impl TensorKind {
    /// The file's name without its ending.
    pub fn name(self) -> &'static str {
        match self {
            TensorKind::Input => "input",
            TensorKind::GradOutput => "grad_output",
            TensorKind::Weight => "weight",
        }
    }
}
