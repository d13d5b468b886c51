//! Tests that broken input gives an error that names the file, the field and the remedy.

mod common;
#[path = "bad_input/manifest.rs"]
mod manifest;
#[path = "bad_input/tables.rs"]
mod tables;
#[path = "bad_input/tensors.rs"]
mod tensors;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use common::{manifest, sampling, small};
use mercury_trace::{Trace, TraceError, TraceWriter};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

/// The remedies that errors name.
const REMEDIES: [&str; 9] = [
    "capture anew",
    "copy it again",
    "copy the whole trace again",
    "correct ",
    "give ",
    "write ",
    "update it",
    "choose another folder",
    "cast it",
];

/// Checks that an error names `path` and each of `parts`, and a remedy.
#[track_caller]
fn assert_says(error: &TraceError, path: &Path, parts: &[&str]) {
    let text = error.to_string();
    assert!(text.starts_with(&format!("{}: ", path.display())), "{text:?} does not start with {}", path.display());
    for part in parts {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
    assert!(REMEDIES.iter().any(|remedy| text.contains(remedy)), "{text:?} names no remedy");
}

/// Checks that `error` is [`TraceError::Invalid`] for this file and field, and contains `parts`.
#[track_caller]
fn assert_invalid(error: &TraceError, path: &Path, field: &str, parts: &[&str]) {
    assert!(matches!(error, TraceError::Invalid { field: found, .. } if found == field), "field {field}: {error:?}");
    assert_says(error, path, &[&[field], parts].concat());
}

#[track_caller]
fn assert_parquet(error: &TraceError, path: &Path) {
    assert!(matches!(error, TraceError::Parquet { .. }), "{error:?}");
    assert_says(error, path, &["not a readable Parquet file", "may be truncated"]);
}

#[track_caller]
fn open_error(dir: &Path) -> TraceError {
    Trace::open(dir).expect_err("the trace is broken")
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Reads the columns of a Parquet file.
fn read_columns(path: &Path) -> Vec<(Field, ArrayRef)> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let schema = builder.schema().clone();
    let batches: Vec<RecordBatch> = builder.build().unwrap().map(Result::unwrap).collect();
    let batch = arrow::compute::concat_batches(&schema, &batches).unwrap();
    schema.fields().iter().map(|field| field.as_ref().clone()).zip(batch.columns().to_vec()).collect()
}

/// Replaces a Parquet file by one with these columns.
fn write_columns(path: &Path, columns: Vec<(Field, ArrayRef)>) {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn column(name: &str, array: ArrayRef) -> (Field, ArrayRef) {
    (Field::new(name, array.data_type().clone(), array.null_count() > 0), array)
}

/// Replaces a file. Truncating the old file would make ext4 write the new one to disk at once.
fn overwrite(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Samples lengths to which a file of `whole` bytes is cut.
fn sample_lengths(whole: usize) -> impl Iterator<Item = usize> {
    (0..whole).filter(move |length| *length < 16 || *length + 16 > whole || length % 13 == 0)
}

/// Reads everything that the trace lists.
fn read_everything(trace: &Trace) -> Result<(), TraceError> {
    trace.steps()?;
    for step in &trace.manifest().captured {
        for file in &step.tensors {
            let layer = trace.layers().iter().find(|layer| layer.name == file.layer).unwrap();
            trace.tensor(step, layer, file.kind)?;
        }
    }
    Ok(())
}

#[test]
fn the_small_trace_is_whole() {
    let dir = small();
    let trace = Trace::open(dir.path()).unwrap();
    read_everything(&trace).unwrap();
    assert_eq!(trace.manifest().captured.iter().map(|step| step.tensors.len()).collect::<Vec<_>>(), [9, 9]);
}

#[test]
fn an_output_folder_that_is_not_empty() {
    let dir = small();
    let before = read_json(&dir.path().join("manifest.json"));
    for leftover in ["manifest.json", ".hidden"] {
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join(leftover), "").unwrap();
        for path in [dir.path(), other.path()] {
            let Err(error) = TraceWriter::create(path, manifest(4, sampling()), &common::layers()) else {
                panic!("overwrites {}", path.display());
            };
            assert!(matches!(error, TraceError::NotEmpty { .. }), "{error:?}");
            assert_says(&error, path, &["not empty", "choose another folder or remove it"]);
        }
    }
    assert_eq!(read_json(&dir.path().join("manifest.json")), before);
    read_everything(&Trace::open(dir.path()).unwrap()).unwrap();
}

/// An error of the operating system is passed on.
#[test]
fn an_output_folder_that_cannot_be_made() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "mine").unwrap();
    for path in [file.join("trace"), file.clone()] {
        let Err(error) = TraceWriter::create(&path, manifest(4, sampling()), &common::layers()) else {
            panic!("writes to {}", path.display());
        };
        assert!(matches!(error, TraceError::Io { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("{}: ", path.display())), "{text}");
        assert!(text.contains("Not a directory") || text.contains("exists"), "{text}");
        // A report of all causes must not repeat the error.
        assert!(std::error::Error::source(&error).is_none_or(|cause| !text.contains(&cause.to_string())), "{error:?}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}
