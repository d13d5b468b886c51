//! The models: structs of named layers whose parameters have torchvision's names.

mod vgg;

use crate::error::TracerError;
use crate::tap::{ConvLayer, LinearLayer, Recorder, Tap};
use mercury_trace::layers::Layer;
use tch::nn::{self, Init, Path};
use tch::{Device, Kind, Tensor};

/// A model that computes its layers through a tap.
pub trait Model {
    /// Class scores, `[samples, classes]`, of images `[samples, channels, rows, columns]`.
    fn forward(&self, images: &Tensor, train: bool, tap: &mut dyn Tap) -> Tensor;
}

/// A model that can be built by name.
pub struct ModelSpec {
    /// The name on the command line.
    pub name: &'static str,
    /// Where it was published.
    pub reference: &'static str,
    /// Channels, rows and columns that it was published for.
    pub input: [i64; 3],
    /// Fewest rows and columns that it can take.
    pub least_size: i64,
    build: fn(&Path, channels: i64, classes: i64) -> Box<dyn Model>,
}

/// All models.
pub const MODELS: &[ModelSpec] = &[ModelSpec {
    name: "vgg13",
    reference: "Simonyan and Zisserman, Very Deep Convolutional Networks (ICLR 2015), configuration B",
    input: [3, 224, 224],
    least_size: 32,
    build: vgg::vgg13,
}];

impl ModelSpec {
    /// The model of a name.
    pub fn find(name: &str) -> Result<&'static ModelSpec, TracerError> {
        MODELS.iter().find(|model| model.name == name).ok_or_else(|| TracerError::UnknownModel {
            name: name.to_owned(),
            known: MODELS.iter().map(|model| model.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// Builds the model under a variable store's root.
    pub fn build(&self, root: &Path, channels: i64, classes: i64) -> Box<dyn Model> {
        (self.build)(root, channels, classes)
    }
}

/// A model's layers in execution order, for inputs of a size.
pub fn layers(model: &dyn Model, input: [i64; 3], device: Device) -> Vec<Layer> {
    let image = Tensor::zeros([1, input[0], input[1], input[2]], (Kind::Float, device));
    let mut recorder = Recorder::of_all();
    // With gradients on, so that the recorder sees which inputs need theirs.
    let _scores = model.forward(&image, false, &mut recorder);
    recorder.records.into_iter().map(|record| record.layer).collect()
}

/// Parameters in a variable store.
pub fn parameters(variables: &nn::VarStore) -> u64 {
    variables.trainable_variables().iter().map(|variable| variable.numel() as u64).sum()
}

/// A 3 x 3 convolution that keeps the size of its planes.
fn conv3x3(path: &Path, name: &str, channels: i64, filters: i64) -> ConvLayer {
    ConvLayer {
        name: name.to_owned(),
        weight: path.var("weight", &[filters, channels, 3, 3], KAIMING_FAN_OUT),
        bias: Some(path.var("bias", &[filters], Init::Const(0.0))),
        stride: [1; 2],
        padding: [1; 2],
        dilation: [1; 2],
        groups: 1,
    }
}

/// A fully connected layer, initialised as torchvision does in its VGG.
fn linear(path: &Path, name: &str, inputs: i64, outputs: i64) -> LinearLayer {
    LinearLayer {
        name: name.to_owned(),
        weight: path.var("weight", &[outputs, inputs], Init::Randn { mean: 0.0, stdev: 0.01 }),
        bias: Some(path.var("bias", &[outputs], Init::Const(0.0))),
    }
}

/// He et al. (ICCV 2015), by the number of outputs: torchvision's choice for convolutions.
const KAIMING_FAN_OUT: Init = Init::Kaiming {
    dist: nn::init::NormalOrUniform::Normal,
    fan: nn::init::FanInOut::FanOut,
    non_linearity: nn::init::NonLinearity::ReLU,
};
