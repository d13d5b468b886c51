//! What a pass streams and what it meets: a layer's captured tensors as vectors and weights.

use crate::error::{AnalyzerError, Result};
use mercury_reuse::config::{Granularity, Scope};
use mercury_reuse::{Planes, VectorView};
use mercury_trace::Trace;
use mercury_trace::geometry::{Geometry, Pass};
use mercury_trace::layers::Layer;
use mercury_trace::manifest::CapturedStep;
use mercury_trace::read::Tensor;
use mercury_trace::tensor::TensorKind;

/// A layer of a captured step, read from the trace.
pub struct LayerData {
    /// The layer.
    pub layer: Layer,
    /// Kept samples.
    pub samples: usize,
    /// X.
    pub input: Tensor,
    /// dY, where it was captured.
    pub grad_output: Option<Tensor>,
    /// W, where it was captured.
    pub weight: Option<Tensor>,
    /// Kept channels of X.
    pub channels: Vec<u32>,
    /// Kept channels of dY.
    pub grad_channels: Vec<u32>,
    /// Kept filters.
    pub filters: Vec<u32>,
}

impl LayerData {
    /// Reads the layer's tensors of a step; X must be there.
    pub fn read(trace: &Trace, step: &CapturedStep, layer: &Layer) -> Result<Self> {
        let optional = |kind| trace.file(step, &layer.name, kind).map(|_| trace.tensor(step, layer, kind)).transpose();
        Ok(Self {
            layer: layer.clone(),
            samples: step.samples.len(),
            input: trace.tensor(step, layer, TensorKind::Input)?,
            grad_output: optional(TensorKind::GradOutput)?,
            weight: optional(TensorKind::Weight)?,
            channels: trace.kept(layer, TensorKind::Input),
            grad_channels: trace.kept(layer, TensorKind::GradOutput),
            filters: trace.kept(layer, TensorKind::Weight),
        })
    }

    /// The tensor that a pass cuts its vectors from: dY for the input gradient, else X.
    pub fn streamed(&self, pass: Pass) -> Option<&Tensor> {
        if pass == Pass::InputGrad { self.grad_output.as_ref() } else { Some(&self.input) }
    }

    /// The vectors of a pass, one view for each product of [`Geometry::gemms`]; none where the
    /// tensor was not captured.
    pub fn views(&self, pass: Pass, granularity: Granularity) -> Result<Vec<VectorView<'_>>> {
        let Some(tensor) = self.streamed(pass) else { return Ok(Vec::new()) };
        let values = tensor.values.as_slice();
        let samples = self.samples;
        let rows = |heads: u32, rows: u32| {
            let length = tensor.shape.width as u32;
            vec![VectorView::of_rows(values, samples, heads as usize, rows, length, granularity)]
        };
        match self.layer.geometry {
            Geometry::Linear(linear) => Ok(rows(1, linear.rows)),
            Geometry::Attention(attention) => Ok(rows(attention.heads, attention.rows)),
            Geometry::Conv2d(conv) => {
                let (kept, all, [height, width]) = match pass {
                    Pass::InputGrad => (&self.grad_channels, conv.out_channels, conv.output()),
                    Pass::Forward | Pass::WeightGrad => (&self.channels, conv.in_channels, conv.input),
                };
                // A channel patch stands alone, so any channels will do; longer vectors need all.
                let groups = if granularity == Granularity::ChannelPatch { 1 } else { conv.groups as usize };
                if granularity != Granularity::ChannelPatch && kept.len() != all as usize {
                    let reason = format!(
                        "only {} of {all} channels were captured, but vectors of granularity {granularity} span \
                         channels; capture without --channels, or set rpq.granularity to channel-patch",
                        kept.len()
                    );
                    return Err(AnalyzerError::Layer { layer: self.layer.name.clone(), reason });
                }
                let planes = Planes { values, samples, channels: kept.len(), height, width };
                let view = |windows| VectorView::new(planes, windows, groups, granularity);
                Ok(conv.windows(pass).into_iter().map(view).collect())
            }
        }
    }

    /// Streams that the whole layer has, where a view of what was captured has `captured`.
    pub fn streams_in_all(&self, pass: Pass, captured: usize) -> u64 {
        let Geometry::Conv2d(conv) = self.layer.geometry else { return captured as u64 };
        let (kept, all) = match pass {
            Pass::InputGrad => (self.grad_channels.len(), conv.out_channels),
            Pass::Forward | Pass::WeightGrad => (self.channels.len(), conv.in_channels),
        };
        // Exact: less than all channels are kept only where each is a stream.
        captured as u64 * u64::from(all) / kept as u64
    }

    /// The scope in which the layer's MCACHE lives.
    pub fn scope(&self, convolution: Scope, linear: Scope) -> Scope {
        match (self.layer.geometry, linear) {
            (Geometry::Conv2d(_), _) => convolution,
            // The right operand, which takes the part of the weights, changes with the sample.
            (Geometry::Attention(_), Scope::Batch) => Scope::Sample,
            (Geometry::Attention(_) | Geometry::Linear(_), linear) => linear,
        }
    }
}
