//! Inception-v4: Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual
//! Connections on Learning" (AAAI 2017), figures 3 to 9. As in timm, it has timm's parameter names
//! and no dropout.

use super::Model;
use super::modules::{AveragePool, Branches, Conv, Flatten, MaxPool, Sequence, Smooth, conv_norm_relu, linear};
use crate::weights::{Init, ModulePath};

const EPSILON: f64 = 1e-3;

pub fn inception_v4(root: &ModulePath, channels: i64, classes: i64) -> Box<dyn Model> {
    let features = root.at("features");
    let mut model = Sequence::default()
        .add(conv(&features.at(0), Conv::square(channels, 32, 3).stride(2)))
        .add(conv(&features.at(1), Conv::square(32, 32, 3)))
        .add(conv(&features.at(2), Conv::square(32, 64, 3).same_padding()))
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

fn conv(path: &ModulePath, conv: Conv) -> Sequence {
    conv_norm_relu(path, conv, EPSILON)
}

/// Builds convolutions in sequence; their paths are numbered from `first`.
fn chain(path: &ModulePath, first: u32, convs: &[Conv]) -> Sequence {
    (first..).zip(convs).fold(Sequence::default(), |chain, (index, shape)| chain.add(conv(&path.at(index), *shape)))
}

fn pool() -> Sequence {
    Sequence::default().add(MaxPool::new(3, 2))
}

fn smoothed(path: &ModulePath, channels: i64, filters: i64) -> Sequence {
    Sequence::default().add(Smooth).add(chain(path, 1, &[one(channels, filters)]))
}

fn one(channels: i64, filters: i64) -> Conv {
    Conv::square(channels, filters, 1)
}

fn rows(channels: i64, filters: i64, length: i64) -> Conv {
    Conv::new(channels, filters, [1, length]).same_padding()
}

fn columns(channels: i64, filters: i64, length: i64) -> Conv {
    Conv::new(channels, filters, [length, 1]).same_padding()
}

fn mixed_3a(path: &ModulePath) -> Branches {
    Branches::new([pool(), conv(&path.at("conv"), Conv::square(64, 96, 3).stride(2))])
}

fn mixed_4a(path: &ModulePath) -> Branches {
    let last = Conv::square(64, 96, 3);
    Branches::new([
        chain(&path.at("branch0"), 0, &[one(160, 64), last]),
        chain(&path.at("branch1"), 0, &[one(160, 64), rows(64, 64, 7), columns(64, 64, 7), last]),
    ])
}

fn mixed_5a(path: &ModulePath) -> Branches {
    Branches::new([conv(&path.at("conv"), Conv::square(192, 192, 3).stride(2)), pool()])
}

fn inception_a(path: &ModulePath) -> Branches {
    let three = |channels, filters| Conv::square(channels, filters, 3).same_padding();
    Branches::new([
        conv(&path.at("branch0"), one(384, 96)),
        chain(&path.at("branch1"), 0, &[one(384, 64), three(64, 96)]),
        chain(&path.at("branch2"), 0, &[one(384, 64), three(64, 96), three(96, 96)]),
        smoothed(&path.at("branch3"), 384, 96),
    ])
}

fn reduction_a(path: &ModulePath) -> Branches {
    let shapes = [one(384, 192), Conv::square(192, 224, 3).same_padding(), Conv::square(224, 256, 3).stride(2)];
    Branches::new([
        conv(&path.at("branch0"), Conv::square(384, 384, 3).stride(2)),
        chain(&path.at("branch1"), 0, &shapes),
        pool(),
    ])
}

fn inception_b(path: &ModulePath) -> Branches {
    let long = [one(1024, 192), columns(192, 192, 7), rows(192, 224, 7), columns(224, 224, 7), rows(224, 256, 7)];
    Branches::new([
        conv(&path.at("branch0"), one(1024, 384)),
        chain(&path.at("branch1"), 0, &[one(1024, 192), rows(192, 224, 7), columns(224, 256, 7)]),
        chain(&path.at("branch2"), 0, &long),
        smoothed(&path.at("branch3"), 1024, 128),
    ])
}

fn reduction_b(path: &ModulePath) -> Branches {
    let last = |filters| Conv::square(filters, filters, 3).stride(2);
    Branches::new([
        chain(&path.at("branch0"), 0, &[one(1024, 192), last(192)]),
        chain(&path.at("branch1"), 0, &[one(1024, 256), rows(256, 256, 7), columns(256, 320, 7), last(320)]),
        pool(),
    ])
}

fn inception_c(path: &ModulePath) -> Branches {
    let named = |name: &str, shape| conv(&path.at(name), shape);
    Branches::new([
        named("branch0", one(1536, 256)),
        named("branch1_0", one(1536, 384)).add(fork(path, "branch1_1", 384)),
        named("branch2_0", one(1536, 384))
            .add(named("branch2_1", columns(384, 448, 3)))
            .add(named("branch2_2", rows(448, 512, 3)))
            .add(fork(path, "branch2_3", 512)),
        smoothed(&path.at("branch3"), 1536, 256),
    ])
}

/// Builds the two parallel convolutions `{name}a` and `{name}b` of figure 6.
fn fork(path: &ModulePath, name: &str, channels: i64) -> Branches {
    Branches::new([
        conv(&path.at(format!("{name}a")), rows(channels, 256, 3)),
        conv(&path.at(format!("{name}b")), columns(channels, 256, 3)),
    ])
}
