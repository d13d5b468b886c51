//! `train`: a training run with reuse in the loop.

use super::reuse::ReuseFlags;
use super::run::RunFlags;
use anyhow::Result;
use clap::Args;
use mercury_cli::Messages;

/// Train a model with reuse in the loop, or try reuse beside a training without.
///
/// With --reuse every convolution, linear layer and attention product is computed as MERCURY would: the
/// forward pass from representatives, the input gradient with signatures of its own, the weight gradient
/// from the forward pass's groups. With --probe the training is plain, and at measured steps the same step
/// is computed with reuse, too. The folder --out is a trace; two tables in it, of measurements and of changes of
/// the loss, say what reuse did.
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
    /// Trains, writes the trace, prints what came of it.
    pub fn run(self, messages: Messages) -> Result<()> {
        let Self { mut run, reuse } = self;
        (run.reuse, run.messages) = (reuse, messages);
        run.run()
    }
}
