//! VGG: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
//! (ICLR 2015), table 1, without batch normalisation.

use super::Model;
use super::parts::{AveragePool, Conv, Dropout, Flatten, MaxPool, Relu, Sequence, linear};
use crate::weights::{Init, Module};

/// Configuration B.
pub fn vgg13(root: &Module, channels: i64, classes: i64) -> Box<dyn Model> {
    vgg(root, [2, 2, 2, 2, 2], channels, classes)
}

/// Configuration D.
pub fn vgg16(root: &Module, channels: i64, classes: i64) -> Box<dyn Model> {
    vgg(root, [2, 2, 3, 3, 3], channels, classes)
}

/// Configuration E.
pub fn vgg19(root: &Module, channels: i64, classes: i64) -> Box<dyn Model> {
    vgg(root, [2, 2, 4, 4, 4], channels, classes)
}

fn vgg(root: &Module, depths: [u32; 5], mut channels: i64, classes: i64) -> Box<dyn Model> {
    let mut model = Sequence::default();
    // The index of the module in torchvision's sequence, where each ReLU and pooling counts too.
    let mut index = 0;
    for (depth, filters) in depths.into_iter().zip([64, 128, 256, 512, 512]) {
        for _ in 0..depth {
            let conv = Conv::square(channels, filters, 3).same().bias().init(Init::KaimingNormal);
            model = model.add(conv.at(&root.at("features").at(index))).add(Relu);
            channels = filters;
            index += 2;
        }
        model = model.add(MaxPool::new(2, 2));
        index += 1;
    }
    let fully_connected =
        |index: u32, inputs, outputs| linear(&root.at("classifier").at(index), inputs, outputs, Init::Normal(0.01));
    let model = model
        .add(AveragePool(7))
        .add(Flatten)
        .add(fully_connected(0, channels * 7 * 7, 4096))
        .add(Relu)
        .add(Dropout(0.5))
        .add(fully_connected(3, 4096, 4096))
        .add(Relu)
        .add(Dropout(0.5))
        .add(fully_connected(6, 4096, classes));
    Box::new(model)
}
