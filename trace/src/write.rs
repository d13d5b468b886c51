//! Writes a trace: tensors as they arrive, the manifest after each complete step.

use crate::atomic;
use crate::checksum::{self, Checksums};
use crate::error::{Result, TraceError};
use crate::evaluations::{self, Evaluation};
use crate::layers::{self, Layer};
use crate::manifest::{self, CapturedStep, Manifest, Sampling, TensorFile};
use crate::measurements::{self, Measurements};
use crate::steps::{self, Step};
use crate::tensor::{Dtype, TensorKind, TensorShape, TensorWriter, Written};
use std::fs;
use std::path::{Path, PathBuf};

const TENSORS: &str = "tensors";

/// The folder of a step's tensors in a trace.
fn step_path(dir: &Path, step: u64) -> PathBuf {
    dir.join(format!("{TENSORS}/step={step:06}"))
}

/// A tensor's file in a trace.
pub(crate) fn tensor_path(dir: &Path, step: u64, layer: &str, kind: TensorKind) -> PathBuf {
    step_path(dir, step).join(format!("layer={layer}/{}.parquet", kind.name()))
}

/// Refuses a folder that is not empty; it may be missing.
pub fn check_empty_dir(dir: &Path) -> Result<()> {
    let mut entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(TraceError::io(dir))?,
    };
    if entries.next().is_some() { Err(TraceError::NotEmpty { path: dir.to_owned() }) } else { Ok(()) }
}

/// Tables that are written before the first manifest.
const TABLES: [&str; 3] = [layers::FILE_NAME, steps::FILE_NAME, evaluations::FILE_NAME];

/// Refuses a folder that is not empty, except for files of a writer that was killed before the
/// manifest.
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

/// Refuses tables other than the initial ones of a trace with these layers, which a killed writer
/// leaves.
fn check_initial_tables(dir: &Path, layers: &[Layer]) -> Result<()> {
    let exists = |name: &str| dir.join(name).exists();
    let layers_fit = !exists(layers::FILE_NAME) || layers::read(dir).is_ok_and(|found| found == layers);
    let no_steps = !exists(steps::FILE_NAME) || steps::read(dir).is_ok_and(|found| found.is_empty());
    let no_evaluations = !exists(evaluations::FILE_NAME) || evaluations::read(dir).is_ok_and(|found| found.is_empty());
    if layers_fit && no_steps && no_evaluations {
        return Ok(());
    }
    Err(TraceError::NotEmpty { path: dir.to_owned() })
}

/// Writes tensor files of a trace; clones can be used by several threads at once.
#[derive(Debug, Clone)]
pub struct TensorFiles {
    dir: PathBuf,
    schema_version: u32,
    dtype: Dtype,
}

impl TensorFiles {
    /// Writes one tensor file; rows must be in ascending order of their keys.
    pub fn write<'a, K: AsRef<[u32]>>(
        &self,
        step: u64,
        layer: &Layer,
        kind: TensorKind,
        rows: impl IntoIterator<Item = (K, &'a [f32])>,
    ) -> Result<TensorFile> {
        let Layer { name, geometry, .. } = layer;
        let path = tensor_path(&self.dir, step, name, kind);
        let folder = path.parent().expect("the path has folders");
        fs::create_dir_all(folder).map_err(TraceError::io(folder))?;
        let shape = TensorShape::from_geometry(geometry, kind, self.dtype);
        let width = shape.width as u32;
        let metadata = [
            ("schema_version", self.schema_version.to_string()),
            ("step", step.to_string()),
            ("layer", name.clone()),
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
        Ok(TensorFile { layer: name.clone(), kind, rows, width, bytes, sha256: Some(sha256) })
    }
}

fn check_layers(layers: &[Layer]) {
    for layer in layers {
        assert!(layers::is_layer_name(&layer.name), "layer name {:?}", layer.name);
        layer.geometry.validate().expect("a layer that was computed has a valid geometry");
    }
}

/// Locks a folder against other writers until the result is dropped.
fn lock_folder(dir: &Path) -> Result<fs::File> {
    atomic::lock(dir).map_err(TraceError::io(dir))?.ok_or_else(|| {
        let reason = "another run is writing here; wait for its end, or choose another folder".to_owned();
        TraceError::Resume { path: dir.to_owned(), reason }
    })
}

/// Writes a trace. After every [`TraceWriter::commit`], the folder is a readable trace.
pub struct TraceWriter {
    dir: PathBuf,
    manifest: Manifest,
    layers: Vec<Layer>,
    files: TensorFiles,
    _lock: fs::File,
}

impl TraceWriter {
    /// Starts a trace in `dir`, which must be empty or missing.
    ///
    /// # Panics
    /// If a layer's name or geometry is invalid; both come from the program's own models.
    pub fn create(dir: &Path, manifest: Manifest, layers: &[Layer]) -> Result<Self> {
        check_layers(layers);
        check_new_trace(dir)?;
        fs::create_dir_all(dir).map_err(TraceError::io(dir))?;
        let lock = lock_folder(dir)?;
        // Checked again, because another writer may have held the lock until now.
        check_new_trace(dir)?;
        check_initial_tables(dir, layers)?;
        atomic::remove_temporary(dir).map_err(TraceError::io(dir))?;
        layers::write(dir, layers)?;
        steps::write(dir, &[])?;
        evaluations::write(dir, &[])?;
        manifest.write(dir)?;
        Ok(Self::new(dir, manifest, layers, lock))
    }

    /// Resumes an incomplete trace from training step `from` on, and removes that step and later
    /// ones.
    ///
    /// Also returns the earlier steps and evaluations.
    pub fn resume(dir: &Path, from: u64) -> Result<(Self, Vec<Step>, Vec<Evaluation>)> {
        crate::Trace::open(dir)?;
        let lock = lock_folder(dir)?;
        // Opened again, because another writer may have held the lock until now.
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
            let count = steps.len();
            let reason = format!("steps.parquet holds {count} of the {from} steps before the checkpoint; capture anew");
            return Err(TraceError::Resume { path: dir.to_owned(), reason });
        }
        checksum::remove(dir)?;
        // Lists are changed before files are removed, because an unlisted file is harmless.
        manifest.captured.retain(|step| step.step < from);
        manifest.write(dir)?;
        steps::write(dir, &steps)?;
        evaluations::write(dir, &evaluations)?;
        let measurements = trace.measurements()?;
        if !measurements.is_empty() {
            measurements.before(from).write(dir)?;
        }
        remove_unlisted(dir, &manifest)?;
        Ok((Self::new(dir, manifest, trace.layers(), lock), steps, evaluations))
    }

    fn new(dir: &Path, manifest: Manifest, layers: &[Layer], lock: fs::File) -> Self {
        let files = TensorFiles {
            dir: dir.to_owned(),
            schema_version: manifest.schema_version,
            dtype: manifest.sampling.dtype,
        };
        Self { dir: dir.to_owned(), manifest, layers: layers.to_vec(), files, _lock: lock }
    }

    /// The layers, in the order of their table.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Adds layers that earlier steps did not compute, with the part of them that is kept.
    ///
    /// # Panics
    /// As [`TraceWriter::create`].
    pub fn add_layers(&mut self, layers: &[Layer], sampling: Sampling) -> Result<()> {
        check_layers(layers);
        let all = [self.layers.as_slice(), layers].concat();
        // Layers come before the manifest, because sampling may name no other layers.
        layers::write(&self.dir, &all)?;
        self.layers = all;
        self.manifest.sampling = sampling;
        self.manifest.write(&self.dir)
    }

    /// The current manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The writer of tensor files.
    pub fn files(&self) -> &TensorFiles {
        &self.files
    }

    /// Adds a captured step to the trace, after all its tensors were written.
    pub fn commit(&mut self, captured: CapturedStep, steps: &[Step]) -> Result<()> {
        steps::write(&self.dir, steps)?;
        self.manifest.captured.push(captured);
        // A step that is not in the manifest on disk must not get there with a later step.
        self.manifest.write(&self.dir).inspect_err(|_| drop(self.manifest.captured.pop()))
    }

    /// Removes the files of a step that will not be committed.
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

    /// Replaces the measurements of reuse in the loop.
    pub fn log_measurements(&self, measurements: &Measurements) -> Result<()> {
        measurements.write(&self.dir)
    }

    /// Completes the trace with all steps and evaluations, and the validation accuracy.
    pub fn finish(
        mut self,
        validation_accuracy: Option<f64>,
        steps: &[Step],
        evaluations: &[Evaluation],
    ) -> Result<Manifest> {
        self.log(steps, evaluations)?;
        self.manifest.training.validation_accuracy = validation_accuracy;
        self.manifest.complete = true;
        // Checksums come before the manifest, because a complete trace can be verified.
        let measured = measurements::FILES.into_iter().filter(|name| self.dir.join(name).exists());
        let mut sums = Checksums::from_files(&self.dir, TABLES.into_iter().chain(measured))?;
        sums.insert(manifest::FILE_NAME, checksum::hash_bytes(self.manifest.text().as_bytes()));
        sums.write(&self.dir)?;
        self.manifest.write(&self.dir)?;
        Ok(self.manifest)
    }
}

/// Removes folders of unlisted steps, and temporary files of a killed writer.
fn remove_unlisted(dir: &Path, manifest: &Manifest) -> Result<()> {
    let listed: Vec<PathBuf> = manifest.captured.iter().map(|step| step_path(dir, step.step)).collect();
    let entries = fs::read_dir(dir.join(TENSORS)).into_iter().flatten().filter_map(std::result::Result::ok);
    for path in entries.map(|entry| entry.path()).filter(|path| !listed.contains(path)) {
        fs::remove_dir_all(&path).map_err(TraceError::io(&path))?;
    }
    atomic::remove_temporary(dir).map_err(TraceError::io(dir))
}
