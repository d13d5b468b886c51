//! The extension module `mercury_lab._native`: the analyzer's commands and the trace writer, for Python.
//!
//! It holds no second implementation of the format, of a HIT or of a cycle, and never links libtorch.

// Python hands arguments over by value.
#![allow(clippy::needless_pass_by_value)]

mod command;
mod dlpack;
mod reuse;
mod table;
mod team;
mod writer;

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use std::ffi::OsString;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

create_exception!(
    mercury_lab,
    MercuryError,
    PyException,
    "Invalid input, or a failure that the message explains: the message that the command line prints."
);

/// Raises the error's message.
fn raise(error: impl Display) -> PyErr {
    // anyhow's and clap's messages in full, on as few lines as the command line has.
    MercuryError::new_err(format!("{error:#}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the program `mercury-analyzer` with these arguments, the first of which is its name; returns its exit code.
#[pyfunction]
fn run_analyzer(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| mercury_analyzer::cli::main(arguments))
}

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::MercuryError;
    #[pymodule_export]
    use super::command::{Output, run_command};
    #[pymodule_export]
    use super::reuse::{PyDeviation, ReuseCall, ReuseLayer, ReuseLoop, write_measurements, write_projection};
    #[pymodule_export]
    use super::run_analyzer;
    #[pymodule_export]
    use super::table::{ParquetTable, Table, read_table};
    #[pymodule_export]
    use super::team::share_openmp;
    #[pymodule_export]
    use super::writer::{CaptureWriter, Reservoir, choose_kept, count_macs, parse_bytes, step_bytes, step_seed};
}
