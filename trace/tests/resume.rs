//! Tests of resumed traces, and of the range of f16.

mod common;

use common::manifest;
use mercury_trace::evaluations::Evaluation;
use mercury_trace::geometry::{Geometry, Linear};
use mercury_trace::layers::Layer;
use mercury_trace::manifest::{CapturedStep, Sampling};
use mercury_trace::steps::Step;
use mercury_trace::tensor::{Dtype, TensorKind};
use mercury_trace::{Trace, TraceWriter};

#[test]
fn values_beyond_f16_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let linear = Geometry::Linear(Linear { rows: 1, in_features: 2, out_features: 1 });
    let layers = [Layer { name: "fc".into(), geometry: linear, input_grad: false, weight_grad: true }];
    let sampling = Sampling { dtype: Dtype::F16, ..Sampling::default() };
    let writer = TraceWriter::create(dir.path(), manifest(1, sampling), &layers).unwrap();
    let error = writer.files().write(0, &layers[0], TensorKind::Input, [([0, 0], &[1.0, -70_000.0][..])]).unwrap_err();
    assert!(error.to_string().contains("row 0 holds -70000, beyond what f16 can hold"), "{error}");
    assert!(!dir.path().join("tensors/step=000000/layer=fc/input.parquet").exists());
}

#[test]
fn a_resumed_trace_has_no_later_steps() {
    let dir = tempfile::tempdir().unwrap();
    let linear = Geometry::Linear(Linear { rows: 1, in_features: 2, out_features: 1 });
    let layers = [Layer { name: "fc".into(), geometry: linear, input_grad: false, weight_grad: true }];
    let mut writer = TraceWriter::create(dir.path(), manifest(1, Sampling::default()), &layers).unwrap();
    let steps: Vec<Step> = (0..4).map(common::step).collect();
    for step in [0, 2] {
        let tensors =
            vec![writer.files().write(step, &layers[0], TensorKind::Input, [([0, 0], &[1.0, 2.0][..])]).unwrap()];
        writer.commit(CapturedStep { step, samples: vec![0], dataset_indices: vec![0], tensors }, &steps).unwrap();
    }
    let evaluation = |steps_done| Evaluation { steps_done, metric: "top1".into(), value: 0.5, samples: 10 };
    writer.log(&steps, &[evaluation(2), evaluation(4)]).unwrap();
    std::fs::write(dir.path().join(".x.partial"), "").unwrap();

    let error = TraceWriter::resume(dir.path(), 2).err().unwrap().to_string();
    assert!(error.contains("another run is writing here"), "{error}");
    drop(writer);
    let error = TraceWriter::resume(dir.path(), 5).err().unwrap().to_string();
    assert!(error.contains("steps.parquet holds 4 of the 5 steps"), "{error}");
    let (writer, kept, evaluations) = TraceWriter::resume(dir.path(), 2).unwrap();
    assert_eq!((kept.as_slice(), evaluations), (&steps[..2], vec![evaluation(2)]));
    assert_eq!(Trace::open(dir.path()).unwrap().manifest(), writer.manifest());
    assert_eq!(writer.manifest().captured.iter().map(|step| step.step).collect::<Vec<_>>(), [0]);
    assert!(!dir.path().join("tensors/step=000002").exists() && !dir.path().join(".x.partial").exists());

    writer.finish(None, &kept, &[]).unwrap();
    let error = TraceWriter::resume(dir.path(), 2).err().unwrap().to_string();
    assert!(error.contains("nothing to resume"), "{error}");
}
