//! Shared helpers of all crates' tests.

#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::io::Write;
use std::panic::Location;

/// Reports that the calling test, or a part of it, is skipped.
///
/// It writes the line `SKIPPED CRATE::NAME: reason` to stderr, which `cargo test` does not capture,
/// and appends it to the file that `MERCURY_SKIPS` names, for `scripts/run_tests.py`. NAME is the
/// test's name. With `--test-threads=1`, tests run on the main thread, and NAME is the caller's
/// place in the source.
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
        // One write per line keeps lines whole when several processes append.
        file.write_all(line.as_bytes()).expect("MERCURY_SKIPS can be written");
    }
}
