//! What a pass computes, as PE sets see it.

use mercury_trace::geometry::{Conv2d, Gemm, Geometry, Pass};
use mercury_trace::windows::{Axis, Windows};

/// One product of a pass: every (sample, channel) of a group meets all filters of that group.
///
/// The pair (sample, channel) is what a PE set works on at a time: a plane of output rows, each of
/// them `output[1]` positions of `kernel[0] x kernel[1]` taps.
///
/// | pass | channels | filters | window |
/// | --- | --- | --- | --- |
/// | forward | of X | of W | k x k of X |
/// | input gradient | of dY | channels of X | taps of one residue walk over dY |
/// | weight gradient | of X | of W | k x k of X, as in the forward pass |
///
/// The weight gradient runs on the forward pass's PE sets (our reading; Eyeriss does inference
/// alone): a PE keeps a kernel row of the gradient where it kept one of the filter, and takes a row
/// of the patch times one value of dY, so a computed position costs `kernel[1]` cycles as there.
///
/// A matrix product has one channel, whose "planes" are rows of vectors: its vectors of `length`
/// elements are spread over the PEs of a set, and how many of them make an output row is the
/// mapping's choice ([`Shape::free`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// The pass.
    pub pass: Pass,
    /// Taps of a window, rows and columns.
    pub kernel: [u64; 2],
    /// Output rows of a plane, and positions in one.
    pub output: [u64; 2],
    /// Coordinates from one position to the next.
    pub stride: [u64; 2],
    /// Coordinates from one tap to the next.
    pub dilation: [u64; 2],
    /// Channels of a group.
    pub channels: u64,
    /// Filters of a group.
    pub filters: u64,
    /// Groups; of an attention product, heads times samples, each with weights of its own.
    pub groups: u64,
    /// Samples that meet the same filters.
    pub samples: u64,
    /// Whether every channel meets the same filters, as the rows of a projection are.
    pub shared_filters: bool,
    /// Whether this is a matrix product, `kernel` `[1, length]` and `output` `[vectors, 1]`, whose
    /// vectors the mapping may cut into kernel rows and gather into output rows.
    pub free: bool,
}

impl Shape {
    /// One product of a convolution's pass: `windows` is one of [`Conv2d::windows`].
    pub fn of_windows(conv: &Conv2d, pass: Pass, windows: &Windows, samples: u64) -> Self {
        let pair = |of: fn(&Axis) -> u32| [u64::from(of(&windows.y)), u64::from(of(&windows.x))];
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
            shared_filters: false,
            free: false,
        }
    }

    /// `samples` times `vectors` rows of `length` elements with `filters` columns, and that for each
    /// of `groups` right operands.
    pub fn of_rows(pass: Pass, vectors: u64, length: u64, filters: u64, groups: u64, samples: u64) -> Self {
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
            shared_filters: false,
            free: true,
        }
    }

    /// The products of a layer's pass, in the order of [`Geometry::gemms`].
    ///
    /// A fully connected layer's plane is the whole batch (scope `batch`), or the rows of one sample
    /// if `per_sample` (scope `sample`). An attention product's plane is always one head of one sample.
    pub fn of_layer(geometry: &Geometry, pass: Pass, samples: u32, per_sample: bool) -> Vec<Self> {
        let batch = u64::from(samples);
        if let Geometry::Conv2d(conv) = geometry {
            return conv.windows(pass).iter().map(|windows| Self::of_windows(conv, pass, windows, batch)).collect();
        }
        let (planes, samples) = match geometry {
            Geometry::Linear(_) if per_sample => (batch, batch),
            _ => (1, 1),
        };
        let of = |Gemm { m, k, n, count }: Gemm| {
            // Of a weight gradient the reduction runs over the vectors.
            let (vectors, length) = if pass == Pass::WeightGrad { (k, m) } else { (m, k) };
            Self::of_rows(pass, vectors / planes, length, n, count, samples)
        };
        geometry.gemms(pass, batch as u32).into_iter().map(of).collect()
    }

    /// The product that computes signatures of `bits` bits of the same vectors: the projection's rows
    /// are filters, the same for every channel.
    #[must_use]
    pub fn signatures(self, bits: u64) -> Self {
        // A signature is computed when vectors are first streamed, which is never in a weight gradient.
        Self { filters: bits, shared_filters: true, ..self }
    }

    /// Multiply-accumulates.
    pub fn macs(&self) -> u64 {
        let positions = self.output[0] * self.output[1] * self.samples;
        positions * self.kernel[0] * self.kernel[1] * self.channels * self.filters * self.groups
    }

    /// (sample, channel) pairs.
    pub fn scopes(&self) -> u64 {
        self.samples * self.channels * self.groups
    }

    /// Words of all filters.
    pub fn filter_words(&self) -> u64 {
        let one = self.kernel[0] * self.kernel[1] * self.filters;
        if self.shared_filters { one } else { one * self.channels * self.groups }
    }

    /// Rows of the input plane that `rows` consecutive output rows touch.
    pub fn touched_rows(&self, rows: u64) -> u64 {
        touched(rows, self.kernel[0], self.stride[0], self.dilation[0])
    }

    /// Columns of the input plane that an output row touches, padding included.
    pub fn touched_columns(&self) -> u64 {
        touched(self.output[1], self.kernel[1], self.stride[1], self.dilation[1])
    }
}

/// Coordinates that `positions` windows of `taps` taps touch: they overlap, or lie apart.
fn touched(positions: u64, taps: u64, stride: u64, dilation: u64) -> u64 {
    let reach = positions.saturating_sub(1) * stride + taps.saturating_sub(1) * dilation + 1;
    reach.min(positions * taps)
}
