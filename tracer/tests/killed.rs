//! A capture that is killed at any moment (SIGKILL) and resumed: what it left is whole, what was finished is not
//! lost, and the end is the undisturbed run's, byte for byte.
//!
//! `MERCURY_KILLS` is how often it is killed: a few times by default, 20 in `make reliability`.

mod common;

use common::{data_dir, succeed, tracer};
use mercury_trace::Trace;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn kills() -> u32 {
    std::env::var("MERCURY_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

fn run(data: &Path, place: &Path, name: &str) -> Command {
    let mut command = tracer(data, &place.join(name));
    command.args(["--model", "squeezenet1_0", "--dataset", "fashion-mnist", "--steps", "24", "--batch-size", "4"]);
    command.args(["--capture", "every=3", "--samples", "1", "--filters", "2", "--checkpoint-every", "4"]);
    command.args(["--validation-samples", "8", "--evaluate-every", "7", "--save"]).arg(place.join("weights"));
    command
}

/// Every file but the tables of seconds, and the checksum of that.
fn outcome(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
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
    for name in ["steps.parquet", "SHA256SUMS"] {
        assert!(found.remove(Path::new(name)).is_some(), "{name} is missing");
    }
    found
}

/// All that a trace lists is as it was written; the captured steps, if there is a trace.
fn verified(dir: &Path) -> Option<Vec<u64>> {
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

#[test]
fn a_capture_that_is_killed_at_any_moment() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path();
    let start = Instant::now();
    succeed(run(&data, place, "undisturbed"));
    let whole = start.elapsed();
    let weights = fs::read(place.join("weights")).unwrap();
    let expected = outcome(&place.join("undisturbed"));
    let trace = place.join("trace");
    let (mut killed, mut went_on) = (0, 0);
    for round in 0..kills() {
        let started = trace.join("manifest.json").exists();
        let checkpoint = trace.join("checkpoint.safetensors").exists();
        let mut command = run(&data, place, "trace");
        if started {
            command.arg("--resume");
        }
        let moment = whole.mul_f64((0.618_034 * f64::from(round + 1)).fract());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while start.elapsed() < moment && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(500));
        }
        let ended = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(!ended || status.success(), "round {round}");
        killed += u32::from(!ended);
        went_on += u32::from(checkpoint);
        assert!(!checkpoint || ended || trace.join("checkpoint.safetensors").exists() || is_complete(&trace));
        verified(&trace);
        if round % 4 == 3 || is_complete(&trace) {
            finish(&data, place, &expected, &weights);
        }
    }
    finish(&data, place, &expected, &weights);
    println!("figures: capture: killed {killed} times, went on with finished work {went_on} times, 0 losses");
}

fn is_complete(trace: &Path) -> bool {
    trace.join("manifest.json").exists() && Trace::open(trace).unwrap().manifest().complete
}

/// Resumes to the end, and removes the trace.
fn finish(data: &Path, place: &Path, expected: &BTreeMap<PathBuf, Vec<u8>>, weights: &[u8]) {
    let trace = place.join("trace");
    if !is_complete(&trace) {
        let mut command = run(data, place, "trace");
        if trace.join("manifest.json").exists() {
            command.arg("--resume");
        }
        succeed(command);
    }
    let _ = fs::remove_file(trace.join("checkpoint.safetensors"));
    verified(&trace).unwrap();
    let found = outcome(&trace);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, bytes) in expected {
        assert!(*bytes == found[path], "{} differs", path.display());
    }
    assert!(fs::read(place.join("weights")).unwrap() == weights, "the weights differ");
    fs::remove_dir_all(trace).unwrap();
    fs::remove_file(place.join("weights")).unwrap();
}
