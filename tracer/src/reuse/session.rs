//! A configuration of reuse over the steps of a run.

use super::{LayersOff, NamedConfig};
use mercury_hardware::config::{Config, LayerConfigs};
use mercury_hardware::switch::Switch;
use mercury_passes::Room;
use mercury_reuse::{Growth, grow};
use mercury_trace::geometry::Pass;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A configuration and its state between steps: the signature length in force and the layers that
/// are switched off.
#[derive(Debug)]
pub struct Session {
    configuration: NamedConfig,
    config: Arc<Config>,
    off: Vec<LayersOff>,
    growth: Growth,
    switch: Switch<String>,
    /// Layers that were switched off, each after the step before it.
    switched_off: Vec<(u64, String)>,
    /// Memory for operands, which the taps of all steps use.
    room: Arc<Mutex<Room>>,
}

impl Session {
    /// Starts a session; layers that match `off` are computed without reuse.
    pub fn new(configuration: NamedConfig, off: Vec<LayersOff>) -> Self {
        let config = Arc::new(configuration.config.clone());
        let growth = Growth::new(&config.bits);
        let switch = Switch::new(config.stop.window);
        Self { configuration, config, off, growth, switch, switched_off: Vec::new(), room: Arc::default() }
    }

    /// The configuration.
    pub fn configuration(&self) -> &NamedConfig {
        &self.configuration
    }

    /// Bits of a signature in force, in layers without settings of their own.
    pub fn signature_bits(&self) -> u32 {
        let rpq = &self.config.rpq;
        grow(rpq, &self.config.bits, self.growth.grown_bits()) + rpq.variant.magnitude_bits()
    }

    /// Layers that were switched off, each with the step after which it was.
    pub fn switched_off(&self) -> &[(u64, String)] {
        &self.switched_off
    }

    /// Records the loss of a training step: signatures grow while the loss stands still.
    pub fn record_loss(&mut self, loss: f64) {
        self.growth.step(loss);
    }

    /// Records the cycles of a measured step: per pass, the layer's name and the cycles without and
    /// with reuse.
    ///
    /// Layers for which reuse does not pay run without it from now on. Returns their names.
    pub fn record_cycles<'r>(
        &mut self,
        step: u64,
        passes: impl IntoIterator<Item = (&'r str, [u64; 2])>,
    ) -> Vec<String> {
        let mut layers: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
        for (layer, cycles) in passes {
            let sum = layers.entry(layer).or_default();
            sum.iter_mut().zip(cycles).for_each(|(sum, cycles)| *sum += cycles);
        }
        let mut newly_off = Vec::new();
        for (layer, cycles) in layers {
            self.switch.step(layer.to_owned(), cycles);
            if self.switch.is_off(layer) {
                newly_off.push(layer.to_owned());
            }
        }
        self.switched_off.extend(newly_off.iter().map(|layer| (step, layer.clone())));
        newly_off
    }

    /// Whether a layer is computed with reuse in a step.
    pub(super) fn is_on(&self, layer: &str, step: u64) -> bool {
        let reuses = !self.layer_configs(layer).pass(Pass::Forward).reuse.passes.is_empty();
        reuses && !self.off.iter().any(|off| off.applies_to(layer, step)) && !self.switch.is_off(layer)
    }

    /// The memory for operands.
    pub(super) fn room(&self) -> Arc<Mutex<Room>> {
        Arc::clone(&self.room)
    }

    /// The configurations of a layer's passes, with the signature length in force.
    pub(super) fn layer_configs(&self, layer: &str) -> LayerConfigs {
        self.config.layer_configs(layer, self.growth.grown_bits())
    }
}
