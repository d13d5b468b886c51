//! A small trace with every kind of layer and values from a formula.

#![allow(dead_code, reason = "each test binary uses only some of these items")]

pub mod place;
pub mod process;

use mercury_trace::TraceWriter;
use mercury_trace::geometry::{Conv2d, Geometry, Linear, Matmul};
use mercury_trace::layers::Layer;
use mercury_trace::manifest::{CapturedStep, Dataset, Manifest, Model, SCHEMA_VERSION, Sampling, TensorFile, Training};
use mercury_trace::steps::Step;
use mercury_trace::tensor::{Dtype, TensorKind, TensorShape, TensorWriter, Written};
use std::collections::BTreeMap;
use std::path::Path;

/// The captured samples of each step.
pub const SAMPLES: [u32; 3] = [1, 2, 5];

/// A value of a tensor. Values repeat often enough for hits, but not always.
pub fn value(index: usize, salt: usize) -> f32 {
    let block = (index / 5 * 31 + index % 3 + salt * 17) % 23;
    if block < 6 { 0.0 } else { block as f32 / 4.0 - 3.0 }
}

/// A 3 x 3 convolution of square planes with `input` rows.
fn convolution([in_channels, out_channels]: [u32; 2], input: u32, stride: u32, groups: u32) -> Geometry {
    Geometry::Conv2d(Conv2d {
        in_channels,
        out_channels,
        input: [input; 2],
        kernel: [3; 2],
        stride: [stride; 2],
        padding: [1; 2],
        dilation: [1; 2],
        groups,
    })
}

pub fn layers() -> Vec<Layer> {
    let layer =
        |name: &str, geometry, input_grad| Layer { name: name.to_owned(), geometry, input_grad, weight_grad: true };
    vec![
        layer("features.0", convolution([3, 4], 8, 1, 1), false),
        layer("features.3", convolution([4, 6], 8, 2, 2), true),
        layer("attention.scores", Geometry::Matmul(Matmul { heads: 2, rows: 5, inner: 4, columns: 5 }), true),
        layer("classifier.0", Geometry::Linear(Linear { rows: 1, in_features: 24, out_features: 7 }), true),
    ]
}

fn build_manifest(sampling: Sampling) -> Manifest {
    Manifest {
        schema_version: SCHEMA_VERSION,
        created_by: "a test".to_owned(),
        label: None,
        command: None,
        framework: None,
        model: Model { name: "small".to_owned(), parameters: 500, input: vec![3, 8, 8], classes: 7 },
        dataset: Dataset {
            name: "formula".to_owned(),
            train_samples: 64,
            validation_samples: 0,
            description: BTreeMap::default(),
        },
        seed: 1,
        training: Training {
            steps: 11,
            batch_size: 8,
            learning_rate: 0.1,
            momentum: 0.9,
            weight_decay: 0.0,
            settings: BTreeMap::default(),
            validation_accuracy: None,
        },
        versions: [("libtorch".to_owned(), "none".to_owned())].into(),
        device: "cpu".to_owned(),
        sampling,
        captured: Vec::new(),
        complete: false,
    }
}

/// Writes the trace with captured steps 0 and 10. `value` maps an index and the tensor's salt to a
/// value.
pub fn write_trace(dir: &Path, sampling: &Sampling, value: impl Fn(usize, usize) -> f32) {
    write_steps(dir, sampling, &[0, 10], &SAMPLES, value);
}

/// Writes the trace with these captured steps and samples.
pub fn write_steps(
    dir: &Path,
    sampling: &Sampling,
    captured_steps: &[u64],
    samples: &[u32],
    value: impl Fn(usize, usize) -> f32,
) {
    let mut writer = TraceWriter::create(dir, build_manifest(sampling.clone()), &layers()).unwrap();
    let mut steps = Vec::new();
    for number in 0..11u64 {
        let captured = captured_steps.contains(&number);
        let loss = 2.0 / (number + 1) as f64;
        steps.push(Step { step: number, epoch: 0, loss, accuracy: 0.5, learning_rate: 0.1, seconds: 0.25, captured });
        if !captured {
            continue;
        }
        let mut tensors = Vec::new();
        for (index, layer) in layers().iter().enumerate() {
            for (salt, kind) in [TensorKind::Input, TensorKind::GradOutput, TensorKind::Weight].into_iter().enumerate()
            {
                let shape = TensorShape::from_geometry(&layer.geometry, kind, Dtype::F32);
                let keys = list_keys(layer, kind, sampling, samples);
                let values: Vec<f32> =
                    (0..keys.len() * shape.width).map(|i| value(i, 10 * index + 3 * number as usize + salt)).collect();
                // `TraceWriter` would refuse values that are not finite.
                let path = dir.join(format!("tensors/step={number:06}/layer={}/{}.parquet", layer.name, kind.name()));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                let width = shape.width;
                let mut file = TensorWriter::create(&path, shape, &[]).unwrap();
                for (keys, values) in keys.iter().zip(values.chunks(width)) {
                    file.push(keys.as_ref(), values).unwrap();
                }
                let Written { rows, bytes, sha256 } = file.finish().unwrap();
                let (width, sha256) = (width as u32, Some(sha256));
                tensors.push(TensorFile { layer: layer.name.clone(), kind, rows, width, bytes, sha256 });
            }
        }
        let dataset_indices = [3, 60, 12, 5, 9, 33, 1, 20][..samples.len()].to_vec();
        writer
            .commit(CapturedStep { step: number, samples: samples.to_vec(), dataset_indices, tensors }, &steps)
            .unwrap();
    }
    writer.finish(Some(0.75), &steps, &[]).unwrap();
}

fn list_keys(layer: &Layer, kind: TensorKind, sampling: &Sampling, samples: &[u32]) -> Vec<Vec<u32>> {
    let all = |count: u32| (0..count).collect::<Vec<u32>>();
    let inner = match (layer.geometry, kind) {
        (Geometry::Matmul(a), TensorKind::Weight) => {
            let pairs =
                all(a.heads).into_iter().flat_map(|head| all(a.columns).into_iter().map(move |c| vec![head, c]));
            pairs.collect()
        }
        (Geometry::Matmul(a), _) => {
            let pairs =
                all(a.heads).into_iter().flat_map(|head| all(a.rows).into_iter().map(move |row| vec![head, row]));
            pairs.collect()
        }
        (_, TensorKind::Weight) => {
            let kept = sampling.filters.get(&layer.name).cloned().unwrap_or_else(|| all(layer.geometry.filters()));
            return kept.into_iter().map(|filter| vec![filter]).collect();
        }
        (Geometry::Linear(linear), _) => all(linear.rows).into_iter().map(|row| vec![row]).collect::<Vec<_>>(),
        (Geometry::Conv2d(conv), kind) => {
            let (map, count) = if kind == TensorKind::Input {
                (&sampling.channels, conv.in_channels)
            } else {
                (&sampling.grad_channels, conv.out_channels)
            };
            let kept = map.get(&layer.name).cloned().unwrap_or_else(|| all(count));
            kept.into_iter().map(|channel| vec![channel]).collect()
        }
    };
    let with_sample = |&sample: &u32| inner.iter().map(move |key| [vec![sample], key.clone()].concat());
    samples.iter().flat_map(with_sample).collect()
}
