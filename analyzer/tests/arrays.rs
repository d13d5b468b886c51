//! Results of several arrays: speed-ups are relative to different baselines, so cycles are
//! compared.

mod common;

use common::place::Place;
use serde_json::Value;
use std::fs;

const UNLIKE: &str =
    "baselines differ, so speed-ups cannot be compared across arrays: compare mercury_cycles instead\n";

fn number(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap_or_else(|| panic!("{name} of {row}"))
}

/// Marks the rows that no other row beats, by being at most as large in both columns and smaller in
/// one.
fn find_frontier(rows: &[Value], columns: [&str; 2]) -> Vec<bool> {
    let values: Vec<Vec<f64>> = rows.iter().map(|row| columns.map(|name| number(row, name)).to_vec()).collect();
    let beats = |a: &Vec<f64>, b: &Vec<f64>| a[0] <= b[0] && a[1] <= b[1] && a != b;
    values.iter().map(|row| !values.iter().any(|other| beats(other, row))).collect()
}

fn sweep(place: &Place, arguments: &str) -> (Vec<Value>, String) {
    let output = place.run(&format!("sweep trace --errors all --format json {arguments}"));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    (serde_json::from_slice(&output.stdout).unwrap(), stderr)
}

fn read_marks(rows: &[Value]) -> Vec<bool> {
    rows.iter().map(|row| row["pareto"] == true).collect()
}

#[test]
fn a_frontier_over_several_arrays_compares_cycles() {
    let place = Place::new();
    // A smaller array takes more cycles, but reuse speeds it up more.
    let grid =
        "--array.dataflow ws --set array.rows=4,16 --set array.columns=4,16 --set rpq.bits=2,4,8,20 --out several";
    let (rows, notes) = sweep(&place, &format!("{grid} --pareto output_error,speed_up"));
    assert!(notes.contains(UNLIKE), "{notes}");
    assert!(notes.contains("--pareto: mercury_cycles is compared instead of speed_up\n"), "{notes}");
    assert_eq!(read_marks(&rows), find_frontier(&rows, ["output_error", "mercury_cycles"]));
    // The frontier of speed-ups is a different one.
    let mut quotients = rows.clone();
    for row in &mut quotients {
        row["slowness"] = (1.0 / number(row, "speed_up")).into();
    }
    assert_ne!(read_marks(&rows), find_frontier(&quotients, ["output_error", "slowness"]));

    for (metric, columns) in
        [("speed_up_with_stalls", ["mercury_cycles", "mercury_memory_stall"]), ("energy", ["mercury_energy"; 2])]
    {
        let (mut rows, notes) = sweep(&place, &format!("{grid} --pareto output_error,{metric}"));
        assert!(notes.contains(&format!("instead of {metric}\n")), "{notes}");
        for row in &mut rows {
            row["sum"] = (number(row, columns[0]) + number(row, columns[1])).into();
        }
        assert_eq!(read_marks(&rows), find_frontier(&rows, ["output_error", "sum"]), "{metric}");
    }
}

#[test]
fn a_frontier_on_one_array_compares_speed_ups() {
    let place = Place::new();
    let (mut rows, notes) = sweep(&place, "--set rpq.bits=2,4,8,20 --out one --pareto output_error,speed_up");
    assert!(!notes.contains("baselines") && !notes.contains("--pareto"), "{notes}");
    for row in &mut rows {
        row["slowness"] = (1.0 / number(row, "speed_up")).into();
    }
    assert_eq!(read_marks(&rows), find_frontier(&rows, ["output_error", "slowness"]));
}

/// The quotients in a sweep's table equal those of its absolute columns.
#[test]
fn quotients_equal_those_of_absolute_columns() {
    let place = Place::new();
    let (rows, _) = sweep(&place, "--set array.dataflow=ws,rs --set memory.dram_bytes_per_cycle=1.0,16.0 --out sweep");
    for row in &rows {
        let [baseline, mercury] = ["baseline", "mercury"]
            .map(|side| number(row, &format!("{side}_cycles")) + number(row, &format!("{side}_memory_stall")));
        assert!((number(row, "speed_up_with_stalls") - baseline / mercury).abs() < 1e-12, "{row}");
        let energy = number(row, "mercury_energy") / number(row, "baseline_energy");
        assert!((number(row, "energy") - energy).abs() < 1e-12, "{row}");
    }
    assert!(rows.iter().any(|row| number(row, "mercury_memory_stall") > 0.0));
    let table = |arguments: &str| place.stdout(&format!("sweep trace --errors none {arguments}"));
    assert!(table("--set array.dataflow=ws,rs --out a").contains("mercury_energy"));
    assert!(!table("--set rpq.bits=4,8 --out b").contains("mercury_energy"));
}

#[test]
fn a_comparison_of_two_arrays_has_the_cycles_of_both() {
    let place = Place::new();
    place.stdout("replay trace --out a --errors all --array.dataflow ws");
    place.stdout("replay trace --out b --errors all --array.dataflow rs");
    let output = place.run("compare a b --format json");
    assert!(String::from_utf8_lossy(&output.stderr).contains(UNLIKE));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let model = rows.last().unwrap();
    assert_eq!(
        (&model["layer"], &model["pass"], &model["layer_index"]),
        (&"model".into(), &"all".into(), &Value::Null)
    );
    for (side, folder) in [("a", "--array.dataflow ws"), ("b", "--array.dataflow rs")] {
        let replayed = place.stdout(&format!("replay trace --out again-{side} --errors all --format json {folder}"));
        let replayed: Vec<Value> = serde_json::from_str(&replayed).unwrap();
        let sum = |name: &str, wanted: fn(&Value) -> bool| -> f64 {
            replayed.iter().filter(|row| wanted(row)).map(|row| number(row, name)).sum()
        };
        let all = |name: &str| sum(name, |_| true);
        let forward = |name: &str| sum(name, |row| row["pass"] == "forward");
        let expected = [
            ("baseline_cycles", all("baseline_cycles")),
            ("mercury_cycles", all("mercury_cycles")),
            ("speed_up", all("baseline_cycles") / all("mercury_cycles")),
            ("hit_rate", forward("hit") / forward("vectors")),
            ("output_error", (forward("error_square") / forward("exact_square")).sqrt()),
        ];
        for (name, value) in expected {
            let found = number(model, &format!("{name}_{side}"));
            assert!((found - value).abs() <= 1e-12 * value, "{name}_{side}: {found}, not {value}");
        }
    }
    // The baselines of one array are equal, so the table leaves them out.
    place.stdout("replay trace --out c --array.dataflow rs --rpq.bits 4");
    let output = place.run("compare b c");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("baselines"));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("mercury_cycles_a") && !table.contains("baseline_cycles_a"), "{table}");
}

/// Thresholds apply to the model's row, too, and it is counted.
#[test]
fn a_threshold_is_crossed_by_the_model_s_row() {
    let place = Place::new();
    place.stdout("replay trace --out a --rpq.bits 4");
    place.stdout("replay trace --out b --rpq.bits 8");
    let rows: Vec<Value> = serde_json::from_str(&place.stdout("compare a b --format json")).unwrap();
    let most = number(rows.last().unwrap(), "hit_rate_change").abs() * 0.999;
    let crossing = rows.iter().filter(|row| number(row, "hit_rate_change").abs() > most).count();
    let output = place.run(&format!("compare a b --threshold hit_rate={most}"));
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    // 11 rows of layers and passes, and one of the model.
    assert!(stderr.contains(&format!("{crossing} of 12 rows cross a threshold")), "{stderr}");
}

#[test]
fn the_report_s_frontier_over_several_arrays_compares_cycles() {
    let place = Place::new();
    place.stdout("sweep trace --errors all --set array.dataflow=ws,rs --set rpq.bits=2,4,8,20 --out sweep");
    place.stdout("replay trace --errors all --out whole --preset patch-os");
    place.stdout("replay trace --errors all --out part --layers features.0");
    place.stdout("report sweep whole part --out report.html");
    let page = fs::read_to_string(place.path("report.html")).unwrap();
    let (_, rest) = page.split_once(r#"<script type="application/json" id="data">"#).unwrap();
    let data: Value = serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap();
    let points = data["configurations"].as_array().unwrap();
    assert_eq!(points.len(), 10);
    // The part of the trace has fewer cycles than the whole, so it must not be compared with it.
    let (part, whole): (Vec<Value>, Vec<Value>) = points.iter().cloned().partition(|point| !point["part"].is_null());
    assert_eq!(part.len(), 1);
    assert_eq!(part[0]["pareto"], true);
    assert_eq!(read_marks(&whole), find_frontier(&whole, ["output_error", "mercury_cycles"]));
    // Each folder has its number of configurations.
    let folders: Vec<(&str, u64, bool)> = data["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|folder| {
            let count = folder["configurations"].as_u64().unwrap();
            (folder["kind"].as_str().unwrap(), count, folder["part"].is_null())
        })
        .collect();
    assert_eq!(folders, [("swept", 8, true), ("replayed", 1, true), ("replayed", 1, false)]);
}
