//! The models.
//!
//! A model is a struct of named layers. Parameters have torchvision's names; those of Inception-v4
//! have timm's, those of the Transformer have the names of `torch.nn.Transformer`.

mod alexnet;
mod googlenet;
mod inception_v4;
mod mobilenet;
mod modules;
mod resnet;
mod squeezenet;
mod transformer;
mod vgg;

use crate::datasets::{Batch, Task};
use crate::error::TracerError;
use crate::groups::ParameterGroups;
use crate::tap::{Recorder, Tap};
use crate::weights::{ModulePath, Weights};
use mercury_trace::geometry::Geometry;
use mercury_trace::layers::Layer;
use tch::{Device, Kind, Tensor};
use transformer::TransformerSize;
use vgg::Vgg;

/// The output of a model.
#[derive(Debug)]
pub struct ModelOutput {
    /// Scores of the classes, `[samples, classes]`, or of each next token,
    /// `[samples, target, vocabulary]`.
    pub scores: Tensor,
    /// Scores of auxiliary heads, in training only; the loss weighs each by 0.3.
    pub auxiliary: Vec<Tensor>,
}

/// A model that computes its layers through a tap.
pub trait Model {
    /// Computes the output for a batch; labels are ignored.
    ///
    /// # Panics
    /// If the batch does not fit the model's task; [`ModelSpec::check`] finds this out.
    fn forward(&self, batch: &Batch, train: bool, tap: &mut dyn Tap) -> ModelOutput;

    /// The model as a translator, if it is one.
    fn translator(&self) -> Option<&dyn Translator> {
        None
    }
}

/// A model that translates sentences.
pub trait Translator {
    /// Translates by greedy decoding, from the token `begin` to `end`, at most `length` tokens.
    ///
    /// `source` and the result are `[samples, tokens]`; the result is padded after `end`.
    fn translate(&self, source: &Tensor, begin: i64, end: i64, length: i64, tap: &mut dyn Tap) -> Tensor;
}

/// The layers and the size of a model for a task.
#[derive(Debug)]
pub struct Outline {
    /// The layers that training computes through the tap, in execution order.
    pub layers: Vec<Layer>,
    /// Number of parameters.
    pub parameters: u64,
    /// Number of parameters that are trained.
    pub trained: u64,
    /// Whether it has batch normalisation.
    normalised: bool,
}

impl Outline {
    /// Refuses a batch with one value per channel before batch normalisation: its variance is 0.
    pub fn check_batch(&self, batch_size: usize) -> Result<(), TracerError> {
        let single = |layer: &&Layer| matches!(layer.geometry, Geometry::Conv2d(conv) if conv.output() == [1, 1]);
        match self.layers.iter().find(single) {
            Some(Layer { name, .. }) if self.normalised && batch_size == 1 => {
                let reason = format!(
                    "is 1, but {name} gives one value per channel, and batch normalisation needs two; \
                     raise it, or --input-size"
                );
                Err(TracerError::Flag { flag: "--batch-size", reason })
            }
            _ => Ok(()),
        }
    }
}

/// Builds a model of one kind.
#[derive(Clone, Copy)]
enum Build {
    Images(fn(&ModulePath, channels: i64, classes: i64) -> Box<dyn Model>),
    Vgg(Vgg),
    Text(TransformerSize),
}

/// A model that can be built by name.
#[derive(Clone, Copy)]
pub struct ModelSpec {
    /// The name on the command line.
    pub name: &'static str,
    /// The publication.
    pub reference: &'static str,
    /// The task of the publication.
    pub task: Task,
    /// Minimum rows and columns of an image.
    pub least_size: i64,
    build: Build,
}

const fn images(
    name: &'static str,
    reference: &'static str,
    size: i64,
    least_size: i64,
    build: fn(&ModulePath, i64, i64) -> Box<dyn Model>,
) -> ModelSpec {
    let task = Task::Images { channels: 3, size: [size; 2], classes: 1000 };
    ModelSpec { name, reference, task, least_size, build: Build::Images(build) }
}

const fn vgg(name: &'static str, reference: &'static str, configuration: Vgg) -> ModelSpec {
    let task = Task::Images { channels: 3, size: [224; 2], classes: 1000 };
    ModelSpec { name, reference, task, least_size: 32, build: Build::Vgg(configuration) }
}

/// All models.
pub const MODELS: &[ModelSpec] = &[
    images("alexnet", "Krizhevsky, arXiv 1404.5997", 224, 63, alexnet::alexnet),
    images("googlenet", "Szegedy et al., CVPR 2015", 224, 15, googlenet::googlenet),
    vgg("vgg13", "Simonyan and Zisserman, ICLR 2015, B", vgg::VGG13),
    vgg("vgg16", "Simonyan and Zisserman, ICLR 2015, D", vgg::VGG16),
    vgg("vgg19", "Simonyan and Zisserman, ICLR 2015, E", vgg::VGG19),
    images("resnet50", "He et al., CVPR 2016", 224, 1, resnet::resnet50),
    images("resnet101", "He et al., CVPR 2016", 224, 1, resnet::resnet101),
    images("resnet152", "He et al., CVPR 2016", 224, 1, resnet::resnet152),
    images("inception_v4", "Szegedy et al., AAAI 2017", 299, 75, inception_v4::inception_v4),
    images("mobilenet_v2", "Sandler et al., CVPR 2018", 224, 1, mobilenet::mobilenet_v2),
    images("squeezenet1_0", "Iandola et al., arXiv 1602.07360", 224, 21, squeezenet::squeezenet1_0),
    ModelSpec {
        name: "transformer",
        reference: "Vaswani et al., NeurIPS 2017, base",
        // The paper's vocabulary, and sentences of average length.
        task: Task::Text { source: 32, target: 32, vocabulary: 37_000 },
        least_size: 0,
        build: Build::Text(TransformerSize::BASE),
    },
];

impl ModelSpec {
    /// Finds a model by name.
    pub fn find(name: &str) -> Result<&'static ModelSpec, TracerError> {
        MODELS.iter().find(|model| model.name == name).ok_or_else(|| TracerError::UnknownModel {
            name: name.to_owned(),
            known: MODELS.iter().map(|model| model.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// Sets the width (of a Transformer or a VGG's classifier) and the depth (of a Transformer).
    pub fn with_size(&self, width: Option<i64>, depth: Option<u32>) -> Result<ModelSpec, TracerError> {
        let build = match (self.build, width, depth) {
            (Build::Text(size), ..) => Build::Text(size.with_size(width, depth)?),
            (_, _, Some(_)) => return Err(self.refuse_size("--depth", "transformer")),
            (Build::Vgg(vgg), Some(width), None) => Build::Vgg(vgg.with_width(width)?),
            (Build::Images(_), Some(_), None) => {
                return Err(self.refuse_size("--width", "transformer or a VGG"));
            }
            (build, None, None) => build,
        };
        Ok(Self { build, ..*self })
    }

    fn refuse_size(&self, flag: &'static str, alternatives: &str) -> TracerError {
        let size = flag.trim_start_matches('-');
        let reason = format!("{} has one {size}; leave it out, or choose {alternatives}", self.name);
        TracerError::Flag { flag, reason }
    }

    /// Refuses a task that the model cannot do.
    pub fn check(&self, task: &Task) -> Result<(), TracerError> {
        let bad = |flag, reason| Err(TracerError::Flag { flag, reason });
        match (&self.build, *task) {
            (Build::Images(_) | Build::Vgg(_), Task::Text { .. }) => bad(
                "--model",
                format!("{} classifies images, but the data set has text; choose transformer", self.name),
            ),
            (Build::Text(_), Task::Images { .. }) => bad(
                "--model",
                format!("{} translates, but the data set has images; choose multi30k or text", self.name),
            ),
            (Build::Images(_) | Build::Vgg(_), Task::Images { size, .. })
                if size.iter().any(|&side| side < self.least_size) =>
            {
                let reason = format!(
                    "images are {} x {}, but {} needs at least {}",
                    size[0], size[1], self.name, self.least_size
                );
                bad("--input-size", reason)
            }
            _ => Ok(()),
        }
    }

    /// Builds the model for a task that [`ModelSpec::check`] accepts.
    ///
    /// # Panics
    /// If [`ModelSpec::check`] refuses the task.
    pub fn build(&self, weights: &Weights, task: &Task) -> Box<dyn Model> {
        match (&self.build, *task) {
            (Build::Images(build), Task::Images { channels, classes, .. }) => build(&weights.root(), channels, classes),
            (Build::Vgg(configuration), Task::Images { channels, classes, .. }) => {
                vgg::vgg(*configuration, &weights.root(), channels, classes)
            }
            (Build::Text(size), Task::Text { vocabulary, .. }) => {
                transformer::transformer(&weights.root(), vocabulary, *size)
            }
            _ => panic!("{} was not checked against the task", self.name),
        }
    }

    /// Outlines the model for a task by running it with zeros; all parameters are trained.
    pub fn outline(&self, task: &Task) -> Result<Outline, TracerError> {
        self.outline_with(task, &ParameterGroups::default())
    }

    /// Outlines the model for a task by running it with zeros; refuses groups that do not fit it.
    pub fn outline_with(&self, task: &Task, groups: &ParameterGroups) -> Result<Outline, TracerError> {
        self.check(task)?;
        let weights = Weights::with_zeros();
        let model = self.build(&weights, task);
        groups.freeze(&weights)?;
        // Gradients are on, so that the recorder sees which operands need one.
        let mut recorder = Recorder::with_all_layers(false);
        model.forward(&blank_batch(task), true, &mut recorder);
        Ok(Outline {
            layers: recorder.into_records().into_iter().map(|record| record.layer).collect(),
            parameters: weights.count_parameters(),
            trained: weights.count_trained(),
            normalised: weights.entries().iter().any(|entry| entry.name.ends_with("running_mean")),
        })
    }
}

fn blank_batch(task: &Task) -> Batch {
    let labels = Tensor::zeros([1], (Kind::Int64, Device::Cpu));
    match *task {
        Task::Images { channels, size: [rows, columns], .. } => {
            Batch::Images { images: Tensor::zeros([1, channels, rows, columns], (Kind::Float, Device::Cpu)), labels }
        }
        // Tokens other than padding, because attention needs one.
        Task::Text { source, target, .. } => Batch::Text {
            source: Tensor::ones([1, source], (Kind::Int64, Device::Cpu)),
            target: Tensor::ones([1, target + 1], (Kind::Int64, Device::Cpu)),
        },
    }
}

/// Returns the images of a batch.
///
/// # Panics
/// If the batch is text.
fn expect_images(batch: &Batch) -> &Tensor {
    let Batch::Images { images, .. } = batch else { unreachable!("the task was checked against the model") };
    images
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smaller_images_than_the_minimum_are_refused() {
        for spec in MODELS.iter().filter(|spec| spec.least_size > 0) {
            let task = |size| Task::Images { channels: 1, size: [size; 2], classes: 3 };
            assert!(!spec.outline(&task(spec.least_size)).unwrap().layers.is_empty());
            let error = spec.outline(&task(spec.least_size - 1)).unwrap_err().to_string();
            assert!(error.contains(&format!("needs at least {}", spec.least_size)), "{error}");
            if spec.least_size > 1 {
                let smaller = ModelSpec { least_size: 1, ..*spec };
                let refused = std::panic::catch_unwind(|| smaller.outline(&task(spec.least_size - 1)));
                assert!(refused.is_err(), "libtorch refuses {} too", spec.name);
            }
        }
    }

    #[test]
    fn a_transformer_has_the_requested_size() {
        let task = Task::Text { source: 5, target: 6, vocabulary: 100 };
        let spec = ModelSpec::find("transformer").unwrap();
        let outline = |width, depth| spec.with_size(width, depth).unwrap().outline(&task).unwrap();
        // An encoder layer has 12 w^2 + 13 w, a decoder layer 16 w^2 + 19 w, the final
        // normalisation 4 w.
        let parameters = |w: u64, depth: u64| 100 * w + depth * (28 * w * w + 32 * w) + 4 * w;
        assert_eq!(outline(Some(128), Some(2)).parameters, parameters(128, 2));
        assert_eq!(outline(Some(64), None).parameters, parameters(64, 6));
        assert_eq!(outline(None, Some(1)).parameters, parameters(512, 1));
        assert_eq!(outline(None, None).layers.len(), spec.outline(&task).unwrap().layers.len());
        for (width, depth, flag) in
            [(Some(100), None, "--width"), (Some(0), None, "--width"), (None, Some(0), "--depth")]
        {
            let error = spec.with_size(width, depth).map(|_| ()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{flag}: is ")), "{error}");
        }
    }

    #[test]
    fn a_vgg_has_the_requested_classifier() {
        let task = Task::Images { channels: 3, size: [32; 2], classes: 10 };
        let spec = ModelSpec::find("vgg13").unwrap();
        let convolutions = 9_404_992;
        for (width, columns) in [(None, 4096), (Some(4096), 4096), (Some(512), 512), (Some(1), 1)] {
            let outline = spec.with_size(width, None).unwrap().outline(&task).unwrap();
            let classifier = (25_088 * columns + columns) + (columns * columns + columns) + (columns * 10 + 10);
            assert_eq!(outline.parameters, convolutions + classifier);
        }
        let error = |name: &str, width, depth| {
            ModelSpec::find(name).unwrap().with_size(width, depth).map(|_| ()).unwrap_err().to_string()
        };
        assert_eq!(error("vgg13", Some(0), None), "--width: is 0; give 1 to 4096 columns");
        assert_eq!(
            error("vgg16", Some(8), Some(2)),
            "--depth: vgg16 has one depth; leave it out, or choose transformer"
        );
        assert_eq!(
            error("resnet50", Some(64), None),
            "--width: resnet50 has one width; leave it out, or choose transformer or a VGG"
        );
    }

    #[test]
    fn one_value_per_channel_is_not_normalised() {
        let outline = |name: &str, size| {
            let task = Task::Images { channels: 3, size: [size; 2], classes: 3 };
            ModelSpec::find(name).unwrap().outline(&task).unwrap()
        };
        let error = outline("resnet50", 32).check_batch(1).unwrap_err().to_string();
        assert!(error.contains("--batch-size: is 1, but layer4.0.conv2 gives one value per channel"), "{error}");
        outline("resnet50", 32).check_batch(2).unwrap();
        outline("resnet50", 64).check_batch(1).unwrap();
        outline("vgg13", 32).check_batch(1).unwrap();
    }
}
