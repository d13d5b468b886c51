//! Input that lies: each file that a person or a machine may hand over, broken in each way that can be thought of, and
//! the error that it gets. Exit code 2, no panic, no more memory than a small machine has, nothing half-written.
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

/// KiB of address space that a command may have; its code and stacks are most of what it needs.
const MEMORY: &str = "-v 3000000";

/// What is broken, how, and the command that meets it.
type Case = (&'static str, fn(&Place), &'static str);

/// The error of each case, in one report; none may leave results.
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

/// Replaces what stands at `path` by a link to something else.
fn link(path: &Path, to: &str) {
    fs::remove_file(path).unwrap();
    symlink(to, path).unwrap();
}

fn pipe(path: &Path) {
    fs::remove_file(path).unwrap();
    let status = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(status.success());
}

fn truncate(path: &Path, length: usize) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..length.min(bytes.len())]).unwrap();
}

/// Replaces a text in a file, which must be there.
fn replace(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{} has no {from}", path.display());
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}
