//! What is said beside the data: notes, progress and what happens inside, on stderr.

use crate::progress::Progress;
use clap::{ArgAction, Args};
use std::fmt::Display;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// How much is said.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Messages {
    /// Print data, warnings and errors alone: no notes, no progress.
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
            0 => LevelFilter::WARN,
            1 => LevelFilter::INFO,
            2 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        };
        // RUST_LOG, where it is set, goes first.
        let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time();
        // A second command in one process keeps the first one's level.
        let _ = subscriber.try_init();
    }

    /// Says something that is no data.
    pub fn note(self, text: impl Display) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// Prints a warning, which `--quiet` leaves in.
    pub fn warn(self, text: impl Display) {
        eprintln!("warning: {text}");
    }

    /// Progress of something that is done to so many things.
    pub fn progress(self, length: usize, doing: &'static str, things: &'static str) -> Progress {
        if self.quiet { Progress::hidden() } else { Progress::new(length, doing, things) }
    }
}
