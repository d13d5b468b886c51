//! What the tests of all crates share.

#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::io::Write;
use std::panic::Location;

/// Reports that the calling test, or a part of it, is skipped.
///
/// The line `SKIPPED CRATE::NAME: reason` goes to stderr, past the capture of `cargo test`, and is appended to the file
/// that `MERCURY_SKIPS` names, where `scripts/run_tests.py` finds it. NAME is the test's, or the caller's place in the
/// source where `--test-threads=1` runs tests on the main thread.
///
/// # Panics
/// If that file cannot be written.
#[track_caller]
pub fn report_skip(reason: &str) {
    let caller = Location::caller();
    let crate_folder = caller.file().split('/').next().unwrap_or_default();
    let thread = std::thread::current();
    let place = format!("{}:{}", caller.file(), caller.line());
    let name = thread.name().filter(|&name| name != "main").unwrap_or(&place);
    let line = format!("SKIPPED {crate_folder}::{name}: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("stderr can be written");
    if let Some(path) = std::env::var_os("MERCURY_SKIPS") {
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("MERCURY_SKIPS can be written");
        // One write per line, as tests of several processes append.
        file.write_all(line.as_bytes()).expect("MERCURY_SKIPS can be written");
    }
}
