//! Readings of the hardware, the ladder between them, projections and net savings, on the command line.

mod common;

use common::place::Place;
use std::collections::BTreeMap;
use std::path::Path;

/// The rows of a table that a command prints with `--format csv`, by column.
fn rows(place: &Place, command: &str) -> Vec<BTreeMap<String, String>> {
    let text = place.stdout(&format!("{command} --format csv"));
    csv::Reader::from_reader(text.as_bytes()).deserialize().map(Result::unwrap).collect()
}

fn number(row: &BTreeMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column}: {:?}", row[column]))
}

/// Sums a column of a replay's rows.
fn sum(rows: &[BTreeMap<String, String>], column: &str) -> f64 {
    rows.iter().map(|row| number(row, column)).sum()
}

/// A captured step of MobileNet-v2: depthwise and 1 x 1 convolutions.
fn mobilenet() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mobilenet").display().to_string()
}

/// The flags that lead to each rung: those of the rungs before, each key's last value.
fn accumulate_flags(rungs: &[BTreeMap<String, String>]) -> Vec<String> {
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let mut flags = Vec::new();
    for rung in rungs {
        let words: Vec<&str> = rung["flags"].split_whitespace().collect();
        values.extend(words.chunks(2).map(|flag| (flag[0].to_owned(), flag[1].to_owned())));
        // Only a dedicated unit has multiply-accumulates.
        if values.get("--rpq.unit").is_some_and(|unit| unit == "free") {
            values.remove("--rpq.macs_per_cycle");
        }
        flags.push(values.iter().map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(" "));
    }
    flags
}

#[test]
fn each_rung_equals_a_replay_with_its_configuration() {
    let place = Place::new();
    for (trace, base) in [("trace", ""), (mobilenet().as_str(), "--stop.window 0"), ("trace", "--preset patch-os")] {
        let rungs = rows(&place, &format!("ladder {trace} {base} --errors all"));
        assert!(rungs.len() >= 7, "{}", rungs.len());
        let steps = if base.contains("window") { "" } else { "--stop.window 0" };
        for (rung, flags) in rungs.iter().zip(accumulate_flags(&rungs)).skip(1) {
            let window = if flags.contains("stop.window") { "" } else { steps };
            let out = place.path("out");
            let replayed = rows(&place, &format!("replay {trace} {base} {window} {flags} --errors all --out out"));
            let speed_up = sum(&replayed, "baseline_cycles") / sum(&replayed, "mercury_cycles");
            let assumption = &rung["assumption"];
            assert!((number(rung, "speed_up") - speed_up).abs() < 1e-9, "{base} {assumption}: {flags}");
            let equal = sum(&replayed, "baseline_equal_macs_cycles") / sum(&replayed, "mercury_cycles");
            assert!((number(rung, "speed_up_equal_macs") - equal).abs() < 1e-9, "{assumption}");
            let saved = sum(&replayed, "macs_saved_net") / sum(&replayed, "macs");
            assert!((number(rung, "computations_saved") - saved).abs() < 1e-9, "{assumption}");
            assert_eq!(
                rung["is_bound"],
                replayed.iter().any(|row| row["is_bound"] == "true").to_string(),
                "{assumption}"
            );
            std::fs::remove_dir_all(out).unwrap();
        }
    }
}

#[test]
fn the_readings_are_the_presets() {
    let place = Place::new();
    let readings = rows(&place, "ladder trace --readings --errors none");
    assert_eq!(readings.len(), 4);
    for (reading, preset) in readings.iter().zip(["mercury", "mercury-skip", "mercury-ahead"]) {
        assert_eq!(reading["preset"], preset);
        // Two captured steps, both of the trial.
        let replayed = rows(&place, &format!("replay trace --preset {preset} --errors none --out {preset}"));
        let speed_up = sum(&replayed, "baseline_cycles") / sum(&replayed, "mercury_cycles");
        assert!((number(reading, "speed_up") - speed_up).abs() < 1e-9, "{preset}");
        assert_eq!(reading["is_bound"], "false");
    }
    assert_eq!(readings[3]["is_bound"], "true");
    assert!(number(&readings[3], "speed_up") > number(&readings[2], "speed_up"));
    let error = place.error("ladder trace --readings --preset mercury");
    assert!(error.contains("--readings") && error.contains("--preset"), "{error}");
}

/// A HIT adds its result: of one element nothing is left to save.
#[test]
fn vectors_of_one_element_save_nothing() {
    let place = Place::new();
    for variant in ["sign", "sign+rescale", "sign+magnitude(3)", "centred"] {
        let command = format!("replay {} --errors none --rpq.variant {variant} --out out", mobilenet());
        let rows = rows(&place, &command);
        let is_pointwise = |row: &&BTreeMap<String, String>| row["vector_length"] == "1" && row["reuse"] == "true";
        let pointwise: Vec<_> = rows.iter().filter(is_pointwise).collect();
        assert!(pointwise.iter().any(|row| number(row, "macs_skipped") > 0.0));
        for row in pointwise {
            assert!(number(row, "macs_saved_net") <= 0.0, "{variant}: {} {}", row["layer"], row["pass"]);
        }
        std::fs::remove_dir_all(place.path("out")).unwrap();
    }
}

#[test]
fn projections_are_replays_with_their_seeds() {
    let place = Place::new();
    let together = rows(&place, "replay trace --seeds 3 --rpq.seed 5 --errors all --out out");
    let mut speed_ups = Vec::new();
    for (configuration, seed) in ["5", "6", "7"].into_iter().enumerate() {
        let alone = rows(&place, &format!("replay trace --rpq.seed {seed} --errors all --out alone-{seed}"));
        let of_one = together.iter().filter(|row| row["configuration"] == configuration.to_string());
        for (together, alone) in of_one.zip(&alone) {
            let mut alone = alone.clone();
            alone.insert("configuration".to_owned(), configuration.to_string());
            assert_eq!(*together, alone);
        }
        speed_ups.push(sum(&alone, "baseline_cycles") / sum(&alone, "mercury_cycles"));
    }
    assert_eq!(together.len() % 3, 0);
    let swept = rows(&place, "sweep trace --set rpq.bits=20 --seeds 3 --rpq.seed 5 --errors all --out sweep");
    assert_eq!(swept.len(), 1);
    let mean = speed_ups.iter().sum::<f64>() / 3.0;
    assert!((number(&swept[0], "speed_up") - mean).abs() < 1e-9);
    let range = [speed_ups.iter().copied().reduce(f64::min), speed_ups.iter().copied().reduce(f64::max)];
    assert_eq!(
        range.map(|bound| bound.unwrap().to_string()),
        [&swept[0]["speed_up_min"], &swept[0]["speed_up_max"]].map(Clone::clone)
    );
    let text = place.stdout("replay trace --seeds 3 --out text");
    assert!(text.contains("over 3 projections") && !text.contains("--seeds 6"), "{text}");
    assert!(place.stdout("replay trace --out one").contains("do not cover the draw of the projection"));
    place.stdout("verify out");
    place.stdout("verify sweep");
    place.stdout("report out sweep --trace trace --out report.html");
    let error = place.error("sweep trace --set rpq.seed=1,2 --seeds 3 --out seeds");
    assert!(error.contains("--seeds") && error.contains("rpq.seed"), "{error}");
    let error = place.error("replay trace --seeds 2 --rpq.seed 9223372036854775807 --out last");
    assert!(error.contains("--seeds") && error.contains("63 bits"), "{error}");
}

/// Partitions of several projections merge to the bytes of one replay.
#[test]
fn projections_are_partitioned() {
    let place = Place::new();
    place.stdout("replay trace --seeds 2 --out whole");
    for number in [1, 2] {
        place.stdout(&format!("replay trace --seeds 2 --partition {number}/2 --out part-{number}"));
    }
    place.stdout("merge part-1 part-2 --out merged");
    assert_eq!(common::place::files(&place.path("merged")), common::place::files(&place.path("whole")));
}

/// Groups of a depthwise convolution share no weights: a wider scope only fills the cache.
#[test]
fn a_scope_that_wastes_room_causes_a_warning() {
    let place = Place::new();
    let small = "--errors none --mcache.entries 16 --mcache.ways 16 --passes forward";
    let run = |scope: &str, out: &str| {
        let command = format!("replay {} --preset patch-os {scope} {small} --out {out}", mobilenet());
        let output = place.run(&command);
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let warning = run("--mcache.scope sample", "sample");
    assert!(
        warning.contains("entries of other weights") && warning.contains("set mcache.scope to channel"),
        "{warning}"
    );
    assert!(!run("", "channel").contains("other weights"));
    let hits = |out: &str| {
        sum(
            &rows(
                &place,
                &format!("replay {} --preset patch-os --mcache.scope {out} {small} --out {out}-rows", mobilenet()),
            ),
            "hit",
        )
    };
    assert!(hits("channel") > hits("sample"));
}

#[test]
fn what_an_array_or_a_layer_does_not_know_is_refused() {
    let place = Place::new();
    let refused = [
        ("--array.hit_cycles 1/0", "array.hit_cycles"),
        ("--array.hit_cycles fast", "array.hit_cycles"),
        ("--array.hit_cycles=-1", "array.hit_cycles"),
        ("--rpq.granularity channel-patch(0)", "channel-patch(q)"),
        ("--rpq.granularity channel-patch(7)", "features.0 has most, 4"),
        ("--rpq.unit dedicated --rpq.macs_per_cycle 0", "rpq.macs_per_cycle"),
        ("--rpq.macs_per_cycle 14", "set rpq.unit to dedicated"),
        ("--array.dataflow ws --array.hit_cycles column", "array.dataflow = \"rs\""),
        ("--array.dataflow ws --array.dealing dynamic", "array.dataflow = \"rs\""),
        ("--array.dataflow ws --mcache.results_per_cycle 8", "mcache.read_ports"),
        ("--array.dataflow os --rpq.granularity channel-patch(2)", "rpq.granularity"),
    ];
    for (flags, named) in refused {
        let error = place.error(&format!("replay trace {flags} --out out"));
        assert!(error.contains(named), "{flags}: {error}");
        assert!(!place.path("out").exists(), "{flags}");
    }
    std::fs::write(place.path("my.toml"), "[array]\ndataflow = \"ws\"\nhit_cycles = 0.5\n").unwrap();
    let error = place.error("replay trace --config my.toml --out out");
    assert!(error.contains("my.toml") && error.contains("array.hit_cycles"), "{error}");
    // A preset's reading of one array says nothing of another.
    place.stdout("replay trace --preset mercury-skip --array.dataflow ws --out ws");
}
