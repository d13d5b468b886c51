//! Tests that verification detects every change, and that older traces are read without checksums.

mod common;

use common::small;
use mercury_trace::{Trace, TraceError, Verified};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn verify(dir: &Path) -> Result<Verified, TraceError> {
    let trace = Trace::open(dir)?;
    let mut verified = trace.verify_tables()?;
    for step in &trace.manifest().captured {
        for file in &step.tensors {
            verified += trace.verify_tensor(step, file)?;
        }
    }
    Ok(verified)
}

fn change_manifest(dir: &Path, change: impl FnOnce(&mut Value)) {
    let path = dir.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(path, manifest.to_string()).unwrap();
}

#[test]
fn an_unchanged_trace_is_verified() {
    let dir = small();
    let verified = verify(dir.path()).unwrap();
    assert_eq!((verified.files, verified.without_checksum), (4 + 2 * 9, 0));
    let list = fs::read_to_string(dir.path().join("SHA256SUMS")).unwrap();
    assert_eq!(list.lines().count(), 4);
}

/// Changes each of several bytes of every file, and removes every file.
#[test]
fn any_change_is_found() {
    let dir = small();
    let mut found = 0;
    let input = "tensors/step=000005/layer=features.0/input.parquet";
    for name in ["manifest.json", "layers.parquet", "steps.parquet", "evaluations.parquet", "SHA256SUMS", input] {
        let path = dir.path().join(name);
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(whole.len() / 40 + 1) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            let error = verify(dir.path()).expect_err(&format!("{name}: byte {at}"));
            assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
            found += 1;
        }
        fs::remove_file(&path).unwrap();
        verify(dir.path()).expect_err(name);
        fs::write(&path, [&whole[..], b"\n"].concat()).unwrap();
        verify(dir.path()).expect_err(name);
        fs::write(&path, whole).unwrap();
        verify(dir.path()).unwrap();
        found += 2;
    }
    println!("figures: changes: {found} of {found} found");
}

#[test]
fn a_trace_of_version_1_has_no_checksums_and_is_read() {
    let dir = small();
    fs::remove_file(dir.path().join("SHA256SUMS")).unwrap();
    change_manifest(dir.path(), |manifest| {
        manifest["schema_version"] = 1.into();
        for step in manifest["captured"].as_array_mut().unwrap() {
            for file in step["tensors"].as_array_mut().unwrap() {
                file.as_object_mut().unwrap().remove("sha256");
            }
        }
    });
    let verified = verify(dir.path()).unwrap();
    assert_eq!((verified.files, verified.without_checksum), (0, 4 + 2 * 9));
}

#[test]
fn the_tables_of_an_incomplete_trace_have_no_checksums() {
    let dir = small();
    change_manifest(dir.path(), |manifest| manifest["complete"] = false.into());
    let verified = verify(dir.path()).unwrap();
    assert_eq!((verified.files, verified.without_checksum), (2 * 9, 4));
    let error = mercury_trace::TraceWriter::resume(dir.path(), 3).map(drop).map_err(|error| error.to_string());
    assert_eq!(error, Ok(()));
    assert!(!dir.path().join("SHA256SUMS").exists(), "of a trace that is no more");
}
