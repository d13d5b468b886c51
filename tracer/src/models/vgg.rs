//! VGG: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
//! (ICLR 2015), table 1, without batch normalisation. Parameter names and shapes are torchvision's.

use super::{Model, conv3x3, linear};
use crate::tap::{ConvLayer, LinearLayer, Tap};
use tch::Tensor;
use tch::nn::Path;

enum Feature {
    Conv(ConvLayer),
    Pool,
}

struct Vgg {
    features: Vec<Feature>,
    classifier: [LinearLayer; 3],
}

/// VGG-13, configuration B.
pub fn vgg13(root: &Path, channels: i64, classes: i64) -> Box<dyn Model> {
    Box::new(vgg(root, &[&[64, 64], &[128, 128], &[256, 256], &[512, 512], &[512, 512]], channels, classes))
}

fn vgg(root: &Path, blocks: &[&[i64]], mut channels: i64, classes: i64) -> Vgg {
    let mut features = Vec::new();
    // The index of the module in torchvision's sequence, where each ReLU and pooling counts too.
    let mut module = 0;
    for block in blocks {
        for &filters in *block {
            let path = root / "features" / module;
            features.push(Feature::Conv(conv3x3(&path, &format!("features.{module}"), channels, filters)));
            channels = filters;
            module += 2;
        }
        features.push(Feature::Pool);
        module += 1;
    }
    let fully_connected = |module: i64, inputs, outputs| {
        linear(&(root / "classifier" / module), &format!("classifier.{module}"), inputs, outputs)
    };
    let classifier =
        [fully_connected(0, channels * 7 * 7, 4096), fully_connected(3, 4096, 4096), fully_connected(6, 4096, classes)];
    Vgg { features, classifier }
}

impl Model for Vgg {
    fn forward(&self, images: &Tensor, train: bool, tap: &mut dyn Tap) -> Tensor {
        let mut x = images.shallow_clone();
        for feature in &self.features {
            x = match feature {
                Feature::Conv(conv) => tap.conv2d(conv, &x).relu(),
                Feature::Pool => x.max_pool2d_default(2),
            };
        }
        x = x.adaptive_avg_pool2d([7, 7]).flatten(1, -1);
        let [first, second, third] = &self.classifier;
        x = tap.linear(first, &x).relu().dropout(0.5, train);
        x = tap.linear(second, &x).relu().dropout(0.5, train);
        tap.linear(third, &x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, nn};

    /// torchvision's `vgg13(num_classes=1000)`: names of its state dict and number of parameters.
    #[test]
    fn parameters_are_named_and_counted_as_torchvisions() {
        let variables = nn::VarStore::new(Device::Cpu);
        let _vgg = vgg13(&variables.root(), 3, 1000);
        let mut names: Vec<String> = variables.variables().into_keys().collect();
        names.sort();
        let modules = ["features", "classifier"].into_iter().flat_map(|part| {
            let indices: &[u32] = if part == "features" { &[0, 2, 5, 7, 10, 12, 15, 17, 20, 22] } else { &[0, 3, 6] };
            indices.iter().map(move |index| format!("{part}.{index}"))
        });
        let mut expected: Vec<String> =
            modules.flat_map(|module| ["weight", "bias"].map(|kind| format!("{module}.{kind}"))).collect();
        expected.sort();
        assert_eq!(names, expected);
        assert_eq!(crate::models::parameters(&variables), 133_047_848);
    }
}
