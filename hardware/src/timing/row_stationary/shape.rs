//! The computation of a pass, from the point of view of PE sets.

use mercury_trace::geometry::{Conv2d, Gemm, Geometry, Pass};
use mercury_trace::windows::{Axis, Windows};

/// One product of a pass. Every (sample, channel) pair of a group meets all filters of that group.
///
/// A PE set works on one (sample, channel) pair at a time. The pair has a plane of output rows,
/// each with `output[1]` positions of `kernel[0] x kernel[1]` taps.
///
/// | pass | channels | filters | window |
/// | --- | --- | --- | --- |
/// | forward | of X | of W | k x k of X |
/// | input gradient | of dY | channels of X | taps of one residue walk over dY |
/// | weight gradient | of X | of W | k x k of X, as in the forward pass |
///
/// The weight gradient runs on the PE sets of the forward pass. This is our reading, because
/// Eyeriss does only inference. A PE keeps a kernel row of the gradient instead of the filter, and
/// multiplies a row of the patch by one value of dY. So a computed position costs `kernel[1]`
/// cycles, as in the forward pass.
///
/// A matrix product has one channel, whose planes consist of rows of vectors. Its vectors of
/// `length` elements are spread over the PEs of a set. The mapping chooses how many vectors make an
/// output row ([`Shape::free`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// The pass.
    pub pass: Pass,
    /// Taps of a window, rows and columns.
    pub kernel: [u64; 2],
    /// Output rows of a plane, and positions in one.
    pub output: [u64; 2],
    /// Distance of neighbouring positions, in coordinates.
    pub stride: [u64; 2],
    /// Distance of neighbouring taps, in coordinates.
    pub dilation: [u64; 2],
    /// Channels of a group.
    pub channels: u64,
    /// Filters of a group.
    pub filters: u64,
    /// Groups. For a product of two activations: heads times samples, each with its own right operand.
    pub groups: u64,
    /// Samples that meet the same filters.
    pub samples: u64,
    /// Of a projection, the channels of a vector: every vector meets the same filters. `None` if each channel of each
    /// group meets filters of its own.
    pub shared_filters: Option<u64>,
    /// Whether this is a matrix product, with `kernel` `[1, length]` and `output` `[vectors, 1]`.
    /// The mapping may cut its vectors into kernel rows and gather them into output rows.
    pub free: bool,
}

impl Shape {
    /// One product of a pass of a convolution. `windows` is one of [`Conv2d::windows`].
    pub fn from_windows(conv: &Conv2d, pass: Pass, windows: &Windows, samples: u64) -> Self {
        let pair = |size: fn(&Axis) -> u32| [u64::from(size(&windows.y)), u64::from(size(&windows.x))];
        let groups = u64::from(conv.groups);
        let [inputs, outputs] = [conv.in_channels, conv.out_channels].map(|channels| u64::from(channels) / groups);
        let (channels, filters) = if pass == Pass::InputGrad { (outputs, inputs) } else { (inputs, outputs) };
        Self {
            pass,
            kernel: pair(|axis| axis.taps),
            output: pair(|axis| axis.positions),
            stride: pair(|axis| axis.stride),
            dilation: pair(|axis| axis.step),
            channels,
            filters,
            groups,
            samples,
            shared_filters: None,
            free: false,
        }
    }

    /// A matrix product for each of `groups` right operands: `samples` times `vectors` rows of
    /// `length` elements, with `filters` columns.
    pub fn from_rows(pass: Pass, vectors: u64, length: u64, filters: u64, groups: u64, samples: u64) -> Self {
        Self {
            pass,
            kernel: [1, length],
            output: [vectors, 1],
            stride: [1, 1],
            dilation: [1, 1],
            channels: 1,
            filters,
            groups,
            samples,
            shared_filters: None,
            free: true,
        }
    }

    /// The products of a layer's pass, in the order of [`Geometry::gemms`].
    ///
    /// The plane of a fully connected layer is the whole batch (scope `batch`), or the rows of one
    /// sample if `per_sample` (scope `sample`). The plane of a product of two activations is always one
    /// head of one sample.
    pub fn from_layer(geometry: &Geometry, pass: Pass, samples: u32, per_sample: bool) -> Vec<Self> {
        let batch = u64::from(samples);
        if let Geometry::Conv2d(conv) = geometry {
            return conv.windows(pass).iter().map(|windows| Self::from_windows(conv, pass, windows, batch)).collect();
        }
        let (planes, samples) = match geometry {
            Geometry::Linear(_) if per_sample => (batch, batch),
            _ => (1, 1),
        };
        let to_shape = |Gemm { m, k, n, count }: Gemm| {
            // The reduction of a weight gradient runs over the vectors.
            let (vectors, length) = if pass == Pass::WeightGrad { (k, m) } else { (m, k) };
            Self::from_rows(pass, vectors / planes, length, n, count, samples)
        };
        geometry.gemms(pass, batch as u32).into_iter().map(to_shape).collect()
    }

    /// The product that computes signatures of `bits` bits for the same vectors, of `channels` channels each. The rows
    /// of the projection are its filters, the same for every vector.
    #[must_use]
    pub fn signatures(self, bits: u64, channels: u64) -> Self {
        // Signatures are computed when vectors are first streamed, so never in a weight gradient.
        Self { filters: bits, shared_filters: Some(channels), ..self }
    }

    /// Elements of a window in one channel.
    pub fn taps(&self) -> u64 {
        self.kernel[0] * self.kernel[1]
    }

    /// Multiply-accumulates.
    pub fn macs(&self) -> u64 {
        let positions = self.output[0] * self.output[1] * self.samples;
        positions * self.taps() * self.channels * self.filters * self.groups
    }

    /// Number of (sample, channel) pairs.
    pub fn scopes(&self) -> u64 {
        self.samples * self.channels * self.groups
    }

    /// Words of all filters.
    pub fn filter_words(&self) -> u64 {
        self.taps() * self.filters * self.shared_filters.unwrap_or(self.channels * self.groups)
    }

    /// Counts the rows of the input plane that `rows` consecutive output rows touch, including
    /// padding.
    pub fn touched_rows(&self, rows: u64) -> u64 {
        count_touched(rows, self.kernel[0], self.stride[0], self.dilation[0])
    }

    /// Counts the columns of the input plane that an output row touches, including padding.
    pub fn touched_columns(&self) -> u64 {
        count_touched(self.output[1], self.kernel[1], self.stride[1], self.dilation[1])
    }
}

/// Counts the coordinates that `positions` windows of `taps` taps touch, whether they overlap or
/// not.
fn count_touched(positions: u64, taps: u64, stride: u64, dilation: u64) -> u64 {
    let reach = positions.saturating_sub(1) * stride + taps.saturating_sub(1) * dilation + 1;
    reach.min(positions * taps)
}
