//! MobileNetV2: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (CVPR
//! 2018), table 2.

use super::Model;
use super::modules::{AveragePool, BatchNorm, Context, Conv, Dropout, Flatten, Module, Relu6, Sequence, linear};
use crate::weights::{Init, ModulePath};
use tch::Tensor;

const EPSILON: f64 = 1e-5;

/// Per row of table 2: expansion, filters, repetitions, stride of the first repetition.
const BLOCKS: [(i64, i64, u32, i64); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

pub fn mobilenet_v2(root: &ModulePath, channels: i64, classes: i64) -> Box<dyn Model> {
    let features = root.at("features");
    let stem = Conv::square(channels, 32, 3).stride(2).same_padding();
    let mut model = Sequence::default().add(conv_norm_relu6(&features.at(0), stem, 32));
    let (mut channels, mut index) = (32, 1);
    for (expansion, filters, repetitions, first_stride) in BLOCKS {
        for repetition in 0..repetitions {
            let stride = if repetition == 0 { first_stride } else { 1 };
            model = model.add(InvertedResidual::new(&features.at(index), channels, filters, stride, expansion));
            channels = filters;
            index += 1;
        }
    }
    let model = model
        .add(conv_norm_relu6(&features.at(index), Conv::square(channels, 1280, 1), 1280))
        .add(AveragePool(1))
        .add(Flatten)
        .add(Dropout(0.2))
        .add(linear(&root.at("classifier").at(1), 1280, classes, Init::Normal(0.01)));
    Box::new(model)
}

/// Builds torchvision's `Conv2dNormActivation`: a convolution (0), normalisation (1) and ReLU6.
fn conv_norm_relu6(path: &ModulePath, conv: Conv, filters: i64) -> Sequence {
    let layer = conv.init(Init::KaimingNormal).build(&path.at(0));
    Sequence::default().add(layer).add(BatchNorm::new(&path.at(1), filters, EPSILON)).add(Relu6)
}

struct InvertedResidual {
    conv: Sequence,
    residual: bool,
}

impl InvertedResidual {
    fn new(path: &ModulePath, channels: i64, filters: i64, stride: i64, expansion: i64) -> Self {
        let path = path.at("conv");
        let hidden = channels * expansion;
        let mut conv = Sequence::default();
        let mut index = 0;
        if expansion != 1 {
            conv = conv.add(conv_norm_relu6(&path.at(index), Conv::square(channels, hidden, 1), hidden));
            index += 1;
        }
        let depthwise = Conv::square(hidden, hidden, 3).stride(stride).same_padding().depthwise();
        let projection = Conv::square(hidden, filters, 1).init(Init::KaimingNormal);
        let conv = conv
            .add(conv_norm_relu6(&path.at(index), depthwise, hidden))
            .add(projection.build(&path.at(index + 1)))
            .add(BatchNorm::new(&path.at(index + 2), filters, EPSILON));
        Self { conv, residual: stride == 1 && channels == filters }
    }
}

impl Module for InvertedResidual {
    fn apply(&self, x: &Tensor, context: &mut Context) -> Tensor {
        let y = self.conv.apply(x, context);
        if self.residual { x + y } else { y }
    }
}
