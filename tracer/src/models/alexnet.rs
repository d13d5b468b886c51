//! AlexNet: Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (2014,
//! arXiv 1404.5997), as in torchvision.

use super::Model;
use super::modules::{AveragePool, Conv, Dropout, Flatten, MaxPool, Relu, Sequence, linear};
use crate::weights::{Init, ModulePath};

pub fn alexnet(root: &ModulePath, channels: i64, classes: i64) -> Box<dyn Model> {
    let features = root.at("features");
    let conv = |index: u32, conv: Conv| conv.bias().build(&features.at(index));
    let classifier = root.at("classifier");
    let fully_connected = |index: u32, inputs, outputs| linear(&classifier.at(index), inputs, outputs, Init::FanIn);
    let model = Sequence::default()
        .add(conv(0, Conv::square(channels, 64, 11).stride(4).padding(2)))
        .add(Relu)
        .add(MaxPool::new(3, 2))
        .add(conv(3, Conv::square(64, 192, 5).same_padding()))
        .add(Relu)
        .add(MaxPool::new(3, 2))
        .add(conv(6, Conv::square(192, 384, 3).same_padding()))
        .add(Relu)
        .add(conv(8, Conv::square(384, 256, 3).same_padding()))
        .add(Relu)
        .add(conv(10, Conv::square(256, 256, 3).same_padding()))
        .add(Relu)
        .add(MaxPool::new(3, 2))
        .add(AveragePool(6))
        .add(Flatten)
        .add(Dropout(0.5))
        .add(fully_connected(1, 256 * 6 * 6, 4096))
        .add(Relu)
        .add(Dropout(0.5))
        .add(fully_connected(4, 4096, 4096))
        .add(Relu)
        .add(fully_connected(6, 4096, classes));
    Box::new(model)
}
