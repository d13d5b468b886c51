//! Where a command's output goes: to a terminal, or to the program that runs the command.

use crate::export::{self, Format};
use crate::stop::Stop;
use anyhow::Result;
use mercury_cli::{Messages, Progress};
use polars::prelude::DataFrame;
use std::fmt::Display;
use std::io::Write;

/// Receives a command's messages and results.
pub trait Host: Sync {
    /// Takes a note.
    fn note(&self, text: &str);

    /// Takes a warning.
    fn warn(&self, text: &str);

    /// Takes one of several faults, which an error sums up.
    fn report(&self, fault: &str);

    /// Begins the progress of an activity over `length` things.
    fn progress(&self, length: usize, activity: &'static str, things: &'static str) -> Progress;

    /// Takes the command's text.
    fn text(&self, text: &str) -> Result<()>;

    /// Takes the command's table, to be shown in a format.
    fn table(&self, frame: &DataFrame, format: Format) -> Result<()>;

    /// The request to stop.
    fn stop(&self) -> &Stop;
}

/// Notes, warnings and progress on stderr, text and tables on stdout. It never asks to stop.
#[derive(Debug)]
pub struct Terminal {
    messages: Messages,
    stop: Stop,
}

impl Terminal {
    /// A terminal that shows messages of this level.
    pub fn new(messages: Messages) -> Self {
        Self { messages, stop: Stop::default() }
    }
}

impl Host for Terminal {
    fn note(&self, text: &str) {
        self.messages.note(text);
    }

    fn warn(&self, text: &str) {
        self.messages.warn(text);
    }

    fn report(&self, fault: &str) {
        eprintln!("{fault}");
    }

    fn progress(&self, length: usize, activity: &'static str, things: &'static str) -> Progress {
        self.messages.progress(length, activity, things)
    }

    fn text(&self, text: &str) -> Result<()> {
        Ok(std::io::stdout().write_all(text.as_bytes())?)
    }

    fn table(&self, frame: &DataFrame, format: Format) -> Result<()> {
        Ok(std::io::stdout().write_all(&export::encode(frame, format)?)?)
    }

    fn stop(&self) -> &Stop {
        &self.stop
    }
}

/// A host, with what commands call.
#[derive(Clone, Copy)]
pub struct Console<'h>(&'h dyn Host);

impl<'h> Console<'h> {
    /// A console of this host.
    pub fn new(host: &'h dyn Host) -> Self {
        Self(host)
    }

    /// Gives a note.
    pub fn note(self, text: impl Display) {
        self.0.note(&text.to_string());
    }

    /// Gives a warning.
    pub fn warn(self, text: impl Display) {
        self.0.warn(&text.to_string());
    }

    /// Lists one of several faults.
    pub fn report(self, fault: impl Display) {
        self.0.report(&fault.to_string());
    }

    /// Begins the progress of an activity over `length` things.
    pub fn progress(self, length: usize, activity: &'static str, things: &'static str) -> Progress {
        self.0.progress(length, activity, things)
    }

    /// Gives the command's text.
    pub fn print(self, text: &str) -> Result<()> {
        self.0.text(text)
    }

    /// Gives the command's table, to be shown in a format.
    pub fn print_table(self, frame: &DataFrame, format: Format) -> Result<()> {
        self.0.table(frame, format)
    }

    /// The request to stop.
    pub fn stop(self) -> &'h Stop {
        self.0.stop()
    }
}
