//! Writing a trace: tensors as they come, the manifest after each whole step.

use crate::atomic;
use crate::checksum::{self, Checksums};
use crate::error::{Result, TraceError};
use crate::evaluations::{self, Evaluation};
use crate::geometry::Geometry;
use crate::layers::{self, Layer};
use crate::manifest::{self, CapturedStep, Manifest, TensorFile};
use crate::measurements::{self, Measurements};
use crate::steps::{self, Step};
use crate::tensor::{Dtype, TensorKind, TensorShape, TensorWriter, Written};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const TENSORS: &str = "tensors";

/// The folder of a step's tensors, within a trace.
fn step_path(dir: &Path, step: u64) -> PathBuf {
    dir.join(format!("{TENSORS}/step={step:06}"))
}

/// A tensor's file, within a trace.
pub(crate) fn tensor_path(dir: &Path, step: u64, layer: &str, kind: TensorKind) -> PathBuf {
    step_path(dir, step).join(format!("layer={layer}/{}.parquet", kind.name()))
}

/// Refuses a folder that holds something; it may be missing.
pub fn check_empty_dir(dir: &Path) -> Result<()> {
    let mut entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(TraceError::io(dir))?,
    };
    if entries.next().is_some() { Err(TraceError::NotEmpty { path: dir.to_owned() }) } else { Ok(()) }
}

/// Tables that are written before the first manifest.
const TABLES: [&str; 3] = [layers::FILE_NAME, steps::FILE_NAME, evaluations::FILE_NAME];

/// Refuses a folder that holds something, but for what a writer leaves that was killed before it had a manifest.
pub fn check_new_trace(dir: &Path) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(TraceError::io(dir))?,
    };
    for entry in entries {
        let name = entry.map_err(TraceError::io(dir))?.file_name();
        if !atomic::is_temporary(&name) && !TABLES.iter().any(|table| name == *table) {
            return Err(TraceError::NotEmpty { path: dir.to_owned() });
        }
    }
    Ok(())
}

/// Refuses tables that are not those with which a trace of these layers begins: they are not a killed writer's.
fn check_tables_say_nothing(dir: &Path, layers: &[Layer]) -> Result<()> {
    let there = |name: &str| dir.join(name).exists();
    let known = (!there(layers::FILE_NAME) || layers::read(dir).is_ok_and(|found| found == layers))
        && (!there(steps::FILE_NAME) || steps::read(dir).is_ok_and(|found| found.is_empty()))
        && (!there(evaluations::FILE_NAME) || evaluations::read(dir).is_ok_and(|found| found.is_empty()));
    if known { Ok(()) } else { Err(TraceError::NotEmpty { path: dir.to_owned() }) }
}

/// Writes tensor files of a trace; can be cloned and used from several threads at once.
#[derive(Debug, Clone)]
pub struct TensorFiles {
    dir: PathBuf,
    schema_version: u32,
    dtype: Dtype,
    geometries: Arc<BTreeMap<String, Geometry>>,
}

impl TensorFiles {
    /// Writes one tensor file; rows must come in ascending order of their keys.
    ///
    /// # Panics
    /// If the layer is not in the trace.
    pub fn write<'a, K: AsRef<[u32]>>(
        &self,
        step: u64,
        layer: &str,
        kind: TensorKind,
        rows: impl IntoIterator<Item = (K, &'a [f32])>,
    ) -> Result<TensorFile> {
        let geometry = self.geometries.get(layer).expect("a layer of this trace");
        let path = tensor_path(&self.dir, step, layer, kind);
        let folder = path.parent().expect("the path has folders");
        fs::create_dir_all(folder).map_err(TraceError::io(folder))?;
        let shape = TensorShape::of(geometry, kind, self.dtype);
        let width = shape.width as u32;
        let metadata = [
            ("schema_version", self.schema_version.to_string()),
            ("step", step.to_string()),
            ("layer", layer.to_owned()),
            ("kind", kind.name().to_owned()),
            ("op", geometry.op().to_owned()),
        ];
        let mut writer = TensorWriter::create(&path, shape, &metadata)?;
        for (row, (keys, values)) in (0..).zip(rows) {
            if let Some(&value) = values.iter().find(|value| !value.is_finite()) {
                return Err(TraceError::NotFinite { path, row, value });
            }
            writer.push(keys.as_ref(), values)?;
        }
        let Written { rows, bytes, sha256 } = writer.finish()?;
        Ok(TensorFile { layer: layer.to_owned(), kind, rows, width, bytes, sha256: Some(sha256) })
    }
}

/// Keeps other writers out of a folder until it is dropped.
fn lock(dir: &Path) -> Result<fs::File> {
    atomic::lock(dir).map_err(TraceError::io(dir))?.ok_or_else(|| {
        let reason = "another run is writing here; wait for its end, or choose another folder".to_owned();
        TraceError::Resume { path: dir.to_owned(), reason }
    })
}

/// A trace being written. After every [`TraceWriter::commit`] the folder is a readable trace.
pub struct TraceWriter {
    dir: PathBuf,
    manifest: Manifest,
    files: TensorFiles,
    _lock: fs::File,
}

impl TraceWriter {
    /// Starts a trace in `dir`, which must be empty or missing.
    ///
    /// # Panics
    /// If a layer's name or geometry is not valid; both come from the program's own models.
    pub fn create(dir: &Path, manifest: Manifest, layers: &[Layer]) -> Result<Self> {
        for layer in layers {
            assert!(layers::is_layer_name(&layer.name), "layer name {:?}", layer.name);
            layer.geometry.validate().expect("a layer that was computed has a valid geometry");
        }
        check_new_trace(dir)?;
        fs::create_dir_all(dir).map_err(TraceError::io(dir))?;
        let lock = lock(dir)?;
        // Again: somebody else may have held the lock until now.
        check_new_trace(dir)?;
        check_tables_say_nothing(dir, layers)?;
        atomic::remove_temporary(dir).map_err(TraceError::io(dir))?;
        layers::write(dir, layers)?;
        steps::write(dir, &[])?;
        evaluations::write(dir, &[])?;
        manifest.write(dir)?;
        Ok(Self::of(dir, manifest, layers, lock))
    }

    /// Goes on with a trace that was not completed, from training step `from` on: what it has of that
    /// step and later ones is removed. Returns the earlier steps and evaluations too.
    pub fn resume(dir: &Path, from: u64) -> Result<(Self, Vec<Step>, Vec<Evaluation>)> {
        crate::Trace::open(dir)?;
        let lock = lock(dir)?;
        // Again: whoever held the lock until now may have gone on with it.
        let trace = crate::Trace::open(dir)?;
        let mut manifest = trace.manifest().clone();
        if manifest.complete {
            let reason = "the run is complete, there is nothing to resume; choose another folder".to_owned();
            return Err(TraceError::Resume { path: dir.to_owned(), reason });
        }
        let mut steps = trace.steps()?;
        let mut evaluations = trace.evaluations()?;
        steps.retain(|step| step.step < from);
        evaluations.retain(|row| row.steps_done <= from);
        if steps.len() as u64 != from {
            let reason =
                format!("steps.parquet holds {} of the {from} steps before the checkpoint; capture anew", steps.len());
            return Err(TraceError::Resume { path: dir.to_owned(), reason });
        }
        checksum::remove(dir)?;
        // First the lists, then the files: a file that no list names is harmless.
        manifest.captured.retain(|step| step.step < from);
        manifest.write(dir)?;
        steps::write(dir, &steps)?;
        evaluations::write(dir, &evaluations)?;
        let measurements = trace.measurements()?;
        if !measurements.is_empty() {
            measurements.before(from).write(dir)?;
        }
        remove_unlisted(dir, &manifest)?;
        Ok((Self::of(dir, manifest, trace.layers(), lock), steps, evaluations))
    }

    fn of(dir: &Path, manifest: Manifest, layers: &[Layer], lock: fs::File) -> Self {
        let files = TensorFiles {
            dir: dir.to_owned(),
            schema_version: manifest.schema_version,
            dtype: manifest.sampling.dtype,
            geometries: Arc::new(layers.iter().map(|layer| (layer.name.clone(), layer.geometry)).collect()),
        };
        Self { dir: dir.to_owned(), manifest, files, _lock: lock }
    }

    /// The manifest as it stands.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What writes the tensor files.
    pub fn files(&self) -> &TensorFiles {
        &self.files
    }

    /// Makes a captured step, whose tensors are all written, part of the trace.
    pub fn commit(&mut self, captured: CapturedStep, steps: &[Step]) -> Result<()> {
        steps::write(&self.dir, steps)?;
        self.manifest.captured.push(captured);
        // A step that the manifest on disk does not have must not come into it with a later one.
        self.manifest.write(&self.dir).inspect_err(|_| drop(self.manifest.captured.pop()))
    }

    /// Removes what was written of a step that will not be committed.
    pub fn abandon(&self, step: u64) -> Result<()> {
        let path = step_path(&self.dir, step);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(TraceError::io(path)(error)),
            _ => Ok(()),
        }
    }

    /// Replaces the tables of steps and evaluations.
    pub fn log(&self, steps: &[Step], evaluations: &[Evaluation]) -> Result<()> {
        steps::write(&self.dir, steps)?;
        evaluations::write(&self.dir, evaluations)
    }

    /// Replaces what reuse did.
    pub fn log_measurements(&self, measurements: &Measurements) -> Result<()> {
        measurements.write(&self.dir)
    }

    /// Ends the trace: all steps and evaluations, and how well the model did.
    pub fn finish(
        mut self,
        validation_accuracy: Option<f64>,
        steps: &[Step],
        evaluations: &[Evaluation],
    ) -> Result<Manifest> {
        self.log(steps, evaluations)?;
        self.manifest.training.validation_accuracy = validation_accuracy;
        self.manifest.complete = true;
        // Before the manifest: where that says that the trace is complete, it can be verified.
        let of_reuse = measurements::FILES.into_iter().filter(|name| self.dir.join(name).exists());
        let mut sums = Checksums::of_files(&self.dir, TABLES.into_iter().chain(of_reuse))?;
        sums.insert(manifest::FILE_NAME, checksum::of(self.manifest.text().as_bytes()));
        sums.write(&self.dir)?;
        self.manifest.write(&self.dir)?;
        Ok(self.manifest)
    }
}

/// Removes folders of steps that the manifest does not list, and temporary files of a killed writer.
fn remove_unlisted(dir: &Path, manifest: &Manifest) -> Result<()> {
    let listed: Vec<PathBuf> = manifest.captured.iter().map(|step| step_path(dir, step.step)).collect();
    let entries = fs::read_dir(dir.join(TENSORS)).into_iter().flatten().filter_map(std::result::Result::ok);
    for path in entries.map(|entry| entry.path()).filter(|path| !listed.contains(path)) {
        fs::remove_dir_all(&path).map_err(TraceError::io(&path))?;
    }
    atomic::remove_temporary(dir).map_err(TraceError::io(dir))
}
