//! Tests of runs with reuse on the command line: growth, layers off, resumption, evaluation,
//! errors.

mod common;

use common::{TRACER, data_dir, succeed};
use mercury_reuse::Projection;
use mercury_trace::Trace;
use mercury_trace::measurements::Measurements;
use std::path::Path;
use std::process::Command;
use tch::Tensor;

fn tracer(command: &str, data: &Path, more: &[&str]) -> Command {
    let mut tracer = Command::new(TRACER);
    tracer.env("OMP_NUM_THREADS", "1").arg(command).arg("--data-dir").arg(data);
    tracer.args(["--model", "mobilenet_v2", "--dataset", "fashion-mnist", "--input-size", "32", "--batch-size", "4"]);
    tracer.args(more);
    tracer
}

const GROWING: &str = "[rpq]\nbits = 12\n[bits]\npatience = 1\nmax = 14\n[stop]\nwindow = 5\n";

#[test]
fn a_resumed_run_keeps_the_signature_length() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("growing.toml"), GROWING).unwrap();
    let config = path("growing.toml");
    let flags = |out: &str| {
        let (out, weights) = (path(out), path(&format!("{out}.safetensors")));
        let flags = ["--out", &out, "--save", &weights, "--steps", "8", "--lr", "0.1", "--validation-samples", "8"];
        let more = ["--checkpoint-every", "2", "--reuse", &config, "--measure", "every=1", "--off", "features.1*@4"];
        flags.into_iter().chain(more).map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |flags: &[String]| tracer("train", &data, &flags.iter().map(String::as_str).collect::<Vec<_>>());
    succeed(run(&flags("whole")));

    // The run is killed as soon as it has a checkpoint.
    let mut child = run(&flags("broken")).stderr(std::process::Stdio::null()).spawn().unwrap();
    let checkpoint = dir.path().join("broken/checkpoint.safetensors");
    while !checkpoint.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    if checkpoint.exists() {
        let mut flags = flags("broken");
        flags.push("--resume".to_owned());
        succeed(run(&flags));
    }
    let read = |name: &str| std::fs::read(path(name)).unwrap();
    assert!(read("whole.safetensors") == read("broken.safetensors"), "the end is the same, bit for bit");
    let measurements = |name: &str| Trace::open(&dir.path().join(name)).unwrap().measurements().unwrap();
    assert_eq!(measurements("whole"), measurements("broken"));

    let Measurements { layers, steps } = measurements("whole");
    let bits: Vec<u32> = steps.iter().map(|row| row.signature_bits).collect();
    assert!(bits.is_sorted() && bits[0] == 12 && bits.iter().all(|bits| *bits <= 14), "{bits:?}");
    assert!(bits[7] > 12, "a loss that wavers lets signatures grow: {bits:?}");
    let on = |layer: &str, step: u64| layers.iter().any(|row| row.layer == layer && row.step == step);
    assert!(on("features.14.conv.1.0", 3) && !on("features.14.conv.1.0", 4) && on("features.2.conv.1.0", 4));
}

#[test]
fn a_checkpoint_is_evaluated_without_and_with_reuse() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("few.toml"), "[rpq]\nbits = 2\n").unwrap();
    let (out, weights) = (path("out"), path("w.safetensors"));
    let flags = ["--out", &out, "--save", &weights, "--steps", "3", "--validation-samples", "40", "--measure", "none"];
    succeed(tracer("train", &data, &flags));
    let few = path("few.toml");
    let flags = ["--weights", &weights, "--reuse", &few, "--samples", "40", "--format", "json"];
    let output = String::from_utf8(succeed(tracer("evaluate", &data, &flags)).stdout).unwrap();
    let rows: Vec<serde_json::Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let value = |row: usize, name: &str| rows[row][name].as_f64().unwrap();
    assert_eq!((rows.len(), &rows[0]["configuration"], &rows[1]["configuration"]), (2, &"exact".into(), &"few".into()));
    // The run evaluated the same weights on the same samples.
    let evaluations = Trace::open(Path::new(&out)).unwrap().evaluations().unwrap();
    let loss = evaluations.iter().find(|row| row.metric == "loss").unwrap().value;
    assert!((value(0, "loss") - loss).abs() < 1e-6);
    assert!(value(1, "hit_rate") > 0.5 && (value(1, "loss") - loss).abs() > 1e-6, "two bits change the loss");
}

/// Reuse in the forward pass and the weight gradient of all convolutions, whose vectors have 1 or 9 elements.
const CONVOLUTIONS: &str = "[reuse]\npasses = []\n[bits]\npatience = 0\n[[layer]]\nname = \"features.*\"\n\
                            rpq.bits = 12\nreuse.passes = [\"forward\", \"weight-grad\"]\n";

/// Writes the first 12 rows of drawn matrices as tensors `[length, bits]`.
fn write_drawn(path: &Path, lengths: &[usize], seed: u64) {
    let transpose = |&length: &usize| {
        let drawn = Projection::new(seed, length, 12);
        let rows: Vec<f32> = (0..12).flat_map(|bit| drawn.row(bit).to_vec()).collect();
        let tensor = Tensor::from_slice(&rows).reshape([12, length as i64]).transpose(0, 1).contiguous();
        (format!("R{length}"), tensor)
    };
    let tensors: Vec<(String, Tensor)> = lengths.iter().map(transpose).collect();
    Tensor::write_safetensors(&tensors, path).unwrap();
}

#[test]
fn training_by_a_file_of_the_drawn_matrices_is_training_by_the_drawn_ones() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    write_drawn(Path::new(&path("R.safetensors")), &[1, 9], 5);
    std::fs::write(path("drawn.toml"), format!("{CONVOLUTIONS}rpq.seed = 5\n")).unwrap();
    std::fs::write(path("given.toml"), format!("{CONVOLUTIONS}rpq.projection = \"file:R.safetensors\"\n")).unwrap();
    let flags = |name: &str| {
        let (out, weights, config) = (path(name), path(&format!("{name}.weights")), path(&format!("{name}.toml")));
        let flags = ["--out", &out, "--save", &weights, "--steps", "3", "--validation-samples", "4"];
        let more = ["--measure", "every=1", "--reuse", &config];
        flags.into_iter().chain(more).map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |flags: &[String]| tracer("train", &data, &flags.iter().map(String::as_str).collect::<Vec<_>>());
    for name in ["drawn", "given"] {
        succeed(run(&flags(name)));
    }
    let read = |name: &str| std::fs::read(path(name)).unwrap();
    assert!(read("drawn.weights") == read("given.weights"), "the weights are the same, bit for bit");
    let measurements = |name: &str| Trace::open(&dir.path().join(name)).unwrap().measurements().unwrap();
    let [drawn, given] = ["drawn", "given"].map(|name| measurements(name).layers);
    assert!(drawn.iter().map(|row| row.hit).eq(given.iter().map(|row| row.hit)));
    assert!(drawn.iter().any(|row| row.hit > 0));
    // The manifest notes the content, so that a run does not continue by another.
    let manifest = std::fs::read_to_string(path("given/manifest.json")).unwrap();
    assert!(manifest.contains("R.safetensors#"), "{manifest}");

    write_drawn(Path::new(&path("R.safetensors")), &[9], 5);
    std::fs::remove_dir_all(path("given")).unwrap();
    let output = run(&flags("given")).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("--reuse, --probe: given: rpq.projection: file:"), "{error}");
    assert!(error.contains("R.safetensors has no tensor for vectors of length 1, which features."), "{error}");
    assert!(!Path::new(&path("given")).exists());
}

#[test]
fn wrong_configurations_are_refused_by_key() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let out = path("out");
    let error = |more: &[&str]| {
        let mut flags = vec!["--out", &out, "--steps", "1"];
        flags.extend(more);
        let output = tracer("train", &data, &flags).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        assert!(!Path::new(&out).exists(), "{more:?}: nothing is begun");
        String::from_utf8(output.stderr).unwrap()
    };
    let config = |text: &str| {
        std::fs::write(path("c.toml"), text).unwrap();
        path("c.toml")
    };
    for (text, said) in [
        ("[rpq]\nbits = 65\n", "c.toml): rpq.bits: is 65"),
        ("[rpq]\nbitz = 20\n", "unknown field `bitz`"),
        ("[bits]\nmax = 0\n", "bits.max: is 0"),
        ("[reuse]\npasses = [\"weight-grad\"]\n", "reuse.passes: weight-grad keeps the signatures of forward"),
        ("[rpq\n", "TOML parse error"),
    ] {
        let text = error(&["--reuse", &config(text)]);
        assert!(text.contains("--reuse: ") && text.contains(said), "{text}");
    }
    let good = config("[array]\nrows = 12\n");
    for (flags, said) in [
        (vec!["--reuse", "none.toml"], "--reuse: none.toml: No such file"),
        (vec!["--probe", "none.toml"], "--probe: none.toml: No such file"),
        (vec!["--reuse", &good, "--set", "rpq.bits"], "is not SECTION.KEY=VALUE"),
        (vec!["--reuse", &good, "--set", "rpq.bits=many"], "--set: rpq.bits: invalid type: string \"many\""),
        (vec!["--reuse", &good, "--set", "array.dataflow=os"], "set it to patch"),
        (vec!["--reuse", &good, "--off", "fc"], "--off: \"fc\" matches none of features.0.0"),
        (vec!["--reuse", &good, "--off", "features.*@x"], "\"x\" is not a step"),
        (vec!["--reuse", &good, "--probe", &good], "two configurations are called \"c\""),
        (vec!["--set", "rpq.bits=3"], "--reuse <CONFIG>"),
    ] {
        let text = error(&flags);
        assert!(text.contains(said), "{flags:?}: {text}");
    }
}
