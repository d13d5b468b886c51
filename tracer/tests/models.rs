//! Compares every model with torchvision's, timm's or torch.nn's: parameters, layers, outputs,
//! gradients.
//!
//! `reference/models.py` makes the reference values; `formulas.py` has the shared formulas. Values
//! are in double precision, because single precision makes the gradients of deep models vary (see
//! there).

use mercury_testing::report_skip;
use mercury_trace::geometry::Geometry;
use mercury_trace::layers::{self, Layer};
use mercury_tracer::datasets::{Batch, Task};
use mercury_tracer::loss::compute_loss;
use mercury_tracer::models::{Model, ModelSpec};
use mercury_tracer::tap::{Plain, backward};
use mercury_tracer::weights::{Role, WeightEntry, Weights};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tch::{Device, Kind, Tensor};

/// Tests run one at a time: libtorch's generator belongs to the process, and large models need
/// memory.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const SAMPLES: usize = 4;
const PROJECTIONS: usize = 4;
/// Every Nth logit of the transformer is stored.
const LOGIT_STRIDE: usize = 97;

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/models").join(file)
}

fn table(file: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(path(file)).unwrap();
    reader.deserialize().map(Result::unwrap).collect()
}

fn versions() -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path("versions.json")).unwrap()).unwrap()
}

// The formulas of the script.

fn key(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn hash(key: u64, index: usize) -> u64 {
    let mut z = key.wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn uniform(key: u64, index: usize) -> f64 {
    (hash(key, index) >> 40) as f64 / f64::from(1 << 23) - 1.0
}

fn values(name: &str, shape: &[i64], offset: f64, scale: f64) -> Tensor {
    let (key, count) = (key(name), shape.iter().product::<i64>() as usize);
    let values: Vec<f32> = (0..count).into_par_iter().map(|i| (offset + scale * uniform(key, i)) as f32).collect();
    Tensor::from_slice(&values).reshape(shape)
}

fn initial(name: &str, shape: &[i64]) -> Tensor {
    match shape {
        [] => Tensor::from(0i64),
        [_] if name.ends_with("running_var") => values(name, shape, 1.0, 0.5),
        [_] if name.ends_with("weight") => values(name, shape, 1.0, 0.1),
        [_] => values(name, shape, 0.0, 0.1),
        [_, rest @ ..] => values(name, shape, 0.0, (6.0 / rest.iter().product::<i64>() as f64).sqrt()),
    }
}

/// Computes the norm and the projections.
fn summary(name: &str, tensor: &Tensor) -> Vec<f64> {
    let flat = Vec::<f64>::try_from(tensor.to_kind(Kind::Double).flatten(0, -1)).unwrap();
    let keys: Vec<u64> = (0..PROJECTIONS).map(|j| key(&format!("projection.{j}.{name}"))).collect();
    let sums = flat.par_iter().enumerate().fold(
        || [0.0; 1 + PROJECTIONS],
        |mut sums, (index, value)| {
            sums[0] += value * value;
            for (sum, &key) in sums[1..].iter_mut().zip(&keys) {
                *sum += value * uniform(key, index);
            }
            sums
        },
    );
    let mut sums = sums.reduce(|| [0.0; 1 + PROJECTIONS], |a, b| std::array::from_fn(|i| a[i] + b[i]));
    sums[0] = sums[0].sqrt();
    sums.to_vec()
}

fn tokens(name: &str, lengths: [usize; SAMPLES]) -> Tensor {
    let width = *lengths.iter().max().unwrap();
    let token = |row: usize, column: usize| 4 + (hash(key(name), row * width + column) % 96) as i64;
    let rows = lengths
        .iter()
        .enumerate()
        .flat_map(|(row, &length)| (0..width).map(move |column| if column < length { token(row, column) } else { 0 }));
    Tensor::from_slice(&rows.collect::<Vec<_>>()).reshape([SAMPLES as i64, width as i64])
}

fn task(name: &str) -> Task {
    let input: Vec<i64> = serde_json::from_value(versions()["models"][name]["input"].clone()).unwrap();
    match input[..] {
        [channels, rows, columns] => Task::Images { channels, size: [rows, columns], classes: 10 },
        [source, target] => Task::Text { source, target, vocabulary: 100 },
        _ => unreachable!(),
    }
}

fn batch(task: Task, kind: Kind) -> Batch {
    match task {
        Task::Images { channels, size, .. } => {
            let labels: Vec<i64> = (0..SAMPLES).map(|i| (hash(key("labels"), i) % 10) as i64).collect();
            let images = values("input", &[SAMPLES as i64, channels, size[0], size[1]], 0.0, 1.0).to_kind(kind);
            Batch::Images { images, labels: Tensor::from_slice(&labels) }
        }
        Task::Text { .. } => {
            Batch::Text { source: tokens("source", [12, 9, 5, 11]), target: tokens("target", [11, 7, 4, 10]) }
        }
    }
}

fn fill(weights: &Weights) {
    tch::no_grad(|| {
        for entry in weights.entries().iter() {
            entry.tensor.shallow_clone().copy_(&initial(&entry.name, &entry.tensor.size()));
        }
    });
}

/// Reads the stored values of one quantity from `NAME.outputs.csv`.
fn read_stored(name: &str, quantity: &str) -> Vec<f64> {
    let rows = table(&format!("{name}.outputs.csv"));
    rows.iter().filter(|row| row["quantity"] == quantity).map(|row| row["value"].parse().unwrap()).collect()
}

/// Compares values; the tolerance is relative to the largest stored value.
fn assert_close(name: &str, quantity: &str, found: &Tensor, tolerance: f64) {
    let stride = if name == "transformer" { LOGIT_STRIDE } else { 1 };
    let found = Vec::<f64>::try_from(found.to_kind(Kind::Double).reshape([-1])).unwrap();
    let (found, stored) = (found.into_iter().step_by(stride).collect::<Vec<_>>(), read_stored(name, quantity));
    assert_eq!(found.len(), stored.len(), "{name} {quantity}");
    let largest = stored.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    for (found, stored) in found.iter().zip(&stored) {
        assert!((found - stored).abs() <= tolerance * largest, "{name} {quantity}: {found}, stored is {stored}");
    }
}

/// Whether libtorch draws the same numbers as for the tables; this depends on the CPU.
fn draws_as_stored() -> bool {
    tch::manual_seed(1);
    let draws = Vec::<f64>::try_from(Tensor::empty([64], (Kind::Double, Device::Cpu)).bernoulli_float_(0.5)).unwrap();
    let draws: String = draws.iter().map(|&draw| if draw > 0.5 { '1' } else { '0' }).collect();
    versions()["bernoulli"] == draws
}

fn check_parameters(name: &str, weights: &Weights) {
    let entries = weights.entries();
    let found: BTreeSet<(String, String, bool)> = entries
        .iter()
        .map(|entry| {
            let shape: Vec<String> = entry.tensor.size().iter().map(i64::to_string).collect();
            (entry.name.clone(), shape.join("x"), entry.role == Role::Trained)
        })
        .collect();
    let stored = table(&format!("{name}.parameters.csv"));
    let stored: BTreeSet<(String, String, bool)> =
        stored.iter().map(|row| (row["name"].clone(), row["shape"].clone(), row["trainable"] == "true")).collect();
    assert_eq!(found, stored, "{name}");
    assert_eq!(found.len(), entries.len(), "{name}: no name twice");
}

fn check_layers(name: &str, spec: &ModelSpec) {
    let dir = tempfile::tempdir().unwrap();
    layers::write(dir.path(), &spec.outline(&task(name)).unwrap().layers).unwrap();
    let found: Vec<Vec<String>> = layers::read(dir.path()).unwrap().iter().map(format_layer).collect();
    let mut reader = csv::Reader::from_path(path(&format!("{name}.layers.csv"))).unwrap();
    let stored: Vec<Vec<String>> = reader.deserialize().map(Result::unwrap).collect();
    assert_eq!(found, stored, "{name}");
}

/// Formats a layer as in the script's table.
fn format_layer(layer: &Layer) -> Vec<String> {
    let numbers: Vec<u32> = match layer.geometry {
        Geometry::Conv2d(c) => {
            let head = [c.in_channels, c.out_channels, 0, c.groups];
            let pairs = [c.input, c.output(), c.kernel, c.stride, c.padding, c.dilation];
            [head.as_slice(), pairs.concat().as_slice()].concat()
        }
        Geometry::Linear(l) => [&[l.in_features, l.out_features, l.rows], [0; 13].as_slice()].concat(),
        Geometry::Matmul(a) => [&[a.inner, a.columns, a.rows, a.heads], [0; 12].as_slice()].concat(),
    };
    let names = [layer.name.clone(), layer.geometry.op().to_owned()];
    names.into_iter().chain(numbers.iter().map(u32::to_string)).collect()
}

fn check_training_step(name: &str, model: &dyn Model, weights: &Weights, batch: &Batch) {
    tch::manual_seed(1);
    let output = model.forward(batch, true, &mut Plain);
    assert_close(name, "train_logits", &output.scores, 1e-7);
    for (index, scores) in output.auxiliary.iter().enumerate() {
        assert_close(name, &format!("aux{}_logits", index + 1), scores, 1e-7);
    }
    let loss = compute_loss(&output, batch, 0.0);
    assert_close(name, "loss", &loss, 1e-7);
    let entries = weights.entries();
    let (learnt, kept): (Vec<&WeightEntry>, Vec<&WeightEntry>) =
        entries.iter().partition(|entry| entry.role == Role::Trained);
    let gradients = backward(&loss, &learnt.iter().map(|entry| &entry.tensor).collect::<Vec<_>>(), None).unwrap();
    let stored: BTreeMap<String, Vec<f64>> = table(&format!("{name}.parameters.csv"))
        .into_iter()
        .map(|row| (row["name"].clone(), ["norm", "p0", "p1", "p2", "p3"].map(|c| row[c].parse().unwrap()).to_vec()))
        .collect();
    let gradients = learnt.iter().map(|entry| &entry.name).zip(&gradients);
    for (entry_name, tensor) in gradients.chain(kept.iter().map(|entry| (&entry.name, &entry.tensor))) {
        let (found, stored) = (summary(entry_name, tensor), &stored[entry_name]);
        for (found, value) in found.iter().zip(stored) {
            // The tolerance is relative to the norm, because a projection can cancel almost
            // completely.
            let tolerance = 1e-6 * stored[0] + 1e-9;
            assert!((found - value).abs() <= tolerance, "{name} {entry_name}: {found}, stored is {value}");
        }
    }
}

fn check(name: &str, dropout: bool) {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let spec = ModelSpec::find(name).unwrap();
    check_layers(name, spec);
    let task = task(name);

    let single = Weights::new(Device::Cpu);
    let model = spec.build(&single, &task);
    check_parameters(name, &single);
    fill(&single);
    let scores = tch::no_grad(|| model.forward(&batch(task, Kind::Float), false, &mut Plain).scores);
    assert_close(name, "eval_logits", &scores, 1e-4);
    drop((model, single));

    let double = Weights::with_doubles(Device::Cpu);
    let model = spec.build(&double, &task);
    fill(&double);
    let batch = batch(task, Kind::Double);
    let scores = tch::no_grad(|| model.forward(&batch, false, &mut Plain).scores);
    assert_close(name, "eval_logits", &scores, 1e-7);
    if dropout && !draws_as_stored() {
        report_skip("the training step, because libtorch draws dropout differently on this CPU");
        return;
    }
    check_training_step(name, model.as_ref(), &double, &batch);
}

macro_rules! models {
    ($($name:ident $dropout:literal)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name), $dropout);
        })*

        #[test]
        fn all_models_are_checked() {
            let checked = [$(stringify!($name)),*];
            let known: Vec<&str> = mercury_tracer::models::MODELS.iter().map(|model| model.name).collect();
            assert_eq!(checked.as_slice(), known);
        }
    };
}

models! {
    alexnet true
    googlenet true
    vgg13 true
    vgg16 true
    vgg19 true
    resnet50 false
    resnet101 false
    resnet152 false
    inception_v4 false
    mobilenet_v2 true
    squeezenet1_0 true
    transformer true
}

#[test]
fn as_many_parameters_as_published() {
    // An outline runs in training mode and draws dropout.
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for spec in mercury_tracer::models::MODELS {
        let task = match spec.task {
            Task::Text { source, target, .. } => Task::Text { source, target, vocabulary: 1000 },
            images @ Task::Images { .. } => images,
        };
        let parameters = spec.outline(&task).unwrap().parameters;
        assert_eq!(versions()["models"][spec.name]["parameters_1000"], parameters, "{}", spec.name);
    }
}
