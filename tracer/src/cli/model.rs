//! Flags that say what is trained.

use super::globs::build_globs;
use crate::error::Result;
use crate::models::{MODELS, ModelSpec};
use crate::pretrained::{self, Fresh};
use crate::weights::Weights;
use clap::Args;
use clap::builder::PossibleValuesParser;
use mercury_cli::Messages;
use serde::Serialize;
use std::path::PathBuf;

/// What is trained.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Model")]
pub struct ModelFlags {
    /// Model to train; `mercury-tracer models` lists them.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(MODELS.iter().map(|model| model.name)))]
    pub model: String,
    #[command(flatten)]
    #[serde(flatten)]
    pub size: SizeFlags,
    /// Begin with these weights: a safetensors file, or a state dictionary of PyTorch's (.pth, .pt), with PyTorch's
    /// parameter names.
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Leave parameters whose names match as they begin, though --weights has them: `--fresh "fc.*"` for
    /// another number of classes; can be given more than once.
    #[arg(long, value_name = "GLOB", requires = "weights")]
    pub fresh: Vec<String>,
    /// Write the weights after the last step, as a safetensors file with PyTorch's parameter names.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub save: Option<PathBuf>,
}

impl ModelFlags {
    /// Loads `--weights`, if they were given, and says what was taken.
    pub fn load_weights(&self, weights: &Weights, messages: Messages) -> Result<()> {
        if let Some(path) = &self.weights {
            let fresh = Fresh::new(self.fresh.clone(), build_globs("--fresh", &self.fresh)?);
            messages.note(pretrained::load(weights, path, &fresh)?);
        }
        Ok(())
    }
}

/// How large a model is that comes in sizes.
#[derive(Debug, Args, Serialize)]
pub struct SizeFlags {
    /// Columns of an embedding of the Transformer, a multiple of 64 [default: 512, the base model], or of
    /// a VGG's two hidden fully connected layers, which begin by He et al.'s initialisation if they are
    /// narrower than published [default: 4096].
    #[arg(long, value_name = "N")]
    pub width: Option<i64>,
    /// Transformer: layers of the encoder, and of the decoder [default: 6, the base model].
    #[arg(long, value_name = "N")]
    pub depth: Option<u32>,
}

impl SizeFlags {
    /// Returns the model in this size.
    pub fn resize(&self, model: &ModelSpec) -> Result<ModelSpec> {
        model.sized(self.width, self.depth)
    }
}
