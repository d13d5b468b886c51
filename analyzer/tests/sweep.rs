//! Sweeps, selections and comparisons from the command line.

mod common;

use common::place::{Place, files};
use std::fs;

fn rows(json: &str) -> Vec<serde_json::Value> {
    serde_json::from_str(json).unwrap()
}

/// Configurations share work in a sweep, yet each has the results of its own replay.
#[test]
fn a_sweep_equals_many_replays() {
    let place = Place::new();
    let sweep = "sweep trace --out sweep --set rpq.bits=3,6,20 --set mcache.entries=0,4,32 \
                 --set mcache.replacement=none,lru --set rpq.variant=sign,centred --mcache.ways 4 --errors all --format json";
    let swept = rows(&place.stdout(sweep));
    assert_eq!(swept.len(), 36);
    let layers = place.path("sweep/layers.parquet");
    assert!(layers.exists() && !place.path("sweep/parts").exists());
    for (number, row) in swept.iter().enumerate().filter(|(number, _)| number % 5 == 0) {
        let value = |key: &str| row[key].to_string().trim_matches('"').to_owned();
        let keys = ["rpq.bits", "mcache.entries", "mcache.replacement", "rpq.variant"];
        let flags: Vec<String> = keys.iter().map(|key| format!("--{key} {}", value(key))).collect();
        let replay =
            format!("replay trace --out r{number} --mcache.ways 4 --errors all --format json {}", flags.join(" "));
        let replayed = rows(&place.stdout(&replay));
        let sum = |name: &str, forward: bool| -> u64 {
            let summed = replayed.iter().filter(|row| !forward || row["pass"] == "forward");
            summed.map(|row| row[name].as_u64().unwrap()).sum()
        };
        assert_eq!(row["hit"].as_u64(), Some(sum("hit", true)), "{row}");
        assert_eq!(row["mnu"].as_u64(), Some(sum("mnu", true)), "{row}");
        assert_eq!(row["mercury_cycles"].as_u64(), Some(sum("mercury_cycles", false)), "{row}");
        let squares = |name: &str| -> f64 {
            replayed.iter().filter(|row| row["pass"] == "forward").map(|row| row[name].as_f64().unwrap()).sum()
        };
        let error = (squares("error_square") / squares("exact_square")).sqrt();
        assert!((row["output_error"].as_f64().unwrap() - error).abs() < 1e-12, "{row}, {error}");
    }
}

#[test]
fn a_sweep_writes_the_same_bytes_with_any_number_of_threads() {
    let place = Place::new();
    let grids = [
        "--set rpq.bits=4,6 --set mcache.ways=1,4,16 --set array.dataflow=ws,rs --mcache.entries 16",
        "--errors none --set rpq.bits=3,4,6 --set mcache.entries=0,16,48 --set mcache.ways=1,4,16 \
         --set mcache.index=mixed,low-bits --set mcache.replacement=none,lru --set array.dataflow=ws,rs",
    ];
    for (number, keys) in grids.iter().enumerate() {
        for threads in [1, 4] {
            place.stdout(&format!("sweep trace --out {number}-{threads} --threads {threads} {keys}"));
        }
        assert_eq!(files(&place.path(&format!("{number}-1"))), files(&place.path(&format!("{number}-4"))));
    }
}

#[test]
fn an_interrupted_sweep_continues() {
    let place = Place::new();
    let sweep =
        "sweep trace --set rpq.bits=4,8 --set mcache.ways=1,2,16 --errors sampled --pareto hit_rate,output_error --out";
    insta::assert_snapshot!("sweep_table", place.stdout(&format!("{sweep} whole")));
    // A sweep that was stopped early: its identity, temporary files and a truncated part.
    let stopped = place.path("stopped");
    fs::create_dir_all(stopped.join("parts")).unwrap();
    fs::write(stopped.join(".x.partial"), "").unwrap();
    fs::copy(place.path("whole/sweep.json"), stopped.join("sweep.json")).unwrap();
    fs::write(stopped.join("parts/step-000000-layer-0001.json"), "[{\"configuration\": 0, \"st").unwrap();
    place.stdout(&format!("{sweep} stopped"));
    assert_eq!(files(&place.path("whole")), files(&stopped));
    // A sweep that was killed before it wrote its identity begins anew; foreign folders are
    // refused.
    fs::create_dir(place.path("claimed")).unwrap();
    fs::write(place.path("claimed/.x.partial"), "").unwrap();
    place.stdout(&format!("{sweep} claimed"));
    fs::create_dir(place.path("foreign")).unwrap();
    fs::write(place.path("foreign/file"), "").unwrap();
    insta::assert_snapshot!("sweep_foreign", place.error(&format!("{sweep} foreign")));
    assert_eq!(files(&place.path("foreign")).len(), 1);
    let lock = mercury_trace::atomic::lock(&place.path("whole")).unwrap();
    let error = place.error(&format!("{sweep} whole"));
    assert!(lock.is_some() && error.contains("another sweep is writing to whole"), "{error}");
    drop(lock);
    // A complete sweep is not run again.
    let again = place.run(&format!("{sweep} whole"));
    assert!(again.status.success() && String::from_utf8_lossy(&again.stderr).contains("is already complete"));
    insta::assert_snapshot!("sweep_of_another", place.error("sweep trace --set rpq.bits=4,9 --out whole"));
}

/// Layers that are switched off keep their vectors, so that configurations are compared over the
/// same vectors.
#[test]
fn switching_off_raises_neither_hit_rate_nor_error() {
    let place = Place::new();
    let swept =
        rows(&place.stdout("sweep trace --out sweep --set stop.window=0,1 --rpq.bits 6 --errors all --format json"));
    let value = |row: usize, name: &str| swept[row][name].as_f64().unwrap();
    assert_eq!(swept[0]["vectors"], swept[1]["vectors"]);
    assert!(value(1, "hit_rate") < value(0, "hit_rate") && value(1, "output_error") < value(0, "output_error"));
    assert!(value(1, "mercury_cycles") < value(0, "mercury_cycles"));
    assert!(place.run("compare trace trace").status.code() == Some(2));
    place.stdout("replay trace --out one");
    insta::assert_snapshot!("compare_other_grids", place.error("compare one sweep"));
}

/// The first captured step is the trial; after it every layer is switched off.
#[test]
fn the_headline_is_the_steady_state_and_names_the_trial() {
    let place = Place::new();
    let replay = "replay trace --rpq.bits 6 --errors all --with bounds";
    insta::assert_snapshot!("replay_after_the_trial", place.stdout(&format!("{replay} --stop.window 1 --out off")));
    place.stdout(&format!("{replay} --stop.window 0 --out on"));
    let output = place.run("compare on off");
    let notes = String::from_utf8(output.stderr).unwrap();
    assert!(notes.contains("a sums 2 captured steps and b sums 1: compare speed-ups, not cycles\n"), "{notes}");
    assert!(!notes.contains("compare mercury_cycles"), "{notes}");
    // Without reuse in the forward pass, its bounds are not printed.
    let gradients = place.stdout(&format!("{replay} --reuse.passes [\"input-grad\"] --out gradients"));
    assert!(!gradients.contains("forward pass:"), "{gradients}");
    // A configuration without a step after its trial does not hide the steady state of other
    // configurations.
    let swept = rows(&place.stdout("sweep trace --out sweep --set stop.window=1,5 --rpq.bits 6 --format json"));
    let trial: Vec<_> = swept.iter().map(|row| (row["steps"].as_u64(), row["trial_steps"].as_u64())).collect();
    assert_eq!(trial, [(Some(1), Some(1)); 2]);
}

#[test]
fn invalid_sweeps_are_refused() {
    let place = Place::new();
    let error = |flags: &str| place.error(&format!("sweep trace --out sweep {flags}"));
    insta::assert_snapshot!("sweep_bad_key", error("--set rpq.bitz=3"));
    insta::assert_snapshot!("sweep_bad_value", error("--set rpq.bits=20,99"));
    insta::assert_snapshot!("sweep_bad_range", error("--set rpq.bits=20..=4"));
    insta::assert_snapshot!("sweep_bad_pareto", error("--set rpq.bits=20 --pareto mcache.ways"));
    insta::assert_snapshot!("sweep_without_errors", error("--set rpq.bits=20 --errors none --pareto output_error"));
    insta::assert_snapshot!("sweep_nothing", error("--set mcache.ways=1025..=1030"));
    insta::assert_snapshot!("sweep_bounds", error("--set bounds.cosine=0.9,0.95"));
    insta::assert_snapshot!("sweep_batch_scope", error("--set mcache.scope=batch"));
    insta::assert_snapshot!("sweep_too_many", error("--set rpq.seed=1..=100000 --set rpq.bits=1..=64"));
}

#[test]
fn a_part_of_a_trace_is_replayed() {
    let place = Place::new();
    let part = "replay trace --out part --layers features.* --steps 10 --passes forward,weight-grad --format json";
    for row in rows(&place.stdout(part)) {
        assert!(row["layer"].as_str().unwrap().starts_with("features.") && row["step"] == 10, "{row}");
        assert_ne!(row["pass"], "input-grad");
    }
    let text = place.stdout("replay trace --out timed --layers features.0 --passes forward --errors none");
    assert!(text.contains("pass forward,") && text.contains("loss change not computed (--errors none)"), "{text}");
    let text = place.stdout("replay trace --out some --layers features.*");
    assert!(text.contains("loss change unknown: 2 of 4 layers were replayed"), "{text}");
    insta::assert_snapshot!("no_such_layer", place.error("replay trace --out other --layers conv*"));
    insta::assert_snapshot!(
        "no_such_pass",
        place.error("replay trace --out other --layers features.0 --passes input-grad")
    );
    insta::assert_snapshot!("no_such_step", place.error("replay trace --out other --steps 0,7"));
}

#[test]
fn results_are_compared() {
    let place = Place::new();
    place.stdout("replay trace --out a --rpq.bits 6 --errors all");
    place.stdout("replay trace --out b --rpq.bits 7 --errors all");
    let same = place.run("compare a a --threshold hit_rate=0,output_error=0,speed_up=0");
    assert_eq!(same.status.code(), Some(0));
    let changed = place.run("compare a b --threshold hit_rate=0.001");
    assert_eq!(changed.status.code(), Some(1));
    insta::assert_snapshot!("compare_table", String::from_utf8(changed.stdout).unwrap());
    insta::assert_snapshot!("compare_messages", String::from_utf8(changed.stderr).unwrap());
    assert_eq!(place.run("compare a b --threshold speed_up=100").status.code(), Some(0));
    insta::assert_snapshot!("compare_missing", place.error("compare a c"));
    insta::assert_snapshot!("compare_bad_threshold", place.error("compare a b --threshold hits=1"));
}
