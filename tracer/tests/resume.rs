//! Tests of resumed runs, full disks and limited traces.

mod common;

use common::{capture, data_dir, read_files, read_results, succeed, tracer};
use mercury_trace::Trace;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Flags of fine-tuning.
const FINE_TUNING: [&str; 6] =
    ["--freeze", "features.1?.*", "--group-lr", "features.*=0.0001", "--group-lr", "features.0.*=0.002"];

/// Prepares a run with everything that resumption could change: running statistics, dropout,
/// momentum, augmentation and evaluation during the run.
fn run(data: &Path, out: &Path, save: &Path, more: &[&str]) -> Command {
    let mut command = tracer(data, out);
    command.args(["--model", "mobilenet_v2", "--dataset", "fashion-mnist", "--augment"]);
    command.arg("--save").arg(save).args(more);
    command.args(["--steps", "40", "--batch-size", "4", "--capture", "every=7", "--samples", "1", "--filters", "2"]);
    command.args(["--checkpoint-every", "6", "--evaluate-every", "9", "--validation-samples", "8"]);
    command.args(["--schedule", "cosine", "--warmup", "5", "--label-smoothing", "0.1", "--clip", "1"]);
    command
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let Some(data) = data_dir() else { return };
    let fine_tuning = [&["--optimizer", "adamw"], &FINE_TUNING[..]].concat();
    for more in [&["--optimizer", "sgd"], &fine_tuning[..]] {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        succeed(run(&data, &place("whole"), &place("whole.safetensors"), more));

        let mut child = run(&data, &place("trace"), &place("resumed.safetensors"), more).spawn().unwrap();
        let checkpoint = place("trace/checkpoint.safetensors");
        // With three captured steps, some are probably after the checkpoint.
        while !checkpoint.exists() || Trace::open(&place("trace")).unwrap().manifest().captured.len() < 3 {
            assert!(child.try_wait().unwrap().is_none(), "the run ended by itself");
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let killed = Trace::open(&place("trace")).unwrap();
        assert!(!killed.manifest().complete);
        assert!(!place("resumed.safetensors").exists());

        let refusals = [
            (["--lr", "0.5"], "--lr: is 0.5, but the run to resume has not given"),
            (["--freeze", "classifier.*"], "\"classifier.*\"], but the run to resume has "),
            (["--group-lr", "classifier.*=0.5"], "\"classifier.*=0.5\"], but the run to resume has "),
        ];
        for (changed, expected) in refusals {
            let mut other = run(&data, &place("trace"), &place("resumed.safetensors"), more);
            let refused = other.arg("--resume").args(changed).output().unwrap();
            let stderr = String::from_utf8(refused.stderr).unwrap();
            assert_eq!(refused.status.code(), Some(2), "{stderr}");
            assert!(stderr.contains(&format!("{}: is ", changed[0])) && stderr.contains(expected), "{stderr}");
        }

        let mut resumed = run(&data, &place("trace"), &place("resumed.safetensors"), more);
        resumed.arg("--resume");
        let stderr = String::from_utf8(succeed(resumed).stderr).unwrap();
        assert!(stderr.contains("resuming at step "), "{stderr}");
        assert_eq!(fs::read(place("resumed.safetensors")).unwrap(), fs::read(place("whole.safetensors")).unwrap());
        let (whole, resumed) = (read_results(&place("whole")), read_results(&place("trace")));
        assert_eq!(whole.1, resumed.1);
        assert_eq!(whole.0.keys().collect::<Vec<_>>(), resumed.0.keys().collect::<Vec<_>>());
        for (path, bytes) in &whole.0 {
            assert!(*bytes == resumed.0[path], "{} differs", path.display());
        }
    }
}

#[test]
fn a_killed_capture_leaves_a_readable_trace_and_begins_anew_without_a_checkpoint() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("trace");
    let more = ["--steps", "8", "--capture", "every=1", "--batch-size", "2", "--filters", "4", "--samples", "1"];
    let mut child = capture(&data, &out, &more).spawn().unwrap();
    let captured = || Trace::open(&out).map_or(0, |trace| trace.manifest().captured.len());
    while captured() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "the capture ended by itself");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    read_all_tensors(&out);
    let mut again = capture(&data, &out, &more);
    again.arg("--resume");
    assert!(String::from_utf8(succeed(again).stderr).unwrap().contains("resuming at step 0"));
    assert_eq!(read_all_tensors(&out), 8);
}

/// Reads every tensor that the trace lists; returns the number of captured steps.
fn read_all_tensors(dir: &Path) -> usize {
    let trace = Trace::open(dir).unwrap();
    let recorded: Vec<u64> = trace.steps().unwrap().iter().filter(|s| s.captured).map(|s| s.step).collect();
    // The steps' table is written just before the manifest.
    let listed: Vec<u64> = trace.manifest().captured.iter().map(|step| step.step).collect();
    assert!(recorded.starts_with(&listed), "{recorded:?} {listed:?}");
    for step in &trace.manifest().captured {
        for file in &step.tensors {
            let layer = trace.layers().iter().find(|layer| layer.name == file.layer).unwrap();
            trace.tensor(step, layer, file.kind).unwrap();
        }
    }
    listed.len()
}

/// Prepares a shell that limits files to this many blocks of 512 bytes, as if the disk were full.
#[cfg(unix)]
fn limited(blocks: u32, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f $0; exec \"$@\"", &blocks.to_string()]);
    shell.arg(command.get_program()).args(command.get_args()).env("OMP_NUM_THREADS", "1");
    shell
}

#[cfg(unix)]
#[test]
fn on_a_full_disk_the_run_ends_or_continues_as_requested() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    // Small files fit, large ones do not.
    let more = [
        "--model",
        "squeezenet1_0",
        "--steps",
        "6",
        "--capture",
        "every=2",
        "--batch-size",
        "4",
        "--checkpoint-every",
        "3",
    ];
    let command = |out: &Path, on_error: &str| {
        let mut command = tracer(&data, out);
        command
            .args(["--dataset", "fashion-mnist", "--validation-samples", "0"])
            .args(more)
            .args(["--on-capture-error", on_error]);
        limited(200, &command)
    };
    let out = dir.path().join("stopped");
    let output = command(&out, "stop").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(".parquet: File too large") && stderr.contains("continue with --resume"), "{stderr}");
    assert_eq!(stderr.matches("File too large").count(), 1, "said once: {stderr}");
    assert_eq!(read_all_tensors(&out), 0);
    assert!(!out.join("tensors/step=000000").exists(), "nothing is left of the step");

    let out = dir.path().join("went-on");
    let output = command(&out, "continue").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("training goes on, but nothing more is captured"), "{stderr}");
    let trace = Trace::open(&out).unwrap();
    assert!(trace.manifest().complete && trace.manifest().captured.is_empty());
    assert_eq!(trace.steps().unwrap().len(), 6);
}

#[test]
fn a_trace_grows_no_further_than_it_may() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("trace");
    let layers = ["--layers", "features.2", "--layers", "classifier.6", "--samples", "1", "--passes", "forward"];
    let more =
        [&layers[..], &["--steps", "6", "--capture", "every=1", "--max-bytes", "1MB", "--dtype", "f16"]].concat();
    let stderr = String::from_utf8(succeed(capture(&data, &out, &more)).stderr).unwrap();
    assert!(stderr.contains("--max-bytes: capturing will stop at 1.0 MB, before compression"), "{stderr}");
    assert!(stderr.contains("nothing more is captured from step"), "{stderr}");
    let captured = read_all_tensors(&out);
    assert!((1..6).contains(&captured), "{captured}");
    let bytes: usize = read_files(&out.join("tensors")).values().map(Vec::len).sum();
    assert!(bytes <= 1_000_000, "{bytes}");
    let trace = Trace::open(&out).unwrap();
    assert_eq!(trace.steps().unwrap().len(), 6);
    let kinds: Vec<_> = trace.manifest().captured[0].tensors.iter().map(|file| file.kind.name()).collect();
    assert_eq!(kinds, ["weight", "input", "weight", "input"]);
}

/// Writes twelve small images in two classes.
fn write_photos(dir: &Path) {
    for index in 0..12u8 {
        let class = dir.join(["cat", "dog"][usize::from(index) % 2]);
        fs::create_dir_all(&class).unwrap();
        let image = image::RgbImage::from_fn(40, 36, |x, y| image::Rgb([x as u8 * 6, y as u8 * 7, index * 20]));
        image.save(class.join(format!("{index}.png"))).unwrap();
    }
}

#[test]
fn a_run_is_resumed_alone_and_on_its_own_data() {
    let dir = tempfile::tempdir().unwrap();
    let [images, out] = ["images", "trace"].map(|name| dir.path().join(name));
    write_photos(&images);
    let run = |more: &[&str]| {
        let mut command = tracer(dir.path(), &out);
        command.args(["--model", "squeezenet1_0", "--dataset", "images", "--input-size", "32", "--train-dir"]);
        command.arg(&images).args(["--steps", "100000", "--batch-size", "2", "--checkpoint-every", "2"]);
        command.args(["--capture", "steps=0", "--samples", "1", "--filters", "2"]).args(more);
        command
    };
    let refusal = |more: &[&str]| {
        let output = run(more).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        stderr
    };
    assert!(refusal(&["--save", "/nonesuch/weights"]).contains("--save: /nonesuch/weights: its folder does not exist"));
    assert!(!out.exists());

    let mut child = run(&[]).spawn().unwrap();
    while !out.join("checkpoint.safetensors").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended by itself");
        std::thread::sleep(Duration::from_millis(5));
    }
    let stderr = refusal(&["--resume"]);
    assert!(stderr.contains("another run is writing here"), "{stderr}");
    child.kill().unwrap();
    child.wait().unwrap();

    fs::remove_file(images.join("cat/0.png")).unwrap();
    let stderr = refusal(&["--resume"]);
    assert!(stderr.contains("the data set has changed"), "{stderr}");
}
