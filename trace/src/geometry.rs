//! Layer geometry: the sizes of a layer, and the matrix products of each of its passes.

use crate::kind::TensorKind;
use crate::windows::{Axis, Windows};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Maximum of any dimension.
pub const MAX_DIMENSION: u32 = 1 << 24;

/// Maximum multiply-accumulates of a layer per sample; with [`MAX_BATCH`], no count overflows 64
/// bits.
pub const MAX_MACS: u128 = 1 << 40;

/// Maximum number of values in a row of a tensor file: 1 GiB of f32.
pub const MAX_WIDTH: u64 = 1 << 28;

/// Maximum number of samples per training step.
pub const MAX_BATCH: u32 = 1 << 20;

/// One of the three matrix products of a layer in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pass {
    /// Y = X W.
    Forward,
    /// dX = dY Wᵀ.
    InputGrad,
    /// dW = Xᵀ dY.
    WeightGrad,
}

impl Pass {
    /// All passes, in the order of training.
    pub const ALL: [Pass; 3] = [Pass::Forward, Pass::InputGrad, Pass::WeightGrad];

    /// The tensors that the pass multiplies.
    pub fn operands(self) -> [TensorKind; 2] {
        match self {
            Pass::Forward => [TensorKind::Input, TensorKind::Weight],
            Pass::InputGrad => [TensorKind::GradOutput, TensorKind::Weight],
            Pass::WeightGrad => [TensorKind::Input, TensorKind::GradOutput],
        }
    }

    /// The name used in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Pass::Forward => "forward",
            Pass::InputGrad => "input-grad",
            Pass::WeightGrad => "weight-grad",
        }
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// `count` matrix products of `m x k` with `k x n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gemm {
    /// Rows of the left operand (vectors).
    pub m: u64,
    /// Length of the reduction.
    pub k: u64,
    /// Columns of the right operand (filters).
    pub n: u64,
    /// Number of products: groups, or heads times samples.
    pub count: u64,
}

impl Gemm {
    /// Counts the multiply-accumulates of all products.
    pub fn macs(&self) -> u64 {
        self.m * self.k * self.n * self.count
    }
}

/// A 2-D convolution on one sample; pairs are `[rows, columns]`. A 1-D convolution has one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conv2d {
    /// Channels of the input.
    pub in_channels: u32,
    /// Filters.
    pub out_channels: u32,
    /// Size of an input plane.
    pub input: [u32; 2],
    /// Size of the kernel.
    pub kernel: [u32; 2],
    /// Input elements from one output to the next.
    pub stride: [u32; 2],
    /// Zeros on each side of a plane.
    pub padding: [u32; 2],
    /// Input elements from one kernel element to the next.
    pub dilation: [u32; 2],
    /// Independent groups of channels and filters.
    pub groups: u32,
}

impl Conv2d {
    /// Computes the size of an output plane:
    /// `floor((input + 2 padding - dilation (kernel - 1) - 1) / stride) + 1`.
    pub fn output(&self) -> [u32; 2] {
        [0, 1].map(|axis| {
            let reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
            (self.input[axis] + 2 * self.padding[axis] - reach) / self.stride[axis] + 1
        })
    }

    /// Lists the windows that a pass cuts from the planes of its streamed operand.
    ///
    /// The forward pass and the weight gradient have one grid over X. The input gradient has one
    /// grid over dY for each residue of the stride, see [`Axis::input_grad`].
    pub fn windows(&self, pass: Pass) -> Vec<Windows> {
        let output = self.output();
        if pass == Pass::InputGrad {
            let axis = |i: usize| {
                Axis::input_grad(self.input[i], self.kernel[i], self.stride[i], self.padding[i], self.dilation[i])
            };
            let columns = axis(1);
            axis(0).into_iter().flat_map(|y| columns.iter().map(move |&x| Windows { y, x })).collect()
        } else {
            let axis =
                |i: usize| Axis::forward(output[i], self.kernel[i], self.stride[i], self.padding[i], self.dilation[i]);
            vec![Windows { y: axis(0), x: axis(1) }]
        }
    }
}

/// A fully connected layer on one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linear {
    /// Rows of a sample: 1, or the tokens of a sequence.
    pub rows: u32,
    /// Length of an input row.
    pub in_features: u32,
    /// Length of an output row.
    pub out_features: u32,
}

/// Matrix products of two activations on one sample, such as those of attention: per head, a left
/// operand of `rows x inner` times a right operand of `inner x columns`, which stands in for the
/// weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matmul {
    /// Products per sample; in attention, its heads.
    pub heads: u32,
    /// Rows of the left operand.
    pub rows: u32,
    /// Length of the reduction.
    pub inner: u32,
    /// Columns of the right operand.
    pub columns: u32,
}

/// The operation and the sizes of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Geometry {
    /// A 2-D convolution.
    Conv2d(Conv2d),
    /// A fully connected layer.
    Linear(Linear),
    /// A product of two activations.
    Matmul(Matmul),
}

impl Geometry {
    /// The operation's name in files.
    pub fn op(&self) -> &'static str {
        match self {
            Geometry::Conv2d(_) => "conv2d",
            Geometry::Linear(_) => "linear",
            Geometry::Matmul(_) => "matmul",
        }
    }

    /// Checks that the layer can be computed; the error names the invalid number.
    pub fn validate(&self) -> Result<(), String> {
        self.validate_dimensions()?;
        let sizes: [u32; 3] = match self {
            Geometry::Conv2d(conv) => {
                let [rows, columns] = conv.output();
                [rows, columns, conv.out_channels]
            }
            Geometry::Linear(linear) => [linear.rows, linear.out_features, 1],
            Geometry::Matmul(matmul) => [matmul.heads, matmul.rows, matmul.columns],
        };
        let macs = sizes.iter().map(|&size| u128::from(size)).product::<u128>() * self.filter_length_u128();
        if macs > MAX_MACS {
            return Err(format!("has {macs} multiply-accumulates per sample, more than {MAX_MACS}"));
        }
        if let Geometry::Conv2d(conv) = self {
            let largest = [conv.input, conv.output()].iter().map(|[h, w]| u64::from(*h) * u64::from(*w)).max();
            if largest > Some(MAX_WIDTH) {
                return Err(format!("has planes of more than {MAX_WIDTH} values"));
            }
        }
        if self.filter_length_u128() > u128::from(MAX_WIDTH) {
            return Err(format!("has filters of more than {MAX_WIDTH} values"));
        }
        Ok(())
    }

    fn filter_length_u128(&self) -> u128 {
        match self {
            Geometry::Conv2d(conv) => {
                let sizes = [conv.in_channels / conv.groups, conv.kernel[0], conv.kernel[1]];
                sizes.iter().map(|&size| u128::from(size)).product()
            }
            Geometry::Linear(linear) => u128::from(linear.in_features),
            Geometry::Matmul(matmul) => u128::from(matmul.inner),
        }
    }

    fn validate_dimensions(&self) -> Result<(), String> {
        match self {
            Geometry::Conv2d(conv) => {
                check_dimension("in_channels", conv.in_channels, 1)?;
                check_dimension("out_channels", conv.out_channels, 1)?;
                check_dimension("groups", conv.groups, 1)?;
                for axis in 0..2 {
                    check_dimension("input", conv.input[axis], 1)?;
                    check_dimension("kernel", conv.kernel[axis], 1)?;
                    check_dimension("stride", conv.stride[axis], 1)?;
                    check_dimension("padding", conv.padding[axis], 0)?;
                    check_dimension("dilation", conv.dilation[axis], 1)?;
                    let reach = u64::from(conv.dilation[axis]) * u64::from(conv.kernel[axis] - 1) + 1;
                    let padded = u64::from(conv.input[axis]) + 2 * u64::from(conv.padding[axis]);
                    if reach > padded {
                        return Err(format!("kernel reaches over {reach} elements, but the padded input has {padded}"));
                    }
                }
                if conv.in_channels % conv.groups != 0 || conv.out_channels % conv.groups != 0 {
                    return Err(format!(
                        "groups is {}, which must divide in_channels ({}) and out_channels ({})",
                        conv.groups, conv.in_channels, conv.out_channels
                    ));
                }
                Ok(())
            }
            Geometry::Linear(linear) => {
                check_dimension("rows", linear.rows, 1)?;
                check_dimension("in_features", linear.in_features, 1)?;
                check_dimension("out_features", linear.out_features, 1)
            }
            Geometry::Matmul(matmul) => {
                check_dimension("heads", matmul.heads, 1)?;
                check_dimension("rows", matmul.rows, 1)?;
                check_dimension("inner", matmul.inner, 1)?;
                check_dimension("columns", matmul.columns, 1)
            }
        }
    }

    /// Lists the matrix products of a pass for `samples` samples.
    ///
    /// Like im2col, they include multiplications with padding. A strided input gradient has no
    /// multiplications with inserted zeros.
    ///
    /// ```
    /// use mercury_trace::geometry::{Geometry, Gemm, Linear, Pass};
    /// let layer = Geometry::Linear(Linear { rows: 1, in_features: 512, out_features: 10 });
    /// assert_eq!(layer.gemms(Pass::Forward, 32), [Gemm { m: 32, k: 512, n: 10, count: 1 }]);
    /// assert_eq!(layer.gemms(Pass::WeightGrad, 32), [Gemm { m: 512, k: 32, n: 10, count: 1 }]);
    /// ```
    pub fn gemms(&self, pass: Pass, samples: u32) -> Vec<Gemm> {
        let samples = u64::from(samples);
        let product = |vectors: u64, length: u64, filters: u64, count: u64| match pass {
            Pass::Forward => Gemm { m: vectors, k: length, n: filters, count },
            Pass::InputGrad => Gemm { m: vectors, k: filters, n: length, count },
            Pass::WeightGrad => Gemm { m: length, k: vectors, n: filters, count },
        };
        match *self {
            Geometry::Conv2d(conv) => {
                let groups = u64::from(conv.groups);
                let channels = u64::from(conv.in_channels) / groups;
                let filters = u64::from(conv.out_channels) / groups;
                let mut gemms = Vec::new();
                for windows in conv.windows(pass) {
                    let vectors = samples * windows.positions() as u64;
                    let taps = windows.taps() as u64;
                    gemms.push(match pass {
                        Pass::InputGrad => Gemm { m: vectors, k: filters * taps, n: channels, count: groups },
                        _ => product(vectors, channels * taps, filters, groups),
                    });
                }
                gemms
            }
            Geometry::Linear(linear) => vec![product(
                samples * u64::from(linear.rows),
                u64::from(linear.in_features),
                u64::from(linear.out_features),
                1,
            )],
            Geometry::Matmul(matmul) => vec![product(
                u64::from(matmul.rows),
                u64::from(matmul.inner),
                u64::from(matmul.columns),
                samples * u64::from(matmul.heads),
            )],
        }
    }

    /// Counts the multiply-accumulates of the forward pass on one sample.
    pub fn macs(&self) -> u64 {
        self.gemms(Pass::Forward, 1).iter().map(Gemm::macs).sum()
    }

    /// Channels of the input, features of a row, or inner length of a product of two activations.
    pub fn inputs(&self) -> u32 {
        match self {
            Geometry::Conv2d(conv) => conv.in_channels,
            Geometry::Linear(linear) => linear.in_features,
            Geometry::Matmul(matmul) => matmul.inner,
        }
    }

    /// Filters, output features, or columns of the right operand.
    pub fn filters(&self) -> u32 {
        match self {
            Geometry::Conv2d(conv) => conv.out_channels,
            Geometry::Linear(linear) => linear.out_features,
            Geometry::Matmul(matmul) => matmul.columns,
        }
    }

    /// Elements of one filter.
    pub fn filter_length(&self) -> usize {
        self.filter_length_u128() as usize
    }
}

/// Checks that a dimension is between `least` and [`MAX_DIMENSION`].
fn check_dimension(name: &str, value: u32, least: u32) -> Result<(), String> {
    if (least..=MAX_DIMENSION).contains(&value) {
        return Ok(());
    }
    Err(format!("{name} is {value}, but must be between {least} and {MAX_DIMENSION}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conv(stride: u32, groups: u32) -> Conv2d {
        Conv2d {
            in_channels: 8,
            out_channels: 16,
            input: [28, 28],
            kernel: [3, 3],
            stride: [stride; 2],
            padding: [1; 2],
            dilation: [1; 2],
            groups,
        }
    }

    #[test]
    fn a_convolution_is_the_products_of_its_im2col() {
        let layer = Geometry::Conv2d(conv(1, 2));
        assert_eq!(layer.gemms(Pass::Forward, 3), [Gemm { m: 3 * 784, k: 36, n: 8, count: 2 }]);
        assert_eq!(layer.gemms(Pass::InputGrad, 3), [Gemm { m: 3 * 784, k: 72, n: 4, count: 2 }]);
        assert_eq!(layer.gemms(Pass::WeightGrad, 3), [Gemm { m: 36, k: 3 * 784, n: 8, count: 2 }]);
        assert_eq!(layer.macs(), 784 * 36 * 8 * 2);
    }

    #[test]
    fn a_strided_input_gradient_multiplies_no_inserted_zeros() {
        let layer = Geometry::Conv2d(conv(2, 1));
        let gemms = layer.gemms(Pass::InputGrad, 1);
        assert_eq!(gemms.len(), 4);
        let macs: u64 = gemms.iter().map(Gemm::macs).sum();
        // 3x3 at stride 2: the four residues have 4 + 2 + 2 + 1 = 9 taps, each at 14 x 14
        // positions.
        assert_eq!(macs, 14 * 14 * 9 * 16 * 8);
        assert_eq!(macs, layer.macs());
    }

    #[test]
    fn impossible_layers_are_refused() {
        let mut layer = conv(1, 3);
        assert!(Geometry::Conv2d(layer).validate().unwrap_err().contains("groups is 3"));
        layer.groups = 1;
        layer.kernel = [31, 3];
        assert!(Geometry::Conv2d(layer).validate().unwrap_err().contains("padded input has 30"));
        layer.kernel = [0, 3];
        assert!(Geometry::Conv2d(layer).validate().unwrap_err().contains("kernel is 0"));
    }
}
