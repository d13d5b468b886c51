//! An end-to-end test on real data: VGG-13 trains a few steps on Fashion-MNIST, is captured and
//! replayed. The Hitmap equals that of a list with linear search.

mod common;

use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::{Float32Type, UInt32Type, UInt64Type};
use arrow::record_batch::RecordBatch;
use common::{analyzer, capture, data_dir, succeed};
use mercury_trace::Trace;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

fn read(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

#[test]
fn training_is_captured_and_replayed_as_the_scheme_says() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let trace_dir = dir.path().join("trace");
    succeed(capture(&data, &trace_dir, &["--samples", "2", "--channels", "8", "--filters", "4"]));

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
        let mut command = analyzer();
        command.arg("replay").arg(&trace_dir).arg("--out").arg(out);
        succeed(command);
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

/// Reads the counts of HIT, MAU and MNU in the last step.
fn result_row(results: &RecordBatch, layer: &str, pass: &str) -> [u64; 3] {
    let text = |name: &str| results.column_by_name(name).unwrap().as_string::<i32>();
    let mut rows =
        (0..results.num_rows()).filter(|&row| text("layer").value(row) == layer && text("pass").value(row) == pass);
    let last = rows.next_back().unwrap();
    ["hit", "mau", "mnu"].map(|name| results.column_by_name(name).unwrap().as_primitive::<UInt64Type>().value(last))
}

/// Checks signatures against the vectors' values, and outcomes and representatives against a list
/// per sample and channel with counted set sizes. Returns the number of vectors by outcome.
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
fn the_same_seed_captures_the_same_values() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let more = ["--steps", "1", "--samples", "1", "--filters", "2", "--layers", "features.0", "--batch-size", "2"];
    for out in ["a", "b"] {
        succeed(capture(&data, &dir.path().join(out), &[&more[..], &["--validation-samples", "0"]].concat()));
    }
    let bytes = |out: &str| {
        let file = "tensors/step=000000/layer=features.0/input.parquet";
        std::fs::read(dir.path().join(out).join(file)).unwrap()
    };
    assert_eq!(bytes("a"), bytes("b"));
}
