//! Replays of a trace predict the measurements of reuse in the loop, on real data.

mod common;

use arrow::array::{Array, AsArray, Float64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, UInt64Type};
use common::{TRACER, analyzer, data_dir, succeed};
use mercury_trace::Trace;
use mercury_trace::measurements::Measurement;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::process::Command;

const CONFIGURATIONS: [(&str, &str); 6] = [
    ("mercury", "[rpq]\nbits = 20\n"),
    (
        "varied",
        "[rpq]\nbits = 10\nvariant = \"sign+rescale\"\ngranularity = \"sub-vector(7)\"\n[mcache]\nentries = 64\nways = 4\n\
         scope = \"sample\"\nrepresentative = \"centroid\"\n[array]\ndataflow = \"ws\"\n",
    ),
    (
        "whole",
        "[rpq]\nbits = 8\nvariant = \"centred\"\ngranularity = \"patch\"\n[mcache]\nentries = 0\nscope = \"batch\"\n[array]\n\
         dataflow = \"os\"\n",
    ),
    (
        "ahead",
        "[rpq]\nbits = 12\ngranularity = \"channel-patch(auto)\"\nunit = \"dedicated\"\nmacs_per_cycle = 84\n[mcache]\n\
         results_per_cycle = 100\n[array]\nhit_cycles = \"column\"\ndealing = \"dynamic\"\n",
    ),
    (
        "channels",
        "[rpq]\nbits = 16\nvariant = \"sign+rescale\"\ngranularity = \"channel-patch(4)\"\n[mcache]\nentries = 256\n\
         [array]\nhit_cycles = 0.5\n",
    ),
    (
        "own",
        "[rpq]\nbits = 20\n\
         [[layer]]\nname = \"features.*\"\nrpq.bits = 12\nrpq.variant = \"sign+rescale\"\n\
         [[layer]]\nname = \"features.1?.*\"\npasses = [\"input-grad\"]\nrpq.granularity = \"channel-patch(4)\"\n\
         rpq.seed = 5\nmcache.representative = \"centroid\"\n\
         [[layer]]\nname = \"features.2.*\"\nreuse.passes = []\n\
         [[layer]]\nname = \"features.3.*\"\npasses = [\"forward\"]\nmcache.scope = \"sample\"\n\
         reuse.passes = [\"forward\"]\n",
    ),
];

/// Prepares `mercury-tracer train` of MobileNet-v2 (depthwise, strided and 1 x 1 convolutions, a
/// linear layer).
fn train(data: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(TRACER);
    command.env("OMP_NUM_THREADS", "1").arg("train").arg("--data-dir").arg(data).arg("--out").arg(out);
    command.args(["--model", "mobilenet_v2", "--dataset", "fashion-mnist", "--input-size", "32", "--batch-size", "4"]);
    command.args(["--steps", "3", "--validation-samples", "8"]).args(more);
    command
}

fn table(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

/// By layer and pass, where reuse is on: HIT, MAU, MNU, cycles without and with reuse; relative error, cosine, norm
/// ratio.
type PassResults = BTreeMap<(String, String), ([u64; 5], [f64; 3])>;

fn text(table: &RecordBatch, name: &str, row: usize) -> String {
    let column = table.column_by_name(name).unwrap();
    column.as_string::<i32>().value(row).to_owned()
}

fn read_replayed(path: &Path) -> PassResults {
    let table = table(&path.join("layers.parquet"));
    let count = |name: &str, row: usize| table.column_by_name(name).unwrap().as_primitive::<UInt64Type>().value(row);
    let float = |name: &str, row: usize| {
        let column: &Float64Array = table.column_by_name(name).unwrap().as_primitive::<Float64Type>();
        if column.is_null(row) { f64::NAN } else { column.value(row) }
    };
    let row = |row: usize| {
        let counts = ["hit", "mau", "mnu", "baseline_cycles", "mercury_cycles"].map(|name| count(name, row));
        let errors = ["output_error", "output_cosine", "output_norm_ratio"].map(|name| float(name, row));
        ((text(&table, "layer", row), text(&table, "pass", row)), (counts, errors))
    };
    let reuse = table.column_by_name("reuse").unwrap().as_boolean();
    (0..table.num_rows()).filter(|&row| reuse.value(row)).map(row).collect()
}

fn collect_measured(rows: &[Measurement]) -> PassResults {
    let row = |row: &Measurement| {
        let counts = [row.hit, row.mau, row.mnu, row.baseline_cycles, row.mercury_cycles];
        let errors = [row.output_error, row.output_cosine, row.output_norm_ratio];
        ((row.layer.clone(), row.pass.name().to_owned()), (counts, errors))
    };
    rows.iter().map(row).collect()
}

/// Trains with a configuration, replays the captured step, and compares each pass with what the loop measured.
/// Returns the trace and the measured passes.
fn compare_with_replay(data: &Path, dir: &Path, (name, text): (&str, &str), more: &[&str]) -> (Trace, PassResults) {
    let (config, trace_dir) = (dir.join(format!("{name}.toml")), dir.join("trace"));
    std::fs::write(&config, text).unwrap();
    // The trace of a run with reuse has the operands of its layers.
    let reuse = ["--reuse", config.to_str().unwrap(), "--capture", "steps=1", "--measure", "steps=1"];
    succeed(train(data, &trace_dir, &[&reuse[..], more].concat()));
    let mut replay = analyzer();
    replay.arg("replay").arg(&trace_dir).arg("--config").arg(&config).arg("--out").arg(dir.join("results"));
    replay.args(["--errors", "all"]);
    succeed(replay);

    let trace = Trace::open(&trace_dir).unwrap();
    let measured = collect_measured(&trace.measurements().unwrap().layers);
    let replayed = read_replayed(&dir.join("results"));
    assert_eq!(measured.keys().collect::<Vec<_>>(), replayed.keys().collect::<Vec<_>>(), "{name}");
    let mut hits = 0;
    for (key, (counts, errors)) in &measured {
        let (predicted, predictions) = &replayed[key];
        // The weight gradient has the forward pass's counts.
        assert_eq!(counts, predicted, "{name}: {key:?}");
        hits += counts[0];
        for (measured, predicted) in errors.iter().zip(predictions) {
            let close = (measured - predicted).abs() <= 1e-4 * predicted.abs().max(1e-2);
            assert!(close || (measured.is_nan() && predicted.is_nan()), "{name}: {key:?}: {errors:?} {predictions:?}");
        }
    }
    assert!(hits > 1000, "{name}: {hits}");
    (trace, measured)
}

#[test]
fn replays_predict_what_the_loop_measures() {
    let Some(data) = data_dir() else { return };
    for configuration in CONFIGURATIONS {
        let dir = tempfile::tempdir().unwrap();
        let (trace, measured) = compare_with_replay(&data, dir.path(), configuration, &[]);
        // The first layer has no input gradient; of "own", one block is off and another has no weight gradients.
        let off = if configuration.0 == "own" { 3 * 3 + 3 } else { 0 };
        assert_eq!(measured.len(), 3 * trace.layers().len() - 1 - off, "{}", configuration.0);
    }
}

/// Flags that freeze the first two blocks, and a weight behind layers that are trained.
const FROZEN: [&str; 6] =
    ["--freeze", "features.0.*", "--freeze", "features.1.*", "--freeze", "features.5.conv.0.0.weight"];

#[test]
fn a_replay_leaves_out_the_passes_of_frozen_layers_that_the_loop_leaves_out() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (trace, measured) = compare_with_replay(&data, dir.path(), CONFIGURATIONS[0], &FROZEN);
    let names = ["features.0.0", "features.1.conv.0.0", "features.1.conv.1"];
    let mut expected = BTreeSet::new();
    for (place, layer) in trace.layers().iter().map(|layer| layer.name.as_str()).enumerate() {
        assert_eq!(names.contains(&layer), place < names.len(), "{layer}");
        let passes = match layer {
            _ if place < names.len() => &["forward"][..],
            // The first layer that is trained.
            "features.2.conv.0.0" => &["forward", "weight-grad"],
            "features.5.conv.0.0" => &["forward", "input-grad"],
            _ => &["forward", "input-grad", "weight-grad"],
        };
        expected.extend(passes.iter().map(|pass| (layer.to_owned(), (*pass).to_owned())));
    }
    assert_eq!(measured.into_keys().collect::<BTreeSet<_>>(), expected);

    // A probe leaves out the same passes.
    let config = dir.path().join("mercury.toml");
    let probe = ["--probe", config.to_str().unwrap(), "--measure", "steps=1"];
    succeed(train(&data, &dir.path().join("probed"), &[&probe[..], &FROZEN].concat()));
    let probed = Trace::open(&dir.path().join("probed")).unwrap().measurements().unwrap().layers;
    assert_eq!(collect_measured(&probed).into_keys().collect::<BTreeSet<_>>(), expected);
}

#[test]
fn layers_that_do_not_pay_are_switched_off_where_a_replay_switches_them_off() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (config, trace_dir) = (dir.path().join("short.toml"), dir.path().join("trace"));
    std::fs::write(&config, "[rpq]\nbits = 20\n[stop]\nwindow = 1\n").unwrap();
    let path = config.to_str().unwrap();
    let reuse = ["--reuse", path, "--capture", "every=1", "--measure", "every=1"];
    succeed(train(&data, &trace_dir, &reuse));
    let mut replay = analyzer();
    replay.arg("replay").arg(&trace_dir).arg("--config").arg(&config).arg("--out").arg(dir.path().join("results"));
    succeed(replay);

    // Layers that are off are not measured.
    let trace = Trace::open(&trace_dir).unwrap();
    let on: BTreeSet<(u64, String)> =
        trace.measurements().unwrap().layers.into_iter().map(|row| (row.step, row.layer)).collect();
    let table = table(&dir.path().join("results/layers.parquet"));
    let column = |name: &str| table.column_by_name(name).unwrap();
    let steps = column("step").as_primitive::<UInt64Type>();
    let off = column("switched_off").as_boolean();
    let layers = |is_off: bool| -> BTreeSet<(u64, String)> {
        let rows = (0..table.num_rows()).filter(|&row| off.value(row) == is_off);
        rows.map(|row| (steps.value(row), text(&table, "layer", row))).collect()
    };
    assert_eq!(on, layers(false));
    let at = |layers: &BTreeSet<(u64, String)>, at: u64| layers.iter().any(|(step, _)| *step == at);
    assert!(at(&layers(true), 1) && at(&on, 2), "some are off, some on");
}

#[test]
fn probes_leave_the_training_alone() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("mercury.toml"), "[rpq]\nbits = 20\n").unwrap();
    let run = |out: &str, more: &[&str]| {
        let weights = path(&format!("{out}.safetensors"));
        let mut command = train(&data, &path(out), more);
        command.arg("--save").arg(&weights);
        succeed(command);
        std::fs::read(weights).unwrap()
    };
    let config = path("mercury.toml");
    let plain = run("plain", &[]);
    let probed = run("probed", &["--probe", config.to_str().unwrap(), "--measure", "every=1"]);
    assert!(plain == probed, "weights and running statistics are those of the run without probes");
    let with = run("with", &["--reuse", config.to_str().unwrap(), "--measure", "every=1"]);
    assert!(plain != with);

    // The first steps have the same weights, so the probe equals the training with reuse.
    let measurements = |name: &str| Trace::open(&path(name)).unwrap().measurements().unwrap();
    let (probed, with) = (measurements("probed"), measurements("with"));
    assert_eq!((probed.steps.len(), with.steps.len()), (3, 3));
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b.abs().max(1e-3);
    assert!(close(probed.steps[0].loss, with.steps[0].loss));
    assert!(close(probed.steps[0].loss_change, with.steps[0].loss_change));
    assert!(close(probed.steps[0].gradient_cosine, with.steps[0].gradient_cosine));
    assert!(with.steps[0].loss_change.abs() > 1e-4 && with.steps[0].gradient_cosine < 0.999);
}
