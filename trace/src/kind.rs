//! The kinds of tensors of a layer.

use serde::{Deserialize, Serialize};

/// A kind of tensor of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TensorKind {
    /// X, the layer's input.
    Input,
    /// dY, the gradient of the loss with respect to the layer's output.
    GradOutput,
    /// W, the layer's filters, or the right operand of a product of two activations.
    Weight,
}

impl TensorKind {
    /// The file's name without its suffix.
    pub fn name(self) -> &'static str {
        match self {
            TensorKind::Input => "input",
            TensorKind::GradOutput => "grad_output",
            TensorKind::Weight => "weight",
        }
    }
}
