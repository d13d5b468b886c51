//! Tests of manifests that are invalid, or contradict themselves or the layers.

use crate::common::{ATTENTION, CONV, FC, small};
use crate::{assert_invalid, assert_says, open_error, overwrite, read_json};
use mercury_trace::TraceError;
use mercury_trace::geometry::MAX_BATCH;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

/// Creates a small trace with a changed manifest; returns the manifest's path, too.
pub fn with_manifest(change: impl FnOnce(&mut Value)) -> (tempfile::TempDir, PathBuf) {
    let dir = small();
    let path = dir.path().join("manifest.json");
    let mut manifest = read_json(&path);
    change(&mut manifest);
    fs::write(&path, manifest.to_string()).unwrap();
    (dir, path)
}

#[test]
fn a_folder_without_a_manifest_is_not_a_trace() {
    let dir = small();
    fs::remove_file(dir.path().join("manifest.json")).unwrap();
    let file = dir.path().join("steps.parquet");
    for path in [dir.path(), &dir.path().join("nowhere"), &file] {
        let error = open_error(path);
        assert!(matches!(error, TraceError::NotATrace { .. }), "{error:?}");
        assert_says(&error, path, &["no manifest.json", "mercury-tracer capture"]);
    }
}

#[test]
fn a_manifest_that_is_not_json() {
    let dir = small();
    let path = dir.path().join("manifest.json");
    let whole = fs::read(&path).unwrap();
    let broken: [&[u8]; 7] =
        [b"", b"{", b"schema_version = 1", b"[]", b"null", b"{\"schema_version\": -1}", &whole[..whole.len() / 2]];
    for text in broken {
        fs::write(&path, text).unwrap();
        assert_invalid(&open_error(dir.path()), &path, "manifest", &["line"]);
    }
    fs::write(&path, b"\xff\xfe{\x00").unwrap();
    assert_invalid(&open_error(dir.path()), &path, "manifest", &[]);
}

#[test]
fn a_manifest_with_a_missing_key_or_another_type() {
    let required = [
        ("", "schema_version created_by model dataset seed training versions device sampling captured complete"),
        ("/model", "name parameters input classes"),
        ("/dataset", "name train_samples validation_samples"),
        ("/training", "steps batch_size learning_rate momentum weight_decay"),
        ("/sampling", "channels grad_channels filters"),
        ("/captured/1", "step samples dataset_indices tensors"),
        ("/captured/1/tensors/8", "layer kind rows width bytes"),
    ];
    let dir = small();
    let path = dir.path().join("manifest.json");
    let whole = read_json(&path);
    for (parent, keys) in required {
        for key in keys.split(' ') {
            let mut manifest = whole.clone();
            let removed = manifest.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
            assert!(removed.is_some(), "{parent}/{key}");
            overwrite(&path, manifest.to_string().as_bytes());
            assert_invalid(&open_error(dir.path()), &path, "manifest", &[&format!("missing field `{key}`")]);
            let mut manifest = whole.clone();
            manifest.pointer_mut(parent).unwrap()[key] = if key == "complete" { json!(0) } else { json!(false) };
            overwrite(&path, manifest.to_string().as_bytes());
            assert_invalid(&open_error(dir.path()), &path, "manifest", &["column"]);
        }
    }
}

#[test]
fn a_manifest_of_a_newer_schema() {
    // The rest of a newer manifest may have any structure.
    for text in [r#"{"schema_version": 4}"#, r#"{"schema_version": 4, "captured": "elsewhere"}"#] {
        let dir = small();
        let path = dir.path().join("manifest.json");
        fs::write(&path, text).unwrap();
        let error = open_error(dir.path());
        assert!(matches!(error, TraceError::NewerSchema { found: 4, known: 3, .. }), "{error:?}");
        assert_says(&error, &path, &["schema_version is 4", "up to 3", "update it"]);
    }
}

#[test]
fn an_invalid_or_missing_checksum() {
    for sum in [json!(null), json!(""), json!("ab"), json!("G".repeat(64))] {
        let (dir, path) = with_manifest(|m| m["captured"][0]["tensors"][0]["sha256"] = sum);
        assert_invalid(&open_error(dir.path()), &path, "captured step 0", &["input", CONV, "SHA-256"]);
    }
}

#[test]
fn an_invalid_label() {
    for (label, says) in [("", "is empty"), (" ", "is empty"), ("a\nb", "line break"), ("\u{1b}[31m", "control")] {
        let (dir, path) = with_manifest(|m| m["label"] = json!(label));
        assert_invalid(&open_error(dir.path()), &path, "label", &[says]);
    }
    let (dir, path) = with_manifest(|m| m["label"] = json!("é".repeat(101)));
    assert_invalid(&open_error(dir.path()), &path, "label", &["has 101 characters"]);
    let (dir, _) = with_manifest(|m| m["label"] = json!("é".repeat(100)));
    mercury_trace::Trace::open(dir.path()).unwrap();
}

#[test]
fn a_batch_that_is_too_large() {
    let (dir, path) = with_manifest(|m| m["training"]["batch_size"] = json!(MAX_BATCH + 1));
    assert_invalid(&open_error(dir.path()), &path, "training.batch_size", &["1048577", "1048576"]);
}

#[test]
fn a_manifest_that_lists_a_tensor_of_an_unknown_layer() {
    let (dir, path) = with_manifest(|m| m["captured"][1]["tensors"][3]["layer"] = json!("../fc"));
    let says = ["\"../fc\"", "not in layers.parquet"];
    assert_invalid(&open_error(dir.path()), &path, "captured step 5", &says);
}

#[test]
fn a_manifest_that_lists_a_tensor_of_another_kind() {
    let (dir, path) = with_manifest(|m| m["captured"][1]["tensors"][3]["kind"] = json!("bias"));
    assert_invalid(&open_error(dir.path()), &path, "manifest", &["bias", "grad_output"]);
}

#[test]
fn a_manifest_that_lists_a_tensor_twice() {
    let (dir, path) = with_manifest(|m| m["captured"][0]["tensors"][1] = m["captured"][0]["tensors"][0].clone());
    assert_invalid(&open_error(dir.path()), &path, "captured step 0", &["input", CONV, "twice"]);
}

#[test]
fn a_manifest_with_rows_or_width_of_another_geometry() {
    for (key, number) in [("rows", json!(3)), ("rows", json!(u64::MAX)), ("width", json!(0)), ("width", json!(21))] {
        let (dir, path) = with_manifest(|m| m["captured"][0]["tensors"][0][key] = number.clone());
        let says = ["input", CONV, "4 of 20", &number.to_string()];
        assert_invalid(&open_error(dir.path()), &path, "captured step 0", &says);
    }
}

#[test]
fn a_manifest_with_samples_outside_the_batch() {
    for samples in [json!([3, 1]), json!([1, 1]), json!([1, 4]), json!([]), json!([1])] {
        let (dir, path) = with_manifest(|m| m["captured"][1]["samples"] = samples);
        let says = ["samples", "ascend", "batch_size"];
        assert_invalid(&open_error(dir.path()), &path, "captured step 5", &says);
    }
    let (dir, path) = with_manifest(|m| m["captured"][1]["dataset_indices"] = json!([42, 17, 1]));
    assert_invalid(&open_error(dir.path()), &path, "captured step 5", &["one dataset index each"]);
}

#[test]
fn a_manifest_whose_steps_do_not_ascend() {
    for step in [json!(0), json!(5)] {
        let (dir, path) = with_manifest(|m| {
            m["captured"][0]["step"] = json!(5);
            m["captured"][1]["step"] = step;
        });
        assert_invalid(&open_error(dir.path()), &path, "captured", &["ascend"]);
    }
}

#[test]
fn a_manifest_with_channels_beyond_the_layer_s() {
    for map in ["channels", "grad_channels", "filters"] {
        for kept in [json!([]), json!([1, 0]), json!([2, 2]), json!([0, 6])] {
            let (dir, path) = with_manifest(|m| m["sampling"][map][CONV] = kept);
            assert_invalid(&open_error(dir.path()), &path, &format!("sampling.{map}"), &[CONV, "ascend"]);
        }
        let (dir, path) = with_manifest(|m| m["sampling"][map]["classifier.6"] = json!([0]));
        let says = ["classifier.6", "not in layers.parquet"];
        assert_invalid(&open_error(dir.path()), &path, &format!("sampling.{map}"), &says);
    }
}

/// The tensors of a product of two activations, and X and dY of a linear layer, are always kept whole.
#[test]
fn a_manifest_that_samples_tensors_kept_whole() {
    let cases = [("channels", FC), ("grad_channels", FC)];
    let attention = ["channels", "grad_channels", "filters"].map(|map| (map, ATTENTION));
    for (map, layer) in cases.into_iter().chain(attention) {
        let (dir, path) = with_manifest(|m| m["sampling"][map][layer] = json!([0, 2]));
        assert_invalid(&open_error(dir.path()), &path, &format!("sampling.{map}"), &[layer, "whole"]);
    }
}
