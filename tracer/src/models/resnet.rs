//! ResNet: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), table 1.
//!
//! As in torchvision, the 3 x 3 convolution of a downsampling block has the stride ("v1.5").

use super::Model;
use super::modules::{AveragePool, BatchNorm, Context, Conv, Flatten, MaxPool, Module, Relu, Sequence, linear};
use crate::weights::{Init, ModulePath};
use tch::Tensor;

const EPSILON: f64 = 1e-5;
/// Ratio of the filters of a block's output to those of its 3 x 3 convolution.
const EXPANSION: i64 = 4;

pub fn resnet50(root: &ModulePath, channels: i64, classes: i64) -> Box<dyn Model> {
    resnet(root, [3, 4, 6, 3], channels, classes)
}

pub fn resnet101(root: &ModulePath, channels: i64, classes: i64) -> Box<dyn Model> {
    resnet(root, [3, 4, 23, 3], channels, classes)
}

pub fn resnet152(root: &ModulePath, channels: i64, classes: i64) -> Box<dyn Model> {
    resnet(root, [3, 8, 36, 3], channels, classes)
}

fn resnet(root: &ModulePath, depths: [u32; 4], channels: i64, classes: i64) -> Box<dyn Model> {
    let stem = Conv::square(channels, 64, 7).stride(2).same_padding();
    let mut model =
        conv_norm(&root.at("conv1"), &root.at("bn1"), stem, 64).add(Relu).add(MaxPool::new(3, 2).padding(1));
    let mut channels = 64;
    for (stage, (depth, width)) in depths.into_iter().zip([64, 128, 256, 512]).enumerate() {
        for index in 0..depth {
            let stride = if stage > 0 && index == 0 { 2 } else { 1 };
            let path = root.at(format!("layer{}", stage + 1)).at(index);
            model = model.add(Bottleneck::new(&path, channels, width, stride));
            channels = EXPANSION * width;
        }
    }
    let model = model.add(AveragePool(1)).add(Flatten).add(linear(&root.at("fc"), channels, classes, Init::FanIn));
    Box::new(model)
}

fn conv_norm(conv: &ModulePath, norm: &ModulePath, shape: Conv, filters: i64) -> Sequence {
    let layer = shape.init(Init::KaimingNormal).build(conv);
    Sequence::default().add(layer).add(BatchNorm::new(norm, filters, EPSILON))
}

struct Bottleneck {
    residual: Sequence,
    downsample: Option<Sequence>,
}

impl Bottleneck {
    fn new(path: &ModulePath, channels: i64, width: i64, stride: i64) -> Self {
        let filters = EXPANSION * width;
        let step = |index: u32, conv, filters| {
            conv_norm(&path.at(format!("conv{index}")), &path.at(format!("bn{index}")), conv, filters)
        };
        let residual = Sequence::default()
            .add(step(1, Conv::square(channels, width, 1), width))
            .add(Relu)
            .add(step(2, Conv::square(width, width, 3).stride(stride).same_padding(), width))
            .add(Relu)
            .add(step(3, Conv::square(width, filters, 1), filters));
        let downsample = (stride != 1 || channels != filters).then(|| {
            let path = path.at("downsample");
            conv_norm(&path.at(0), &path.at(1), Conv::square(channels, filters, 1).stride(stride), filters)
        });
        Self { residual, downsample }
    }
}

impl Module for Bottleneck {
    fn apply(&self, x: &Tensor, context: &mut Context) -> Tensor {
        let residual = self.residual.apply(x, context);
        let identity = self.downsample.as_ref().map_or_else(|| x.shallow_clone(), |module| module.apply(x, context));
        (residual + identity).relu()
    }
}
