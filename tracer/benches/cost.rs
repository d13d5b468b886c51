//! What capturing costs: `make bench-tracer`.
//!
//! 1. A training step with the plain tap beside one of tch's own model of the same layers, which
//!    knows of no tap; in turns, medians.
//! 2. A run that captures every step beside one that captures none.
//! 3. Bytes a second that the sink takes, beside those that the disk takes.

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
use mercury_tracer::sampling::{self, Limits};
use mercury_tracer::sink::{Job, Sink};
use mercury_tracer::tap::{Plain, Recorder, backward};
use mercury_tracer::weights::Weights;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;
use tch::nn::{self, ModuleT, OptimizerConfig};
use tch::{Device, Kind, Tensor};

const ROUNDS: usize = 15;
const LEARNING_RATE: f64 = 1e-4;

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn seconds(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

struct Ours {
    model: Box<dyn Model>,
    optimizer: Optimizer,
    batch: Batch,
    layers: Vec<Layer>,
}

impl Ours {
    fn new(name: &str, batch: i64, size: i64) -> Self {
        let spec = ModelSpec::find(name).expect("a model of ours");
        let task = Task::Images { channels: 3, size: [size; 2], classes: 1000 };
        let weights = Weights::new(Device::Cpu);
        let model = spec.build(&weights, &task);
        let optimizer = Optimizer::new(Method::Sgd { momentum: 0.9 }, 5e-4, &weights);
        let images = Tensor::randn([batch, 3, size, size], (Kind::Float, Device::Cpu));
        let labels = Tensor::randint(1000, [batch], (Kind::Int64, Device::Cpu));
        let (layers, _) = spec.layers(&task).expect("the model takes this size");
        Self { model, optimizer, batch: Batch::Images { images, labels }, layers }
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
        self.optimizer.step(gradients, LEARNING_RATE);
    }
}

/// tch's model of the same layers.
fn peer(name: &str, root: &nn::Path) -> Box<dyn ModuleT> {
    match name {
        "vgg13" => Box::new(tch::vision::vgg::vgg13(root, 1000)),
        "resnet50" => Box::new(tch::vision::resnet::resnet50(root, 1000)),
        _ => unreachable!("tch has no {name}"),
    }
}

fn plain_tap(name: &str, batch: i64, size: i64) {
    let mut ours = Ours::new(name, batch, size);
    let store = nn::VarStore::new(Device::Cpu);
    let theirs = peer(name, &store.root());
    let mut optimizer = nn::sgd(0.9, 0.0, 5e-4, false).build(&store, LEARNING_RATE).expect("SGD");
    let Batch::Images { images, labels } = &ours.batch else { unreachable!() };
    let (images, labels) = (images.shallow_clone(), labels.shallow_clone());
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        with.push(seconds(|| ours.step(None)));
        without.push(seconds(|| {
            let loss = theirs.forward_t(&images, true).cross_entropy_for_logits(&labels);
            let _ = loss.double_value(&[]);
            optimizer.backward_step(&loss);
        }));
    }
    let (with, without) = (median(with), median(without));
    println!(
        "{name:<10} batch {batch:>2}, {size} x {size}: {:7.1} ms a step with the plain tap, {:7.1} ms with tch's own: ratio {:.3}",
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

fn every_step(name: &str, batch: u32, size: i64, limits: &Limits) {
    let mut ours = Ours::new(name, i64::from(batch), size);
    let sampling = sampling::choose(1, limits, &ours.layers);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let sink = Sink::start(writer(dir.path(), batch, &ours.layers, sampling.clone()), vec![], vec![]);
    let wanted: BTreeSet<String> = ours.layers.iter().map(|layer| layer.name.clone()).collect();
    let indices: Vec<u32> = (0..batch).collect();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        without.push(seconds(|| ours.step(None)));
        with.push(seconds(|| {
            let mut recorder = Recorder::of(wanted.clone(), true);
            ours.step(Some(&mut recorder));
            capture::submit(&sink, &sampling, 1, round as u64, &indices, &recorder.records).expect("captured");
            sink.step(row(round as u64));
            // What is still being written would slow down the step that captures nothing.
            sink.flush().expect("written");
        }));
    }
    let layers: Vec<&Layer> = ours.layers.iter().collect();
    let bytes = capture::step_bytes(&layers, &sampling, batch) as f64;
    let (with, without) = (median(with), median(without));
    println!(
        "{name:<10} batch {batch:>2}, {size} x {size}, {} samples, {} filters: {:7.1} ms a step captured ({:.1} MB), {:7.1} ms not: ratio {:.2}",
        limits.samples.map_or("all".to_owned(), |n| n.to_string()),
        limits.filters.map_or("all".to_owned(), |n| n.to_string()),
        with * 1e3,
        bytes / 1e6,
        without * 1e3,
        with / without
    );
}

/// Planes as they come from a ReLU: half of the values are 0.
fn throughput() {
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
    let layers = [Layer { name: "conv".into(), geometry: Geometry::Conv2d(conv), input_grad: true }];
    let dir = tempfile::tempdir().expect("a temporary folder");
    let sampling = Sampling { passes: vec![Pass::Forward], ..Sampling::default() };
    let tensor = Tensor::randn([(PLANES * AREA) as i64], (Kind::Float, Device::Cpu)).relu();
    let values = Vec::<f32>::try_from(tensor).expect("floats");
    let keys: Vec<u32> = (0..PLANES as u32).flat_map(|plane| [plane / 64, plane % 64]).collect();
    let bytes = (FILES * size_of_val(values.as_slice())) as f64;

    let sink = Sink::start(writer(dir.path(), 64, &layers, sampling), vec![], vec![]);
    let elapsed = seconds(|| {
        for step in 0..FILES as u64 {
            let (keys, values) = (keys.clone(), values.clone());
            sink.write(Job {
                step,
                index: 0,
                layer: "conv".into(),
                kind: TensorKind::Input,
                keys,
                values,
                rows: PLANES,
            });
            let samples: Vec<u32> = (0..64).collect();
            let dataset_indices = samples.iter().map(|&sample| u64::from(sample)).collect();
            sink.captured(CapturedStep { step, samples, dataset_indices, tensors: vec![] }, 1);
            sink.step(row(step));
        }
        sink.flush().expect("written");
    });
    let written = sink.bytes() as f64;
    let raw = seconds(|| {
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
    println!("threads: {}; medians of {ROUNDS} steps, in turns", tch::get_num_threads());
    for (name, batch, size) in [("vgg13", 2, 224), ("resnet50", 8, 64)] {
        plain_tap(name, batch, size);
    }
    let everything = Limits { passes: Pass::ALL.to_vec(), ..Limits::default() };
    every_step("resnet50", 8, 64, &everything);
    every_step("resnet50", 8, 64, &Limits { samples: Some(2), filters: Some(32), ..everything });
    throughput();
}
