//! The main job on real data: VGG-13 trains a few steps on Fashion-MNIST, is captured and replayed,
//! and the Hitmap equals that of a list that is searched from its start.

use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::{Float32Type, UInt32Type, UInt64Type};
use arrow::record_batch::RecordBatch;
use mercury_trace::Trace;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const TRACER: &str = env!("CARGO_BIN_EXE_mercury-tracer");

/// The data folder, or a loud message where the data set was not fetched.
fn data_dir() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data");
    if dir.join("fashion-mnist/t10k-labels-idx1-ubyte").exists() {
        return Some(dir);
    }
    eprintln!("SKIPPED: data/fashion-mnist is missing; fetch it with `python3 data/fetch.py fashion-mnist`");
    None
}

fn capture(data: &Path, out: &Path, more: &[&str]) -> Output {
    Command::new(TRACER)
        .args(["capture", "--model", "vgg13", "--dataset", "fashion-mnist", "--data-dir"])
        .arg(data)
        .arg("--out")
        .arg(out)
        .args(["--steps", "3", "--every", "2", "--batch-size", "4", "--validation-samples", "20"])
        .args(more)
        .output()
        .unwrap()
}

fn read(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

/// The analyzer's binary, which a build of the whole workspace puts beside the tracer's.
fn analyzer() -> Command {
    let path = Path::new(TRACER).with_file_name("mercury-analyzer");
    assert!(path.exists(), "{} is missing: run the tests with `cargo test --workspace`", path.display());
    Command::new(path)
}

#[test]
fn training_is_captured_and_replayed_as_the_scheme_says() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let trace_dir = dir.path().join("trace");
    let captured = capture(&data, &trace_dir, &["--samples", "2", "--channels", "8", "--filters", "4"]);
    assert!(captured.status.success(), "{}", String::from_utf8_lossy(&captured.stderr));

    let trace = Trace::open(&trace_dir).unwrap();
    let steps = trace.steps().unwrap();
    assert_eq!(steps.iter().map(|step| step.captured).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(trace.layers().len(), 13);
    assert!(trace.manifest().complete);
    for step in &trace.manifest().captured {
        assert_eq!(step.tensors.len(), 13 * 3);
        for (layer, kind) in step.tensors.iter().map(|file| (&file.layer, file.kind)) {
            let layer = trace.layers().iter().find(|l| l.name == *layer).unwrap();
            trace.tensor(step, layer, kind).unwrap();
        }
    }

    let results = dir.path().join("results");
    let replay = |out: &Path| {
        let output = analyzer().arg("replay").arg(&trace_dir).arg("--out").arg(out).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    replay(&results);
    replay(&dir.path().join("again"));
    for file in ["layers.parquet", "models.parquet", "run.json"] {
        let bytes = |folder: &str| std::fs::read(dir.path().join(folder).join(file)).unwrap();
        assert_eq!(bytes("results"), bytes("again"), "{file}");
    }

    for (layer, pass) in [("features.2", "forward"), ("features.12", "input-grad")] {
        let vectors = dir.path().join(format!("{layer}.parquet"));
        let mut command = analyzer();
        command.arg("vectors").arg(&trace_dir).args(["--layer", layer, "--pass", pass, "--out"]).arg(&vectors);
        assert!(command.status().unwrap().success());
        let counts = check_against_list(&read(&vectors));
        assert!(counts["HIT"] > 0, "{counts:?}");
        let row = result_row(&read(&results.join("layers.parquet")), layer, pass);
        assert_eq!(row, ["HIT", "MAU", "MNU"].map(|outcome| counts.get(outcome).copied().unwrap_or(0)), "{layer}");
    }
}

/// hit, mau and mnu of the last step.
fn result_row(results: &RecordBatch, layer: &str, pass: &str) -> [u64; 3] {
    let text = |name: &str| results.column_by_name(name).unwrap().as_string_view();
    let mut rows =
        (0..results.num_rows()).filter(|&row| text("layer").value(row) == layer && text("pass").value(row) == pass);
    let last = rows.next_back().unwrap();
    ["hit", "mau", "mnu"].map(|name| results.column_by_name(name).unwrap().as_primitive::<UInt64Type>().value(last))
}

/// Signatures are those of the vectors' values, and outcomes and representatives those of a list per
/// sample and channel in which set sizes are counted. Returns how often each outcome occurs.
fn check_against_list(vectors: &RecordBatch) -> BTreeMap<String, u64> {
    let u32s = |name: &str| vectors.column_by_name(name).unwrap().as_primitive::<UInt32Type>().values().to_vec();
    let u64s = |name: &str| vectors.column_by_name(name).unwrap().as_primitive::<UInt64Type>().values().to_vec();
    let (samples, streams) = (u32s("sample"), u32s("stream"));
    let (signatures, representatives) = (u64s("signature"), u64s("representative"));
    let outcomes = vectors.column_by_name("outcome").unwrap().as_string::<i32>();
    let values = vectors.column_by_name("values").unwrap().as_list::<i32>();
    let projection = mercury_reuse::Projection::new(1, 9, 20);
    let mix = |mut key: u64| {
        key = (key ^ (key >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        key = (key ^ (key >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        key ^ (key >> 33)
    };
    let mut list: Vec<(u64, u64)> = Vec::new();
    let mut counts = BTreeMap::new();
    for vector in 0..vectors.num_rows() {
        if vector > 0 && (samples[vector], streams[vector]) != (samples[vector - 1], streams[vector - 1]) {
            list.clear();
        }
        let signature = projection.signature_scalar(values.value(vector).as_primitive::<Float32Type>().values());
        assert_eq!(signatures[vector], signature);
        let found = list.iter().find(|entry| entry.0 == signature).map(|entry| entry.1);
        let in_set = list.iter().filter(|entry| mix(entry.0) % 64 == mix(signature) % 64).count();
        let (outcome, representative) = match found {
            Some(first) => ("HIT", first),
            None if in_set == 16 => ("MNU", vector as u64),
            None => {
                list.push((signature, vector as u64));
                ("MAU", vector as u64)
            }
        };
        assert_eq!((outcomes.value(vector), representatives[vector]), (outcome, representative), "vector {vector}");
        *counts.entry(outcome.to_owned()).or_insert(0) += 1;
    }
    counts
}

#[test]
fn a_killed_capture_leaves_a_readable_trace() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("trace");
    let mut child = Command::new(TRACER)
        .args(["capture", "--model", "vgg13", "--dataset", "fashion-mnist", "--data-dir"])
        .arg(&data)
        .arg("--out")
        .arg(&out)
        .args(["--steps", "1000", "--every", "1", "--batch-size", "2", "--filters", "4"])
        .spawn()
        .unwrap();
    let captured = || Trace::open(&out).map_or(0, |trace| trace.manifest().captured.len());
    while captured() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "the capture ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let trace = Trace::open(&out).unwrap();
    assert!(!trace.manifest().complete);
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
}

#[test]
fn the_same_seed_captures_the_same_values() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let more = ["--steps", "1", "--samples", "1", "--filters", "2", "--layers", "features.0"];
    for out in ["a", "b"] {
        let output = Command::new(TRACER)
            .args(["capture", "--model", "vgg13", "--dataset", "fashion-mnist", "--batch-size", "2", "--data-dir"])
            .arg(&data)
            .arg("--out")
            .arg(dir.path().join(out))
            .args(more)
            .args(["--validation-samples", "0"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let bytes = |out: &str| {
        let file = "tensors/step=000000/layer=features.0/input.parquet";
        std::fs::read(dir.path().join(out).join(file)).unwrap()
    };
    assert_eq!(bytes("a"), bytes("b"));
}

#[test]
fn wrong_flags_are_named_before_any_training() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("trace");
    let error = |arguments: &[&str]| {
        let mut command = Command::new(TRACER);
        command.args(["capture", "--out"]).arg(&out).args(arguments);
        let output = command.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(!stderr.contains("panicked") && !out.exists(), "{stderr}");
        stderr
    };
    let fashion = ["--model", "vgg13", "--dataset", "fashion-mnist"];
    let with = |more: &[&'static str]| [&fashion[..], more].concat();
    assert!(error(&["--model", "vgg12", "--dataset", "fashion-mnist"]).contains("choose one of vgg13"));
    assert!(error(&["--model", "vgg13", "--dataset", "mnist"]).contains("choose one of fashion-mnist, cifar10"));
    assert!(error(&with(&["--data-dir", "/nonesuch"])).contains("python3 data/fetch.py fashion-mnist"));
    assert!(error(&with(&["--every", "0"])).contains("--every: is 0"));
    assert!(error(&with(&["--lr", "nan"])).contains("--lr: is NaN"));
    assert!(error(&with(&["--device", "tpu"])).contains("not one of cpu, cuda"));
    assert!(error(&with(&["--device", "cuda:0"])).contains("no CUDA device"));
    if let Some(data) = data_dir() {
        let data = data.to_str().unwrap().to_owned();
        let mut arguments = with(&["--layers", "nonesuch*"]);
        arguments.extend(["--data-dir", &data]);
        assert!(error(&arguments).contains("matches none of features.0"));
        let mut arguments = with(&["--batch-size", "70000"]);
        arguments.extend(["--data-dir", &data]);
        assert!(error(&arguments).contains("the data set has 60000 samples"));
    }
}

#[test]
fn a_folder_that_holds_something_is_left_alone() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("precious.txt"), "mine").unwrap();
    let output = capture(&data, dir.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("exists and is not empty"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
