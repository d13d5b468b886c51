//! Inception-v4: Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections
//! on Learning" (AAAI 2017), figures 3 to 9. Parameter names are timm's; like there, no dropout.

use super::Model;
use super::parts::{AveragePool, Branches, Conv, Flatten, MaxPool, Sequence, Smooth, conv_norm_relu, linear};
use crate::weights::{Init, Module};

const EPSILON: f64 = 1e-3;

pub fn inception_v4(root: &Module, channels: i64, classes: i64) -> Box<dyn Model> {
    let features = root.at("features");
    let mut model = Sequence::default()
        .add(conv(&features.at(0), Conv::square(channels, 32, 3).stride(2)))
        .add(conv(&features.at(1), Conv::square(32, 32, 3)))
        .add(conv(&features.at(2), Conv::square(32, 64, 3).same()))
        .add(mixed_3a(&features.at(3)))
        .add(mixed_4a(&features.at(4)))
        .add(mixed_5a(&features.at(5)));
    for index in 6..10 {
        model = model.add(inception_a(&features.at(index)));
    }
    model = model.add(reduction_a(&features.at(10)));
    for index in 11..18 {
        model = model.add(inception_b(&features.at(index)));
    }
    model = model.add(reduction_b(&features.at(18)));
    for index in 19..22 {
        model = model.add(inception_c(&features.at(index)));
    }
    let classifier = linear(&root.at("last_linear"), 1536, classes, Init::FanIn);
    Box::new(model.add(AveragePool(1)).add(Flatten).add(classifier))
}

fn conv(module: &Module, conv: Conv) -> Sequence {
    conv_norm_relu(module, conv, EPSILON)
}

/// Convolutions one after the other, numbered from `first`.
fn chain(module: &Module, first: u32, convs: &[Conv]) -> Sequence {
    (first..).zip(convs).fold(Sequence::default(), |chain, (index, shape)| chain.add(conv(&module.at(index), *shape)))
}

fn pool() -> Sequence {
    Sequence::default().add(MaxPool::new(3, 2))
}

fn smoothed(module: &Module, channels: i64, filters: i64) -> Sequence {
    Sequence::default().add(Smooth).add(chain(module, 1, &[one(channels, filters)]))
}

fn one(channels: i64, filters: i64) -> Conv {
    Conv::square(channels, filters, 1)
}

fn rows(channels: i64, filters: i64, length: i64) -> Conv {
    Conv::new(channels, filters, [1, length]).same()
}

fn columns(channels: i64, filters: i64, length: i64) -> Conv {
    Conv::new(channels, filters, [length, 1]).same()
}

fn mixed_3a(module: &Module) -> Branches {
    Branches::new([pool(), conv(&module.at("conv"), Conv::square(64, 96, 3).stride(2))])
}

fn mixed_4a(module: &Module) -> Branches {
    let last = Conv::square(64, 96, 3);
    Branches::new([
        chain(&module.at("branch0"), 0, &[one(160, 64), last]),
        chain(&module.at("branch1"), 0, &[one(160, 64), rows(64, 64, 7), columns(64, 64, 7), last]),
    ])
}

fn mixed_5a(module: &Module) -> Branches {
    Branches::new([conv(&module.at("conv"), Conv::square(192, 192, 3).stride(2)), pool()])
}

fn inception_a(module: &Module) -> Branches {
    let three = |channels, filters| Conv::square(channels, filters, 3).same();
    Branches::new([
        conv(&module.at("branch0"), one(384, 96)),
        chain(&module.at("branch1"), 0, &[one(384, 64), three(64, 96)]),
        chain(&module.at("branch2"), 0, &[one(384, 64), three(64, 96), three(96, 96)]),
        smoothed(&module.at("branch3"), 384, 96),
    ])
}

fn reduction_a(module: &Module) -> Branches {
    let shapes = [one(384, 192), Conv::square(192, 224, 3).same(), Conv::square(224, 256, 3).stride(2)];
    Branches::new([
        conv(&module.at("branch0"), Conv::square(384, 384, 3).stride(2)),
        chain(&module.at("branch1"), 0, &shapes),
        pool(),
    ])
}

fn inception_b(module: &Module) -> Branches {
    let long = [one(1024, 192), columns(192, 192, 7), rows(192, 224, 7), columns(224, 224, 7), rows(224, 256, 7)];
    Branches::new([
        conv(&module.at("branch0"), one(1024, 384)),
        chain(&module.at("branch1"), 0, &[one(1024, 192), rows(192, 224, 7), columns(224, 256, 7)]),
        chain(&module.at("branch2"), 0, &long),
        smoothed(&module.at("branch3"), 1024, 128),
    ])
}

fn reduction_b(module: &Module) -> Branches {
    let last = |filters| Conv::square(filters, filters, 3).stride(2);
    Branches::new([
        chain(&module.at("branch0"), 0, &[one(1024, 192), last(192)]),
        chain(&module.at("branch1"), 0, &[one(1024, 256), rows(256, 256, 7), columns(256, 320, 7), last(320)]),
        pool(),
    ])
}

fn inception_c(module: &Module) -> Branches {
    let named = |name: &str, shape| conv(&module.at(name), shape);
    let fork = |name: &str, channels| {
        Branches::new([
            named(&format!("{name}a"), rows(channels, 256, 3)),
            named(&format!("{name}b"), columns(channels, 256, 3)),
        ])
    };
    Branches::new([
        named("branch0", one(1536, 256)),
        named("branch1_0", one(1536, 384)).add(fork("branch1_1", 384)),
        named("branch2_0", one(1536, 384))
            .add(named("branch2_1", columns(384, 448, 3)))
            .add(named("branch2_2", rows(448, 512, 3)))
            .add(fork("branch2_3", 512)),
        smoothed(&module.at("branch3"), 1536, 256),
    ])
}
