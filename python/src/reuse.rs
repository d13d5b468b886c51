//! Reuse in a training loop: the passes of `mercury-passes` on the memory of Python's tensors.

use crate::dlpack::SharedValues;
use crate::{lock, raise, team};
use mercury_hardware::config::{Config, LayerConfigs};
use mercury_passes::{LoopState, PassOutcomes, Reuse, Room, Streamed};
use mercury_reuse::config::{GivenProjection, Matrix, Scope};
use mercury_reuse::{Deviation, Projection};
use mercury_trace::geometry::{Geometry, Pass};
use mercury_trace::layers::Layer;
use mercury_trace::measurements::{Measurement, Measurements};
use pyo3::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

fn parse_pass(name: &str) -> PyResult<Pass> {
    serde_json::from_value(name.into()).map_err(|error| raise(format!("pass: {error}")))
}

/// A configuration of reuse and its state between the steps of a training.
#[pyclass(frozen)]
pub struct ReuseLoop {
    state: Mutex<LoopState>,
    /// Memory for operands, which all layers use.
    room: Arc<Mutex<Room>>,
}

#[pymethods]
impl ReuseLoop {
    /// `toml` is a whole configuration, `origin` its name in messages.
    #[new]
    fn new(toml: &str, origin: &str) -> PyResult<Self> {
        let table = toml.parse().map_err(|error| raise(format!("{origin}: {error}")))?;
        let config = Config::resolve(origin, table, &[]).map_err(raise)?;
        Ok(Self { state: Mutex::new(LoopState::new(config)), room: Arc::default() })
    }

    /// Refuses a configuration that does not fit the layers of a model, which are given as JSON.
    fn check_layers(&self, model: &str, layers: &str) -> PyResult<()> {
        let layers: Vec<Layer> = serde_json::from_str(layers).map_err(|error| raise(format!("layers: {error}")))?;
        lock(&self.state).config().check_layers(model, &layers).map_err(raise)
    }

    /// Bits of a signature in force, in layers without settings of their own.
    #[getter]
    fn signature_bits(&self) -> u32 {
        lock(&self.state).signature_bits()
    }

    /// Records the loss of a training step: signatures grow while the loss stands still.
    fn record_loss(&self, loss: f64) {
        lock(&self.state).record_loss(loss);
    }

    /// Records a measured step's cycles without and with reuse by layer; returns the layers that are switched off.
    fn record_cycles(&self, step: u64, passes: Vec<(String, u64, u64)>) -> Vec<String> {
        let passes = passes.iter().map(|(layer, baseline, mercury)| (layer.as_str(), [*baseline, *mercury]));
        lock(&self.state).record_cycles(step, passes)
    }

    /// The configuration of a layer's forward pass, as JSON.
    fn settings(&self, layer: &str) -> String {
        let configs = lock(&self.state).layer_configs(layer);
        serde_json::to_string(&**configs.pass(Pass::Forward)).expect("a configuration is plain data")
    }

    /// R of a layer's forward pass for vectors of this length, `[bits][length]`.
    fn draw_projection(&self, layer: &str, length: usize) -> Vec<Vec<f32>> {
        let configs = lock(&self.state).layer_configs(layer);
        let projection = Projection::from_rpq(&configs.pass(Pass::Forward).rpq, length);
        (0..projection.bits()).map(|bit| projection.row(bit).to_vec()).collect()
    }

    /// The layer of a name; `geometry` is JSON, as in a trace.
    fn layer(slf: Py<Self>, name: String, geometry: &str) -> PyResult<ReuseLayer> {
        let geometry: Geometry = serde_json::from_str(geometry).map_err(|error| raise(format!("geometry: {error}")))?;
        geometry.validate().map_err(|reason| raise(format!("layer {name}: {reason}")))?;
        let layer = Layer { name: name.clone(), geometry, input_grad: true, weight_grad: true };
        lock(&slf.get().state).config().check_projections(&[layer]).map_err(raise)?;
        Ok(ReuseLayer { owner: slf, name, geometry })
    }
}

/// A layer of a model.
#[pyclass(frozen)]
pub struct ReuseLayer {
    owner: Py<ReuseLoop>,
    name: String,
    geometry: Geometry,
}

#[pymethods]
impl ReuseLayer {
    /// Begins a call of the layer; None if it is computed without reuse now.
    ///
    /// `projection` replaces the forward pass's R: a tensor `[length, bits]`.
    #[pyo3(signature = (projection))]
    fn begin(&self, projection: Option<&Bound<'_, PyAny>>) -> PyResult<Option<ReuseCall>> {
        let owner = self.owner.get();
        let state = lock(&owner.state);
        if !state.is_on(&self.name) {
            return Ok(None);
        }
        let mut configs = state.layer_configs(&self.name);
        if let Some(projection) = projection {
            let (length, bits): (usize, usize) = projection.getattr("shape")?.extract()?;
            let values = SharedValues::new(projection)?.as_slice().to_vec();
            let tensors = vec![(length, bits, values)];
            let given = GivenProjection::from_tensors(format!("the projection of {}", self.name), tensors);
            configs = configs.with_projection(Matrix::Given(Arc::new(given.map_err(raise)?)));
        }
        let (geometry, room) = (self.geometry, Arc::clone(&owner.room));
        Ok(Some(ReuseCall { geometry, configs, outcomes: Mutex::default(), room }))
    }

    /// Whether an entry may be found by vectors of other samples.
    #[getter]
    fn crosses_samples(&self) -> bool {
        let configs = lock(&self.owner.get().state).layer_configs(&self.name);
        configs.pass(Pass::Forward).mcache.effective_scope(&self.geometry) == Scope::Batch
    }
}

/// The outcomes of a pass: HITs, MAUs, MNUs, and the bits of its signatures.
type Counted = (u64, u64, u64, u32);

/// A call of a layer, with the settings of its forward pass, until its backward pass.
#[pyclass(frozen)]
pub struct ReuseCall {
    geometry: Geometry,
    configs: LayerConfigs,
    /// The forward pass's outcomes, once it ran.
    outcomes: Mutex<Option<Arc<PassOutcomes>>>,
    room: Arc<Mutex<Room>>,
}

impl ReuseCall {
    fn forward_outcomes(&self) -> PyResult<Arc<PassOutcomes>> {
        lock(&self.outcomes).clone().ok_or_else(|| raise("weight-grad: the forward pass has no outcomes"))
    }

    fn config(&self, pass: Pass) -> &Config {
        self.configs.pass(pass)
    }

    fn reuse<'a>(&'a self, pass: Pass, streamed: Streamed<'a>, outcomes: &'a PassOutcomes) -> Reuse<'a> {
        Reuse { config: self.config(pass), geometry: &self.geometry, streamed, outcomes }
    }

    fn count(&self, pass: Pass, outcomes: &PassOutcomes) -> Counted {
        let counts = outcomes.counts();
        (counts.hit, counts.mau, counts.mnu, self.config(pass).rpq.signature_bits())
    }
}

#[pymethods]
impl ReuseCall {
    /// Whether a pass has reuse.
    fn reuses(&self, pass_: &str) -> PyResult<bool> {
        let pass = parse_pass(pass_)?;
        Ok(self.config(pass).reuse.passes.contains(&pass))
    }

    /// Writes Y without bias to `y`.
    fn forward(
        &self,
        py: Python<'_>,
        samples: usize,
        x: &Bound<'_, PyAny>,
        w: &Bound<'_, PyAny>,
        y: &Bound<'_, PyAny>,
    ) -> PyResult<Counted> {
        let (x, w, mut y) = (SharedValues::new(x)?, SharedValues::new(w)?, SharedValues::new(y)?);
        Ok(team::run(py, || {
            let streamed = Streamed::new(&self.geometry, Pass::Forward, x.as_slice(), samples);
            let outcomes = PassOutcomes::new(self.config(Pass::Forward), &self.geometry, Pass::Forward, &streamed);
            self.reuse(Pass::Forward, streamed, &outcomes).forward(
                w.as_slice(),
                y.as_mut_slice(),
                &mut lock(&self.room),
            );
            let counted = self.count(Pass::Forward, &outcomes);
            *lock(&self.outcomes) = Some(Arc::new(outcomes));
            counted
        }))
    }

    /// Writes dX to `dx`; with `measured`, also returns the cycles without and with reuse.
    #[pyo3(signature = (samples, dy, w, dx, measured))]
    fn input_grad(
        &self,
        py: Python<'_>,
        samples: usize,
        dy: &Bound<'_, PyAny>,
        w: &Bound<'_, PyAny>,
        dx: &Bound<'_, PyAny>,
        measured: bool,
    ) -> PyResult<(Counted, Option<[u64; 2]>)> {
        let (dy, w, mut dx) = (SharedValues::new(dy)?, SharedValues::new(w)?, SharedValues::new(dx)?);
        let pass = Pass::InputGrad;
        Ok(team::run(py, || {
            let streamed = Streamed::new(&self.geometry, pass, dy.as_slice(), samples);
            let outcomes = PassOutcomes::new(self.config(pass), &self.geometry, pass, &streamed);
            let reuse = self.reuse(pass, streamed, &outcomes);
            reuse.input_grad(w.as_slice(), dx.as_mut_slice(), &mut lock(&self.room));
            (self.count(pass, &outcomes), measured.then(|| reuse.cycles(pass)))
        }))
    }

    /// Writes dW to `dw`, from the forward pass's outcomes.
    fn weight_grad(
        &self,
        py: Python<'_>,
        samples: usize,
        x: &Bound<'_, PyAny>,
        dy: &Bound<'_, PyAny>,
        dw: &Bound<'_, PyAny>,
    ) -> PyResult<Counted> {
        let (x, dy, mut dw) = (SharedValues::new(x)?, SharedValues::new(dy)?, SharedValues::new(dw)?);
        let outcomes = self.forward_outcomes()?;
        Ok(team::run(py, || {
            let streamed = Streamed::new(&self.geometry, Pass::Forward, x.as_slice(), samples);
            let reuse = self.reuse(Pass::WeightGrad, streamed, &outcomes);
            reuse.weight_grad(dy.as_slice(), dw.as_mut_slice(), &mut lock(&self.room));
            self.count(Pass::WeightGrad, &outcomes)
        }))
    }

    /// Cycles of the forward pass or weight gradient, without and with reuse; `x` is the forward pass's.
    fn cycles(&self, py: Python<'_>, pass_: &str, samples: usize, x: &Bound<'_, PyAny>) -> PyResult<[u64; 2]> {
        let (x, pass, outcomes) = (SharedValues::new(x)?, parse_pass(pass_)?, self.forward_outcomes()?);
        Ok(team::run(py, || {
            let streamed = Streamed::new(&self.geometry, Pass::Forward, x.as_slice(), samples);
            self.reuse(pass, streamed, &outcomes).cycles(pass)
        }))
    }
}

/// Sums over the elements of an exact result, of the result with reuse, and of their difference.
#[pyclass(frozen, name = "Deviation")]
pub struct PyDeviation(Deviation);

#[pymethods]
impl PyDeviation {
    #[new]
    fn new(py: Python<'_>, exact: &Bound<'_, PyAny>, reused: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (exact, reused) = (SharedValues::new(exact)?, SharedValues::new(reused)?);
        Ok(py.detach(|| {
            let mut sums = Deviation::default();
            for (&exact, &reused) in exact.as_slice().iter().zip(reused.as_slice()) {
                let (exact, change) = (f64::from(exact), f64::from(reused) - f64::from(exact));
                sums += Deviation { exact: exact * exact, change: change * change, cross: exact * change };
            }
            Self(sums)
        }))
    }

    /// The sums over the elements of both.
    fn add(&self, other: &Self) -> Self {
        let mut sum = self.0;
        sum += other.0;
        Self(sum)
    }

    /// |Y' - Y| / |Y|; infinite if only Y is 0.
    #[getter]
    fn error(&self) -> f64 {
        self.0.relative()
    }

    /// Cosine of the angle between Y and Y'; not a number if only one of them is 0.
    #[getter]
    fn cosine(&self) -> f64 {
        self.0.cosine()
    }

    /// |Y'| / |Y|; infinite if only Y is 0.
    #[getter]
    fn norm_ratio(&self) -> f64 {
        self.0.norm_ratio()
    }
}

/// Writes a projection, `[length, bits]`, for `rpq.projection = "file:PATH"`.
#[pyfunction]
pub fn write_projection(path: PathBuf, projection: &Bound<'_, PyAny>) -> PyResult<()> {
    let shape: Vec<usize> = projection.getattr("shape")?.extract()?;
    let values = SharedValues::new(projection)?;
    let bytes: Vec<u8> = values.as_slice().iter().flat_map(|value| value.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, shape, &bytes).map_err(raise)?;
    let file = safetensors::serialize([("R", view)], &None).map_err(raise)?;
    std::fs::write(&path, file).map_err(|error| raise(format!("{}: {error}", path.display())))
}

/// A row of `measurements.parquet` without its configuration: step, layer, pass, bits, HITs, MAUs, MNUs, error, cosine
/// and norm ratio of the result, cycles without and with reuse.
type Row = (u64, String, String, u32, u64, u64, u64, f64, f64, f64, u64, u64);

/// Writes `measurements.parquet` of a configuration to a folder.
#[pyfunction]
pub fn write_measurements(folder: PathBuf, configuration: &str, rows: Vec<Row>) -> PyResult<()> {
    let read = |row: Row| {
        let (step, layer, pass, signature_bits, hit, mau, mnu, error, cosine, ratio, baseline, mercury) = row;
        Ok(Measurement {
            step,
            configuration: configuration.to_owned(),
            layer,
            pass: parse_pass(&pass)?,
            signature_bits,
            hit,
            mau,
            mnu,
            output_error: error,
            output_cosine: cosine,
            output_norm_ratio: ratio,
            baseline_cycles: baseline,
            mercury_cycles: mercury,
        })
    };
    let layers = rows.into_iter().map(read).collect::<PyResult<Vec<_>>>()?;
    Measurements { layers, steps: Vec::new() }.write(&folder).map_err(raise)
}
