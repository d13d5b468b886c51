//! What the tests of all crates share.

#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::io::Write;

/// Records that the running test returns without having tested anything, and why.
///
/// Prints `SKIPPED package::test: reason` on stderr, and appends the line to the file that `MERCURY_SKIPS` names, as
/// cargo hides what a passing test prints; `scripts/run_tests.py` collects these lines.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {
        $crate::record_skip(env!("CARGO_PKG_NAME"), &format!($($reason)*))
    };
}

/// What [`skip!`] expands to.
#[doc(hidden)]
pub fn record_skip(package: &str, reason: &str) {
    let thread = std::thread::current();
    let line = format!("SKIPPED {package}::{}: {reason}\n", thread.name().unwrap_or("?"));
    eprint!("{line}");
    if let Some(path) = std::env::var_os("MERCURY_SKIPS") {
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("MERCURY_SKIPS can be written");
        // One write a line, as tests of several processes append.
        file.write_all(line.as_bytes()).expect("MERCURY_SKIPS can be written");
    }
}
