//! Tests that files are written completely or not at all.

mod common;

use common::{FC, layers, manifest, sampling, small};
use mercury_trace::tensor::{Dtype, TensorKind, TensorShape, TensorWriter};
use mercury_trace::{Trace, TraceWriter};
use std::fs;
use std::path::{Path, PathBuf};

/// Lists every file and folder under `dir`, including hidden ones.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(entries(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

fn shape() -> TensorShape {
    TensorShape::from_geometry(&layers()[1].geometry, TensorKind::Input, Dtype::F32)
}

/// Starts the file and drops it after a number of rows.
fn abandon_file(path: &Path, rows: u32) {
    let mut writer = TensorWriter::create(path, shape(), &[]).unwrap();
    for row in 0..rows {
        writer.push(&[row, 0], &vec![1.0; shape().width]).unwrap();
    }
    assert_eq!(entries(path.parent().unwrap()).iter().filter(|entry| entry.is_file()).count(), 1, "a temporary file");
    assert!(!path.exists(), "nothing under its own name yet");
}

#[test]
fn an_unfinished_tensor_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("input.parquet");
    // No rows, a few rows in memory, and so many rows that some are encoded.
    for rows in [0, 3, 400_000] {
        abandon_file(&path, rows);
        assert_eq!(entries(dir.path()), Vec::<PathBuf>::new());
    }
}

#[test]
fn an_unfinished_tensor_leaves_the_previous_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("input.parquet");
    fs::write(&path, "as it was").unwrap();
    let mut writer = TensorWriter::create(&path, shape(), &[]).unwrap();
    writer.push(&[0, 0], &vec![1.0; shape().width]).unwrap();
    drop(writer);
    assert_eq!(entries(dir.path()), [path.as_path()]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "as it was");
}

#[test]
fn a_finished_tensor_leaves_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("input.parquet");
    let mut writer = TensorWriter::create(&path, shape(), &[]).unwrap();
    writer.push(&[0, 0], &vec![1.0; shape().width]).unwrap();
    let written = writer.finish().unwrap();
    assert_eq!(entries(dir.path()), [path.as_path()]);
    assert_eq!((written.rows, written.bytes), (1, fs::metadata(&path).unwrap().len()));
    assert_eq!(written.sha256, mercury_trace::checksum::hash_file(&path).unwrap());
}

/// A capture that ends within a step leaves the trace of the earlier steps.
#[test]
fn an_uncommitted_step_is_not_in_the_trace() {
    let dir = tempfile::tempdir().unwrap();
    let layers = layers();
    let fc = layers.iter().find(|layer| layer.name == FC).unwrap();
    let writer = TraceWriter::create(dir.path(), manifest(4, sampling()), &layers).unwrap();
    let values = vec![1.0; shape().width];
    let rows = [([1, 0], values.as_slice()), ([1, 1], &values)];
    writer.files().write(0, fc, TensorKind::Input, rows).unwrap();
    drop(writer);
    let trace = Trace::open(dir.path()).unwrap();
    assert!(trace.manifest().captured.is_empty() && !trace.manifest().complete);
    assert!(trace.steps().unwrap().is_empty());
}

#[test]
fn a_trace_holds_only_its_own_files() {
    let dir = small();
    let names: Vec<String> =
        entries(dir.path()).iter().filter(|path| path.is_file()).map(|path| path.display().to_string()).collect();
    assert_eq!(names.len(), 5 + 2 * 9);
    assert!(names.iter().all(|name| !name.contains("partial")), "{names:?}");
}

/// Temporary files are private, but final files must be readable like any new file.
#[cfg(unix)]
#[test]
fn files_have_the_permissions_of_ordinary_ones() {
    use std::os::unix::fs::PermissionsExt;
    let dir = small();
    let ordinary = dir.path().join("ordinary");
    fs::write(&ordinary, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    for path in entries(dir.path()).into_iter().filter(|path| path.is_file()) {
        assert_eq!(mode(&path), mode(&ordinary), "{}", path.display());
    }
}
