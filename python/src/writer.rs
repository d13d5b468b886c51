//! Writes a trace from Python, by the threads that the tracer uses.

use crate::dlpack::copy_values;
use crate::raise;
use mercury_capture::rows::{self, list_keys};
use mercury_capture::sampling::{self, SamplingLimits};
use mercury_capture::sink::{Job, Log, Sink};
use mercury_trace::evaluations::Evaluation;
use mercury_trace::geometry::{Geometry, Pass};
use mercury_trace::layers::{Layer, is_layer_name};
use mercury_trace::manifest::{CapturedStep, Manifest, SCHEMA_VERSION, Sampling};
use mercury_trace::steps::Step;
use mercury_trace::tensor::{Dtype, TensorKind, TensorShape};
use mercury_trace::{TraceWriter, check_new_trace};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Parses a JSON text that the package makes.
fn parse<T: DeserializeOwned>(what: &str, text: &str) -> PyResult<T> {
    serde_json::from_str(text).map_err(|error| raise(format!("{what}: {error}")))
}

/// Parses layers, and refuses invalid names and sizes.
fn parse_layers(text: &str) -> PyResult<Vec<Layer>> {
    let layers: Vec<Layer> = parse("layers", text)?;
    for layer in &layers {
        if !is_layer_name(&layer.name) {
            let rule = "write letters, digits, _, - and inner dots, up to 200";
            return Err(raise(format!("layer {:?}: the name is invalid; {rule}", layer.name)));
        }
        layer.geometry.validate().map_err(|reason| raise(format!("layer {}: {reason}", layer.name)))?;
    }
    Ok(layers)
}

/// Writes a trace on other threads. After every step that was committed, the folder is a readable trace.
#[pyclass(frozen)]
pub struct CaptureWriter(Mutex<Writing>);

struct Writing {
    /// None after the end.
    sink: Option<Sink>,
    layers: Vec<Layer>,
    sampling: Sampling,
}

impl Writing {
    fn sink(&self) -> PyResult<&Sink> {
        self.sink.as_ref().ok_or_else(|| raise("the trace is closed"))
    }

    fn take_sink(&mut self) -> PyResult<Sink> {
        self.sink.take().ok_or_else(|| raise("the trace is closed"))
    }
}

impl CaptureWriter {
    fn start(writer: TraceWriter, log: Log) -> Self {
        let (layers, sampling) = (writer.layers().to_vec(), writer.manifest().sampling.clone());
        Self(Mutex::new(Writing { sink: Some(Sink::start(writer, log)), layers, sampling }))
    }

    /// Works while other Python threads run, so that none waits for this one with the interpreter in its hands.
    fn detached<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut Writing) -> PyResult<T> + Send) -> PyResult<T> {
        py.detach(|| work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

#[pymethods]
impl CaptureWriter {
    /// Starts a trace in a folder that is empty or missing, and locks it.
    ///
    /// `manifest` is the manifest as JSON, without `schema_version`, `captured` and `complete`.
    #[new]
    fn new(py: Python<'_>, folder: PathBuf, manifest: &str, layers: &str) -> PyResult<Self> {
        let mut fields: serde_json::Map<String, serde_json::Value> = parse("manifest", manifest)?;
        fields.insert("schema_version".into(), SCHEMA_VERSION.into());
        fields.insert("captured".into(), serde_json::Value::Array(Vec::new()));
        fields.insert("complete".into(), false.into());
        let manifest: Manifest =
            serde_json::from_value(fields.into()).map_err(|error| raise(format!("manifest: {error}")))?;
        let layers = parse_layers(layers)?;
        let writer = py.detach(|| TraceWriter::create(&folder, manifest, &layers)).map_err(raise)?;
        Ok(Self::start(writer, Log::default()))
    }

    /// Refuses a folder in which no trace can be started.
    #[staticmethod]
    fn check(folder: PathBuf) -> PyResult<()> {
        check_new_trace(&folder).map_err(raise)
    }

    /// Continues an incomplete trace from a training step on; removes that step and later ones.
    #[staticmethod]
    fn resume(py: Python<'_>, folder: PathBuf, from_step: u64) -> PyResult<Self> {
        let resumed = py.detach(|| TraceWriter::resume(&folder, from_step));
        let (writer, steps, evaluations) = resumed.map_err(raise)?;
        Ok(Self::start(writer, Log { steps, evaluations, ..Log::default() }))
    }

    /// The layers, as JSON.
    #[getter]
    fn layers(&self, py: Python<'_>) -> PyResult<String> {
        self.detached(py, |writing| Ok(serde_json::to_string(&writing.layers).expect("layers are plain data")))
    }

    /// The kept part of the layers, as JSON.
    #[getter]
    fn sampling(&self, py: Python<'_>) -> PyResult<String> {
        self.detached(py, |writing| Ok(serde_json::to_string(&writing.sampling).expect("sampling has string keys")))
    }

    /// Adds layers that earlier steps did not compute; `sampling` is the kept part of all layers.
    fn add_layers(&self, py: Python<'_>, layers: &str, sampling: &str) -> PyResult<()> {
        let layers = parse_layers(layers)?;
        let sampling: Sampling = parse("sampling", sampling)?;
        self.detached(py, |writing| {
            writing.layers.extend_from_slice(&layers);
            writing.sampling = sampling.clone();
            writing.sink()?.add_layers(layers, sampling);
            Ok(())
        })
    }

    /// Writes one tensor of a layer; waits while the queue is full.
    ///
    /// `values` is a contiguous CPU tensor of f32, f16 or bf16 that holds the kept rows in the order of their keys.
    #[expect(clippy::too_many_arguments, reason = "each is a part of the tensor's place")]
    fn write(
        &self,
        py: Python<'_>,
        step: u64,
        index: usize,
        layer: &str,
        kind: &str,
        samples: Vec<u32>,
        values: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let kind: TensorKind = parse("kind", &format!("{kind:?}"))?;
        let values = copy_values(values)?;
        self.detached(py, |writing| {
            let known = writing.layers.iter().find(|known| known.name == layer);
            let layer = known.ok_or_else(|| raise(format!("layer {layer}: is not a layer of this trace")))?.clone();
            let keys = list_keys(&layer, kind, &samples, &writing.sampling);
            let shape = TensorShape::from_geometry(&layer.geometry, kind, writing.sampling.dtype);
            let rows = keys.len() / shape.keys.len();
            if values.len() != rows * shape.width {
                let (name, kind, found) = (&layer.name, kind.name(), values.len());
                let reason = format!("{kind} has {found} values instead of {rows} rows of {}", shape.width);
                return Err(raise(format!("layer {name}: {reason}")));
            }
            writing.sink()?.write(Job { step, index, layer, kind, keys, values, rows });
            Ok(())
        })
    }

    /// Marks a step as captured, after its `files` tensors were written.
    fn mark_captured(
        &self,
        py: Python<'_>,
        step: u64,
        samples: Vec<u32>,
        dataset_indices: Vec<u64>,
        files: usize,
    ) -> PyResult<()> {
        let step = CapturedStep { step, samples, dataset_indices, tensors: Vec::new() };
        self.detached(py, |writing| {
            writing.sink()?.mark_captured(step, files);
            Ok(())
        })
    }

    /// Logs a training step.
    #[expect(clippy::too_many_arguments, reason = "each is a column of steps.parquet")]
    fn log_step(
        &self,
        py: Python<'_>,
        step: u64,
        epoch: u64,
        loss: f64,
        accuracy: f64,
        learning_rate: f64,
        seconds: f64,
    ) -> PyResult<()> {
        let row = Step { step, epoch, loss, accuracy, learning_rate, seconds, captured: false };
        self.detached(py, |writing| {
            writing.sink()?.log_step(row);
            Ok(())
        })
    }

    /// Logs results on validation data: tuples of steps done, metric, value and number of samples.
    fn log_evaluations(&self, py: Python<'_>, rows: Vec<(u64, String, f64, u64)>) -> PyResult<()> {
        let row = |(steps_done, metric, value, samples)| Evaluation { steps_done, metric, value, samples };
        let rows = rows.into_iter().map(row).collect();
        self.detached(py, |writing| {
            writing.sink()?.log_evaluations(rows);
            Ok(())
        })
    }

    /// Raises the first failure of writing since the last call.
    fn next_failure(&self, py: Python<'_>) -> PyResult<()> {
        self.detached(py, |writing| writing.sink()?.next_failure().map_or(Ok(()), |error| Err(raise(error))))
    }

    /// Waits until everything is on disk.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.detached(py, |writing| writing.sink()?.flush().map_err(raise))
    }

    /// Completes the trace; later calls fail.
    #[pyo3(signature = (accuracy=None))]
    fn finish(&self, py: Python<'_>, accuracy: Option<f64>) -> PyResult<()> {
        self.detached(py, |writing| writing.take_sink()?.finish(accuracy).map(drop).map_err(raise))
    }

    /// Ends without completing the trace, which stays readable.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.detached(py, |writing| {
            drop(writing.sink.take());
            Ok(())
        })
    }
}

/// Chooses the kept channels and filters of the layer with this index: lists, or None where all are kept.
#[pyfunction]
pub fn choose_kept<'py>(
    py: Python<'py>,
    seed: u64,
    index: usize,
    layer: &str,
    channels: Option<u32>,
    filters: Option<u32>,
) -> PyResult<Bound<'py, PyDict>> {
    let layer: Layer = parse("layer", layer)?;
    let limits = SamplingLimits { passes: Pass::ALL.to_vec(), dtype: Dtype::F32, samples: None, channels, filters };
    let kept = sampling::choose_layer(seed, &limits, index, &layer.geometry);
    let dict = PyDict::new(py);
    dict.set_item("channels", kept.channels)?;
    dict.set_item("grad_channels", kept.grad_channels)?;
    dict.set_item("filters", kept.filters)?;
    Ok(dict)
}

/// Multiply-accumulates of a layer's forward pass per sample, including those with padding; `geometry` is JSON.
#[pyfunction]
pub fn count_macs(geometry: &str) -> PyResult<u64> {
    let geometry: Geometry = parse("geometry", geometry)?;
    geometry.validate().map_err(raise)?;
    Ok(geometry.macs())
}

/// Parses a number of bytes, such as `500MB` or `2GiB`.
#[pyfunction]
pub fn parse_bytes(text: &str) -> PyResult<u64> {
    mercury_cli::parse_bytes(text).map_err(raise)
}

/// The maximum size of a captured step's files, bytes before compression.
#[pyfunction]
pub fn step_bytes(layers: &str, sampling: &str, batch: u32) -> PyResult<u64> {
    let mut layers = parse_layers(layers)?;
    for layer in &mut layers {
        // A layer may train only its bias, or be thawed in a later step, and then has dY.
        layer.input_grad = true;
    }
    let layers: Vec<&Layer> = layers.iter().collect();
    Ok(rows::step_bytes(&layers, &parse("sampling", sampling)?, batch))
}

/// The seed of PyTorch's generator in a step of `mercury-tracer`, so that its dropout can be repeated.
#[pyfunction]
pub fn step_seed(seed: u64, step: u64) -> i64 {
    sampling::step_seed(seed, step)
}

/// A uniform sample of a batch that arrives in parts.
#[pyclass]
pub struct Reservoir(sampling::Reservoir);

#[pymethods]
impl Reservoir {
    #[new]
    fn new(seed: u64, step: u64, limit: Option<u32>) -> Self {
        Self(sampling::Reservoir::new(seed, step, limit))
    }

    /// Adds the samples that come next; returns the positions in the batch that are kept now, ascending.
    fn offer(&mut self, count: u32) -> Vec<u32> {
        self.0.offer(count)
    }
}
