//! A small valid trace, which tests read and break.
#![allow(dead_code, reason = "each test file uses its part")]

use mercury_trace::TraceWriter;
use mercury_trace::geometry::{Conv2d, Geometry, Linear, Matmul};
use mercury_trace::layers::Layer;
use mercury_trace::manifest::{CapturedStep, Dataset, Manifest, Model, SCHEMA_VERSION, Sampling, Training};
use mercury_trace::steps::Step;
use mercury_trace::tensor::{Dtype, TensorKind, TensorShape};
use std::collections::BTreeMap;

/// All kinds of tensors of a layer.
pub const KINDS: [TensorKind; 3] = [TensorKind::Input, TensorKind::GradOutput, TensorKind::Weight];

/// The convolution of [`layers`].
pub const CONV: &str = "features.0";

/// The linear layer of [`layers`].
pub const FC: &str = "fc";

/// The attention product of [`layers`].
pub const ATTENTION: &str = "attention.qk";

/// The captured steps of [`small`].
pub const CAPTURED: [u64; 2] = [0, 5];

/// Creates a layer of each operation.
pub fn layers() -> Vec<Layer> {
    let conv = Conv2d {
        in_channels: 4,
        out_channels: 6,
        input: [5, 4],
        kernel: [3, 2],
        stride: [2, 1],
        padding: [1, 0],
        dilation: [1, 2],
        groups: 2,
    };
    let geometries = [
        (CONV, Geometry::Conv2d(conv)),
        (FC, Geometry::Linear(Linear { rows: 2, in_features: 7, out_features: 3 })),
        (ATTENTION, Geometry::Matmul(Matmul { heads: 2, rows: 3, inner: 4, columns: 5 })),
    ];
    geometries
        .map(|(name, geometry)| Layer { name: name.to_owned(), geometry, input_grad: name != CONV, weight_grad: true })
        .to_vec()
}

/// Keeps two channels of X, two of dY and three filters of the convolution, and all of other
/// layers.
pub fn sampling() -> Sampling {
    let kept = |indices: &[u32]| BTreeMap::from([(CONV.to_owned(), indices.to_vec())]);
    Sampling {
        samples: Some(2),
        channels: kept(&[1, 3]),
        grad_channels: kept(&[0, 5]),
        filters: kept(&[0, 2, 4]),
        ..Sampling::default()
    }
}

/// Creates a manifest without captured steps.
pub fn manifest(batch_size: u32, sampling: Sampling) -> Manifest {
    Manifest {
        schema_version: SCHEMA_VERSION,
        created_by: "the tests".into(),
        label: None,
        command: None,
        framework: None,
        model: Model { name: "tiny".into(), parameters: 63, input: vec![4, 5, 4], classes: 3 },
        dataset: Dataset {
            name: "none".into(),
            train_samples: 100,
            validation_samples: 10,
            description: BTreeMap::default(),
        },
        seed: 7,
        training: Training {
            steps: 6,
            batch_size,
            learning_rate: 0.05,
            momentum: 0.9,
            weight_decay: 5e-4,
            settings: BTreeMap::default(),
            validation_accuracy: None,
        },
        versions: BTreeMap::from([("libtorch".to_owned(), "2.13.0".to_owned())]),
        device: "cpu".into(),
        sampling,
        captured: vec![],
        complete: false,
    }
}

/// Creates a step of a training that converges.
pub fn step(step: u64) -> Step {
    let loss = 2.3 / (step + 1) as f64;
    let captured = CAPTURED.contains(&step);
    Step { step, epoch: step / 4, loss, accuracy: 1.0 - loss / 2.5, learning_rate: 0.05, seconds: 0.01, captured }
}

/// Computes a finite number from seed and index: any bits, and often a special value.
pub fn value(seed: u64, index: u64) -> f32 {
    const SPECIAL_VALUES: [u32; 8] = [
        0x0000_0000, // 0
        0x8000_0000, // -0
        0x0000_0001, // the smallest denormal
        0x807f_ffff, // the largest denormal, negative
        0x0080_0000, // the smallest normal
        0x7f7f_ffff, // the largest
        0xff7f_ffff, // the largest, negative
        0x3f80_0001, // just above 1
    ];
    // SplitMix64.
    let mut bits = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    let value = f32::from_bits((bits >> 32) as u32);
    if !bits.is_multiple_of(3) && value.is_finite() {
        value
    } else {
        f32::from_bits(SPECIAL_VALUES[(bits >> 8) as usize % 8])
    }
}

/// Lists the keys of every row of a tensor, independently of the crate's code.
pub fn keys(layer: &Layer, kind: TensorKind, samples: &[u32], sampling: &Sampling) -> Vec<Vec<u32>> {
    let kept = |map: &BTreeMap<String, Vec<u32>>, all: u32| {
        map.get(&layer.name).cloned().unwrap_or_else(|| (0..all).collect::<Vec<u32>>())
    };
    let filters = || kept(&sampling.filters, layer.geometry.filters());
    let columns: Vec<Vec<u32>> = match (&layer.geometry, kind) {
        (Geometry::Conv2d(conv), TensorKind::Input) => {
            vec![samples.to_vec(), kept(&sampling.channels, conv.in_channels)]
        }
        (Geometry::Conv2d(conv), TensorKind::GradOutput) => {
            vec![samples.to_vec(), kept(&sampling.grad_channels, conv.out_channels)]
        }
        (Geometry::Conv2d(_) | Geometry::Linear(_), TensorKind::Weight) => vec![filters()],
        (Geometry::Linear(linear), _) => vec![samples.to_vec(), (0..linear.rows).collect()],
        (Geometry::Matmul(matmul), kind) => {
            let rows = if kind == TensorKind::Weight { matmul.columns } else { matmul.rows };
            vec![samples.to_vec(), (0..matmul.heads).collect(), (0..rows).collect()]
        }
    };
    columns.iter().fold(vec![vec![]], |outer, column| {
        outer.iter().flat_map(|row| column.iter().map(move |&key| [row.as_slice(), &[key]].concat())).collect()
    })
}

/// Creates a trace of [`layers`] with six steps, of which [`CAPTURED`] are captured.
pub fn small() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (layers, sampling) = (layers(), sampling());
    let mut writer = TraceWriter::create(dir.path(), manifest(4, sampling.clone()), &layers).unwrap();
    let steps: Vec<Step> = (0..6).map(step).collect();
    for number in CAPTURED {
        let samples = vec![1, 3];
        let mut tensors = Vec::new();
        for layer in &layers {
            for kind in KINDS {
                let keys = keys(layer, kind, &samples, &sampling);
                let width = TensorShape::from_geometry(&layer.geometry, kind, Dtype::F32).width;
                let values: Vec<f32> = (0..keys.len() * width).map(|i| (i as f32).sin() + number as f32).collect();
                let rows = keys.iter().zip(values.chunks(width));
                tensors.push(writer.files().write(number, layer, kind, rows).unwrap());
            }
        }
        let captured = CapturedStep { step: number, samples, dataset_indices: vec![42, 17], tensors };
        writer.commit(captured, &steps[..=number as usize]).unwrap();
    }
    writer.finish(Some(0.5), &steps, &[]).unwrap();
    dir
}
