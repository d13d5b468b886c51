//! Names of results: labels from the command line, in reports and comparisons.

mod common;

use common::place::Place;
use serde_json::{Value, json};
use std::fs;

/// A trace with a label and a recorded command.
fn labelled_trace() -> Place {
    let place = Place::new();
    change_manifest(&place, |manifest| {
        manifest["label"] = "warm start".into();
        manifest["command"] = "mercury-tracer capture --out TRACE --model small".into();
    });
    place
}

fn change_manifest(place: &Place, change: impl FnOnce(&mut Value)) {
    let path = place.path("trace/manifest.json");
    let mut manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(path, manifest.to_string()).unwrap();
}

/// The data of a report's page.
fn read_data(place: &Place, results: &str) -> Value {
    place.stdout(&format!("report {results} --out report.html"));
    let page = fs::read_to_string(place.path("report.html")).unwrap();
    let (_, rest) = page.split_once(r#"<script type="application/json" id="data">"#).unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

fn list_names(data: &Value) -> Vec<&str> {
    data["views"].as_array().unwrap().iter().map(|view| view["name"].as_str().unwrap()).collect()
}

/// The notes that a command prints to stderr.
fn read_notes(place: &Place, arguments: &str) -> String {
    String::from_utf8(place.run(arguments).stderr).unwrap()
}

#[test]
fn results_are_named_by_their_label_or_their_differences() {
    let place = Place::new();
    place.stdout("replay trace --out a --rpq.bits 6");
    place.stdout("replay trace --out b --rpq.bits 7");
    place.stdout("replay trace --out c --rpq.bits 7 --label tuned");
    assert_eq!(list_names(&read_data(&place, "a")), ["a"]);
    let data = read_data(&place, "a b c");
    assert_eq!(list_names(&data), ["rpq.bits 6", "rpq.bits 7", "tuned"]);
    let folders: Vec<&Value> = data["views"].as_array().unwrap().iter().map(|view| &view["folder"]).collect();
    assert_eq!(folders, [&json!("a"), &json!("b"), &json!("c")]);
    assert_eq!(data["views"][2]["command"], "mercury-analyzer replay TRACE --out RESULTS --rpq.bits 7 --label tuned");
    assert_eq!(data["views"][0]["capture"], Value::Null);
    assert!(read_notes(&place, "compare a c").starts_with("a: a: rpq.bits 6\nb: c: tuned\n"));
    assert!(read_notes(&place, "compare b b").starts_with("a: b\nb: b\n"));
}

#[test]
fn a_trace_s_label_and_command_reach_report_and_comparison() {
    let place = labelled_trace();
    place.stdout("replay trace --out a --rpq.bits 6");
    place.stdout("replay trace --out b --rpq.bits 7");
    change_manifest(&place, |manifest| {
        manifest["label"] = Value::Null;
        manifest["seed"] = 2.into();
        manifest["training"]["settings"] = json!({"weights": "w.safetensors"});
    });
    place.stdout("replay trace --out c --rpq.bits 7");
    let data = read_data(&place, "a b c");
    let other = "weights w.safetensors, seed 2, rpq.bits 7";
    assert_eq!(list_names(&data), ["warm start, rpq.bits 6", "warm start, rpq.bits 7", other]);
    assert_eq!(data["views"][0]["capture"], "mercury-tracer capture --out TRACE --model small");
    assert!(data["views"][0]["facts"].as_array().unwrap().contains(&json!(["Label of the trace", "warm start"])));
    let notes = read_notes(&place, "compare b c");
    assert!(notes.contains("b: c: weights w.safetensors, seed 2\n"), "{notes}");
    assert!(notes.contains("trace.label: \"warm start\" -> null\n"), "{notes}");
    let inspected = labelled_trace().stdout("inspect trace");
    assert!(inspected.contains("\nlabel: warm start\ncaptured by: mercury-tracer capture --out TRACE --model small\n"));
}

/// Merged partitions keep their label, and work with another label is another run.
#[test]
fn a_label_is_part_of_a_run_s_identity() {
    let place = Place::new();
    let replay = "replay trace --errors none";
    place.stdout(&format!("{replay} --out whole --label one"));
    for number in [1, 2] {
        place.stdout(&format!("{replay} --out part-{number} --partition {number}/2 --label one"));
    }
    place.stdout(&format!("{replay} --out other --partition 2/2"));
    place.stdout("merge part-1 part-2 --out merged");
    let run = |folder: &str| fs::read(place.path(&format!("{folder}/run.json"))).unwrap();
    assert_eq!(run("merged"), run("whole"));
    assert!(place.error("merge part-1 other --out none").contains("another trace, configuration or label than part-1"));
    place.stdout("sweep trace --set rpq.bits=4,8 --errors none --out sweep --label one");
    let error = place.error("sweep trace --set rpq.bits=4,8 --errors none --out sweep --label two");
    assert!(error.contains("another sweep (of another trace, label, other keys or other values)"), "{error}");
}

#[test]
fn invalid_labels_are_refused() {
    let place = Place::new();
    assert!(place.error("replay trace --out a --label=").contains("is empty; give it a text"));
    let long = "x".repeat(101);
    assert!(place.error(&format!("replay trace --out a --label {long}")).contains("has 101 characters"));
    assert!(!place.path("a").exists());
    change_manifest(&place, |manifest| manifest["label"] = "two\nlines".into());
    let error = place.error("inspect trace");
    assert!(error.contains("manifest.json: label: holds a line break"), "{error}");
}
