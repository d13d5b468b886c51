//! Writes a synthetic trace of any size for measurements.
//!
//! It has the forward pass of a 3x3 convolution over 64 channels of 112x112. Planes are smooth and
//! half of their values are 0, as from a ReLU. 8 of 64 filters are kept.
//!
//!     cargo run --release --workspace --example synthetic -- FOLDER SAMPLES STEPS

use mercury_trace::TraceWriter;
use mercury_trace::geometry::{Conv2d, Geometry, Pass};
use mercury_trace::layers::Layer;
use mercury_trace::manifest::{CapturedStep, Dataset, Manifest, Model, SCHEMA_VERSION, Sampling, Training};
use mercury_trace::steps::Step;
use mercury_trace::tensor::TensorKind;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

const CHANNELS: u32 = 64;
const FILTERS: u32 = 64;
const KEPT_FILTERS: u32 = 8;
const SIZE: u32 = 112;
const LAYER: &str = "conv";

/// Draws a number between -1 and 1 (xorshift).
fn random(state: &mut u64) -> f32 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 40) as f32 / 8_388_608.0 - 1.0
}

/// Draws a plane: a wave with a little noise, cut off at 0.
fn plane(state: &mut u64) -> Vec<f32> {
    let mut wave = || {
        let (step, phase) = (0.03 + 0.1 * random(state).abs(), 3.0 * random(state));
        (0..SIZE).map(|at| (step * at as f32 + phase).sin()).collect::<Vec<f32>>()
    };
    let (rows, columns) = (wave(), wave());
    let pairs = rows.iter().flat_map(|row| columns.iter().map(move |column| row * column));
    pairs.map(|value| (value + 0.1 * random(state)).max(0.0)).collect()
}

fn manifest(samples: u32, steps: u64) -> Manifest {
    Manifest {
        schema_version: SCHEMA_VERSION,
        created_by: "synthetic".to_owned(),
        label: None,
        command: None,
        framework: None,
        model: Model {
            name: "synthetic".to_owned(),
            parameters: u64::from(CHANNELS * FILTERS * 9),
            input: vec![CHANNELS, SIZE, SIZE],
            classes: 1,
        },
        dataset: Dataset {
            name: "waves".to_owned(),
            train_samples: u64::from(samples),
            validation_samples: 0,
            description: BTreeMap::default(),
        },
        seed: 1,
        training: Training {
            steps,
            batch_size: samples,
            learning_rate: 0.1,
            momentum: 0.0,
            weight_decay: 0.0,
            settings: BTreeMap::default(),
            validation_accuracy: None,
        },
        versions: BTreeMap::default(),
        device: "cpu".to_owned(),
        sampling: Sampling {
            passes: vec![Pass::Forward],
            filters: [(LAYER.to_owned(), (0..KEPT_FILTERS).collect())].into(),
            ..Sampling::default()
        },
        captured: Vec::new(),
        complete: false,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, samples, steps] = &arguments[..] else {
        return Err("arguments: FOLDER SAMPLES STEPS".into());
    };
    let (samples, steps): (u32, u64) = (samples.parse()?, steps.parse()?);
    let geometry = Geometry::Conv2d(Conv2d {
        in_channels: CHANNELS,
        out_channels: FILTERS,
        input: [SIZE; 2],
        kernel: [3; 2],
        stride: [1; 2],
        padding: [1; 2],
        dilation: [1; 2],
        groups: 1,
    });
    let layers = [Layer { name: LAYER.to_owned(), geometry, input_grad: false, weight_grad: true }];
    let mut writer = TraceWriter::create(Path::new(dir), manifest(samples, steps), &layers)?;
    let mut state = 1;
    let mut done = Vec::new();
    for step in 0..steps {
        // Eight samples repeat; they are too far apart for zstd to find the repetition.
        let planes: Vec<Vec<f32>> = (0..8 * CHANNELS).map(|_| plane(&mut state)).collect();
        let keys = (0..samples).flat_map(|sample| (0..CHANNELS).map(move |channel| [sample, channel]));
        let rows = keys.zip(planes.iter().map(Vec::as_slice).cycle());
        let input = writer.files().write(step, &layers[0], TensorKind::Input, rows)?;
        let weights: Vec<f32> = (0..CHANNELS * 9 * KEPT_FILTERS).map(|_| random(&mut state)).collect();
        let rows = (0..KEPT_FILTERS).map(|filter| [filter]).zip(weights.chunks(CHANNELS as usize * 9));
        let weight = writer.files().write(step, &layers[0], TensorKind::Weight, rows)?;
        done.push(Step { step, epoch: 0, loss: 1.0, accuracy: 0.0, learning_rate: 0.1, seconds: 0.0, captured: true });
        let dataset_indices = (0..u64::from(samples)).collect();
        let tensors = vec![input, weight];
        writer.commit(CapturedStep { step, samples: (0..samples).collect(), dataset_indices, tensors }, &done)?;
    }
    writer.finish(None, &done, &[])?;
    Ok(())
}
