//! Helpers of the binary's tests.
#![allow(dead_code, reason = "each test file uses its part")]

use mercury_trace::Trace;
use mercury_trace::steps::Step;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub use mercury_testing::report_skip;

pub const TRACER: &str = env!("CARGO_BIN_EXE_mercury-tracer");

/// Returns the data folder; reports the calling test as skipped if the data set is missing.
#[track_caller]
pub fn data_dir() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data");
    if dir.join("fashion-mnist/t10k-labels-idx1-ubyte").exists() {
        return Some(dir);
    }
    report_skip("data/fashion-mnist is missing; fetch it with `python3 data/fetch.py fashion-mnist`");
    None
}

/// Prepares `mercury-tracer capture` with one thread, because tests run in parallel.
pub fn tracer(data: &Path, out: &Path) -> Command {
    let mut command = Command::new(TRACER);
    command.env("OMP_NUM_THREADS", "1").arg("capture").arg("--data-dir").arg(data).arg("--out").arg(out);
    command
}

/// Prepares `mercury-tracer capture` of VGG-13 on Fashion-MNIST, by default with three small steps.
pub fn capture(data: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = tracer(data, out);
    command.args(["--model", "vgg13", "--dataset", "fashion-mnist"]).args(more);
    for (flag, value) in
        [("--steps", "3"), ("--capture", "every=2"), ("--batch-size", "4"), ("--validation-samples", "20")]
    {
        if !more.contains(&flag) {
            command.args([flag, value]);
        }
    }
    command
}

/// Runs a command and returns its output; panics with its messages if it fails.
pub fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Returns the analyzer's binary, which a build of the whole workspace puts next to the tracer's.
pub fn analyzer() -> Command {
    let path = Path::new(TRACER).with_file_name("mercury-analyzer");
    assert!(path.exists(), "{} is missing: run the tests with `cargo test --workspace`", path.display());
    Command::new(path)
}

/// The results of a run: files by path, and steps.
pub type RunResults = (BTreeMap<PathBuf, Vec<u8>>, Vec<Step>);

/// Reads every file of a folder, by its path in the folder.
pub fn read_files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Reads the results of a run, without the duration of steps and the checksum of their table.
pub fn read_results(dir: &Path) -> RunResults {
    let mut files = read_files(dir);
    files.remove(Path::new("steps.parquet"));
    let sums = files.remove(Path::new("SHA256SUMS")).unwrap();
    let sums = String::from_utf8(sums).unwrap();
    let others = sums.lines().filter(|line| !line.ends_with("  steps.parquet")).collect::<Vec<_>>().join("\n");
    files.insert("SHA256SUMS".into(), others.into());
    let mut steps = Trace::open(dir).unwrap().steps().unwrap();
    for step in &mut steps {
        step.seconds = 0.0;
    }
    (files, steps)
}

/// Verifies everything that a trace lists; returns the captured steps, if there is a trace.
pub fn verify_trace(dir: &Path) -> Option<Vec<u64>> {
    if !dir.join("manifest.json").exists() {
        return None;
    }
    let trace = Trace::open(dir).unwrap();
    trace.verify_tables().unwrap();
    for step in &trace.manifest().captured {
        for file in &step.tensors {
            trace.verify_tensor(step, file).unwrap();
        }
    }
    Some(trace.manifest().captured.iter().map(|step| step.step).collect())
}
