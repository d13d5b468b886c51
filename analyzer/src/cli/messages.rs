//! What is said beside the data: notes, progress and what happens inside, on stderr.

use clap::{ArgAction, Args};
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Display;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// How much is said.
#[derive(Debug, Clone, Copy, Args)]
pub struct Messages {
    /// Print data and errors alone: no notes, no progress.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say what happens inside; -vv says more. `RUST_LOG` chooses by module.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

impl Messages {
    /// Sends what happens inside to stderr, as far as it was asked for.
    pub fn log(self) {
        let level = match self.verbose {
            0 => LevelFilter::ERROR,
            1 => LevelFilter::INFO,
            2 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        };
        // RUST_LOG, where it is set, goes first.
        let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    }

    /// Says something that is no data.
    pub fn note(self, text: impl Display) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// A bar that counts layers; it shows on a terminal alone.
    pub fn progress_bar(self, layers: usize) -> ProgressBar {
        if self.quiet {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(layers as u64).with_prefix("replaying");
        let style = "{prefix} {wide_bar} {pos}/{len} layers, {msg} (left: {eta})";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is well-formed"));
        bar
    }
}
