//! What the tests of the binary share.
#![allow(dead_code, reason = "each test file uses its part")]

use mercury_trace::Trace;
use mercury_trace::steps::Step;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub use mercury_testing::report_skip;

pub const TRACER: &str = env!("CARGO_BIN_EXE_mercury-tracer");

/// The data folder; reports the calling test as skipped if the data set was not fetched.
#[track_caller]
pub fn data_dir() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data");
    if dir.join("fashion-mnist/t10k-labels-idx1-ubyte").exists() {
        return Some(dir);
    }
    report_skip("data/fashion-mnist is missing; fetch it with `python3 data/fetch.py fashion-mnist`");
    None
}

/// `mercury-tracer capture`. On one thread each, as tests run side by side.
pub fn tracer(data: &Path, out: &Path) -> Command {
    let mut command = Command::new(TRACER);
    command.env("OMP_NUM_THREADS", "1").arg("capture").arg("--data-dir").arg(data).arg("--out").arg(out);
    command
}

/// `mercury-tracer capture` of VGG-13 on Fashion-MNIST, three small steps unless said otherwise.
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

/// A command's output; panics with its messages where it failed.
pub fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The analyzer's binary, which a build of the whole workspace puts beside the tracer's.
pub fn analyzer() -> Command {
    let path = Path::new(TRACER).with_file_name("mercury-analyzer");
    assert!(path.exists(), "{} is missing: run the tests with `cargo test --workspace`", path.display());
    Command::new(path)
}

/// What a run leaves: files by their paths, and steps.
pub type Outcome = (BTreeMap<PathBuf, Vec<u8>>, Vec<Step>);

/// Every file of a folder, by its path in it.
pub fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
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

/// All that a run leaves but the seconds that its steps took, and the checksum of the table that has them.
pub fn outcome(dir: &Path) -> Outcome {
    let mut files = files(dir);
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

/// All that a trace lists is as it was written; the captured steps, if there is a trace.
pub fn verified(dir: &Path) -> Option<Vec<u64>> {
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
