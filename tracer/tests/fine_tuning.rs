//! Tests of frozen parameters and of learning rates by group.

mod common;

use common::{analyzer, data_dir, succeed, tracer};
use mercury_trace::Trace;
use mercury_trace::layers::Layer;
use mercury_trace::tensor::TensorKind;
use mercury_tracer::datasets::{Batch, Task};
use mercury_tracer::groups::ParameterGroups;
use mercury_tracer::loss::compute_loss;
use mercury_tracer::models::ModelSpec;
use mercury_tracer::optimizer::{Method, Optimizer};
use mercury_tracer::reuse::node::{Backward, attach};
use mercury_tracer::tap::{AttentionLayer, ConvLayer, LinearLayer, Recorder, Tap, backward};
use mercury_tracer::weights::Weights;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use tch::{Device, Kind, Tensor};

/// By layer: whether libtorch asked for the input gradient and for the weight gradient.
type Asked = Arc<Mutex<BTreeMap<String, [bool; 2]>>>;

/// Notes which gradients libtorch asks for, and returns zeros.
struct Spy {
    name: String,
    sizes: [Vec<i64>; 2],
    asked: Asked,
}

impl Backward for Spy {
    fn backward(&mut self, _: &Tensor, wanted: [bool; 2]) -> mercury_tracer::error::Result<[Option<Tensor>; 2]> {
        self.asked.lock().unwrap().insert(self.name.clone(), wanted);
        let zeros = |i: usize| Tensor::zeros(&self.sizes[i][..], (Kind::Float, Device::Cpu));
        Ok([0, 1].map(|i| wanted[i].then(|| zeros(i))))
    }
}

/// Computes layers with a spy in libtorch's graph.
struct SpyTap(Asked);

impl SpyTap {
    fn watch(&self, name: &str, [x, w]: [&Tensor; 2], y: &Tensor, bias: Option<Tensor>) -> Tensor {
        let spy = Spy { name: name.to_owned(), sizes: [x.size(), w.size()], asked: Arc::clone(&self.0) };
        let y = attach(x, w, &y.detach(), Box::new(spy)).unwrap();
        // `y` has the bias already; this adds its gradient.
        bias.map_or_else(|| y.shallow_clone(), |bias| &y + (&bias - bias.detach()))
    }
}

impl Tap for SpyTap {
    fn conv2d(&mut self, layer: &ConvLayer, x: &Tensor) -> Tensor {
        let bias = layer.bias.as_ref().map(|bias| bias.reshape([1, -1, 1, 1]));
        self.watch(&layer.name, [x, &layer.weight], &layer.compute(x), bias)
    }

    fn linear(&mut self, layer: &LinearLayer, x: &Tensor) -> Tensor {
        let bias = layer.bias.as_ref().map(Tensor::shallow_clone);
        self.watch(&layer.name, [x, &layer.weight], &layer.compute(x), bias)
    }

    fn attention(&mut self, layer: &AttentionLayer, left: &Tensor, right: &Tensor) -> Tensor {
        self.watch(&layer.name, [left, right], &AttentionLayer::compute(left, right), None)
    }
}

fn batch(task: &Task) -> Batch {
    let tokens = |length| Tensor::randint_low(4, 20, [2, length], (Kind::Int64, Device::Cpu));
    match *task {
        Task::Images { channels, size, classes } => Batch::Images {
            images: Tensor::randn([2, channels, size[0], size[1]], (Kind::Float, Device::Cpu)),
            labels: Tensor::randint(classes, [2], (Kind::Int64, Device::Cpu)),
        },
        Task::Text { source, target, .. } => Batch::Text { source: tokens(source), target: tokens(target + 1) },
    }
}

/// Trains a step of a model with these groups; compares the passes that libtorch computes with those of the outline.
/// Returns the outlined layers.
fn check_passes(spec: &ModelSpec, task: &Task, freeze: &[String]) -> Vec<Layer> {
    let groups = ParameterGroups::new(freeze, &[]).unwrap();
    let layers = spec.outline_with(task, &groups).unwrap().layers;
    let weights = Weights::new(Device::Cpu);
    let model = spec.build(&weights, task);
    groups.freeze(&weights).unwrap();
    let optimizer = Optimizer::new(Method::Sgd { momentum: 0.9 }, 0.0, &weights);
    for records_gradients in [false, true] {
        let asked = Asked::default();
        let mut recorder = Recorder::with_all_layers(records_gradients).with_tap(SpyTap(Arc::clone(&asked)));
        let batch = batch(task);
        let output = model.forward(&batch, true, &mut recorder);
        backward(&compute_loss(&output, &batch, 0.0), &optimizer.parameters(), Some(&mut recorder)).unwrap();
        let asked = asked.lock().unwrap();
        for (layer, record) in layers.iter().zip(recorder.records()) {
            let passes = asked.get(&layer.name).copied().unwrap_or_default();
            let Layer { name, input_grad, weight_grad, .. } = layer;
            assert_eq!(passes, [*input_grad, *weight_grad], "{} {name}, {freeze:?}", spec.name);
            assert_eq!(&record.layer, layer);
            assert_eq!(record.grad_output.is_some(), records_gradients && layer.has_gradient(), "{name}");
        }
        assert_eq!(recorder.records().len(), layers.len());
    }
    layers
}

#[test]
fn libtorch_computes_the_passes_that_the_trace_says() {
    let images = Task::Images { channels: 3, size: [32; 2], classes: 5 };
    let text = Task::Text { source: 5, target: 6, vocabulary: 30 };
    let transformer = ModelSpec::find("transformer").unwrap().with_size(Some(64), Some(1)).unwrap();
    let models = [
        (*ModelSpec::find("mobilenet_v2").unwrap(), images),
        (*ModelSpec::find("resnet50").unwrap(), images),
        (*ModelSpec::find("googlenet").unwrap(), images),
        (transformer, text),
    ];
    let mut generator = ChaCha8Rng::seed_from_u64(1);
    for (spec, task) in models {
        let weights = Weights::with_zeros();
        spec.build(&weights, &task);
        let names = weights.parameter_names();
        let share = |share: f64, generator: &mut ChaCha8Rng| -> Vec<String> {
            names.iter().filter(|_| generator.random_bool(share)).cloned().collect()
        };
        let some = [share(0.5, &mut generator), share(0.97, &mut generator)];
        let early = names[..names.len() / 2].to_vec();
        for freeze in [Vec::new(), vec!["*weight".to_owned()], early].into_iter().chain(some) {
            check_passes(&spec, &task, &freeze);
        }
    }
    let owned = |patterns: &[&str]| -> Vec<String> { patterns.iter().map(|&pattern| pattern.to_owned()).collect() };
    let layers = check_passes(&transformer, &text, &owned(&["embedding.weight", "transformer.encoder*"]));
    for Layer { name, input_grad, weight_grad, .. } in layers {
        let expected = match name.as_str() {
            "embedding" => [true, false],
            // Their inputs are the frozen embedding and the frozen encoder's output.
            "transformer.decoder.layers.0.self_attn.in_proj"
            | "transformer.decoder.layers.0.multihead_attn.in_proj.kv" => [false, true],
            name => [!name.starts_with("transformer.encoder"); 2],
        };
        assert_eq!([input_grad, weight_grad], expected, "{name}");
    }
}

/// Prepares a capture of `MobileNet-v2` on small images.
fn capture(data: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = tracer(data, out);
    command.args(["--model", "mobilenet_v2", "--dataset", "fashion-mnist", "--input-size", "32", "--batch-size", "4"]);
    command.args(["--validation-samples", "8", "--samples", "2", "--filters", "4"]).args(more);
    command
}

/// Reads weights by name: the bits of their values.
fn read_bits(path: &Path) -> BTreeMap<String, Vec<u64>> {
    let tensors = Tensor::read_safetensors(path).unwrap();
    let bits = |tensor: &Tensor| Vec::<f64>::try_from(tensor.to_kind(Kind::Double).flatten(0, -1)).unwrap();
    tensors.iter().map(|(name, t)| (name.clone(), bits(t).into_iter().map(f64::to_bits).collect())).collect()
}

#[test]
fn frozen_weights_stay_as_they_are() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (start, end) = (path("start.safetensors"), path("end.safetensors"));
    succeed(capture(&data, &dir.path().join("first"), &["--steps", "2", "--capture", "none", "--save", &start]));
    let out = dir.path().join("trace");
    // Weight decay must not change them either.
    let tuned = ["--weights", &start, "--save", &end, "--steps", "3", "--optimizer", "adamw", "--lr", "0.001"];
    let groups = ["--freeze", "features.*", "--group-lr", "classifier.*=0.01", "--capture", "steps=1"];
    let stderr = succeed(capture(&data, &out, &[&tuned[..], &groups].concat())).stderr;
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(stderr.contains("of 53 layers, 52 have no weight gradient and 53 no input gradient"), "{stderr}");

    let (before, after) = (read_bits(Path::new(&start)), read_bits(Path::new(&end)));
    for (name, bits) in &before {
        let is_updated = name.starts_with("classifier") || name.contains("running") || name.contains("num_batches");
        assert_eq!(*bits == after[name], !is_updated, "{name}");
    }

    let trace = Trace::open(&out).unwrap();
    for layer in trace.layers() {
        assert_eq!((layer.input_grad, layer.weight_grad), (false, layer.name == "classifier.1"), "{}", layer.name);
    }
    let files = &trace.manifest().captured[0].tensors;
    assert_eq!(files.len(), 2 * 53 + 1);
    let gradients: Vec<&str> =
        files.iter().filter(|file| file.kind == TensorKind::GradOutput).map(|file| file.layer.as_str()).collect();
    assert_eq!(gradients, ["classifier.1"]);
    let settings = &trace.manifest().training.settings;
    assert_eq!(
        (settings["freeze"].as_str(), settings["group_lr"].as_str()),
        (r#"["features.*"]"#, r#"["classifier.*=0.01"]"#)
    );
    let rates: Vec<f64> = trace.steps().unwrap().iter().map(|step| step.learning_rate).collect();
    assert_eq!(rates, [0.001; 3]);
}

#[test]
fn the_rate_of_a_group_replaces_the_run_s() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let train = |name: &str, rates: &[&str]| {
        let weights = dir.path().join(format!("{name}.safetensors"));
        let schedule = ["--steps", "5", "--schedule", "cosine", "--warmup", "2", "--capture", "none", "--save"];
        let more = [&schedule[..], &[weights.to_str().unwrap()], rates].concat();
        succeed(capture(&data, &dir.path().join(name), &more));
        let steps = Trace::open(&dir.path().join(name)).unwrap().steps().unwrap();
        (std::fs::read(weights).unwrap(), steps.into_iter().map(|step| step.learning_rate).collect::<Vec<_>>())
    };
    let (weights, rates) = train("one", &["--lr", "0.02"]);
    let (grouped, stored) = train("grouped", &["--lr", "0.5", "--group-lr", "*=7", "--group-lr", "*=0.02"]);
    assert!(weights == grouped, "the last match counts for all parameters, bit for bit");
    // The table has the rates of --lr.
    assert_eq!(stored.len(), rates.len());
    assert!(stored.iter().zip(&rates).all(|(stored, rate)| (stored - 25.0 * rate).abs() < 1e-12), "{stored:?}");
    let (other, _) = train("other", &["--lr", "0.02", "--group-lr", "classifier.*=0.03"]);
    assert!(weights != other);
}

#[test]
fn layers_without_gradients_are_captured_and_replayed() {
    let Some(data) = data_dir() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("trace");
    let flags = ["--steps", "2", "--freeze", "features.*", "--layers", "features.[01].*", "--capture", "every=1"];
    let stderr = String::from_utf8(succeed(capture(&data, &out, &flags)).stderr).unwrap();
    let warning = "warning: with --freeze, no captured layer has input-grad and weight-grad, so the trace has none";
    assert!(stderr.contains(warning), "{stderr}");
    let mut replay = analyzer();
    replay.arg("replay").arg(&out).arg("--out").arg(dir.path().join("results")).args(["--format", "csv"]);
    let rows = String::from_utf8(succeed(replay).stdout).unwrap();
    assert!(rows.contains(",forward,") && !rows.contains("-grad,"), "{rows}");
    let mut search = analyzer();
    search.arg("search").arg(&out).arg("--out").arg(dir.path().join("found")).args(["--bound", "layer-error<=0.2"]);
    search.args(["--folds", "0"]);
    succeed(search);
}
