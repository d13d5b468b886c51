//! Malformed input: every kind of input file, broken in many ways, and the error for each.
//!
//! Each case must end with exit code 2, without a panic, within the memory of a small machine, and
//! without partial output.
#![cfg(unix)]

mod common;
#[path = "bad_input/results.rs"]
mod results;
#[path = "bad_input/texts.rs"]
mod texts;
#[path = "bad_input/trace.rs"]
mod trace;

use common::place::Place;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Limit of a command's address space, KiB; code and stacks take most of it.
const MEMORY: &str = "-v 3000000";

/// A description of the defect, a function that causes it, and the command that must refuse it.
type Case = (&'static str, fn(&Place), &'static str);

/// Runs all cases and returns their errors as one report; no case may leave results.
fn report(cases: &[Case], place: impl Fn() -> Place) -> String {
    let mut report = String::new();
    for (what, break_it, command) in cases {
        let place = place();
        break_it(&place);
        let output = place.limited(MEMORY, command);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{what}: {stderr}");
        assert!(output.stdout.is_empty(), "{what} printed data");
        assert!(!stderr.contains("panicked"), "{what}: {stderr}");
        assert!(!place.path("out").exists(), "{what} leaves something");
        report += &format!("# {what}\n{stderr}\n");
    }
    println!("figures: broken inputs: {} refused", cases.len());
    report
}

fn assert_report(name: &str, report: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter("[0-9a-f]{64}", "[sum]");
    settings.bind(|| insta::assert_snapshot!(name, report));
}

/// Replaces the file at `path` with a link.
fn link(path: &Path, to: &str) {
    fs::remove_file(path).unwrap();
    symlink(to, path).unwrap();
}

/// Replaces the file at `path` with a named pipe.
fn pipe(path: &Path) {
    fs::remove_file(path).unwrap();
    let status = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(status.success());
}

fn truncate(path: &Path, length: usize) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..length.min(bytes.len())]).unwrap();
}

/// Replaces the first occurrence of a text in a file; it must occur.
fn replace(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{} has no {from}", path.display());
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}
