//! What is said beside the data: notes, progress and what happens inside, on stderr.

use clap::{ArgAction, Args};
use indicatif::{ProgressBar, ProgressStyle};
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
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    }

    /// Says something that is no data.
    pub fn note(self, text: impl Display) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// Whether notes are said.
    pub fn are_said(self) -> bool {
        !self.quiet
    }

    /// A bar that counts things while something is done to them; it shows on a terminal alone.
    pub fn progress_bar(self, length: usize, doing: &'static str, things: &str) -> ProgressBar {
        if self.quiet {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(length as u64).with_prefix(doing);
        let style = format!("{{prefix}} {{wide_bar}} {{pos}}/{{len}} {things}, {{msg}} (left: {{eta}})");
        bar.set_style(ProgressStyle::with_template(&style).expect("the template is well-formed"));
        bar
    }
}
