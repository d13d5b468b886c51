//! What reuse in a training loop knows between steps.

use mercury_hardware::config::{Config, LayerConfigs};
use mercury_hardware::switch::Switch;
use mercury_reuse::{Growth, grow};
use mercury_trace::geometry::Pass;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A configuration, the signature length in force and the layers that are switched off.
#[derive(Debug, Clone)]
pub struct LoopState {
    config: Arc<Config>,
    growth: Growth,
    switch: Switch<String>,
    switched_off: Vec<(u64, String)>,
}

impl LoopState {
    /// The state before the first step.
    pub fn new(config: Config) -> Self {
        let (growth, switch) = (Growth::new(&config.bits), Switch::new(config.stop.window));
        Self { config: Arc::new(config), growth, switch, switched_off: Vec::new() }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
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

    /// Whether a layer is computed with reuse in any pass.
    pub fn is_on(&self, layer: &str) -> bool {
        let reuses = !self.layer_configs(layer).pass(Pass::Forward).reuse.passes.is_empty();
        reuses && !self.switch.is_off(layer)
    }

    /// The configurations of a layer's passes, with the signature length in force.
    pub fn layer_configs(&self, layer: &str) -> LayerConfigs {
        self.config.layer_configs(layer, self.growth.grown_bits())
    }
}
