//! Models with auxiliary heads, depthwise convolutions and attention train a few steps; their
//! traces replay.

mod common;

use common::{analyzer, data_dir, succeed, tracer};
use mercury_trace::Trace;
use mercury_trace::tensor::TensorKind;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Reads every tensor that the trace must hold and replays it; returns the trace.
fn replay_trace(dir: &Path) -> Trace {
    let trace = Trace::open(dir).unwrap();
    assert!(trace.manifest().complete);
    for step in &trace.manifest().captured {
        for layer in trace.layers() {
            for kind in [TensorKind::Input, TensorKind::GradOutput, TensorKind::Weight] {
                trace.tensor(step, layer, kind).unwrap();
            }
        }
    }
    let mut replay = analyzer();
    replay.arg("replay").arg(dir).arg("--out").arg(dir.with_extension("results"));
    succeed(replay);
    trace
}

fn metrics(trace: &Trace) -> BTreeMap<(u64, String), f64> {
    let rows = trace.evaluations().unwrap();
    rows.into_iter().map(|row| ((row.steps_done, row.metric), row.value)).collect()
}

#[test]
fn classifiers() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    for (model, layers) in [("googlenet", 64), ("mobilenet_v2", 53)] {
        let out = dir.path().join(model);
        let mut command = tracer(&data, &out);
        command.args(["--model", model, "--dataset", "fashion-mnist", "--steps", "4", "--batch-size", "4"]);
        command.args(["--capture", "steps=0,3", "--samples", "2", "--filters", "4", "--channels", "4"]);
        command.args(["--evaluate-every", "2", "--validation-samples", "30"]);
        succeed(command);
        let trace = replay_trace(&out);
        assert_eq!((trace.layers().len(), trace.manifest().captured.len()), (layers, 2));
        let metrics = metrics(&trace);
        for steps_done in [2, 4] {
            let value = |metric: &str| metrics[&(steps_done, metric.to_owned())];
            assert!(value("loss") > 0.0 && (0.0..=1.0).contains(&value("top1")) && value("top1") <= value("top5"));
        }
        assert_eq!(trace.manifest().training.validation_accuracy, Some(metrics[&(4, "top1".to_owned())]));
    }
}

#[test]
fn a_translator() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, line: &dyn Fn(usize) -> String| {
        fs::write(dir.path().join(name), (0..60).map(|i| line(i) + "\n").collect::<String>()).unwrap();
    };
    let (people, deeds) = (["A man", "A woman", "A dog"], ["sleeps", "runs", "waits", "sings"]);
    let (leute, taten) = (["Ein Mann", "Eine Frau", "Ein Hund"], ["schläft", "rennt", "wartet", "singt"]);
    write("en", &|i| format!("{} {} on street {}.", people[i % 3], deeds[i % 4], i / 12));
    write("de", &|i| format!("{} {} auf Straße {}.", leute[i % 3], taten[i % 4], i / 12));
    let out = dir.path().join("trace");
    let mut command = tracer(dir.path(), &out);
    command.args(["--model", "transformer", "--dataset", "text", "--source"]).arg(dir.path().join("en"));
    command.arg("--target").arg(dir.path().join("de")).args(["--vocabulary-size", "300", "--max-length", "24"]);
    command.args(["--steps", "3", "--batch-size", "4", "--capture", "steps=2", "--samples", "2", "--filters", "8"]);
    command.args(["--optimizer", "adam", "--betas", "0.9,0.98", "--schedule", "inverse-sqrt", "--warmup", "2"]);
    succeed(command);
    let trace = replay_trace(&out);
    assert_eq!(trace.layers().len(), 103);
    assert_eq!((&trace.manifest().model.input, trace.manifest().model.classes), (&vec![24, 24], 300));
    let metrics = metrics(&trace);
    let value = |metric: &str| metrics[&(3, metric.to_owned())];
    assert!((value("loss").exp() - value("perplexity")).abs() < 1e-9 * value("perplexity"));
    assert!((0.0..=1.0).contains(&value("token_accuracy")) && (0.0..=100.0).contains(&value("bleu")));
}
