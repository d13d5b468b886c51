//! Captures that are killed (SIGKILL) at random moments and resumed. Their traces are readable,
//! finished work is not lost, and the results equal the undisturbed run's, byte for byte.
//!
//! `MERCURY_KILLS` is the number of kills: 4 by default, 20 in `make reliability`.

mod common;

use common::{RunResults, TRACER, data_dir, read_results, succeed, tracer, verify_trace};
use mercury_trace::Trace;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn kills() -> u32 {
    std::env::var("MERCURY_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// Prepares a run to kill: `capture`, or `train` with reuse in the loop.
type PrepareRun = fn(&Path, &Path, &str) -> Command;

fn capturing(data: &Path, place: &Path, name: &str) -> Command {
    let mut command = tracer(data, &place.join(name));
    command.args(["--model", "squeezenet1_0", "--dataset", "fashion-mnist", "--steps", "24", "--batch-size", "4"]);
    command.args(["--capture", "every=3", "--samples", "1", "--filters", "2", "--checkpoint-every", "4"]);
    command.args(["--validation-samples", "8", "--evaluate-every", "7", "--save"]).arg(place.join("weights"));
    command
}

/// Prepares a run in which signatures grow and layers are switched off.
fn reusing(data: &Path, place: &Path, name: &str) -> Command {
    let mut command = Command::new(TRACER);
    command.env("OMP_NUM_THREADS", "1").arg("train").arg("--data-dir").arg(data).arg("--out").arg(place.join(name));
    command.args(["--model", "squeezenet1_0", "--dataset", "fashion-mnist", "--steps", "10", "--batch-size", "4"]);
    command.args([
        "--input-size",
        "32",
        "--checkpoint-every",
        "2",
        "--validation-samples",
        "4",
        "--measure",
        "every=3",
    ]);
    command.args(["--reuse", "mercury", "--set", "bits.patience=1", "--save"]).arg(place.join("weights"));
    command
}

#[test]
fn a_capture_that_is_killed_at_any_moment() {
    kill_and_resume("capture", capturing);
}

#[test]
fn training_with_reuse_that_is_killed_at_any_moment() {
    kill_and_resume("training with reuse", reusing);
}

fn kill_and_resume(what: &str, run: PrepareRun) {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path();
    let start = Instant::now();
    succeed(run(&data, place, "undisturbed"));
    let whole = start.elapsed();
    let weights = fs::read(place.join("weights")).unwrap();
    let expected = read_results(&place.join("undisturbed"));
    let trace = place.join("trace");
    let (mut killed, mut went_on) = (0, 0);
    let mut reached = 0;
    // In a few rounds, the run ends before the kill.
    for round in 0..3 * kills() {
        if killed == kills() {
            break;
        }
        let started = trace.join("manifest.json").exists();
        let checkpoint = trace.join("checkpoint.safetensors").exists();
        let mut command = run(&data, place, "trace");
        if started {
            command.arg("--resume");
        }
        let moment = whole.mul_f64(RandomState::new().hash_one(0) as f64 / u64::MAX as f64);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let start = Instant::now();
        while start.elapsed() < moment && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(500));
        }
        let ended = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(!ended || output.status.success(), "round {round}");
        killed += u32::from(!ended);
        if let Some(step) = find_resumed_step(&output.stderr) {
            // Steps before a checkpoint are not trained again.
            assert!(step >= reached, "resumed at step {step}, had been at {reached}, killed after {moment:?}");
            reached = step;
            went_on += u32::from(step > 0);
        }
        assert!(!checkpoint || ended || trace.join("checkpoint.safetensors").exists() || is_complete(&trace));
        verify_trace(&trace);
        if round % 4 == 3 || is_complete(&trace) {
            finish(run, &data, place, &expected, &weights);
            reached = 0;
        }
    }
    finish(run, &data, place, &expected, &weights);
    println!("figures: {what}: killed {killed} times, resumed from finished work {went_on} times, 0 losses");
}

/// Finds the step at which a run resumes.
fn find_resumed_step(stderr: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(stderr);
    let (_, rest) = text.split_once("resuming at step ")?;
    rest.split_whitespace().next()?.parse().ok()
}

fn is_complete(trace: &Path) -> bool {
    trace.join("manifest.json").exists() && Trace::open(trace).unwrap().manifest().complete
}

/// Resumes the run to its end, compares its results and removes the trace.
fn finish(run: PrepareRun, data: &Path, place: &Path, expected: &RunResults, weights: &[u8]) {
    let trace = place.join("trace");
    if !is_complete(&trace) {
        let mut command = run(data, place, "trace");
        if trace.join("manifest.json").exists() {
            command.arg("--resume");
        }
        succeed(command);
    }
    let _ = fs::remove_file(trace.join("checkpoint.safetensors"));
    verify_trace(&trace).unwrap();
    let (files, steps) = read_results(&trace);
    assert_eq!(files.keys().collect::<Vec<_>>(), expected.0.keys().collect::<Vec<_>>());
    for (path, bytes) in &expected.0 {
        assert!(*bytes == files[path], "{} differs", path.display());
    }
    assert!(steps == expected.1, "the table of steps differs");
    assert!(fs::read(place.join("weights")).unwrap() == weights, "the weights differ");
    fs::remove_dir_all(trace).unwrap();
    fs::remove_file(place.join("weights")).unwrap();
}
