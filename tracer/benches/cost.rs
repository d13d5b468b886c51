//! Measures the cost of capturing and of reuse in the loop: `make bench`.
//!
//! 1. A training step of VGG-13 through the plain tap, compared with the same layers and weights in
//!    straight-line code, without tap or modules. The two alternate; medians.
//! 2. A captured step compared with a step without capture.
//! 3. The throughput of the sink compared with the disk's.
//! 4. A step with reuse in the loop compared with one without. Images are random, so fewer vectors are
//!    similar than in photos.

use mercury_capture::rows::step_bytes;
use mercury_capture::sampling::{self, SamplingLimits};
use mercury_capture::sink::{Job, Log, Sink};
use mercury_hardware::config::{BitsConfig, Config};
use mercury_trace::geometry::{Conv2d, Geometry};
use mercury_trace::layers::Layer;
use mercury_trace::manifest::{CapturedStep, Dataset, Manifest, Model as ModelOf, SCHEMA_VERSION, Sampling, Training};
use mercury_trace::steps::Step;
use mercury_trace::tensor::TensorKind;
use mercury_trace::{TraceWriter, geometry::Pass};
use mercury_tracer::capture;
use mercury_tracer::datasets::{Batch, Task};
use mercury_tracer::models::{Model, ModelSpec};
use mercury_tracer::optimizer::{Method, Optimizer};
use mercury_tracer::reuse::{NamedConfig, ReuseTap, Session};
use mercury_tracer::schedule::Schedule;
use mercury_tracer::tap::{Plain, Recorder, backward};
use mercury_tracer::weights::{WeightEntry, Weights};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

const ROUNDS: usize = 15;
const LEARNING_RATE: f64 = 1e-4;

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn measure_seconds(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

struct TrainedModel {
    model: Box<dyn Model>,
    optimizer: Optimizer,
    weights: BTreeMap<String, Tensor>,
    batch: Batch,
    layers: Vec<Layer>,
}

impl TrainedModel {
    fn new(name: &str, batch: i64, size: i64) -> Self {
        let spec = ModelSpec::find(name).expect("a known model");
        let task = Task::Images { channels: 3, size: [size; 2], classes: 1000 };
        let weights = Weights::new(Device::Cpu);
        let model = spec.build(&weights, &task);
        let optimizer = Optimizer::new(Method::Sgd { momentum: 0.9 }, 5e-4, &weights);
        let images = Tensor::randn([batch, 3, size, size], (Kind::Float, Device::Cpu));
        let labels = Tensor::randint(1000, [batch], (Kind::Int64, Device::Cpu));
        let layers = spec.outline(&task).expect("the model takes this size").layers;
        let named = |entry: &WeightEntry| (entry.name.clone(), entry.tensor.shallow_clone());
        let weights = weights.entries().iter().map(named).collect();
        Self { model, optimizer, weights, batch: Batch::Images { images, labels }, layers }
    }

    fn step(&mut self, mut recorder: Option<&mut Recorder>) {
        let Batch::Images { labels, .. } = &self.batch else { unreachable!() };
        let output = match &mut recorder {
            Some(recorder) => self.model.forward(&self.batch, true, *recorder),
            None => self.model.forward(&self.batch, true, &mut Plain),
        };
        let loss = output.scores.cross_entropy_for_logits(labels);
        let _ = loss.double_value(&[]);
        let gradients = backward(&loss, &self.optimizer.parameters(), recorder).expect("a gradient");
        self.optimizer.step(gradients, &Schedule::constant(LEARNING_RATE), 0);
    }
}

/// Computes VGG-13 in straight-line code.
fn compute_vgg13(weights: &BTreeMap<String, Tensor>, images: &Tensor) -> Tensor {
    let parameters = |name: &str| (&weights[&format!("{name}.weight")], weights.get(&format!("{name}.bias")));
    let mut x = images.shallow_clone();
    for block in [[0, 2], [5, 7], [10, 12], [15, 17], [20, 22]] {
        for index in block {
            let (weight, bias) = parameters(&format!("features.{index}"));
            x = x.conv2d(weight, bias, [1; 2], [1; 2], [1; 2], 1).relu();
        }
        x = x.max_pool2d([2; 2], [2; 2], [0; 2], [1; 2], false);
    }
    x = x.adaptive_avg_pool2d([7; 2]).flatten(1, -1);
    for index in [0, 3] {
        let (weight, bias) = parameters(&format!("classifier.{index}"));
        x = x.linear(weight, bias).relu().dropout(0.5, true);
    }
    let (weight, bias) = parameters("classifier.6");
    x.linear(weight, bias)
}

fn compare_plain_tap(batch: i64, size: i64) {
    let mut trained = TrainedModel::new("vgg13", batch, size);
    let Batch::Images { images, labels } = &trained.batch else { unreachable!() };
    let (images, labels) = (images.shallow_clone(), labels.shallow_clone());
    let weights: BTreeMap<_, _> =
        trained.weights.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..3 * ROUNDS {
        with.push(measure_seconds(|| trained.step(None)));
        without.push(measure_seconds(|| {
            let loss = compute_vgg13(&weights, &images).cross_entropy_for_logits(&labels);
            let _ = loss.double_value(&[]);
            let gradients = backward(&loss, &trained.optimizer.parameters(), None).expect("a gradient");
            trained.optimizer.step(gradients, &Schedule::constant(LEARNING_RATE), 0);
        }));
    }
    let mut ratios: Vec<f64> = with.iter().zip(&without).map(|(with, without)| with / without).collect();
    ratios.sort_by(f64::total_cmp);
    let [low, high] = [ratios.len() / 4, 3 * ratios.len() / 4].map(|index| ratios[index]);
    let (with, without) = (median(with), median(without));
    println!(
        "vgg13      batch {batch:>2}, {size} x {size}: {:7.1} ms per step through the plain tap, {:7.1} ms in straight-line code: ratio {:.3} (half of the pairs {low:.3} to {high:.3})",
        with * 1e3,
        without * 1e3,
        with / without
    );
}

fn row(step: u64) -> Step {
    Step { step, epoch: 0, loss: 0.0, accuracy: 0.0, learning_rate: LEARNING_RATE, seconds: 0.0, captured: true }
}

fn writer(dir: &Path, batch: u32, layers: &[Layer], sampling: Sampling) -> TraceWriter {
    let manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        created_by: "bench".into(),
        label: None,
        command: None,
        framework: None,
        model: ModelOf { name: "bench".into(), parameters: 0, input: vec![], classes: 1000 },
        dataset: Dataset {
            name: "random".into(),
            train_samples: 0,
            validation_samples: 0,
            description: BTreeMap::default(),
        },
        seed: 1,
        training: Training {
            steps: 1,
            batch_size: batch,
            learning_rate: LEARNING_RATE,
            momentum: 0.9,
            weight_decay: 5e-4,
            settings: BTreeMap::default(),
            validation_accuracy: None,
        },
        versions: BTreeMap::default(),
        device: "cpu".into(),
        sampling,
        captured: vec![],
        complete: false,
    };
    TraceWriter::create(dir, manifest, layers).expect("the folder can be written")
}

fn compare_capture(name: &str, batch: u32, size: i64, limits: &SamplingLimits) {
    let mut trained = TrainedModel::new(name, i64::from(batch), size);
    let sampling = sampling::choose(1, limits, &trained.layers);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let sink = Sink::start(writer(dir.path(), batch, &trained.layers, sampling.clone()), Log::default());
    let wanted: BTreeSet<String> = trained.layers.iter().map(|layer| layer.name.clone()).collect();
    let indices: Vec<u32> = (0..batch).collect();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        without.push(measure_seconds(|| trained.step(None)));
        with.push(measure_seconds(|| {
            let mut recorder = Recorder::new(wanted.clone(), true);
            trained.step(Some(&mut recorder));
            capture::submit(&sink, &sampling, 1, round as u64, &indices, recorder.records()).expect("captured");
            sink.log_step(row(round as u64));
            // Unfinished writing would slow down the next step without capture.
            sink.flush().expect("written");
        }));
    }
    let layers: Vec<&Layer> = trained.layers.iter().collect();
    let bytes = step_bytes(&layers, &sampling, batch) as f64;
    let (with, without) = (median(with), median(without));
    println!(
        "{name:<10} batch {batch:>2}, {size} x {size}, {} samples, {} filters: {:7.1} ms per captured step ({:.1} MB), {:7.1} ms without capture: ratio {:.2}",
        limits.samples.map_or("all".to_owned(), |n| n.to_string()),
        limits.filters.map_or("all".to_owned(), |n| n.to_string()),
        with * 1e3,
        bytes / 1e6,
        without * 1e3,
        with / without
    );
}

fn compare_reuse(name: &str, batch: i64, size: i64) {
    let mut trained = TrainedModel::new(name, batch, size);
    let config = Config { bits: BitsConfig { patience: 0, ..BitsConfig::default() }, ..Config::default() };
    let configuration = NamedConfig { name: "mercury".into(), config, text: String::new() };
    let session = Session::new(configuration, Vec::new());
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        without.push(measure_seconds(|| trained.step(None)));
        with.push(measure_seconds(|| {
            let tap = ReuseTap::new(&session, round as u64, false);
            trained.step(Some(&mut Recorder::new(BTreeSet::new(), false).with_tap(tap)));
        }));
    }
    let (with, without) = (median(with), median(without));
    println!(
        "{name:<10} batch {batch:>2}, {size} x {size}: {:7.1} ms per step with reuse at 20 bits, {:7.1} ms without: ratio {:.2}",
        with * 1e3,
        without * 1e3,
        with / without
    );
}

/// Measures with the planes of a ReLU: half of the values are 0.
fn measure_throughput() {
    const PLANES: usize = 64 * 64;
    const AREA: usize = 56 * 56;
    const FILES: usize = 24;
    let conv = Conv2d {
        in_channels: 64,
        out_channels: 64,
        input: [56; 2],
        kernel: [3; 2],
        stride: [1; 2],
        padding: [1; 2],
        dilation: [1; 2],
        groups: 1,
    };
    let layers = [Layer { name: "conv".into(), geometry: Geometry::Conv2d(conv), input_grad: true, weight_grad: true }];
    let dir = tempfile::tempdir().expect("a temporary folder");
    let sampling = Sampling { passes: vec![Pass::Forward], ..Sampling::default() };
    let tensor = Tensor::randn([(PLANES * AREA) as i64], (Kind::Float, Device::Cpu)).relu();
    let values = Vec::<f32>::try_from(tensor).expect("floats");
    let keys: Vec<u32> = (0..PLANES as u32).flat_map(|plane| [plane / 64, plane % 64]).collect();
    let bytes = (FILES * size_of_val(values.as_slice())) as f64;

    let sink = Sink::start(writer(dir.path(), 64, &layers, sampling), Log::default());
    let elapsed = measure_seconds(|| {
        for step in 0..FILES as u64 {
            let (keys, values) = (keys.clone(), values.clone());
            sink.write(Job {
                step,
                index: 0,
                layer: layers[0].clone(),
                kind: TensorKind::Input,
                keys,
                values,
                rows: PLANES,
            });
            let samples: Vec<u32> = (0..64).collect();
            let dataset_indices = samples.iter().map(|&sample| u64::from(sample)).collect();
            sink.mark_captured(CapturedStep { step, samples, dataset_indices, tensors: vec![] }, 1);
            sink.log_step(row(step));
        }
        sink.flush().expect("written");
    });
    let manifest = sink.finish(None).expect("written");
    let written = manifest.captured.iter().flat_map(|step| &step.tensors).map(|file| file.bytes).sum::<u64>() as f64;
    let raw = measure_seconds(|| {
        let path = dir.path().join("raw");
        let mut file = File::create(&path).expect("the folder can be written");
        let part: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        for _ in 0..FILES {
            file.write_all(&part).expect("the disk has room");
        }
        file.sync_all().expect("the disk has room");
    });
    println!(
        "sink: {:.0} MB/s of values ({:.0} MB/s of files, {:.2} of the values' size); the disk takes {:.0} MB/s of raw bytes",
        bytes / elapsed / 1e6,
        written / elapsed / 1e6,
        written / bytes,
        bytes / raw / 1e6
    );
}

fn main() {
    println!("threads: {}; medians of {ROUNDS} alternating steps", tch::get_num_threads());
    for (batch, size) in [(8, 32), (8, 64)] {
        compare_plain_tap(batch, size);
    }
    let keep_all = SamplingLimits { passes: Pass::ALL.to_vec(), ..SamplingLimits::default() };
    compare_capture("resnet50", 8, 64, &keep_all);
    compare_capture("resnet50", 8, 64, &SamplingLimits { samples: Some(2), filters: Some(32), ..keep_all });
    measure_throughput();
    compare_reuse("vgg13", 32, 32);
    compare_reuse("resnet50", 16, 32);
    compare_reuse("mobilenet_v2", 16, 32);
}
