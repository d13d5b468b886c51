//! Flags of the model.

use crate::error::Result;
use crate::models::{MODELS, ModelSpec};
use crate::patterns::NamePatterns;
use crate::pretrained;
use crate::weights::Weights;
use clap::Args;
use clap::builder::PossibleValuesParser;
use mercury_cli::Messages;
use serde::Serialize;
use std::path::PathBuf;

/// Flags of the model.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Model")]
pub struct ModelFlags {
    /// Model to train; `mercury-tracer models` lists them.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(MODELS.iter().map(|model| model.name)))]
    pub model: String,
    #[command(flatten)]
    #[serde(flatten)]
    pub size: SizeFlags,
    /// Start from these weights: a safetensors file or a PyTorch state dictionary (.pth, .pt), with
    /// PyTorch's parameter names.
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Keep the initial values of matching parameters instead of those in --weights, such as
    /// `--fresh "fc.*"` for another number of classes; can be repeated.
    #[arg(long, value_name = "GLOB", requires = "weights")]
    pub fresh: Vec<String>,
    /// Write the final weights to a safetensors file with PyTorch's parameter names.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub save: Option<PathBuf>,
}

impl ModelFlags {
    /// Loads `--weights`, if given, and prints a summary.
    pub fn load_weights(&self, weights: &Weights, messages: Messages) -> Result<()> {
        if let Some(path) = &self.weights {
            let fresh = NamePatterns::new("--fresh", &self.fresh)?;
            messages.note(pretrained::load(weights, path, &fresh)?);
        }
        Ok(())
    }
}

/// Flags of the model's size.
#[derive(Debug, Args, Serialize)]
pub struct SizeFlags {
    /// Transformer: columns of an embedding, a multiple of 64 [default: 512, the base model]. VGG:
    /// columns of the two hidden fully connected layers [default: 4096]; narrower ones have the
    /// initialisation of He et al.
    #[arg(long, value_name = "N")]
    pub width: Option<i64>,
    /// Transformer: layers of the encoder and of the decoder [default: 6, the base model].
    #[arg(long, value_name = "N")]
    pub depth: Option<u32>,
}

impl SizeFlags {
    /// Returns the model in this size.
    pub fn resize(&self, model: &ModelSpec) -> Result<ModelSpec> {
        model.with_size(self.width, self.depth)
    }
}
