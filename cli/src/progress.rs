//! How far a long command is: a bar on a terminal, a line every half minute elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Display;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long a command that is not on a terminal says nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// Progress on stderr.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    things: &'static str,
    /// When a line was last printed; none where no lines are wanted.
    last_line: Mutex<Option<Instant>>,
}

impl Progress {
    /// Progress that nobody sees.
    pub fn hidden() -> Self {
        Self { bar: ProgressBar::hidden(), things: "", last_line: Mutex::new(None) }
    }

    /// Counts `things` up to `length` while something is done to them.
    pub fn new(length: usize, doing: &'static str, things: &'static str) -> Self {
        let bar = ProgressBar::new(length as u64).with_prefix(doing);
        let style = format!("{{prefix}} {{wide_bar}} {{pos}}/{{len}} {things}, {{msg}} (left: {{eta}})");
        bar.set_style(ProgressStyle::with_template(&style).expect("the template is well-formed"));
        let last_line = Mutex::new(bar.is_hidden().then(Instant::now));
        Self { bar, things, last_line }
    }

    /// Says that `count` more are done, or begun.
    pub fn advance(&self, count: u64, message: impl Display) {
        self.bar.inc(count);
        self.show(message);
    }

    /// Says how many are done.
    pub fn set(&self, position: u64, message: impl Display) {
        self.bar.set_position(position);
        self.show(message);
    }

    /// Begins in the middle: time that is left is reckoned from here.
    pub fn start_at(&self, position: u64) {
        self.bar.set_position(position);
        self.bar.reset_eta();
    }

    fn show(&self, message: impl Display) {
        self.bar.set_message(message.to_string());
        if let Some(line) = self.line_if_due(Instant::now()) {
            eprintln!("{line}");
        }
    }

    fn line_if_due(&self, now: Instant) -> Option<String> {
        let mut last = self.last_line.lock().expect("no thread panics while it holds this");
        let before = (*last)?;
        if now.saturating_duration_since(before) < SILENCE {
            return None;
        }
        *last = Some(now);
        let (position, length) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let message = self.bar.message();
        let separator = if message.is_empty() { "" } else { ", " };
        Some(format!("{}: {position} of {length} {}{separator}{message}", self.bar.prefix(), self.things))
    }

    /// Prints a line above the bar.
    pub fn print(&self, line: impl Display) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_every_half_minute_where_there_is_no_terminal() {
        // Tests may run on a terminal, where there would be no lines.
        let start = Instant::now();
        let progress = Progress { last_line: Mutex::new(Some(start)), ..Progress::new(40, "replaying", "layers") };
        let seconds = |seconds| start + Duration::from_secs(seconds);
        progress.bar.inc(12);
        progress.bar.set_message("step 3, conv1");
        assert_eq!(progress.line_if_due(seconds(29)), None);
        let line = progress.line_if_due(seconds(30)).expect("it is due");
        assert_eq!(line, "replaying: 12 of 40 layers, step 3, conv1");
        assert_eq!(progress.line_if_due(seconds(59)), None);
        progress.bar.set_message("");
        assert_eq!(progress.line_if_due(seconds(61)).as_deref(), Some("replaying: 12 of 40 layers"));
        assert_eq!(Progress::hidden().line_if_due(seconds(1000)), None);
    }
}
