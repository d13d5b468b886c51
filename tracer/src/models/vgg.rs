//! VGG: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
//! Recognition" (ICLR 2015), table 1, without batch normalisation.

use super::Model;
use super::modules::{AveragePool, Conv, Dropout, Flatten, MaxPool, Relu, Sequence, linear};
use crate::error::TracerError;
use crate::weights::{Init, ModulePath};

/// Published width of the two hidden fully connected layers.
const WIDTH: i64 = 4096;

/// A configuration of table 1.
#[derive(Clone, Copy)]
pub struct Vgg {
    /// Convolutions before each pooling.
    depths: [u32; 5],
    /// Columns of the two hidden fully connected layers. At [`WIDTH`] columns, they hold nine
    /// tenths of the parameters.
    width: i64,
}

impl Vgg {
    /// Sets the width of the hidden fully connected layers.
    pub fn with_width(self, width: i64) -> Result<Self, TracerError> {
        if !(1..=WIDTH).contains(&width) {
            let reason = format!("is {width}; give 1 to {WIDTH} columns");
            return Err(TracerError::Flag { flag: "--width", reason });
        }
        Ok(Self { width, ..self })
    }
}

/// Configuration B.
pub const VGG13: Vgg = Vgg { depths: [2, 2, 2, 2, 2], width: WIDTH };

/// Configuration D.
pub const VGG16: Vgg = Vgg { depths: [2, 2, 3, 3, 3], width: WIDTH };

/// Configuration E.
pub const VGG19: Vgg = Vgg { depths: [2, 2, 4, 4, 4], width: WIDTH };

/// Builds a configuration.
pub fn vgg(Vgg { depths, width }: Vgg, root: &ModulePath, mut channels: i64, classes: i64) -> Box<dyn Model> {
    let mut model = Sequence::default();
    // The module's index in torchvision's sequence, in which each ReLU and pooling counts, too.
    let mut index = 0;
    for (depth, filters) in depths.into_iter().zip([64, 128, 256, 512, 512]) {
        for _ in 0..depth {
            let conv = Conv::square(channels, filters, 3).same_padding().bias().init(Init::KaimingNormal);
            model = model.add(conv.build(&root.at("features").at(index))).add(Relu);
            channels = filters;
            index += 2;
        }
        model = model.add(MaxPool::new(2, 2));
        index += 1;
    }
    // In narrower layers, the published initialisation would make results and gradients vanish.
    let init = if width == WIDTH { Init::Normal(0.01) } else { Init::KaimingUniform };
    let fully_connected = |index: u32, inputs, outputs| linear(&root.at("classifier").at(index), inputs, outputs, init);
    let model = model
        .add(AveragePool(7))
        .add(Flatten)
        .add(fully_connected(0, channels * 7 * 7, width))
        .add(Relu)
        .add(Dropout(0.5))
        .add(fully_connected(3, width, width))
        .add(Relu)
        .add(Dropout(0.5))
        .add(fully_connected(6, width, classes));
    Box::new(model)
}
