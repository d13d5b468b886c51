//! Progress of a long command: a bar on a terminal, a line every half minute elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt::Display;
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// Time between two lines without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// Progress on stderr.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    /// Prints lines until it is dropped; `None` on a terminal, and for hidden progress.
    lines: Mutex<Option<Ticker>>,
}

impl Progress {
    /// Creates progress that is not shown.
    pub fn hidden() -> Self {
        Self { bar: ProgressBar::hidden(), lines: Mutex::new(None) }
    }

    /// Creates progress that is not shown, over `length` things; a [`ProgressReader`] follows it.
    pub fn unshown(length: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(length as u64), ProgressDrawTarget::hidden());
        Self { bar, lines: Mutex::new(None) }
    }

    /// A view of the progress, for another thread.
    pub fn reader(&self) -> ProgressReader {
        ProgressReader(self.bar.clone())
    }

    /// Creates the progress of an activity, such as `training`, over `length` things.
    pub fn new(length: usize, activity: &'static str, things: &'static str) -> Self {
        let bar = ProgressBar::new(length as u64).with_prefix(activity);
        let style = format!("{{prefix}} {{wide_bar}} {{pos}}/{{len}} {things}, {{msg}} (left: {{eta}})");
        bar.set_style(ProgressStyle::with_template(&style).expect("the template is well-formed"));
        let shown = bar.clone();
        let print_line = move || eprintln!("{}", format_line(&shown, things));
        let ticker = bar.is_hidden().then(|| Ticker::start(LINE_INTERVAL, print_line));
        Self { bar, lines: Mutex::new(ticker) }
    }

    /// Adds `count` things that are done or started.
    pub fn advance(&self, count: u64, message: impl Display) {
        self.bar.inc(count);
        self.bar.set_message(message.to_string());
    }

    /// Sets the number of things that are done.
    pub fn set(&self, position: u64, message: impl Display) {
        self.bar.set_position(position);
        self.bar.set_message(message.to_string());
    }

    /// Starts at a position; the estimate of the remaining time starts there, too.
    pub fn start_at(&self, position: u64) {
        self.bar.set_position(position);
        self.bar.reset_eta();
    }

    /// Prints a line above the bar.
    pub fn print(&self, line: impl Display) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Removes the bar and stops printing lines.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
        *self.lines.lock().expect("no thread panics while it holds this") = None;
    }
}

/// A view of progress.
#[derive(Debug, Clone)]
pub struct ProgressReader(ProgressBar);

impl ProgressReader {
    /// Number of things that are done or started.
    pub fn position(&self) -> u64 {
        self.0.position()
    }

    /// Number of things.
    pub fn length(&self) -> u64 {
        self.0.length().unwrap_or(0)
    }

    /// The latest message.
    pub fn message(&self) -> String {
        self.0.message()
    }
}

/// Formats the line of the current progress.
fn format_line(bar: &ProgressBar, things: &str) -> String {
    let (activity, message) = (bar.prefix(), bar.message());
    let (position, length) = (bar.position(), bar.length().unwrap_or(0));
    let separator = if message.is_empty() { "" } else { ", " };
    format!("{activity}: {position} of {length} {things}{separator}{message}")
}

/// Calls a function repeatedly on a thread until it is dropped.
#[derive(Debug)]
struct Ticker {
    /// The thread ends when this sender is dropped.
    _stop: Sender<()>,
}

impl Ticker {
    fn start(every: Duration, tick: impl Fn() + Send + 'static) -> Self {
        let (stop, stopped) = mpsc::channel();
        thread::spawn(move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                tick();
            }
        });
        Self { _stop: stop }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_the_progress() {
        let progress = Progress::new(40, "replaying", "layers");
        progress.advance(12, "step 3, conv1");
        assert_eq!(format_line(&progress.bar, "layers"), "replaying: 12 of 40 layers, step 3, conv1");
        progress.set(40, "");
        assert_eq!(format_line(&progress.bar, "layers"), "replaying: 40 of 40 layers");
    }

    #[test]
    fn lines_repeat_until_the_ticker_is_dropped() {
        let (said, heard) = mpsc::channel();
        let ticker = Ticker::start(Duration::from_millis(1), move || said.send(()).expect("the test listens"));
        heard.recv().expect("a first line");
        heard.recv().expect("a second line");
        drop(ticker);
        // The thread drops its sender when it ends.
        while heard.recv().is_ok() {}
    }
}
