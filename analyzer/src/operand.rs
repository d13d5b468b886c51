//! What a pass streams and what it meets: a layer's captured tensors as vectors and weights.

use crate::error::{AnalyzerError, Result};
use mercury_hardware::timed::LayerExtent;
use mercury_reuse::config::Granularity;
use mercury_reuse::{Cut, SampleRange, VectorView};
use mercury_trace::geometry::{Geometry, Pass};
use mercury_trace::layers::Layer;
use mercury_trace::manifest::CapturedStep;
use mercury_trace::read::Tensor;
use mercury_trace::tensor::TensorKind;
use mercury_trace::{SampleReader, Trace};
use std::ops::Range;
use std::sync::Arc;

/// The part of a layer that a captured step has kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The layer.
    pub layer: Layer,
    /// The training step.
    pub step: u64,
    /// Place of the first sample among those that the step has captured.
    pub first_captured: usize,
    /// Samples.
    pub samples: usize,
    /// Channels of X.
    pub channels: Vec<u32>,
    /// Channels of dY.
    pub grad_channels: Vec<u32>,
    /// Filters.
    pub filters: Vec<u32>,
    /// Whether dY was captured and is read.
    pub has_grad_output: bool,
    /// Whether W was captured and is read.
    pub has_weight: bool,
}

/// A layer of a captured step, read from the trace: all kept samples or some.
pub struct LayerData {
    /// What was kept in all.
    pub kept: Arc<Kept>,
    /// The first sample's place among the kept ones.
    pub first_sample: usize,
    /// Samples that are here.
    pub samples: usize,
    /// X.
    pub input: Tensor,
    /// dY, where it was captured.
    pub grad_output: Option<Tensor>,
    /// W, where it was captured: of all samples.
    pub weight: Option<Arc<Tensor>>,
}

/// Which tensors beside X are read, where they were captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// dY.
    pub grad_output: bool,
    /// W.
    pub weight: bool,
}

impl Needs {
    /// All.
    pub const ALL: Self = Self { grad_output: true, weight: true };
}

/// Reads a layer some samples at a time.
pub struct LayerReader<'a> {
    kept: Arc<Kept>,
    first_sample: usize,
    at_a_time: usize,
    input: SampleReader<'a>,
    grad_output: Option<SampleReader<'a>>,
    weight: Option<Arc<Tensor>>,
}

impl<'a> LayerReader<'a> {
    /// Opens the layer's files of a step; X must be there. W is read.
    pub fn open(
        trace: &'a Trace,
        step: &'a CapturedStep,
        layer: &'a Layer,
        at_a_time: usize,
        kept: Arc<Kept>,
    ) -> Result<Self> {
        let range = kept.first_captured..kept.first_captured + kept.samples;
        let read_samples = |kind| trace.samples(step, layer, kind, at_a_time)?.with_range(range.clone());
        let read_weight = || trace.tensor(step, layer, TensorKind::Weight).map(Arc::new);
        Ok(Self {
            first_sample: 0,
            at_a_time: at_a_time.max(1),
            input: read_samples(TensorKind::Input)?,
            grad_output: kept.has_grad_output.then(|| read_samples(TensorKind::GradOutput)).transpose()?,
            weight: kept.has_weight.then(read_weight).transpose()?,
            kept,
        })
    }

    fn read(&mut self) -> Result<Option<LayerData>> {
        let Some(input) = self.input.next().transpose()? else { return Ok(None) };
        let grad_output = self.grad_output.as_mut().and_then(Iterator::next).transpose()?;
        let first_sample = self.first_sample;
        let samples = self.at_a_time.min(self.kept.samples - first_sample);
        self.first_sample += samples;
        let (kept, weight) = (Arc::clone(&self.kept), self.weight.clone());
        Ok(Some(LayerData { kept, first_sample, samples, input, grad_output, weight }))
    }
}

impl Iterator for LayerReader<'_> {
    type Item = Result<LayerData>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

impl LayerData {
    /// Reads the layer's tensors of a step whole; X must be there.
    pub fn read(trace: &Trace, step: &CapturedStep, layer: &Layer, needs: Needs) -> Result<Self> {
        let kept = Arc::new(Kept::new(trace, step, layer, needs));
        let mut reader = LayerReader::open(trace, step, layer, step.samples.len(), kept)?;
        reader.next().expect("a captured step has samples")
    }

    /// Whether these are the last of the kept samples.
    pub fn is_last(&self) -> bool {
        self.first_sample + self.samples == self.kept.samples
    }

    /// The tensor that a pass cuts its vectors from: dY for the input gradient, else X.
    pub fn streamed(&self, pass: Pass) -> Option<&Tensor> {
        if pass == Pass::InputGrad { self.grad_output.as_ref() } else { Some(&self.input) }
    }

    /// The vectors of a pass, one view for each product of [`Geometry::gemms`]; none where the
    /// tensor was not captured.
    pub fn views(&self, pass: Pass, granularity: Granularity) -> Result<Vec<VectorView<'_>>> {
        let Some(tensor) = self.streamed(pass) else { return Ok(Vec::new()) };
        let part = SampleRange { first: self.first_sample, of: self.kept.samples };
        let channels = self.kept.check_cut(pass, granularity)?;
        let geometry = &self.kept.layer.geometry;
        let views = mercury_reuse::views(geometry, pass, granularity, &tensor.values, self.samples, channels);
        Ok(views.into_iter().map(|view| view.with_range(part)).collect())
    }
}

impl Kept {
    /// The part that a trace has of a layer in a step; dY and W as far as they are needed.
    pub fn new(trace: &Trace, step: &CapturedStep, layer: &Layer, needs: Needs) -> Self {
        let was_captured = |kind| trace.file(step, &layer.name, kind).is_some();
        Self {
            layer: layer.clone(),
            step: step.step,
            first_captured: 0,
            samples: step.samples.len(),
            channels: trace.kept(layer, TensorKind::Input),
            grad_channels: trace.kept(layer, TensorKind::GradOutput),
            filters: trace.kept(layer, TensorKind::Weight),
            has_grad_output: needs.grad_output && was_captured(TensorKind::GradOutput),
            has_weight: needs.weight && was_captured(TensorKind::Weight),
        }
    }

    /// Some of these samples.
    #[must_use]
    pub fn with_samples(self, samples: Range<usize>) -> Self {
        Self { first_captured: samples.start, samples: samples.len(), ..self }
    }

    /// Whether the tensor was captured that a pass cuts its vectors from.
    pub fn has_streamed(&self, pass: Pass) -> bool {
        pass != Pass::InputGrad || self.has_grad_output
    }

    /// How a pass's vectors are cut from kept channels, by product of [`Geometry::gemms`]; of so many samples.
    pub fn cuts(&self, pass: Pass, granularity: Granularity, samples: usize) -> Result<Vec<Cut>> {
        let channels = self.check_cut(pass, granularity)?;
        Ok(mercury_reuse::cuts(&self.layer.geometry, pass, granularity, samples, channels))
    }

    /// Kept channels of the tensor that a pass streams.
    fn check_cut(&self, pass: Pass, granularity: Granularity) -> Result<usize> {
        let Geometry::Conv2d(conv) = &self.layer.geometry else { return Ok(1) };
        let (kept, all) = match pass {
            Pass::InputGrad => (&self.grad_channels, conv.out_channels),
            Pass::Forward | Pass::WeightGrad => (&self.channels, conv.in_channels),
        };
        let channels = kept.len();
        if granularity != Granularity::CHANNEL_PATCH && channels != all as usize {
            let reason = format!(
                "only {channels} of {all} channels were captured, but vectors of granularity {granularity} span \
                 channels; capture without --channels, or set rpq.granularity to channel-patch"
            );
            return Err(AnalyzerError::Layer { layer: self.layer.name.clone(), reason });
        }
        Ok(channels)
    }

    /// The extent of the layer that timing knows.
    pub fn extent(&self) -> LayerExtent {
        LayerExtent {
            geometry: self.layer.geometry,
            samples: self.samples,
            channels: self.channels.len(),
            grad_channels: self.grad_channels.len(),
        }
    }

    /// Whether each sample meets weights of its own.
    pub fn weights_change_with_sample(&self) -> bool {
        self.extent().weights_change_with_sample()
    }
}
