//! Where a layer's data come from.

/// A layer of a captured step.
#[derive(Clone, Copy)]
pub struct Place {
    /// The training step.
    pub step: u64,
    /// The layer's place in execution order.
    pub layer_index: usize,
    /// Samples of the step.
    pub batch: u32,
}
