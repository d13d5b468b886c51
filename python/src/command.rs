//! Runs a command of the analyzer for a Python caller.

use crate::table::Table;
use crate::{MercuryError, raise};
use anyhow::Result;
use clap::Parser;
use mercury_analyzer::cli::{Cli, Console, Host};
use mercury_analyzer::export::Format;
use mercury_analyzer::stop::Stop;
use mercury_cli::{Progress, ProgressReader};
use polars::prelude::DataFrame;
use pyo3::prelude::*;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Time between two looks at signals and progress.
const LOOK: Duration = Duration::from_millis(50);

/// Time that a stopped command has to end. After it, the caller goes on while the command's thread ends by itself.
const END: Duration = Duration::from_millis(700);

/// Threads of commands that were asked to stop.
static STOPPED: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// A command's output.
#[pyclass(frozen, get_all)]
pub struct Output {
    /// The text that the command line prints, without the table.
    text: String,
    /// The table, if the command has one.
    table: Option<Py<Table>>,
    /// Notes of the command.
    notes: Vec<String>,
    /// Warnings of the command.
    warnings: Vec<String>,
    /// Whether a threshold of `compare` is crossed.
    crossed: bool,
}

/// Collects a command's messages and results.
#[derive(Default)]
struct Collector {
    collected: Mutex<Collected>,
    stop: Stop,
}

#[derive(Default)]
struct Collected {
    text: String,
    table: Option<DataFrame>,
    notes: Vec<String>,
    warnings: Vec<String>,
    faults: Vec<String>,
    progress: Option<(&'static str, &'static str, ProgressReader)>,
}

impl Collector {
    fn collected(&self) -> std::sync::MutexGuard<'_, Collected> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for Collector {
    fn note(&self, text: &str) {
        self.collected().notes.push(text.to_owned());
    }

    fn warn(&self, text: &str) {
        self.collected().warnings.push(text.to_owned());
    }

    fn report(&self, fault: &str) {
        self.collected().faults.push(fault.to_owned());
    }

    fn progress(&self, length: usize, activity: &'static str, things: &'static str) -> Progress {
        let progress = Progress::unshown(length);
        self.collected().progress = Some((activity, things, progress.reader()));
        progress
    }

    fn text(&self, text: &str) -> Result<()> {
        self.collected().text += text;
        Ok(())
    }

    fn table(&self, frame: &DataFrame, _format: Format) -> Result<()> {
        self.collected().table = Some(frame.clone());
        Ok(())
    }

    fn stop(&self) -> &Stop {
        &self.stop
    }
}

/// Runs a command on a thread of its own, so that Ctrl-C ends it.
///
/// `arguments` are those of `mercury-analyzer`, without its name. `progress` is called from time to time with the
/// activity, the kind of things, the number of things done and in all, and the latest of them.
#[pyfunction]
#[pyo3(signature = (arguments, progress=None))]
pub fn run_command(py: Python<'_>, arguments: Vec<String>, progress: Option<Py<PyAny>>) -> PyResult<Output> {
    wait_for_stopped(py)?;
    let words = std::iter::once("mercury-analyzer".to_owned()).chain(arguments);
    let cli = Cli::try_parse_from(words).map_err(|error| raise(describe_usage(&error)))?;
    let collector = Arc::new(Collector::default());
    let (sender, result) = sync_channel(1);
    let host = Arc::clone(&collector);
    let thread = thread::spawn(move || {
        // The receiver is gone if the caller did not wait for the end.
        let _ = sender.send(cli.run(Console::new(&*host)));
    });
    let ended = wait(py, &collector, &Mutex::new(result), progress.as_ref());
    let code = ended.inspect_err(|_| STOPPED.lock().unwrap_or_else(PoisonError::into_inner).push(thread))?;
    let Collected { text, table, notes, warnings, .. } = std::mem::take(&mut *collector.collected());
    let table = table.map(|frame| Py::new(py, Table::new(frame))).transpose()?;
    Ok(Output { text, table, notes, warnings, crossed: code != 0 })
}

/// Waits for commands that were stopped and did not end at once: they may hold the lock of the folder that comes next.
fn wait_for_stopped(py: Python<'_>) -> PyResult<()> {
    loop {
        let mut stopped = STOPPED.lock().unwrap_or_else(PoisonError::into_inner);
        stopped.retain(|thread| !thread.is_finished());
        if stopped.is_empty() {
            return Ok(());
        }
        drop(stopped);
        py.detach(|| thread::sleep(LOOK));
        py.check_signals()?;
    }
}

/// Waits for a command's end; forwards signals and progress meanwhile.
fn wait(
    py: Python<'_>,
    collector: &Collector,
    result: &Mutex<Receiver<Result<u8>>>,
    progress: Option<&Py<PyAny>>,
) -> PyResult<u8> {
    let mut shown = None;
    loop {
        let ended = py.detach(|| receive(result, LOOK));
        // A function of the caller may fail, and a signal may come while it runs.
        let progress_result = progress.map_or(Ok(()), |progress| show_progress(py, collector, progress, &mut shown));
        if let Err(error) = progress_result.and_then(|()| py.check_signals()) {
            collector.stop.request();
            // What the command still says does not matter.
            let _ = py.detach(|| receive(result, END));
            return Err(error);
        }
        match ended {
            Ok(Ok(code)) => return Ok(code),
            Ok(Err(error)) => {
                let mut message = collector.collected().faults.join("\n");
                message += if message.is_empty() { "" } else { "\n" };
                return Err(raise(format!("{message}{error:#}")));
            }
            Err(RecvTimeoutError::Timeout) => (),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(MercuryError::new_err("the command ended by a defect; its message is on stderr"));
            }
        }
    }
}

/// Waits for the result of a command. The lock is never contended; it lets a thread wait that is detached from Python.
fn receive(result: &Mutex<Receiver<Result<u8>>>, time: Duration) -> std::result::Result<Result<u8>, RecvTimeoutError> {
    result.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(time)
}

fn show_progress(
    py: Python<'_>,
    collector: &Collector,
    progress: &Py<PyAny>,
    shown: &mut Option<(&'static str, u64)>,
) -> PyResult<()> {
    let Some((activity, things, reader)) = collector.collected().progress.clone() else { return Ok(()) };
    let position = reader.position();
    if *shown != Some((activity, position)) {
        *shown = Some((activity, position));
        progress.call1(py, (activity, things, position, reader.length(), reader.message()))?;
    }
    Ok(())
}

/// The message of arguments that cannot be parsed, without clap's advice to ask for `--help`.
fn describe_usage(error: &clap::Error) -> String {
    let text = error.to_string();
    let message = text.split("\n\nUsage:").next().unwrap_or_default();
    let message = message.split("\n\nFor more information").next().unwrap_or_default();
    message.strip_prefix("error: ").unwrap_or(message).trim_end().to_owned()
}
