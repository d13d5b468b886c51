//! Reading a trace: everything that can be checked without the tensors is checked on opening.

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

    /// What the trace is of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The layers, in execution order.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Every training step.
    pub fn steps(&self) -> Result<Vec<Step>> {
        steps::read(&self.dir)
    }

    /// What was measured on data that was not trained on.
    pub fn evaluations(&self) -> Result<Vec<Evaluation>> {
        evaluations::read(&self.dir)
    }

    /// What reuse did, where it was in the loop.
    pub fn measurements(&self) -> Result<Measurements> {
        Measurements::read(&self.dir)
    }

    /// The file of a tensor, `None` where it was not captured.
    pub fn file<'a>(&self, step: &'a CapturedStep, layer: &str, kind: TensorKind) -> Option<&'a TensorFile> {
        step.tensors.iter().find(|file| file.layer == layer && file.kind == kind)
    }

    /// Where a tensor's file lies.
    pub fn path(&self, step: &CapturedStep, layer: &str, kind: TensorKind) -> PathBuf {
        tensor_path(&self.dir, step.step, layer, kind)
    }

    /// Streams a tensor.
    pub fn reader(&self, step: &CapturedStep, layer: &Layer, kind: TensorKind) -> Result<TensorReader> {
        let (path, shape, rows) = self.shape(step, layer, kind)?;
        TensorReader::open(&path, shape, rows)
    }

    fn shape(&self, step: &CapturedStep, layer: &Layer, kind: TensorKind) -> Result<(PathBuf, TensorShape, u64)> {
        let path = self.path(step, &layer.name, kind);
        let file = self.file(step, &layer.name, kind).ok_or_else(|| {
            let field = format!("captured step {}", step.step);
            let reason =
                format!("{} of layer {} was not captured; capture it, or leave the layer out", kind.name(), layer.name);
            TraceError::invalid(self.dir.join(manifest::FILE_NAME), field, reason)
        })?;
        Ok((path, TensorShape::of(&layer.geometry, kind, self.manifest.sampling.dtype), file.rows))
    }

    /// Reads a tensor whole and checks that it holds exactly the samples, channels and filters that
    /// the manifest says were kept. Its values are then `[samples][channels or rows][width]`.
    pub fn tensor(&self, step: &CapturedStep, layer: &Layer, kind: TensorKind) -> Result<Tensor> {
        let tensor = self.reader(step, layer, kind)?.read_all()?;
        self.check_keys(&tensor, step, layer, kind, &self.expected_keys(&step.samples, layer, kind))?;
        Ok(tensor)
    }

    /// Reads a tensor that has samples, so many of them at a time (one at least), with the same checks.
    ///
    /// # Panics
    /// If it has none, as the weights of a convolution or linear layer.
    pub fn samples<'a>(
        &'a self,
        step: &'a CapturedStep,
        layer: &'a Layer,
        kind: TensorKind,
        at_a_time: usize,
    ) -> Result<SampleReader<'a>> {
        let (path, shape, rows) = self.shape(step, layer, kind)?;
        assert_eq!(shape.keys[0], "sample", "tensors that are read by samples have some");
        let rows_of_sample = rows as usize / step.samples.len();
        let reader = TensorReader::open(&path, shape, rows)?;
        let at_a_time = at_a_time.max(1);
        Ok(SampleReader { trace: self, step, layer, kind, reader, rows_of_sample, at_a_time, next: 0 })
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
            // As many as there are rows: opening compared their number with the manifest's, and that with the keys'.
            let cycle = (0..outer).flat_map(|_| wanted.iter().flat_map(|&key| std::iter::repeat_n(key, inner)));
            if let Some((row, (wanted, _))) = cycle.zip(column).enumerate().find(|(_, (want, have))| want != *have) {
                let keys: Vec<u32> = tensor.keys.iter().map(|column| column[row]).collect();
                let reason = format!(
                    "the row with the keys {keys:?} stands where manifest.json has {wanted}; write the rows of its samples \
                     and sampling in ascending order, or correct it"
                );
                return Err(TraceError::invalid(self.path(step, &layer.name, kind), *name, reason));
            }
        }
        Ok(())
    }

    /// The channels of X or dY, or the filters of W, that were kept of a layer.
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
            (Geometry::Attention(a), TensorKind::Weight) => {
                vec![samples, (0..a.heads).collect(), (0..a.columns).collect()]
            }
            (_, TensorKind::Weight) => vec![self.kept(layer, kind)],
            (Geometry::Conv2d(_), _) => vec![samples, self.kept(layer, kind)],
            (Geometry::Linear(linear), _) => vec![samples, (0..linear.rows).collect()],
            (Geometry::Attention(a), _) => vec![samples, (0..a.heads).collect(), (0..a.rows).collect()],
        }
    }

    /// What in the manifest contradicts itself or the layers: field and reason.
    fn check(&self) -> std::result::Result<(), (String, String)> {
        if let Some(label) = &self.manifest.label {
            manifest::parse_label(label).map_err(|reason| ("label".into(), reason))?;
        }
        let sampling = &self.manifest.sampling;
        let layers: BTreeMap<&str, &Layer> = self.layers.iter().map(|layer| (layer.name.as_str(), layer)).collect();
        let of_layers = |name: &str| layers.get(name).copied();
        let maps = [
            ("sampling.channels", &sampling.channels, TensorKind::Input),
            ("sampling.grad_channels", &sampling.grad_channels, TensorKind::GradOutput),
            ("sampling.filters", &sampling.filters, TensorKind::Weight),
        ];
        for (field, map, kind) in maps {
            for (name, kept) in map {
                let layer =
                    of_layers(name).ok_or((field.into(), format!("layer {name:?} is not in layers.parquet")))?;
                let can_be_sampled = match layer.geometry {
                    Geometry::Conv2d(_) => true,
                    Geometry::Linear(_) => kind == TensorKind::Weight,
                    Geometry::Attention(_) => false,
                };
                if !can_be_sampled {
                    return Err((
                        field.into(),
                        format!("of layer {name:?}: is not one that can be sampled; it is always kept whole"),
                    ));
                }
                let all = if kind == TensorKind::Input { layer.geometry.inputs() } else { layer.geometry.filters() };
                if kept.is_empty() || !is_ascending(kept) || kept.iter().any(|&index| index >= all) {
                    return Err((field.into(), format!("of layer {name:?} must ascend below {all}")));
                }
            }
        }
        let batch = self.manifest.training.batch_size;
        if !(1..=MAX_BATCH).contains(&batch) {
            return Err(("training.batch_size".into(), format!("is {batch}, but must be between 1 and {MAX_BATCH}")));
        }
        let steps: Vec<u64> = self.manifest.captured.iter().map(|step| step.step).collect();
        if !is_ascending(&steps) {
            return Err(("captured".into(), "steps do not ascend".into()));
        }
        for step in &self.manifest.captured {
            let field = format!("captured step {}", step.step);
            let samples = &step.samples;
            let whole = samples.iter().all(|&sample| sample < batch);
            if samples.is_empty() || !whole || !is_ascending(samples) || samples.len() != step.dataset_indices.len() {
                return Err((field, "samples must ascend below batch_size, one dataset index each".into()));
            }
            let mut seen = BTreeSet::new();
            for file in &step.tensors {
                if !seen.insert((&file.layer, file.kind)) {
                    return Err((field, format!("{} of layer {:?} is listed twice", file.kind.name(), file.layer)));
                }
                let Some(layer) = of_layers(&file.layer) else {
                    return Err((field, format!("layer {:?} is not in layers.parquet", file.layer)));
                };
                let known = file.sha256.as_deref().map(checksum::is_checksum);
                if known == Some(false) || (known.is_none() && self.manifest.schema_version >= CHECKSUMS_SINCE) {
                    let (kind, name) = (file.kind.name(), &file.layer);
                    return Err((field, format!("{kind} of layer {name:?} has no SHA-256 of 64 hexadecimal digits")));
                }
                let width = TensorShape::of(&layer.geometry, file.kind, sampling.dtype).width;
                let rows: u64 =
                    self.expected_keys(samples, layer, file.kind).iter().map(|keys| keys.len() as u64).product();
                if (file.width as usize, file.rows) != (width, rows) {
                    let (kind, name) = (file.kind.name(), &file.layer);
                    let reason = format!(
                        "{kind} of layer {name:?} has {} rows of {}, its geometry and sampling give {rows} of {width}",
                        file.rows, file.width
                    );
                    return Err((field, reason));
                }
            }
        }
        Ok(())
    }
}

/// Reads some samples of a tensor at a time.
pub struct SampleReader<'a> {
    trace: &'a Trace,
    step: &'a CapturedStep,
    layer: &'a Layer,
    kind: TensorKind,
    reader: TensorReader,
    rows_of_sample: usize,
    at_a_time: usize,
    next: usize,
}

impl Iterator for SampleReader<'_> {
    type Item = Result<Tensor>;

    fn next(&mut self) -> Option<Self::Item> {
        let samples = self.step.samples.get(self.next..).filter(|rest| !rest.is_empty())?;
        let samples = &samples[..samples.len().min(self.at_a_time)];
        self.next += samples.len();
        let last = self.next == self.step.samples.len();
        let take = |reader: &mut TensorReader| {
            let tensor = reader.next_rows(self.rows_of_sample * samples.len())?;
            // Some faults only the file's end shows.
            if last {
                reader.next().transpose()?;
            }
            Ok(tensor)
        };
        Some(take(&mut self.reader).and_then(|tensor| {
            let expected = self.trace.expected_keys(samples, self.layer, self.kind);
            self.trace.check_keys(&tensor, self.step, self.layer, self.kind, &expected)?;
            Ok(tensor)
        }))
    }
}

fn is_ascending<T: PartialOrd>(values: &[T]) -> bool {
    values.windows(2).all(|pair| pair[0] < pair[1])
}
