//! Malformed results and partitions.

use super::{Case, assert_report, link, replace, report, truncate};
use crate::common::place::Place;
use mercury_analyzer::table;
use mercury_trace::atomic::Unsynced;
use mercury_trace::checksum::Checksums;
use polars::prelude::*;
use serde_json::{Value, json};
use std::fs;

const COMPARE: &str = "compare a b";
const VERIFY: &str = "verify a";
const MERGE: &str = "merge part-1 part-2 --out out";

fn replay_twice() -> Place {
    let place = Place::new();
    let replay = "replay trace --errors all --with bounds --steps 0 --layers features.0";
    place.stdout(&format!("{replay} --rpq.bits 6 --out a"));
    place.stdout(&format!("{replay} --rpq.bits 7 --out b"));
    place
}

/// Removes the checksums, as earlier versions wrote none.
fn remove_checksums(place: &Place) {
    fs::remove_file(place.path("a/SHA256SUMS")).unwrap();
}

/// Changes a table and removes the checksums.
fn change_table(place: &Place, change: impl FnOnce(&mut DataFrame)) {
    let path = place.path("a/layers.parquet");
    let mut frame = table::read(&path).unwrap();
    change(&mut frame);
    table::write(&mut Unsynced::default(), path, &frame).unwrap();
    remove_checksums(place);
}

const RESULTS: [Case; 16] = [
    ("run.json: truncated", |place| truncate(&place.path("a/run.json"), 100), COMPARE),
    (
        "run.json: truncated, no checksums",
        |place| {
            remove_checksums(place);
            truncate(&place.path("a/run.json"), 100);
        },
        COMPARE,
    ),
    (
        "run.json: nested without end",
        |place| {
            remove_checksums(place);
            fs::write(place.path("a/run.json"), "[".repeat(1 << 20)).unwrap();
        },
        COMPARE,
    ),
    (
        "run.json: a list",
        |place| {
            remove_checksums(place);
            fs::write(place.path("a/run.json"), "[]").unwrap();
        },
        COMPARE,
    ),
    ("layers: a changed file", |place| truncate(&place.path("a/layers.parquet"), 900), COMPARE),
    (
        "layers: truncated, no checksums",
        |place| {
            remove_checksums(place);
            truncate(&place.path("a/layers.parquet"), 900);
        },
        COMPARE,
    ),
    (
        "layers: empty, no checksums",
        |place| {
            remove_checksums(place);
            truncate(&place.path("a/layers.parquet"), 0);
        },
        COMPARE,
    ),
    (
        "layers: pages of zeros, no checksums",
        |place| {
            remove_checksums(place);
            let path = place.path("a/layers.parquet");
            let mut bytes = fs::read(&path).unwrap();
            bytes[4..1000].fill(0);
            fs::write(path, bytes).unwrap();
        },
        COMPARE,
    ),
    (
        "layers: a column is missing",
        |place| change_table(place, |frame| drop(frame.drop_in_place("hit").unwrap())),
        COMPARE,
    ),
    (
        "layers: text for a number",
        |place| {
            change_table(place, |frame| {
                let text = Column::new("hit".into(), vec!["many"; frame.height()]);
                frame.with_column(text).unwrap();
            });
        },
        COMPARE,
    ),
    ("layers: a link to itself", |place| link(&place.path("a/layers.parquet"), "layers.parquet"), COMPARE),
    ("checksums: none, to verify", remove_checksums, VERIFY),
    ("checksums: not a list", |place| fs::write(place.path("a/SHA256SUMS"), "whatever\n").unwrap(), VERIFY),
    (
        "checksums: of a file elsewhere",
        |place| replace(&place.path("a/SHA256SUMS"), "  run.json", "  ../run.json"),
        VERIFY,
    ),
    (
        "checksums: a file is not listed",
        |place| replace(&place.path("a/SHA256SUMS"), "  run.json", "  else.json"),
        VERIFY,
    ),
    ("models: changed, to verify", |place| truncate(&place.path("a/models.parquet"), 500), VERIFY),
];

#[test]
fn results() {
    assert_report("bad_results", &report(&RESULTS, replay_twice));
}

fn replay_partitions() -> Place {
    let place = Place::new();
    for number in [1, 2] {
        let replay = "replay trace --rpq.bits 6 --errors all --with bounds --steps 0";
        place.stdout(&format!("{replay} --partition {number}/2 --out part-{number}"));
    }
    place
}

/// Changes the first partition's identity and updates the checksums.
fn change_identity(place: &Place, change: impl FnOnce(&mut Value)) {
    let path = place.path("part-1/partition.json");
    let mut identity = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut identity);
    fs::write(&path, identity.to_string()).unwrap();
    update_checksums(place);
}

fn list_parts(place: &Place) -> Vec<String> {
    let names = fs::read_dir(place.path("part-1/parts")).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn update_checksums(place: &Place) {
    let names = list_parts(place).into_iter().map(|name| format!("parts/{name}")).chain(["partition.json".to_owned()]);
    Checksums::from_files(&place.path("part-1"), names).unwrap().write(&place.path("part-1")).unwrap();
}

/// Changes the results of the first unit and updates the checksums.
fn change_part(place: &Place, change: impl FnOnce(&mut Value)) {
    let path = place.path("part-1/parts").join(&list_parts(place)[0]);
    let part: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let mut results = part["results"].clone();
    change(&mut results);
    let results = results.to_string();
    let sum = mercury_trace::checksum::hash_bytes(results.as_bytes());
    fs::write(&path, format!("{{\"sha256\":\"{sum}\",\"results\":{results}}}\n")).unwrap();
    update_checksums(place);
}

const PARTITIONS: [Case; 14] = [
    ("identity: truncated", |place| truncate(&place.path("part-1/partition.json"), 50), MERGE),
    (
        "identity: a changed value",
        |place| replace(&place.path("part-1/partition.json"), "\\\"seed\\\": 1", "\\\"seed\\\": 2"),
        MERGE,
    ),
    ("identity: no such share", |place| change_identity(place, |i| i["share"] = json!({"number": 3, "of": 2})), MERGE),
    ("identity: no shares", |place| change_identity(place, |i| i["share"] = json!({"number": 0, "of": 0})), MERGE),
    (
        "identity: more shares than any",
        |place| change_identity(place, |i| i["share"] = json!({"number": 1, "of": u32::MAX})),
        MERGE,
    ),
    ("identity: an unknown key", |place| change_identity(place, |i| i["else"] = json!(1)), MERGE),
    (
        "identity: units of another type",
        |place| change_identity(place, |i| i["units"] = json!(["../../secret"])),
        MERGE,
    ),
    (
        "identity: a unit that does not exist",
        |place| change_identity(place, |i| i["units"][0] = json!([u64::MAX, 7])),
        MERGE,
    ),
    ("identity: units that do not add up", |place| change_identity(place, |i| i["units_in_all"] = json!(99)), MERGE),
    ("part: of another unit", |place| change_part(place, |results| results[0]["step"] = json!(10)), MERGE),
    ("part: of no configuration", |place| change_part(place, |results| results[0]["configuration"] = json!(1)), MERGE),
    ("part: a null for a number", |place| change_part(place, |results| results[0]["energy"][0] = Value::Null), MERGE),
    ("part: a count beyond 64 bits", |place| change_part(place, |results| results[0]["vectors"] = json!(1e30)), MERGE),
    ("parts: gone", |place| fs::remove_dir_all(place.path("part-1/parts")).unwrap(), MERGE),
];

#[test]
fn partitions() {
    assert_report("bad_partitions", &report(&PARTITIONS, replay_partitions));
}
