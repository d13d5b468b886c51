//! Tests that written data is read back, bit for bit.

mod common;

use common::{KINDS, keys, step, value};
use half::f16;
use mercury_trace::geometry::{Conv2d, Geometry, Linear, MAX_DIMENSION, MAX_MACS, Matmul};
use mercury_trace::layers::{self, Layer};
use mercury_trace::manifest::{CapturedStep, Dataset, Framework, Manifest, Model, SCHEMA_VERSION, Sampling, Training};
use mercury_trace::steps::{self, Step};
use mercury_trace::tensor::{Dtype, TensorKind, TensorShape};
use mercury_trace::{Trace, TraceWriter};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;
use std::collections::BTreeMap;

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Draws one axis of a convolution: input, kernel, stride, padding and dilation. The kernel does
/// not always reach all padding.
fn axis(extra: u32) -> impl Strategy<Value = [u32; 5]> {
    (0..extra, 1..5u32, 1..5u32, 0..4u32, 1..4u32).prop_map(|(extra, kernel, stride, padding, dilation)| {
        let reach = dilation * (kernel - 1) + 1;
        [reach.saturating_sub(2 * padding).max(1) + extra, kernel, stride, padding, dilation]
    })
}

fn geometry(size: u32) -> impl Strategy<Value = Geometry> {
    let channels = (1..4u32, 1..size, 1..size);
    let conv = (axis(size), axis(size), channels).prop_map(|(y, x, (groups, inputs, outputs))| {
        let [input, kernel, stride, padding, dilation] = [0, 1, 2, 3, 4].map(|i| [y[i], x[i]]);
        let (in_channels, out_channels) = (groups * inputs, groups * outputs);
        Geometry::Conv2d(Conv2d { in_channels, out_channels, input, kernel, stride, padding, dilation, groups })
    });
    let linear = (1..size, 1..4 * size, 1..4 * size)
        .prop_map(|(rows, in_features, out_features)| Geometry::Linear(Linear { rows, in_features, out_features }));
    let attention = (1..4u32, 1..size, 1..size, 1..size)
        .prop_map(|(heads, rows, inner, columns)| Geometry::Matmul(Matmul { heads, rows, inner, columns }));
    prop_oneof![2 => conv, 1 => linear, 1 => attention]
}

/// Draws layers with different names.
fn model(size: u32, layers: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Layer>> {
    let names = ["fc", "features.0", "features.10", "FC", "_", "block-1.conv2.qkv", "7"];
    let names = Just(names.to_vec()).prop_shuffle();
    (names, vec((geometry(size), any::<bool>()), layers)).prop_map(|(names, layers)| {
        let layer = |(name, (geometry, input_grad)): (&str, _)| Layer {
            name: name.to_owned(),
            geometry,
            input_grad,
            weight_grad: !input_grad,
        };
        names.into_iter().zip(layers).map(layer).collect()
    })
}

/// Draws `None` (all are kept) or a selection of `0..all`.
fn selection(all: u32) -> impl Strategy<Value = Option<Vec<u32>>> {
    proptest::option::of(subsequence((0..all).collect::<Vec<u32>>(), 1..=all as usize))
}

/// Draws the kept channels, output channels and filters of each layer whose operation can be
/// sampled.
fn sampling(layers: &[Layer]) -> impl Strategy<Value = Sampling> + use<> {
    let names: Vec<String> = layers.iter().map(|layer| layer.name.clone()).collect();
    let choices: Vec<_> = layers
        .iter()
        .map(|layer| {
            let (inputs, filters) = (layer.geometry.inputs(), layer.geometry.filters());
            let planes = matches!(layer.geometry, Geometry::Conv2d(_));
            let weights = !matches!(layer.geometry, Geometry::Matmul(_));
            (selection(inputs), selection(filters), selection(filters))
                .prop_map(move |(x, dy, w)| [x.filter(|_| planes), dy.filter(|_| planes), w.filter(|_| weights)])
        })
        .collect();
    choices.prop_map(move |choices| {
        let map = |which: usize| -> BTreeMap<String, Vec<u32>> {
            let named = names.iter().zip(&choices);
            named.filter_map(|(name, kept)| Some((name.clone(), kept[which].clone()?))).collect()
        };
        Sampling { channels: map(0), grad_channels: map(1), filters: map(2), ..Sampling::default() }
    })
}

/// Draws a finite `f64` of any kind.
fn finite() -> impl Strategy<Value = f64> {
    use proptest::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO
}

fn any_manifest(batch_size: u32, sampling: Sampling) -> impl Strategy<Value = Manifest> {
    let text = || ".{0,12}";
    let texts = (text(), text(), text(), text(), proptest::collection::btree_map(text(), text(), 0..3));
    let counts = (any::<[u64; 5]>(), any::<[u32; 4]>(), prop_oneof![Just(Dtype::F32), Just(Dtype::F16)]);
    let rates = ([finite(), finite(), finite()], proptest::option::of(0..=batch_size));
    let origin = (proptest::option::of("[a-zé0-9 ,.=]{0,20}x"), proptest::option::of(".{0,30}"));
    (texts, origin, counts, rates).prop_map(
        move |((created_by, model, dataset, device, versions), (label, command), counts, (rates, samples))| {
            let ([parameters, train_samples, validation_samples, seed, steps], sizes, dtype) = counts;
            let [channels, rows, columns, classes] = sizes;
            let [learning_rate, momentum, weight_decay] = rates;
            let sampling = Sampling { samples, dtype, ..sampling.clone() };
            Manifest {
                schema_version: SCHEMA_VERSION,
                framework: command.clone().map(|name| Framework { name, version: created_by.clone() }),
                created_by,
                label,
                command,
                model: Model { name: model, parameters, input: vec![channels, rows, columns], classes },
                dataset: Dataset { name: dataset, train_samples, validation_samples, description: versions.clone() },
                seed,
                training: Training {
                    steps,
                    batch_size,
                    learning_rate,
                    momentum,
                    weight_decay,
                    settings: versions.clone(),
                    validation_accuracy: None,
                },
                versions,
                device,
                sampling,
                captured: vec![],
                complete: false,
            }
        },
    )
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    use proptest::num::f64::ANY;
    let step = (any::<[u64; 2]>(), [ANY, ANY, ANY, ANY], any::<bool>()).prop_map(
        |([step, epoch], [loss, accuracy, learning_rate, seconds], captured)| Step {
            step,
            epoch,
            loss,
            accuracy,
            learning_rate,
            seconds,
            captured,
        },
    );
    // Steps must ascend.
    vec(step, 0..20).prop_map(|mut steps| {
        steps.sort_by_key(|step| step.step);
        steps.dedup_by_key(|step| step.step);
        steps
    })
}

/// Converts the numbers of steps to bits, so that a diverged training's NaN can be compared.
fn step_bits(steps: &[Step]) -> Vec<([u64; 6], bool)> {
    let floats = |step: &Step| [step.loss, step.accuracy, step.learning_rate, step.seconds].map(f64::to_bits);
    steps.iter().map(|s| ([&[s.step, s.epoch], &floats(s)[..]].concat().try_into().unwrap(), s.captured)).collect()
}

/// The content of a trace; the seed determines its values.
#[derive(Debug, Clone)]
struct TracePlan {
    layers: Vec<Layer>,
    manifest: Manifest,
    /// Step, samples, and the kinds of tensors that are written of each layer.
    captured: Vec<(u64, Vec<u32>, Vec<[bool; 3]>)>,
    steps: Vec<Step>,
    validation_accuracy: Option<f64>,
    seed: u64,
}

fn plan() -> impl Strategy<Value = TracePlan> {
    let layers = model(7, 1..4);
    (layers, 1..6u32).prop_flat_map(|(layers, batch_size)| {
        let batch: Vec<u32> = (0..batch_size).collect();
        let tensors = vec(any::<[bool; 3]>(), layers.len());
        let step = (1..1_000_000_000u64, subsequence(batch, 1..=batch_size as usize), tensors);
        let manifest = sampling(&layers).prop_flat_map(move |sampling| any_manifest(batch_size, sampling));
        let ends = (any_steps(), proptest::option::of(finite()), any::<u64>());
        (Just(layers), manifest, vec(step, 1..4), ends).prop_map(|(layers, manifest, mut captured, ends)| {
            let (steps, validation_accuracy, seed) = ends;
            captured[0].0 -= 1;
            for i in 1..captured.len() {
                captured[i].0 += captured[i - 1].0;
            }
            TracePlan { layers, manifest, captured, steps, validation_accuracy, seed }
        })
    })
}

/// Rounds a value to the data type.
fn round_to(dtype: Dtype, value: f32) -> f32 {
    match dtype {
        Dtype::F32 => value,
        Dtype::F16 => f16::from_f32(value.clamp(-65504.0, 65504.0)).to_f32(),
    }
}

/// Creates the rows of a tensor; all tensors of a plan differ.
fn create_rows(plan: &TracePlan, step: usize, layer: usize, kind: TensorKind) -> Vec<(Vec<u32>, Vec<f32>)> {
    let width = TensorShape::from_geometry(&plan.layers[layer].geometry, kind, Dtype::F32).width as u64;
    let seed = plan.seed.wrapping_add((step * 100 + layer * 10 + kind as usize) as u64);
    let keys = keys(&plan.layers[layer], kind, &plan.captured[step].1, &plan.manifest.sampling);
    let dtype = plan.manifest.sampling.dtype;
    let row = |(row, keys)| (keys, (row * width..(row + 1) * width).map(|i| round_to(dtype, value(seed, i))).collect());
    (0u64..).zip(keys).map(row).collect()
}

fn write(plan: &TracePlan, dir: &std::path::Path) -> Manifest {
    let mut writer = TraceWriter::create(dir, plan.manifest.clone(), &plan.layers).unwrap();
    for (index, (step, samples, wanted)) in plan.captured.iter().enumerate() {
        let mut tensors = Vec::new();
        for (layer, wanted) in wanted.iter().enumerate() {
            for kind in KINDS.into_iter().filter(|&kind| wanted[kind as usize]) {
                let rows = create_rows(plan, index, layer, kind);
                let rows = rows.iter().map(|(keys, values)| (keys, values.as_slice()));
                tensors.push(writer.files().write(*step, &plan.layers[layer], kind, rows).unwrap());
            }
        }
        let dataset_indices = samples.iter().map(|&sample| u64::MAX - u64::from(sample)).collect();
        let captured = CapturedStep { step: *step, samples: samples.clone(), dataset_indices, tensors };
        writer.commit(captured, &[]).unwrap();
        assert_eq!(Trace::open(dir).unwrap().manifest(), writer.manifest(), "readable after every commit");
    }
    writer.finish(plan.validation_accuracy, &plan.steps, &[]).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_written_trace_is_read_back(plan in plan()) {
        let dir = tempfile::tempdir().unwrap();
        let manifest = write(&plan, dir.path());
        let trace = Trace::open(dir.path()).unwrap();
        prop_assert_eq!(trace.manifest(), &manifest);
        let expected = Manifest {
            captured: manifest.captured.clone(),
            complete: true,
            training: Training { validation_accuracy: plan.validation_accuracy, ..plan.manifest.training.clone() },
            ..plan.manifest.clone()
        };
        prop_assert_eq!(&manifest, &expected);
        prop_assert_eq!(trace.layers(), &plan.layers);
        prop_assert_eq!(step_bits(&trace.steps().unwrap()), step_bits(&plan.steps));

        prop_assert_eq!(manifest.captured.len(), plan.captured.len());
        for (index, (step, plan_step)) in manifest.captured.iter().zip(&plan.captured).enumerate() {
            prop_assert_eq!((step.step, &step.samples), (plan_step.0, &plan_step.1));
            for (number, layer) in trace.layers().iter().enumerate() {
                for kind in KINDS {
                    if !plan_step.2[number][kind as usize] {
                        prop_assert_eq!(trace.file(step, &layer.name, kind), None);
                        let error = trace.tensor(step, layer, kind).unwrap_err().to_string();
                        prop_assert!(error.contains("was not captured"), "{}", error);
                        continue;
                    }
                    let expected = create_rows(&plan, index, number, kind);
                    let file = trace.file(step, &layer.name, kind).unwrap();
                    let size = std::fs::metadata(trace.path(step, &layer.name, kind)).unwrap().len();
                    prop_assert_eq!((file.rows, file.bytes), (expected.len() as u64, size));

                    let tensor = trace.tensor(step, layer, kind).unwrap();
                    prop_assert_eq!(tensor.rows(), expected.len());
                    for (row, (keys, values)) in expected.iter().enumerate() {
                        let found: Vec<u32> = tensor.keys.iter().map(|column| column[row]).collect();
                        prop_assert_eq!(&found, keys);
                        prop_assert_eq!(bits(tensor.row(row)), bits(values));
                    }
                    let kept: Vec<u32> = match (&layer.geometry, kind) {
                        (Geometry::Conv2d(_) | Geometry::Linear(_), TensorKind::Weight) => tensor.distinct(0),
                        (Geometry::Conv2d(_), _) => tensor.distinct(1),
                        _ => trace.kept(layer, kind),
                    };
                    prop_assert_eq!(trace.kept(layer, kind), kept);

                    let streamed: Vec<_> = trace.reader(step, layer, kind).unwrap().map(Result::unwrap).collect();
                    let values: Vec<f32> = streamed.iter().flat_map(|part| part.values.iter().copied()).collect();
                    prop_assert_eq!(bits(&values), bits(&tensor.values));
                    for (key, column) in tensor.keys.iter().enumerate() {
                        let parts: Vec<u32> = streamed.iter().flat_map(|part| part.keys[key].iter().copied()).collect();
                        prop_assert_eq!(&parts, column);
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn layers_come_back_in_order(layers in model(300, 0..7)) {
        let dir = tempfile::tempdir().unwrap();
        layers::write(dir.path(), &layers).unwrap();
        prop_assert_eq!(layers::read(dir.path()).unwrap(), layers);
    }
}

#[test]
fn the_largest_dimensions_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let layer =
        |(name, geometry): (&str, _)| Layer { name: name.to_owned(), geometry, input_grad: true, weight_grad: true };
    let conv = Conv2d {
        in_channels: 1,
        out_channels: MAX_DIMENSION,
        input: [MAX_DIMENSION, 1],
        kernel: [1, 1],
        stride: [MAX_DIMENSION, 1],
        padding: [0, 0],
        dilation: [MAX_DIMENSION, 1],
        groups: 1,
    };
    // The maximum number of multiply-accumulates of a layer.
    let most = u32::try_from(MAX_MACS / u128::from(MAX_DIMENSION)).unwrap();
    let linear = Linear { rows: MAX_DIMENSION, in_features: 1, out_features: most };
    let attention = Matmul { heads: 1, rows: 1, inner: MAX_DIMENSION, columns: most };
    let geometries = [Geometry::Conv2d(conv), Geometry::Linear(linear), Geometry::Matmul(attention)];
    let layers: Vec<Layer> = ["a", "b", "c"].into_iter().zip(geometries).map(layer).collect();
    layers::write(dir.path(), &layers).unwrap();
    assert_eq!(layers::read(dir.path()).unwrap(), layers);
}

#[test]
fn steps_are_replaced_whole() {
    let dir = tempfile::tempdir().unwrap();
    for count in [5, 2, 0] {
        let written: Vec<Step> = (0..count).map(step).collect();
        steps::write(dir.path(), &written).unwrap();
        assert_eq!(steps::read(dir.path()).unwrap(), written);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
