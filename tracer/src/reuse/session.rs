//! A configuration of reuse over the steps of a run.

use super::{LayersOff, NamedConfig};
use mercury_hardware::config::LayerConfigs;
use mercury_passes::{LoopState, Room};
use std::sync::{Arc, Mutex};

/// A configuration, its state between steps, and the layers that the user switched off.
#[derive(Debug)]
pub struct Session {
    configuration: NamedConfig,
    off: Vec<LayersOff>,
    state: LoopState,
    /// Memory for operands, which the taps of all steps use.
    room: Arc<Mutex<Room>>,
}

impl Session {
    /// Starts a session; layers that match `off` are computed without reuse.
    pub fn new(configuration: NamedConfig, off: Vec<LayersOff>) -> Self {
        let state = LoopState::new(configuration.config.clone());
        Self { configuration, off, state, room: Arc::default() }
    }

    /// The configuration.
    pub fn configuration(&self) -> &NamedConfig {
        &self.configuration
    }

    /// Bits of a signature in force, in layers without settings of their own.
    pub fn signature_bits(&self) -> u32 {
        self.state.signature_bits()
    }

    /// Layers that were switched off, each with the step after which it was.
    pub fn switched_off(&self) -> &[(u64, String)] {
        self.state.switched_off()
    }

    /// Records the loss of a training step: signatures grow while the loss stands still.
    pub fn record_loss(&mut self, loss: f64) {
        self.state.record_loss(loss);
    }

    /// Records the cycles of a measured step, see [`LoopState::record_cycles`].
    pub fn record_cycles<'r>(
        &mut self,
        step: u64,
        passes: impl IntoIterator<Item = (&'r str, [u64; 2])>,
    ) -> Vec<String> {
        self.state.record_cycles(step, passes)
    }

    /// Whether a layer is computed with reuse in a step.
    pub(super) fn is_on(&self, layer: &str, step: u64) -> bool {
        self.state.is_on(layer) && !self.off.iter().any(|off| off.applies_to(layer, step))
    }

    /// The memory for operands.
    pub(super) fn room(&self) -> Arc<Mutex<Room>> {
        Arc::clone(&self.room)
    }

    /// The configurations of a layer's passes, with the signature length in force.
    pub(super) fn layer_configs(&self, layer: &str) -> LayerConfigs {
        self.state.layer_configs(layer)
    }
}
