//! The command line: printed output, written files and errors.

mod common;

use common::place::{Place, files};
use mercury_trace::manifest::{SCHEMA_VERSION, Sampling};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A replay with every measure.
const REPLAY: &str = "replay trace --rpq.bits 6 --errors all --with bounds";

#[test]
fn inspect_shows_what_a_trace_holds() {
    let place = Place::new();
    insta::assert_snapshot!("inspect_table", place.stdout("inspect trace"));
    insta::assert_snapshot!("inspect_csv", place.stdout("inspect trace --format csv"));
}

#[test]
fn replay_prints_a_table_and_the_same_rows_in_other_formats() {
    let place = Place::new();
    insta::assert_snapshot!("replay_table", place.stdout(&format!("{REPLAY} --out results")));
    let csv = place.stdout(&format!("{REPLAY} --out results2 --format csv"));
    insta::assert_snapshot!("replay_csv", csv);
    let json = place.stdout(&format!("{REPLAY} --out results3 --format json"));
    let rows: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(rows.len(), csv.lines().count() - 1);
    insta::assert_snapshot!("run_json", fs::read_to_string(place.path("results/run.json")).unwrap());
}

/// A small MCACHE hits at most as often as an unlimited one, which finds every exact duplicate.
#[test]
fn bounds_hold() {
    let place = Place::new();
    let replay =
        "replay trace --out results --rpq.bits 6 --mcache.entries 8 --mcache.ways 2 --with bounds --format json";
    let json = place.stdout(replay);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let mut fewer = 0;
    for row in rows.iter().filter(|row| row["pass"] != "weight-grad") {
        let count = |name: &str| row[name].as_u64().unwrap();
        assert!(count("exact_duplicate") <= count("unlimited_hit"), "{row}");
        assert!(count("hit") <= count("unlimited_hit") && count("unlimited_hit") < count("vectors"), "{row}");
        let (pairs, predicted) = (count("pairs_sampled"), row["pairs_predicted"].as_f64().unwrap());
        assert!(count("pairs_colliding") <= pairs && (0.0..=pairs as f64).contains(&predicted), "{row}");
        assert!(count("zero_vector") <= count("vectors") && count("zero_operands") <= count("operands"), "{row}");
        fewer += u64::from(count("hit") < count("unlimited_hit"));
    }
    assert!(fewer > 0, "eight entries are too few");
    assert!(rows.iter().any(|row| row["pass"] == "weight-grad" && row["unlimited_hit"].is_null()));
}

/// PE sets that run ahead never take longer than sets that wait for each other.
#[test]
fn row_stationary_schedules_are_replayed() {
    let place = Place::new();
    let cycles = |out: &str, flags: &str| -> u64 {
        let json = place.stdout(&format!("replay trace --out {out} --rpq.bits 6 --format json {flags}"));
        let rows: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
        rows.iter().map(|row| row["mercury_cycles"].as_u64().unwrap()).sum()
    };
    let synchronous = cycles("a", "--array.schedule synchronous");
    assert_eq!(cycles("b", "--mcache.versions 1"), synchronous);
    assert!(cycles("c", "--mcache.versions 8") <= synchronous);
    assert!(cycles("d", "--array.network_bound true") >= cycles("e", ""));
    assert!(cycles("f", "--array.hit_cycles 3 --array.schedule synchronous") > synchronous);
    insta::assert_snapshot!(place.error("replay trace --out g --rpq.granularity patch"));
}

#[test]
fn output_stationary_arrays_replay_whole_patches() {
    let place = Place::new();
    insta::assert_snapshot!(place.stdout(&format!("{REPLAY} --out results --preset patch-os")));
}

#[test]
fn results_are_the_same_bytes_with_any_number_of_threads() {
    let place = Place::new();
    for (number, measures) in ["--errors sampled", "--errors all --with bounds"].into_iter().enumerate() {
        for (threads, out) in [(1, "one"), (4, "four"), (4, "again")] {
            place.stdout(&format!("replay trace --out {out}-{number} --threads {threads} {measures}"));
        }
        let one = files(&place.path(&format!("one-{number}")));
        assert_eq!(
            one.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            [
                "SHA256SUMS",
                "angles.parquet",
                "configurations.parquet",
                "designs.parquet",
                "layers.parquet",
                "models.parquet",
                "run.json"
            ]
        );
        assert_eq!(one, files(&place.path(&format!("four-{number}"))), "{measures}");
        assert_eq!(one, files(&place.path(&format!("again-{number}"))), "{measures}");
    }
}

#[test]
fn passes_without_reuse_run_as_the_baseline() {
    let place = Place::new();
    let output = Command::new(env!("CARGO_BIN_EXE_mercury-analyzer"))
        .args(["replay", "trace", "--out", "results", "--format", "json", "--reuse.passes", "[\"forward\"]"])
        .current_dir(place.path(""))
        .output()
        .unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    for row in rows.iter().filter(|row| row["pass"] != "forward") {
        assert_eq!(row["baseline_cycles"], row["mercury_cycles"]);
        assert_eq!((&row["reuse"], &row["hit"], &row["mnu"]), (&false.into(), &0.into(), &0.into()));
    }
}

#[test]
fn vectors_and_projection_write_parquet_that_fits_together() {
    use arrow::array::AsArray;
    use arrow::datatypes::{Float32Type, UInt64Type};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    let read = |path: PathBuf| {
        let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
        let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
        arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
    };
    let place = Place::new();
    place.stdout("vectors trace --layer features.0 --step 0 --rpq.bits 12 --out vectors.parquet");
    place.stdout("projection --length 9 --bits 12 --out r.parquet");
    let (vectors, r) = (read(place.path("vectors.parquet")), read(place.path("r.parquet")));
    assert_eq!(vectors.num_rows(), 3 * 3 * 64);
    let r = r.column_by_name("values").unwrap().as_fixed_size_list();
    let values = vectors.column_by_name("values").unwrap().as_list::<i32>();
    let signatures = vectors.column_by_name("signature").unwrap().as_primitive::<UInt64Type>();
    let outcomes = vectors.column_by_name("outcome").unwrap().as_string::<i32>();
    let representatives = vectors.column_by_name("representative").unwrap().as_primitive::<UInt64Type>();
    let mut hits = 0;
    for vector in 0..vectors.num_rows() {
        let x = values.value(vector);
        let signature = (0..12).fold(0u64, |signature, bit| {
            let row = r.value(bit);
            let pairs = x.as_primitive::<Float32Type>().values().iter().zip(row.as_primitive::<Float32Type>().values());
            let dot = pairs.fold(0.0f32, |sum, (x, r)| x.mul_add(*r, sum));
            signature | u64::from(dot > 0.0) << bit
        });
        assert_eq!(signatures.value(vector), signature);
        let representative = representatives.value(vector) as usize;
        if outcomes.value(vector) == "HIT" {
            hits += 1;
            assert!(representative < vector);
            assert_eq!(signatures.value(representative), signature);
        } else {
            assert_eq!(representative, vector);
        }
    }
    assert!(hits > 50, "{hits}");
    place.stdout("vectors trace --layer features.3 --pass input-grad --limit 2 --out few.parquet");
    assert_eq!(read(place.path("few.parquet")).num_rows(), 2 * 4);
}

#[test]
fn cycles_times_a_topology() {
    let place = Place::new();
    fs::write(
        place.path("net.csv"),
        "Layer name,IFMAP Height,IFMAP Width,Filter Height,Filter Width,Channels,Num Filter,Strides,\n\
         Conv1,227,227,11,11,3,96,4,\nConv5,15,15,3,3,384,256,1,\n",
    )
    .unwrap();
    insta::assert_snapshot!(
        "cycles_csv",
        place.stdout("cycles --topology net.csv --array 12x14 --dataflow ws --format csv")
    );
    insta::assert_snapshot!("cycles_table", place.stdout("cycles --topology net.csv --dataflow os"));
}

/// The notes that `cycles` prints for a topology.
fn read_notes(place: &Place, topology: &str) -> String {
    fs::write(place.path("net.csv"), topology).unwrap();
    let output = place.run("cycles --topology net.csv --format csv");
    assert!(output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn cycles_states_its_assumptions_and_ignored_columns() {
    let place = Place::new();
    assert_eq!(
        read_notes(&place, "FC6,1,4096,9216\n"),
        "net.csv: has no header; the columns are read as name, M, N, K\n"
    );
    assert_eq!(
        read_notes(&place, "Layer,M,N,K,Sparsity\nFC6,1,4096,9216,2:4\n"),
        "warning: net.csv: column \"Sparsity\" does not change the cycles\n"
    );
    assert_eq!(read_notes(&place, "Layer,M,N,K,Sparsity\nFC6,1,4096,9216\n"), "");
}

#[test]
fn wrong_flags_are_named() {
    let place = Place::new();
    let cases = [
        "replay trace --out results --rpq.bits 0",
        "replay trace --out results --rpq.bits 65",
        "replay trace --out results --rpq.bits many",
        "replay trace --out results --rpq.granularity sub-vector(0)",
        "replay trace --out results --mcache.entries 1000",
        "replay trace --out results --array.dataflow os",
        "replay trace --out results --array.rows 0",
        "replay trace --out results --array.clock_mhz -1",
        "replay trace --out results --preset nonesuch",
        "replay trace --out results --config nonesuch.toml",
        "vectors trace --layer nonesuch --out v.parquet",
        "vectors trace --layer features.0 --step 7 --out v.parquet",
        "vectors trace --layer features.0 --out nonesuch/v.parquet",
        "projection --length 0 --out r.parquet",
        "projection --length 9 --bits 65 --out r.parquet",
        "cycles --topology nonesuch.csv",
        "inspect nonesuch",
    ];
    let report: Vec<String> = cases.iter().map(|case| format!("$ {case}\n{}", place.error(case))).collect();
    insta::assert_snapshot!(report.join("\n"));
    assert!(!place.path("results").exists() && !place.path("v.parquet").exists() && !place.path("r.parquet").exists());
}

#[test]
fn a_wrong_configuration_file_is_named_with_its_line() {
    let place = Place::new();
    fs::write(place.path("c.toml"), "[rpq]\nbitz = 20\n").unwrap();
    let unknown = place.error("replay trace --out results --config c.toml");
    fs::write(place.path("c.toml"), "[rpq\nbits = 20\n").unwrap();
    let broken = place.error("replay trace --out results --config c.toml");
    insta::assert_snapshot!(format!("{unknown}\n{broken}"));
}

/// Breaks the trace of a place.
type Break = fn(&Place);

#[test]
fn a_broken_trace_is_refused_and_nothing_is_left() {
    let break_it: [(&str, Break); 7] = [
        ("tensor file truncated", |place| {
            let bytes = fs::read(place.tensor()).unwrap();
            fs::write(place.tensor(), &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("tensor file of another layer", |place| {
            let other = place.path("trace/tensors/step=000010/layer=features.0/input.parquet");
            fs::copy(other, place.tensor()).unwrap();
        }),
        ("tensor file missing", |place| fs::remove_file(place.tensor()).unwrap()),
        ("manifest of a newer schema", |place| {
            let path = place.path("trace/manifest.json");
            let text = fs::read_to_string(&path).unwrap();
            let text = text.replace(&format!("\"schema_version\": {SCHEMA_VERSION}"), "\"schema_version\": 99");
            fs::write(path, text).unwrap();
        }),
        ("manifest is not JSON", |place| fs::write(place.path("trace/manifest.json"), "{").unwrap()),
        ("layers.parquet is a text", |place| fs::write(place.path("trace/layers.parquet"), "layers").unwrap()),
        ("a NaN among the values", |place| {
            fs::remove_dir_all(place.path("trace")).unwrap();
            let nan = |i: usize, salt| if i == 300 && salt == 40 { f32::NAN } else { common::value(i, salt) };
            common::write_trace(&place.path("trace"), &Sampling::default(), nan);
        }),
    ];
    let mut report = String::new();
    for (what, change) in break_it {
        let place = Place::new();
        change(&place);
        report += &format!("# {what}\n{}\n", place.error("replay trace --out results"));
        let left: Vec<String> = files_in(&place.path(""));
        assert_eq!(left, ["trace"], "{what}");
    }
    insta::assert_snapshot!(report);
}

fn files_in(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_trace_without_a_captured_step_is_reported() {
    let place = Place::new();
    let path = place.path("trace/manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    manifest["captured"] = serde_json::json!([]);
    fs::write(&path, manifest.to_string()).unwrap();
    for command in ["replay trace --out results", "vectors trace --layer features.0 --out v.parquet"] {
        assert!(place.error(command).contains("trace: no step was captured"));
    }
    assert!(place.stdout("inspect trace").contains("no step captured"));
}

#[test]
fn an_output_that_cannot_be_written_is_refused_before_the_work() {
    let place = Place::new();
    fs::create_dir(place.path("full")).unwrap();
    fs::write(place.path("full/precious.txt"), "mine").unwrap();
    fs::write(place.path("file"), "mine too").unwrap();
    let errors = [place.error("replay trace --out full"), place.error("replay trace --out file/results")];
    insta::assert_snapshot!(errors.join("\n"));
    assert_eq!(fs::read_to_string(place.path("full/precious.txt")).unwrap(), "mine");
}

#[test]
fn vectors_that_span_channels_need_all_of_them() {
    let place = Place::new();
    fs::remove_dir_all(place.path("trace")).unwrap();
    let kept = [("features.0".to_owned(), vec![0, 2])].into();
    let sampling = Sampling { channels: kept, ..Default::default() };
    common::write_trace(&place.path("trace"), &sampling, common::value);
    insta::assert_snapshot!(place.error("replay trace --out results --rpq.granularity patch"));
    place.stdout("replay trace --out results");
}
