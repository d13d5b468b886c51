//! Reads a trace. Opening checks everything that does not need the tensors.

use crate::checksum;
use crate::error::{Result, TraceError};
use crate::evaluations::{self, Evaluation};
use crate::geometry::{Geometry, MAX_BATCH};
use crate::layers::{self, Layer};
use crate::manifest::{self, CHECKSUMS_SINCE, CapturedStep, Manifest, TensorFile};
use crate::measurements::Measurements;
use crate::read::{Tensor, TensorReader};
use crate::steps::{self, Step};
use crate::tensor::{TensorKind, TensorShape};
use crate::write::tensor_path;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// An opened trace.
#[derive(Debug, Clone)]
pub struct Trace {
    dir: PathBuf,
    manifest: Manifest,
    layers: Vec<Layer>,
}

impl Trace {
    /// Opens the trace in `dir` and checks that manifest and layers agree.
    pub fn open(dir: &Path) -> Result<Self> {
        let manifest = Manifest::read(dir)?;
        let trace = Self { dir: dir.to_owned(), manifest, layers: layers::read(dir)? };
        trace.check().map_err(|(field, reason)| {
            TraceError::invalid(dir.join(manifest::FILE_NAME), field, format!("{reason}; correct it, or capture anew"))
        })?;
        Ok(trace)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The layers, in execution order.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Reads the table of all training steps.
    pub fn steps(&self) -> Result<Vec<Step>> {
        steps::read(&self.dir)
    }

    /// Reads the table of evaluations on validation data.
    pub fn evaluations(&self) -> Result<Vec<Evaluation>> {
        evaluations::read(&self.dir)
    }

    /// Reads the measurements of reuse in the loop; without reuse, there are none.
    pub fn measurements(&self) -> Result<Measurements> {
        Measurements::read(&self.dir)
    }

    /// Finds a tensor's file; `None` if it was not captured.
    pub fn file<'a>(&self, step: &'a CapturedStep, layer: &str, kind: TensorKind) -> Option<&'a TensorFile> {
        step.tensors.iter().find(|file| file.layer == layer && file.kind == kind)
    }

    /// Returns the path of a tensor's file.
    pub fn path(&self, step: &CapturedStep, layer: &str, kind: TensorKind) -> PathBuf {
        tensor_path(&self.dir, step.step, layer, kind)
    }

    /// Streams a tensor.
    pub fn reader(&self, step: &CapturedStep, layer: &Layer, kind: TensorKind) -> Result<TensorReader> {
        let file = self.find_file(step, layer, kind)?;
        let shape = TensorShape::from_geometry(&layer.geometry, kind, self.manifest.sampling.dtype);
        TensorReader::open(&self.path(step, &layer.name, kind), shape, file.rows)
    }

    /// Finds a tensor's file; refuses a tensor that was not captured.
    fn find_file<'a>(&self, step: &'a CapturedStep, layer: &Layer, kind: TensorKind) -> Result<&'a TensorFile> {
        let name = &layer.name;
        self.file(step, name, kind).ok_or_else(|| {
            let kind = kind.name();
            let field = format!("captured step {}", step.step);
            let reason = format!("{kind} of layer {name} was not captured; capture it, or leave the layer out");
            TraceError::invalid(self.dir.join(manifest::FILE_NAME), field, reason)
        })
    }

    /// Reads a whole tensor; its values are `[samples][channels or rows][width]`.
    ///
    /// Its samples, channels and filters must be exactly those that the manifest lists as kept.
    pub fn tensor(&self, step: &CapturedStep, layer: &Layer, kind: TensorKind) -> Result<Tensor> {
        let tensor = self.reader(step, layer, kind)?.read_all()?;
        self.check_keys(&tensor, step, layer, kind, &self.expected_keys(&step.samples, layer, kind))?;
        Ok(tensor)
    }

    /// Reads a tensor in parts of `at_a_time` samples (at least one), with the checks of
    /// [`Trace::tensor`].
    ///
    /// # Panics
    /// If the tensor has no samples, as the weights of a convolution or linear layer.
    pub fn samples<'a>(
        &'a self,
        step: &'a CapturedStep,
        layer: &'a Layer,
        kind: TensorKind,
        at_a_time: usize,
    ) -> Result<SampleReader<'a>> {
        let shape = TensorShape::from_geometry(&layer.geometry, kind, self.manifest.sampling.dtype);
        let file = self.find_file(step, layer, kind)?;
        assert_eq!(shape.keys[0], "sample", "a tensor without samples is not read by samples");
        let rows_of_sample = file.rows as usize / step.samples.len();
        let reader = TensorReader::open(&self.path(step, &layer.name, kind), shape, file.rows)?;
        let at_a_time = at_a_time.max(1);
        let end = step.samples.len();
        Ok(SampleReader { trace: self, step, layer, kind, reader, rows_of_sample, at_a_time, next: 0, end })
    }

    fn check_keys(
        &self,
        tensor: &Tensor,
        step: &CapturedStep,
        layer: &Layer,
        kind: TensorKind,
        expected: &[Vec<u32>],
    ) -> Result<()> {
        for (index, (name, wanted)) in tensor.shape.keys.iter().zip(expected).enumerate() {
            let inner: usize = expected[index + 1..].iter().map(Vec::len).product();
            let outer: usize = expected[..index].iter().map(Vec::len).product();
            let column = &tensor.keys[index];
            // The cycle has as many keys as there are rows, because opening compared both numbers.
            let cycle = (0..outer).flat_map(|_| wanted.iter().flat_map(|&key| std::iter::repeat_n(key, inner)));
            if let Some((row, (wanted, _))) = cycle.zip(column).enumerate().find(|(_, (want, have))| want != *have) {
                let keys: Vec<u32> = tensor.keys.iter().map(|column| column[row]).collect();
                let reason = format!(
                    "the row with the keys {keys:?} is where manifest.json lists {wanted}; write the rows of its \
                     samples and sampling in ascending order, or correct it"
                );
                return Err(TraceError::invalid(self.path(step, &layer.name, kind), *name, reason));
            }
        }
        Ok(())
    }

    /// Returns the kept channels of X or dY, or the kept filters of W, of a layer.
    pub fn kept(&self, layer: &Layer, kind: TensorKind) -> Vec<u32> {
        let sampling = &self.manifest.sampling;
        let (map, all) = match kind {
            TensorKind::Input => (&sampling.channels, layer.geometry.inputs()),
            TensorKind::GradOutput => (&sampling.grad_channels, layer.geometry.filters()),
            TensorKind::Weight => (&sampling.filters, layer.geometry.filters()),
        };
        map.get(&layer.name).cloned().unwrap_or_else(|| (0..all).collect())
    }

    fn expected_keys(&self, samples: &[u32], layer: &Layer, kind: TensorKind) -> Vec<Vec<u32>> {
        let samples = samples.to_vec();
        match (&layer.geometry, kind) {
            (Geometry::Matmul(a), TensorKind::Weight) => {
                vec![samples, (0..a.heads).collect(), (0..a.columns).collect()]
            }
            (_, TensorKind::Weight) => vec![self.kept(layer, kind)],
            (Geometry::Conv2d(_), _) => vec![samples, self.kept(layer, kind)],
            (Geometry::Linear(linear), _) => vec![samples, (0..linear.rows).collect()],
            (Geometry::Matmul(a), _) => vec![samples, (0..a.heads).collect(), (0..a.rows).collect()],
        }
    }

    /// Checks the manifest against itself and the layers; an error has the field and the reason.
    fn check(&self) -> std::result::Result<(), (String, String)> {
        if let Some(label) = &self.manifest.label {
            manifest::parse_label(label).map_err(|reason| ("label".into(), reason))?;
        }
        let layers: BTreeMap<&str, &Layer> = self.layers.iter().map(|layer| (layer.name.as_str(), layer)).collect();
        self.check_sampling(&layers)?;
        let batch = self.manifest.training.batch_size;
        if !(1..=MAX_BATCH).contains(&batch) {
            let reason = format!("is {batch}, but must be between 1 and {MAX_BATCH}");
            return Err(("training.batch_size".into(), reason));
        }
        let steps: Vec<u64> = self.manifest.captured.iter().map(|step| step.step).collect();
        if !is_ascending(&steps) {
            return Err(("captured".into(), "steps do not ascend".into()));
        }
        for step in &self.manifest.captured {
            let checked = self.check_step(step, &layers);
            checked.map_err(|reason| (format!("captured step {}", step.step), reason))?;
        }
        Ok(())
    }

    /// Checks the channels and filters that are kept; an error has the field and the reason.
    fn check_sampling(&self, layers: &BTreeMap<&str, &Layer>) -> std::result::Result<(), (String, String)> {
        let sampling = &self.manifest.sampling;
        let maps = [
            ("sampling.channels", &sampling.channels, TensorKind::Input),
            ("sampling.grad_channels", &sampling.grad_channels, TensorKind::GradOutput),
            ("sampling.filters", &sampling.filters, TensorKind::Weight),
        ];
        for (field, map, kind) in maps {
            for (name, kept) in map {
                check_kept(layers, name, kept, kind).map_err(|reason| (field.to_owned(), reason))?;
            }
        }
        Ok(())
    }

    /// Checks a captured step; an error is the reason.
    fn check_step(&self, step: &CapturedStep, layers: &BTreeMap<&str, &Layer>) -> std::result::Result<(), String> {
        let samples = &step.samples;
        let batch = self.manifest.training.batch_size;
        let in_batch = samples.iter().all(|&sample| sample < batch);
        if samples.is_empty() || !in_batch || !is_ascending(samples) || samples.len() != step.dataset_indices.len() {
            return Err("samples must ascend below batch_size, one dataset index each".into());
        }
        let mut seen = BTreeSet::new();
        for file in &step.tensors {
            if !seen.insert((&file.layer, file.kind)) {
                return Err(format!("{} of layer {:?} is listed twice", file.kind.name(), file.layer));
            }
            let Some(layer) = layers.get(file.layer.as_str()) else {
                return Err(format!("layer {:?} is not in layers.parquet", file.layer));
            };
            self.check_file(file, layer, samples)?;
        }
        Ok(())
    }

    /// Checks the checksum and the size of a tensor file in the manifest; an error is the reason.
    fn check_file(&self, file: &TensorFile, layer: &Layer, samples: &[u32]) -> std::result::Result<(), String> {
        let (kind, name) = (file.kind.name(), &file.layer);
        let has_checksum = match file.sha256.as_deref() {
            Some(sum) => checksum::is_checksum(sum),
            None => self.manifest.schema_version < CHECKSUMS_SINCE,
        };
        if !has_checksum {
            return Err(format!("{kind} of layer {name:?} has no SHA-256 of 64 hexadecimal digits"));
        }
        let shape = TensorShape::from_geometry(&layer.geometry, file.kind, self.manifest.sampling.dtype);
        let width = shape.width;
        let keys = self.expected_keys(samples, layer, file.kind);
        let rows: u64 = keys.iter().map(|keys| keys.len() as u64).product();
        if (file.width as usize, file.rows) != (width, rows) {
            return Err(format!(
                "{kind} of layer {name:?} has {} rows of {}, its geometry and sampling give {rows} of {width}",
                file.rows, file.width
            ));
        }
        Ok(())
    }
}

/// Checks the kept channels or filters of a layer; an error is the reason.
fn check_kept(
    layers: &BTreeMap<&str, &Layer>,
    name: &str,
    kept: &[u32],
    kind: TensorKind,
) -> std::result::Result<(), String> {
    let Some(layer) = layers.get(name) else {
        return Err(format!("layer {name:?} is not in layers.parquet"));
    };
    let can_be_sampled = match layer.geometry {
        Geometry::Conv2d(_) => true,
        Geometry::Linear(_) => kind == TensorKind::Weight,
        Geometry::Matmul(_) => false,
    };
    if !can_be_sampled {
        return Err(format!("of layer {name:?}: cannot be sampled; it is always kept whole"));
    }
    let is_input = kind == TensorKind::Input;
    let all = if is_input { layer.geometry.inputs() } else { layer.geometry.filters() };
    if kept.is_empty() || !is_ascending(kept) || kept.iter().any(|&index| index >= all) {
        return Err(format!("of layer {name:?} must ascend below {all}"));
    }
    Ok(())
}

/// Reads a tensor in parts of a few samples.
pub struct SampleReader<'a> {
    trace: &'a Trace,
    step: &'a CapturedStep,
    layer: &'a Layer,
    kind: TensorKind,
    reader: TensorReader,
    rows_of_sample: usize,
    at_a_time: usize,
    next: usize,
    /// The first sample that is not read.
    end: usize,
}

impl Iterator for SampleReader<'_> {
    type Item = Result<Tensor>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step;
        let samples = step.samples.get(self.next..self.end).filter(|rest| !rest.is_empty())?;
        let samples = &samples[..samples.len().min(self.at_a_time)];
        self.next += samples.len();
        Some(self.read(samples))
    }
}

impl SampleReader<'_> {
    /// Reads only some of the captured samples, by their places.
    ///
    /// # Errors
    /// If the samples before them cannot be read.
    pub fn with_range(mut self, range: Range<usize>) -> Result<Self> {
        for first in (0..range.start).step_by(self.at_a_time) {
            let samples = self.at_a_time.min(range.start - first);
            self.reader.next_rows(self.rows_of_sample * samples)?;
        }
        (self.next, self.end) = (range.start, range.end.min(self.end));
        Ok(self)
    }

    /// Reads the tensor's part of these samples, which are the next ones.
    fn read(&mut self, samples: &[u32]) -> Result<Tensor> {
        let tensor = self.reader.next_rows(self.rows_of_sample * samples.len())?;
        // Some faults appear only at the end of the file.
        if self.next == self.step.samples.len() {
            self.reader.next().transpose()?;
        }
        let expected = self.trace.expected_keys(samples, self.layer, self.kind);
        self.trace.check_keys(&tensor, self.step, self.layer, self.kind, &expected)?;
        Ok(tensor)
    }
}

fn is_ascending<T: PartialOrd>(values: &[T]) -> bool {
    values.windows(2).all(|pair| pair[0] < pair[1])
}
