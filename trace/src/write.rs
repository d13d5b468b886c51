//! Writing a trace: tensors as they come, the manifest after each whole step.

use crate::error::{Result, TraceError};
use crate::layers::{self, Layer};
use crate::manifest::{CapturedStep, Manifest, TensorFile};
use crate::steps::{self, Step};
use crate::tensor::{TensorKind, TensorShape, TensorWriter};
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of one layer's tensors of one step, within a trace.
pub(crate) fn tensor_path(dir: &Path, step: u64, layer: &str, kind: TensorKind) -> PathBuf {
    dir.join(format!("tensors/step={step:06}/layer={layer}/{}.parquet", kind.name()))
}

/// Refuses a folder that holds something; creates it where it is missing.
pub fn create_empty_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(TraceError::io(dir))?;
    let mut entries = fs::read_dir(dir).map_err(TraceError::io(dir))?;
    if entries.next().is_some() { Err(TraceError::NotEmpty { path: dir.to_owned() }) } else { Ok(()) }
}

/// A trace being written. After every [`TraceWriter::commit`] the folder is a readable trace.
pub struct TraceWriter {
    dir: PathBuf,
    manifest: Manifest,
    layers: Vec<Layer>,
}

impl TraceWriter {
    /// Starts a trace in `dir`, which must be empty or missing.
    ///
    /// # Panics
    /// If a layer's name or geometry is not valid; both come from the program's own models.
    pub fn create(dir: &Path, manifest: Manifest, layers: Vec<Layer>) -> Result<Self> {
        for layer in &layers {
            assert!(layers::is_layer_name(&layer.name), "layer name {:?}", layer.name);
            layer.geometry.validate().expect("a layer that was computed has a valid geometry");
        }
        create_empty_dir(dir)?;
        layers::write(dir, &layers)?;
        steps::write(dir, &[])?;
        manifest.write(dir)?;
        Ok(Self { dir: dir.to_owned(), manifest, layers })
    }

    /// The manifest as it stands.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Writes one tensor file; rows must come in ascending order of their keys.
    ///
    /// # Panics
    /// If the layer is not in the trace.
    pub fn write_tensor<'a, K: AsRef<[u32]>>(
        &self,
        step: u64,
        layer: &str,
        kind: TensorKind,
        rows: impl IntoIterator<Item = (K, &'a [f32])>,
    ) -> Result<TensorFile> {
        let geometry = &self.layers.iter().find(|l| l.name == layer).expect("a layer of this trace").geometry;
        let path = tensor_path(&self.dir, step, layer, kind);
        let folder = path.parent().expect("the path has folders");
        fs::create_dir_all(folder).map_err(TraceError::io(folder))?;
        let shape = TensorShape::of(geometry, kind);
        let width = shape.width as u32;
        let metadata = [
            ("schema_version", self.manifest.schema_version.to_string()),
            ("step", step.to_string()),
            ("layer", layer.to_owned()),
            ("kind", kind.name().to_owned()),
            ("op", geometry.op().to_owned()),
        ];
        let mut writer = TensorWriter::create(&path, shape, &metadata)?;
        for (keys, values) in rows {
            writer.push(keys.as_ref(), values)?;
        }
        let (rows, bytes) = writer.finish()?;
        Ok(TensorFile { layer: layer.to_owned(), kind, rows, width, bytes })
    }

    /// Makes a captured step, whose tensors are all written, part of the trace.
    pub fn commit(&mut self, captured: CapturedStep, steps: &[Step]) -> Result<()> {
        steps::write(&self.dir, steps)?;
        self.manifest.captured.push(captured);
        // A step that the manifest on disk does not have must not come into it with a later one.
        self.manifest.write(&self.dir).inspect_err(|_| drop(self.manifest.captured.pop()))
    }

    /// Ends the trace: all steps, and how well the model did.
    pub fn finish(mut self, validation_accuracy: Option<f64>, steps: &[Step]) -> Result<Manifest> {
        steps::write(&self.dir, steps)?;
        self.manifest.training.validation_accuracy = validation_accuracy;
        self.manifest.complete = true;
        self.manifest.write(&self.dir)?;
        Ok(self.manifest)
    }
}
