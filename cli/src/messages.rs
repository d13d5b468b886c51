//! Messages on stderr: notes, warnings, progress and logs.

use crate::progress::Progress;
use clap::{ArgAction, Args};
use std::fmt::Display;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The level of messages.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Messages {
    /// Print only data, warnings and errors, without notes and progress.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Log internal steps; -vv logs more. `RUST_LOG` selects by module.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

impl Messages {
    /// Starts logging to stderr at the requested level.
    pub fn log(self) {
        let level = match self.verbose {
            0 => LevelFilter::WARN,
            1 => LevelFilter::INFO,
            2 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        };
        // RUST_LOG has precedence.
        let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time();
        // A second command in one process keeps the first one's level.
        let _ = subscriber.try_init();
    }

    /// Prints a note.
    pub fn note(self, text: impl Display) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// Prints a warning, even with `--quiet`.
    pub fn warn(self, text: impl Display) {
        eprintln!("warning: {text}");
    }

    /// Creates the progress of an activity over `length` things.
    pub fn progress(self, length: usize, activity: &'static str, things: &'static str) -> Progress {
        if self.quiet { Progress::hidden() } else { Progress::new(length, activity, things) }
    }
}
