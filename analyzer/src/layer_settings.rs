//! The settings that each layer ends up with.

use crate::config::Config;
use crate::result::Settings;
use mercury_trace::geometry::Pass;
use mercury_trace::layers::Layer;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The settings of a layer's passes that share signatures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerSettings {
    /// Number of the configuration.
    pub configuration: usize,
    /// The layer's name.
    pub layer: String,
    /// The pass whose vectors are signed: `forward`, whose signatures the weight gradient shares, or `input-grad`.
    pub pass: Pass,
    /// Passes with reuse.
    pub reuse: Vec<Pass>,
    /// Signature length before signatures grow, without the bits of a magnitude.
    pub bits: u32,
    /// The other settings.
    #[serde(flatten)]
    pub settings: Settings,
}

/// Lists the settings of all layers under a configuration, by layer and pass.
pub fn list_layer_settings(number: usize, config: &Config, layers: &[Layer]) -> Vec<LayerSettings> {
    let config = Arc::new(config.clone());
    let mut rows = Vec::new();
    for layer in layers {
        let configs = config.layer_configs(&layer.name, 0);
        let groups = [(Pass::Forward, &[Pass::Forward, Pass::WeightGrad][..]), (Pass::InputGrad, &[Pass::InputGrad])];
        for (pass, group) in groups {
            if !layer.trains(pass) {
                continue;
            }
            let own = configs.pass(pass);
            rows.push(LayerSettings {
                configuration: number,
                layer: layer.name.clone(),
                pass,
                reuse: group
                    .iter()
                    .copied()
                    .filter(|&pass| layer.trains(pass) && own.reuse.passes.contains(&pass))
                    .collect(),
                bits: own.rpq.bits,
                settings: Settings::new(own, &layer.geometry),
            });
        }
    }
    rows
}

/// A value of a setting, as a configuration file has it without quotes.
pub fn format_setting(value: &impl Serialize) -> String {
    match serde_json::to_value(value).expect("settings are numbers and words") {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}
