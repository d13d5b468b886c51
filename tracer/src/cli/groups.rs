//! Flags of groups of parameters.

use crate::error::Result;
use crate::groups::{GroupRate, ParameterGroups};
use crate::models::Outline;
use clap::Args;
use mercury_cli::Messages;
use mercury_trace::geometry::Pass;
use mercury_trace::layers::Layer;
use serde::Serialize;

/// Flags of groups of parameters.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Training")]
pub struct GroupFlags {
    /// Do not train matching parameters (PyTorch's names), such as `--freeze "features.*"`; can be
    /// repeated. As in PyTorch, batch normalisation still updates its running statistics.
    #[arg(long, value_name = "GLOB")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
    /// Maximum learning rate of matching parameters instead of --lr, such as `--group-lr
    /// "fc.*=0.01"`, with the same warm-up and schedule; can be repeated, and the last match counts.
    #[arg(long, value_name = "GLOB=X")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group_lr: Vec<GroupRate>,
}

impl GroupFlags {
    /// Compiles the patterns.
    pub fn compile(&self) -> Result<ParameterGroups> {
        ParameterGroups::new(&self.freeze, &self.group_lr)
    }

    /// Prints the effect of `--freeze`.
    pub fn announce(&self, outline: &Outline, messages: Messages) {
        if self.freeze.is_empty() {
            return;
        }
        let count_without = |pass| outline.layers.iter().filter(|layer| !layer.trains(pass)).count();
        messages.note(format_args!(
            "training {} of {} parameters; of {} layers, {} have no weight gradient and {} no input gradient",
            outline.trained,
            outline.parameters,
            outline.layers.len(),
            count_without(Pass::WeightGrad),
            count_without(Pass::InputGrad)
        ));
    }

    /// Warns of kept passes that no captured layer computes because of `--freeze`.
    pub fn warn_of_missing_passes(&self, captured: &[&Layer], passes: &[Pass], messages: Messages) {
        if self.freeze.is_empty() {
            return;
        }
        let is_missing = |pass: &&Pass| !captured.iter().any(|layer| layer.trains(**pass));
        let missing: Vec<&str> = passes.iter().filter(is_missing).map(|pass| pass.name()).collect();
        if !missing.is_empty() {
            let missing = missing.join(" and ");
            messages.warn(format_args!("with --freeze, no captured layer has {missing}, so the trace has none"));
        }
    }
}
