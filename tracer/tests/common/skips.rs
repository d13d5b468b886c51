//! Says that a test was skipped, where CI looks for it. Shared by the tests of the library and of the binary.

use std::fs::OpenOptions;
use std::io::Write;
use std::panic::Location;

/// Reports that the calling test, or a part of it, is skipped.
///
/// The line `SKIPPED tracer::NAME: reason` goes to stderr, past the capture of `cargo test`, and is appended to
/// the file that `MERCURY_SKIPS` names. NAME is the test's, or the caller's place in the source where
/// `--test-threads=1` runs tests on the main thread.
#[track_caller]
pub fn report_skip(reason: &str) {
    let caller = Location::caller();
    let thread = std::thread::current();
    let place = format!("{}:{}", caller.file(), caller.line());
    let name = thread.name().filter(|&name| name != "main").unwrap_or(&place);
    let line = format!("SKIPPED tracer::{name}: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    if let Some(path) = std::env::var_os("MERCURY_SKIPS") {
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}
