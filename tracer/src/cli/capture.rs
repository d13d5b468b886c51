//! `capture`: trains and writes a trace.

use super::run::RunFlags;
use anyhow::Result;
use clap::Args;
use mercury_cli::Messages;

/// Train a model and capture the operands of its layers.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  mercury-tracer capture --model vgg13 --dataset fashion-mnist --out trace --steps 101 \
                        --capture every=50 --samples 8 --filters 32"
)]
pub struct Capture {
    #[command(flatten)]
    pub run: RunFlags,
}

impl Capture {
    /// Trains, writes the trace and prints the results.
    pub fn run(mut self, messages: Messages) -> Result<()> {
        self.run.messages = messages;
        self.run.run()
    }
}
