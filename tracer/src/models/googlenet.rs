//! GoogLeNet: Szegedy et al., "Going Deeper with Convolutions" (CVPR 2015), table 1.
//!
//! As in torchvision, it has batch normalisation, and 3 x 3 kernels instead of the paper's 5 x 5.

use super::modules::{
    AveragePool, Branches, Context, Conv, Dropout, Flatten, MaxPool, Module, Relu, Sequence, conv_norm_relu, linear,
};
use super::{Model, ModelOutput, expect_images};
use crate::datasets::Batch;
use crate::tap::Tap;
use crate::weights::{Init, ModulePath};

const EPSILON: f64 = 1e-3;
const INIT: Init = Init::Normal(0.01);

struct GoogLeNet {
    /// The modules up to the first auxiliary head, up to the second, and the rest.
    trunk: [Sequence; 3],
    auxiliary: [Sequence; 2],
}

pub fn googlenet(root: &ModulePath, channels: i64, classes: i64) -> Box<dyn Model> {
    let conv = |name: &str, conv| conv_norm(&root.at(name), conv);
    let inception = |name: &str, channels, widths| inception(&root.at(format!("inception{name}")), channels, widths);
    let pool = |kernel| MaxPool::new(kernel, 2).ceil();
    let first = Sequence::default()
        .add(conv("conv1", Conv::square(channels, 64, 7).stride(2).same_padding()))
        .add(pool(3))
        .add(conv("conv2", Conv::square(64, 64, 1)))
        .add(conv("conv3", Conv::square(64, 192, 3).same_padding()))
        .add(pool(3))
        .add(inception("3a", 192, [64, 96, 128, 16, 32, 32]))
        .add(inception("3b", 256, [128, 128, 192, 32, 96, 64]))
        .add(pool(3))
        .add(inception("4a", 480, [192, 96, 208, 16, 48, 64]));
    let second = Sequence::default()
        .add(inception("4b", 512, [160, 112, 224, 24, 64, 64]))
        .add(inception("4c", 512, [128, 128, 256, 24, 64, 64]))
        .add(inception("4d", 512, [112, 144, 288, 32, 64, 64]));
    let third = Sequence::default()
        .add(inception("4e", 528, [256, 160, 320, 32, 128, 128]))
        .add(pool(2))
        .add(inception("5a", 832, [256, 160, 320, 32, 128, 128]))
        .add(inception("5b", 832, [384, 192, 384, 48, 128, 128]));
    let auxiliary = [("aux1", 512), ("aux2", 528)].map(|(name, channels)| head(&root.at(name), channels, classes));
    let third =
        third.add(AveragePool(1)).add(Flatten).add(Dropout(0.2)).add(linear(&root.at("fc"), 1024, classes, INIT));
    Box::new(GoogLeNet { trunk: [first, second, third], auxiliary })
}

fn conv_norm(path: &ModulePath, conv: Conv) -> Sequence {
    conv_norm_relu(path, conv.init(INIT), EPSILON)
}

/// Builds an inception module. `widths` are the filters of the 1 x 1 convolution, the reduction and
/// the 3 x 3 convolution, the reduction and the (in the paper) 5 x 5 convolution, and the
/// projection.
fn inception(path: &ModulePath, channels: i64, widths: [i64; 6]) -> Branches {
    let [one, reduce3, three, reduce5, five, projection] = widths;
    let reduced = |name: &str, reduce, width| {
        let path = path.at(name);
        conv_norm(&path.at(0), Conv::square(channels, reduce, 1))
            .add(conv_norm(&path.at(1), Conv::square(reduce, width, 3).same_padding()))
    };
    Branches::new([
        conv_norm(&path.at("branch1"), Conv::square(channels, one, 1)),
        reduced("branch2", reduce3, three),
        reduced("branch3", reduce5, five),
        Sequence::default()
            .add(MaxPool::new(3, 1).padding(1).ceil())
            .add(conv_norm(&path.at("branch4").at(1), Conv::square(channels, projection, 1))),
    ])
}

/// Builds an auxiliary head, which only training computes.
fn head(path: &ModulePath, channels: i64, classes: i64) -> Sequence {
    Sequence::default()
        .add(AveragePool(4))
        .add(conv_norm(&path.at("conv"), Conv::square(channels, 128, 1)))
        .add(Flatten)
        .add(linear(&path.at("fc1"), 128 * 4 * 4, 1024, INIT))
        .add(Relu)
        .add(Dropout(0.7))
        .add(linear(&path.at("fc2"), 1024, classes, INIT))
}

impl Model for GoogLeNet {
    fn forward(&self, batch: &Batch, train: bool, tap: &mut dyn Tap) -> ModelOutput {
        let context = &mut Context { train, tap };
        let mut x = expect_images(batch).shallow_clone();
        let mut auxiliary = Vec::new();
        for (module, head) in self.trunk.iter().zip(self.auxiliary.iter().map(Some).chain([None])) {
            x = module.apply(&x, context);
            if let Some(head) = head.filter(|_| train) {
                auxiliary.push(head.apply(&x, context));
            }
        }
        ModelOutput { scores: x, auxiliary }
    }
}
