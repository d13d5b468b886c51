//! SqueezeNet: Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and
//! <0.5MB model size" (2016, arXiv 1602.07360), version 1.0.

use super::Model;
use super::modules::{AveragePool, Branches, Conv, Dropout, Flatten, MaxPool, Relu, Sequence};
use crate::weights::{Init, ModulePath};

pub fn squeezenet1_0(root: &ModulePath, channels: i64, classes: i64) -> Box<dyn Model> {
    let features = root.at("features");
    let fire = |index: u32, channels, squeeze, expand| fire(&features.at(index), channels, squeeze, expand);
    let pool = || MaxPool::new(3, 2).ceil();
    let model = Sequence::default()
        .add(conv(&features.at(0), Conv::square(channels, 96, 7).stride(2)))
        .add(pool())
        .add(fire(3, 96, 16, 64))
        .add(fire(4, 128, 16, 64))
        .add(fire(5, 128, 32, 128))
        .add(pool())
        .add(fire(7, 256, 32, 128))
        .add(fire(8, 256, 48, 192))
        .add(fire(9, 384, 48, 192))
        .add(fire(10, 384, 64, 256))
        .add(pool())
        .add(fire(12, 512, 64, 256))
        .add(Dropout(0.5))
        .add(Conv::square(512, classes, 1).bias().init(Init::Normal(0.01)).build(&root.at("classifier").at(1)))
        .add(Relu)
        .add(AveragePool(1))
        .add(Flatten);
    Box::new(model)
}

fn fire(path: &ModulePath, channels: i64, squeeze: i64, expand: i64) -> Sequence {
    let squeezed = conv(&path.at("squeeze"), Conv::square(channels, squeeze, 1));
    let expand1x1 = conv(&path.at("expand1x1"), Conv::square(squeeze, expand, 1));
    let expand3x3 = conv(&path.at("expand3x3"), Conv::square(squeeze, expand, 3).same_padding());
    squeezed.add(Branches::new([expand1x1, expand3x3]))
}

fn conv(path: &ModulePath, conv: Conv) -> Sequence {
    Sequence::default().add(conv.bias().init(Init::KaimingUniform).build(path)).add(Relu)
}
