//! How far a long command is: a bar on a terminal, a line every half minute elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Display;
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// How long a command that is not on a terminal says nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// Progress on stderr.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    /// Prints lines until it is dropped; none on a terminal, or where nothing is to be said.
    lines: Mutex<Option<Ticker>>,
}

impl Progress {
    /// Progress that nobody sees.
    pub fn hidden() -> Self {
        Self { bar: ProgressBar::hidden(), lines: Mutex::new(None) }
    }

    /// Counts `things` up to `length` while something is done to them.
    pub fn new(length: usize, doing: &'static str, things: &'static str) -> Self {
        let bar = ProgressBar::new(length as u64).with_prefix(doing);
        let style = format!("{{prefix}} {{wide_bar}} {{pos}}/{{len}} {things}, {{msg}} (left: {{eta}})");
        bar.set_style(ProgressStyle::with_template(&style).expect("the template is well-formed"));
        let shown = bar.clone();
        let ticker = bar.is_hidden().then(|| Ticker::start(SILENCE, move || eprintln!("{}", line(&shown, things))));
        Self { bar, lines: Mutex::new(ticker) }
    }

    /// Says that `count` more are done, or begun.
    pub fn advance(&self, count: u64, message: impl Display) {
        self.bar.inc(count);
        self.bar.set_message(message.to_string());
    }

    /// Says how many are done.
    pub fn set(&self, position: u64, message: impl Display) {
        self.bar.set_position(position);
        self.bar.set_message(message.to_string());
    }

    /// Begins in the middle: time that is left is reckoned from here.
    pub fn start_at(&self, position: u64) {
        self.bar.set_position(position);
        self.bar.reset_eta();
    }

    /// Prints a line above the bar.
    pub fn print(&self, line: impl Display) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Removes the bar, and prints no more lines.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
        *self.lines.lock().expect("no thread panics while it holds this") = None;
    }
}

/// The line that says how far it is.
fn line(bar: &ProgressBar, things: &str) -> String {
    let (doing, position, length) = (bar.prefix(), bar.position(), bar.length().unwrap_or(0));
    let message = bar.message();
    let separator = if message.is_empty() { "" } else { ", " };
    format!("{doing}: {position} of {length} {things}{separator}{message}")
}

/// A thread that does something again and again, until this is dropped.
#[derive(Debug)]
struct Ticker {
    /// The thread ends when this is gone.
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
    fn a_line_says_how_far_it_is() {
        let progress = Progress::new(40, "replaying", "layers");
        progress.advance(12, "step 3, conv1");
        assert_eq!(line(&progress.bar, "layers"), "replaying: 12 of 40 layers, step 3, conv1");
        progress.set(40, "");
        assert_eq!(line(&progress.bar, "layers"), "replaying: 40 of 40 layers");
    }

    #[test]
    fn lines_come_while_nothing_advances_and_end_with_it() {
        let (said, heard) = mpsc::channel();
        let ticker = Ticker::start(Duration::from_millis(1), move || said.send(()).expect("the test listens"));
        heard.recv().expect("a first line");
        heard.recv().expect("a second line");
        drop(ticker);
        // The thread drops its sender when it ends.
        while heard.recv().is_ok() {}
    }
}
