//! Tests of the label and the command in a trace.

mod common;

use common::{TRACER, capture, data_dir, read_results, succeed};
use mercury_trace::Trace;
use std::fs;
use std::process::Command;

const MORE: [&str; 12] = [
    "--passes",
    "forward,weight-grad",
    "--samples",
    "1",
    "--layers",
    "features.0",
    "--layers",
    "classifier.*",
    "--checkpoint-every",
    "1",
    "--label",
    "small steps",
];

#[test]
fn the_command_in_a_trace_captures_it_again() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    succeed(capture(&data, &first, &MORE));
    let manifest = Trace::open(&first).unwrap().manifest().clone();
    assert_eq!(manifest.label.as_deref(), Some("small steps"));
    let command = manifest.command.unwrap();
    assert_eq!(
        command,
        "mercury-tracer capture --out TRACE --label 'small steps' --model vgg13 --dataset fashion-mnist --steps 3 \
         --batch-size 4 --validation-samples 20 --capture 'every=2' --samples 1 --layers features.0 \
         --layers 'classifier.*' --passes 'forward,weight-grad'"
    );

    let script = command.replacen("mercury-tracer", "\"$0\"", 1).replacen("TRACE", "\"$1\" --data-dir \"$2\"", 1);
    let mut again = Command::new("sh");
    again.env("OMP_NUM_THREADS", "1").args(["-c", &script, TRACER]).arg(&second).arg(&data);
    succeed(again);
    assert_eq!(read_results(&first), read_results(&second));
}

#[test]
fn a_run_does_not_go_on_under_another_label() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("trace");
    succeed(capture(&data, &out, &MORE));
    // The manifest of an interrupted run.
    let manifest = out.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"complete\": true", "\"complete\": false")).unwrap();
    let (flags, label) = MORE.split_at(MORE.len() - 2);
    for (given, says) in [(vec![label[0], "other"], "is other"), (vec![], "is not given")] {
        let output = capture(&data, &out, &[flags, &given, &["--resume"]].concat()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(&format!("--label: {says}, but the run to resume has small steps")), "{stderr}");
    }
}
