//! `train`: trains with reuse in the loop.

use super::reuse::ReuseFlags;
use super::run::RunFlags;
use anyhow::Result;
use clap::Args;
use mercury_cli::Messages;

/// Train a model with reuse in the loop, or compare a training without reuse with reuse.
///
/// With --reuse, every convolution, linear layer and attention product is computed as MERCURY
/// computes it. The forward pass uses representatives, the input gradient has its own signatures,
/// and the weight gradient uses the groups of the forward pass.
///
/// With --probe, the training has no reuse; measured steps are computed again with reuse.
///
/// The folder --out is a trace with two more tables: `measurements.parquet` and `loss_changes.parquet`.
///
/// Examples:
///   mercury-tracer train --model vgg13 --dataset cifar10 --out with --steps 400 --reuse mercury.toml
///   mercury-tracer train --model vgg13 --dataset cifar10 --out beside --steps 400 --probe mercury.toml
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, mut_arg("capture", |arg| arg.default_value("none")))]
pub struct Train {
    #[command(flatten)]
    pub run: RunFlags,
    #[command(flatten)]
    reuse: ReuseFlags,
}

impl Train {
    /// Trains, writes the trace and prints the results.
    pub fn run(self, messages: Messages) -> Result<()> {
        let Self { mut run, reuse } = self;
        (run.reuse, run.messages) = (reuse, messages);
        run.run()
    }
}
