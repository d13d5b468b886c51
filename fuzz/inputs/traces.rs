//! Fuzz inputs of traces. Each function writes bytes to a file and reads it; errors are fine,
//! panics are not.

#![allow(dead_code, reason = "each fuzz target uses one of these")]

use mercury_trace::geometry::{Conv2d, Geometry, Linear};
use mercury_trace::layers::Layer;
use mercury_trace::manifest::{CapturedStep, Dataset, Manifest, Model, SCHEMA_VERSION, Sampling, Training};
use mercury_trace::steps::Step;
use mercury_trace::tensor::TensorKind;
use mercury_trace::{Trace, TraceError, TraceWriter};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const SAMPLES: u32 = 3;

fn layers() -> Vec<Layer> {
    let conv = Conv2d {
        in_channels: 2,
        out_channels: 2,
        input: [4; 2],
        kernel: [3; 2],
        stride: [1; 2],
        padding: [1; 2],
        dilation: [1; 2],
        groups: 1,
    };
    let linear = Linear { rows: 1, in_features: 5, out_features: 2 };
    [("conv", Geometry::Conv2d(conv)), ("fc", Geometry::Linear(linear))]
        .map(|(name, geometry)| Layer { name: name.to_owned(), geometry, input_grad: true, weight_grad: true })
        .into()
}

/// Writes a small trace: X of a convolution and of a linear layer in one step.
pub fn write_trace(dir: &Path) {
    let manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        created_by: "a fuzzer".to_owned(),
        label: None,
        command: None,
        framework: None,
        model: Model { name: "small".to_owned(), parameters: 48, input: vec![2, 4, 4], classes: 2 },
        dataset: Dataset {
            name: "none".to_owned(),
            train_samples: 3,
            validation_samples: 0,
            description: BTreeMap::new(),
        },
        seed: 1,
        training: Training {
            steps: 1,
            batch_size: SAMPLES,
            learning_rate: 0.1,
            momentum: 0.0,
            weight_decay: 0.0,
            settings: BTreeMap::new(),
            validation_accuracy: None,
        },
        versions: BTreeMap::new(),
        device: "cpu".to_owned(),
        sampling: Sampling::default(),
        captured: Vec::new(),
        complete: false,
    };
    let layers: Vec<Layer> = layers();
    let mut writer = TraceWriter::create(dir, manifest, &layers).expect("a folder to write to");
    let values: Vec<f32> = (0..96u8).map(|i| f32::from(i % 7) - 3.0).collect();
    let planes = (0..SAMPLES).flat_map(|sample| [0, 1].map(|channel| [sample, channel])).zip(values.chunks(16));
    let rows = (0..SAMPLES).map(|sample| [sample, 0]).zip(values.chunks(5));
    let tensors = vec![
        writer.files().write(0, &layers[0], TensorKind::Input, planes).expect("room on the disk"),
        writer.files().write(0, &layers[1], TensorKind::Input, rows).expect("room on the disk"),
    ];
    let step = Step { step: 0, epoch: 0, loss: 1.0, accuracy: 0.5, learning_rate: 0.1, seconds: 1.0, captured: true };
    let samples = (0..SAMPLES).collect();
    let captured = CapturedStep { step: 0, samples, dataset_indices: vec![0; SAMPLES as usize], tensors };
    writer.commit(captured, &[step]).expect("room on the disk");
    writer.finish(None, &[step], &[]).expect("room on the disk");
}

/// The path of the trace's first tensor.
pub const TENSOR: &str = "tensors/step=000000/layer=conv/input.parquet";

/// Runs `work` in a folder of this thread, which contains only a trace in `trace`.
pub fn with_folder(work: impl FnOnce(&Path)) {
    thread_local! {
        static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
    }
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| {
            let folder = tempfile::tempdir().expect("a folder to write to");
            write_trace(&folder.path().join("trace"));
            folder
        });
        work(folder.path());
    });
}

pub fn write(path: &Path, bytes: &[u8]) {
    // Truncating the old file would make ext4 write the new one to disk at once.
    let _ = fs::remove_file(path);
    fs::write(path, bytes).expect("room on the disk");
}

/// Reads all tensors of a trace, whole and sample by sample; both results must be equal.
fn read_all(trace: &Trace) {
    for step in &trace.manifest().captured {
        for file in &step.tensors {
            let layer = trace.layers().iter().find(|layer| layer.name == file.layer).expect("a layer of the trace");
            let whole = trace.tensor(step, layer, file.kind);
            if file.kind == TensorKind::Weight {
                continue;
            }
            let parts = trace.samples(step, layer, file.kind, 1).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            assert_eq!(whole.is_ok(), parts.is_ok(), "{:?} {:?}", whole.err(), parts.err());
            if let (Ok(whole), Ok(parts)) = (whole, parts) {
                let parts: Vec<u32> = parts.iter().flat_map(|part| &part.values).map(|value| value.to_bits()).collect();
                let whole: Vec<u32> = whole.values.iter().map(|value| value.to_bits()).collect();
                assert_eq!(whole, parts);
            }
        }
    }
}

fn verify(trace: &Trace) -> Result<(), TraceError> {
    trace.verify_tables()?;
    for step in &trace.manifest().captured {
        for file in &step.tensors {
            trace.verify_tensor(step, file)?;
        }
    }
    Ok(())
}

/// Reads a trace with these bytes as manifest.
pub fn manifest(bytes: &[u8]) {
    with_folder(|folder| {
        let trace = folder.join("trace");
        let path = trace.join("manifest.json");
        let before = fs::read(&path).expect("it was written");
        write(&path, bytes);
        if let Ok(opened) = Trace::open(&trace) {
            read_all(&opened);
            let _ = verify(&opened);
        }
        write(&path, &before);
    });
}

/// Reads a trace with these bytes as a tensor's file.
pub fn tensor(bytes: &[u8]) {
    with_folder(|folder| {
        let trace = folder.join("trace");
        let path = trace.join(TENSOR);
        let before = fs::read(&path).expect("it was written");
        write(&path, bytes);
        let trace = Trace::open(&trace).expect("its manifest is whole");
        read_all(&trace);
        // Only the original file has the right checksum.
        assert_eq!(verify(&trace).is_ok(), bytes == before);
        write(&path, &before);
    });
}
