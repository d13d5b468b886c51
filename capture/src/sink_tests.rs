//! Tests of the keeper with events in unusual orders.

use super::*;
use mercury_trace::Trace;
use mercury_trace::geometry::{Geometry, Linear};
use mercury_trace::layers::Layer;
use mercury_trace::manifest::{Dataset, Model, SCHEMA_VERSION, Sampling, Training};
use std::path::Path;

fn writer(dir: &Path) -> TraceWriter {
    let training = Training {
        steps: 9,
        batch_size: 1,
        learning_rate: 0.1,
        momentum: 0.0,
        weight_decay: 0.0,
        settings: BTreeMap::new(),
        validation_accuracy: None,
    };
    let manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        created_by: "a test".into(),
        label: None,
        command: None,
        framework: None,
        model: Model { name: "tiny".into(), parameters: 2, input: vec![2], classes: 1 },
        dataset: Dataset { name: "none".into(), train_samples: 1, validation_samples: 0, description: BTreeMap::new() },
        seed: 1,
        training,
        versions: BTreeMap::new(),
        device: "cpu".into(),
        sampling: Sampling::default(),
        captured: vec![],
        complete: false,
    };
    let linear = Geometry::Linear(Linear { rows: 1, in_features: 2, out_features: 1 });
    TraceWriter::create(
        dir,
        manifest,
        &[Layer { name: "fc".into(), geometry: linear, input_grad: false, weight_grad: true }],
    )
    .unwrap()
}

fn row(step: u64) -> Event {
    Event::Step(Step { step, epoch: 0, loss: 1.0, accuracy: 0.0, learning_rate: 0.1, seconds: 0.0, captured: true })
}

fn captured(step: u64) -> Event {
    let step = CapturedStep { step, samples: vec![0], dataset_indices: vec![0], tensors: vec![] };
    Event::Captured { step, files: 1 }
}

/// Runs the keeper on these events; returns its trace and the failures it reported.
///
/// Files of steps below 3 are written, those of later steps fail.
fn run_keeper(dir: &Path, events: impl FnOnce(&dyn Fn(u64) -> Event) -> Vec<Event>) -> (Trace, Vec<TraceError>) {
    let writer = writer(dir);
    let files = writer.files().clone();
    let layer = writer.layers()[0].clone();
    let written = move |step: u64| {
        let values: &[f32] = if step < 3 { &[1.0, 2.0] } else { &[1.0, f32::NAN] };
        let result = files.write(step, &layer, TensorKind::Input, [([0, 0], values)]);
        Event::Written { step, index: 0, result }
    };
    let (sender, inbox) = channel();
    for event in events(&written) {
        sender.send(event).unwrap();
    }
    drop(sender);
    let (reports, failures) = channel();
    let (log, pending) = (Log::default(), BTreeMap::new());
    Keeper { writer, log, pending, failures: reports }.run(&inbox);
    (Trace::open(dir).unwrap(), failures.iter().collect())
}

fn steps(trace: &Trace) -> (Vec<u64>, Vec<u64>) {
    let listed = trace.manifest().captured.iter().map(|step| step.step).collect();
    let rows = trace.steps().unwrap();
    (listed, rows.iter().filter(|row| row.captured).map(|row| row.step).collect())
}

#[test]
fn steps_are_committed_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (trace, failures) = run_keeper(dir.path(), |written| {
        vec![captured(0), row(0), captured(1), written(1), row(1), captured(2), row(2), written(2), written(0)]
    });
    assert_eq!(steps(&trace), (vec![0, 1, 2], vec![0, 1, 2]));
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn a_step_that_cannot_be_written_is_not_in_the_trace() {
    let dir = tempfile::tempdir().unwrap();
    let (trace, failures) = run_keeper(dir.path(), |written| {
        vec![captured(1), row(1), written(1), written(3), captured(3), row(3), row(4)]
    });
    assert_eq!(steps(&trace), (vec![1], vec![1]));
    assert_eq!(trace.steps().unwrap().len(), 3);
    assert!(!dir.path().join("tensors/step=000003").exists());
    let error = failures[0].to_string();
    assert!(error.contains("row 0 holds NaN"), "{error}");
}

#[test]
fn a_step_without_all_files_at_the_end_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (trace, _) = run_keeper(dir.path(), |written| vec![written(2), row(2), captured(2), row(3), written(0)]);
    assert_eq!(steps(&trace), (vec![2], vec![2]));
    assert!(!dir.path().join("tensors/step=000000").exists());
}
