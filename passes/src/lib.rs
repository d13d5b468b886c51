//! The forward pass, input gradient and weight gradient of a layer with reuse, on plain memory.
//!
//! Copying the results of representatives is the same as multiplying an operand in which HITs are
//! replaced. `mercury-reuse` chooses the replacements and writes that operand as a matrix; this
//! crate multiplies it. It knows no deep-learning framework: a training loop hands X, W and dY over
//! as slices of f32 and gets Y, dX and dW.
//!
//! Shapes are those of the trace: X is `[samples][channels][height][width]`,
//! `[samples][rows][in_features]` or `[samples][heads][rows][inner]`; dY likewise; W is
//! `[filters][channels / groups][kernel height][kernel width]`, `[out_features][in_features]` or
//! `[samples][heads][columns][inner]`.

mod convolution;
mod copies;
mod matrix;
mod pass;
mod rows;
mod state;

pub use pass::{PassOutcomes, Reuse, Streamed};
pub use state::LoopState;

/// The most values of a matrix that is multiplied at once, unless one sample has more. They fit into
/// a CPU's last-level cache.
const VALUES_AT_A_TIME: usize = 1 << 17;

/// Memory that successive passes use again. It keeps the size of the largest layer.
#[derive(Debug, Default)]
pub struct Room {
    /// The substituted operand of a few samples, or the padded operand of all.
    operand: Vec<f32>,
    /// A product, or a gradient in the order of a product.
    product: Vec<f32>,
}

/// Takes memory for some values, which may hold any.
fn take(memory: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if memory.len() < length {
        memory.resize(length, 0.0);
    }
    &mut memory[..length]
}
