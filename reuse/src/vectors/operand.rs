//! The vectors that a pass of a layer streams, cut from the whole operand.

use crate::config::{Channels, ConfigError, Granularity, McacheConfig, Scope};
use crate::vectors::{Cut, Planes, VectorView, row_windows};
use mercury_trace::geometry::{Geometry, Pass};
use mercury_trace::layers::Layer;
use mercury_trace::windows::Windows;
use std::collections::BTreeSet;

/// The vectors that a pass streams, one view for each product of [`Geometry::gemms`].
///
/// `values` holds `samples` samples of X, or of dY for the input gradient:
/// - of a convolution, `[samples][channels][rows][columns]`. `channels` may be fewer than the
///   operand has only with [`Granularity::CHANNEL_PATCH`], where each channel is a stream of its
///   own;
/// - of a linear layer, `[samples][rows][features]`;
/// - of a product of two activations, `[samples][heads][rows][inner]`.
///
/// # Panics
/// If the number of values does not match these shapes.
pub fn views<'a>(
    geometry: &Geometry,
    pass: Pass,
    granularity: Granularity,
    values: &'a [f32],
    samples: usize,
    channels: usize,
) -> Vec<VectorView<'a>> {
    let Operand { channels, size: [height, width], groups, products } =
        Operand::new(geometry, pass, granularity, channels);
    let planes = Planes { values, samples, channels, height, width };
    products.into_iter().map(|windows| VectorView::new(planes, windows, groups, granularity)).collect()
}

/// How [`views`] cuts the vectors of a pass, without its values.
pub fn cuts(geometry: &Geometry, pass: Pass, granularity: Granularity, samples: usize, channels: usize) -> Vec<Cut> {
    let Operand { channels, groups, products, .. } = Operand::new(geometry, pass, granularity, channels);
    products.iter().map(|windows| Cut::new(windows, samples, channels, groups, granularity)).collect()
}

/// The operand that a pass streams, and the windows of each of its products.
struct Operand {
    channels: usize,
    size: [u32; 2],
    groups: usize,
    products: Vec<Windows>,
}

impl Operand {
    /// `channels` are those of a convolution that are there.
    fn new(geometry: &Geometry, pass: Pass, granularity: Granularity, channels: usize) -> Self {
        let streams_dy = pass == Pass::InputGrad;
        let rows = |heads: u32, rows: u32, length: u32| {
            let heads = heads as usize;
            Self { channels: heads, size: [rows, length], groups: heads, products: vec![row_windows(rows, length)] }
        };
        match *geometry {
            Geometry::Linear(linear) => {
                rows(1, linear.rows, if streams_dy { linear.out_features } else { linear.in_features })
            }
            Geometry::Matmul(matmul) => {
                rows(matmul.heads, matmul.rows, if streams_dy { matmul.columns } else { matmul.inner })
            }
            Geometry::Conv2d(conv) => Self {
                channels,
                size: if streams_dy { conv.output() } else { conv.input },
                // A patch of one channel stands alone, whatever its group.
                groups: if granularity == Granularity::CHANNEL_PATCH { 1 } else { conv.groups as usize },
                products: conv.windows(pass),
            },
        }
    }
}

/// The simplest granularity that cuts a pass's vectors in the same way: [`Granularity::CHANNEL_PATCH`] where vectors of
/// several channels have one.
pub fn simplify_granularity(geometry: &Geometry, pass: Pass, granularity: Granularity) -> Granularity {
    let Granularity::ChannelPatch(channels) = granularity else { return granularity };
    let has_one_channel = match geometry {
        Geometry::Linear(_) | Geometry::Matmul(_) => true,
        Geometry::Conv2d(conv) => {
            let all = if pass == Pass::InputGrad { conv.out_channels } else { conv.in_channels };
            let group = (all / conv.groups) as usize;
            let resolve = |windows: &Windows| channels.resolve([windows.y.taps, windows.x.taps], group);
            conv.windows(pass).iter().all(|windows| resolve(windows) == 1)
        }
    };
    if has_one_channel { Granularity::CHANNEL_PATCH } else { granularity }
}

/// Counts the vectors of a sample that a pass streams, in the product with the most vectors.
/// [`views`] cuts as many from the whole operand.
pub fn count_sample_vectors(geometry: &Geometry, pass: Pass, granularity: Granularity) -> u64 {
    let cuts = cut_whole(geometry, pass, granularity);
    cuts.iter().map(|cut| cut.layout.vectors() as u64).max().unwrap_or(0)
}

/// Lists the lengths of the vectors that a pass streams, over all its products.
pub fn list_vector_lengths(geometry: &Geometry, pass: Pass, granularity: Granularity) -> BTreeSet<usize> {
    let cuts = cut_whole(geometry, pass, granularity);
    cuts.iter().flat_map(|cut| &cut.streams).map(|stream| stream.length).collect()
}

/// How [`views`] cuts the vectors of a sample of the whole operand.
fn cut_whole(geometry: &Geometry, pass: Pass, granularity: Granularity) -> Vec<Cut> {
    let channels = match geometry {
        Geometry::Conv2d(conv) if pass == Pass::InputGrad => conv.out_channels,
        Geometry::Conv2d(conv) => conv.in_channels,
        Geometry::Linear(_) | Geometry::Matmul(_) => 1,
    };
    cuts(geometry, pass, granularity, 1, channels as usize)
}

/// Refuses vectors of more channels than a group of any layer has.
///
/// # Errors
/// If no layer has as many: the error names the key, and the layer that has most.
pub fn check_channels<'a>(
    granularity: Granularity,
    layers: impl IntoIterator<Item = &'a Layer>,
) -> Result<(), ConfigError> {
    let Granularity::ChannelPatch(Channels::Count(channels @ 2..)) = granularity else { return Ok(()) };
    let count = |layer: &Layer| match layer.geometry {
        Geometry::Conv2d(conv) => conv.in_channels.max(conv.out_channels) / conv.groups,
        Geometry::Linear(_) | Geometry::Matmul(_) => 0,
    };
    let widest = layers.into_iter().max_by_key(|layer| count(layer)).filter(|layer| count(layer) > 0);
    let found = match widest {
        Some(layer) if channels <= count(layer) => return Ok(()),
        Some(layer) => {
            format!("no layer has as many channels in a group; {} has most, {}", layer.name, count(layer))
        }
        None => "no layer is a convolution; set it to channel-patch".to_owned(),
    };
    Err(ConfigError { key: "rpq.granularity", reason: format!("is {granularity}, but {found}") })
}

impl McacheConfig {
    /// The scope of a layer's MCACHE.
    pub fn effective_scope(&self, geometry: &Geometry) -> Scope {
        match (geometry, self.scope_linear) {
            (Geometry::Conv2d(_), _) => self.scope,
            // The right operand, which acts as the weights, differs between samples.
            (Geometry::Matmul(_), Scope::Batch) => Scope::Sample,
            (Geometry::Matmul(_) | Geometry::Linear(_), scope) => scope,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mercury_trace::geometry::{Conv2d, Linear, Matmul};

    #[test]
    fn vectors_are_counted_as_they_are_cut() {
        let conv = |stride: u32, groups| {
            Geometry::Conv2d(Conv2d {
                in_channels: 4,
                out_channels: 6,
                input: [9, 7],
                kernel: [3, 2],
                stride: [stride, 1],
                padding: [1, 0],
                dilation: [1; 2],
                groups,
            })
        };
        let linear = Geometry::Linear(Linear { rows: 3, in_features: 10, out_features: 7 });
        let attention = Geometry::Matmul(Matmul { heads: 2, rows: 5, inner: 6, columns: 4 });
        for geometry in [conv(1, 1), conv(2, 2), linear, attention] {
            for granularity in ["channel-patch", "channel-patch(2)", "channel-patch(auto)", "patch", "sub-vector(4)"] {
                let granularity: Granularity = granularity.parse().unwrap();
                for (pass, inputs) in [(Pass::Forward, true), (Pass::InputGrad, false)] {
                    let (channels, size) = match geometry {
                        Geometry::Conv2d(conv) if inputs => (4, 4 * conv.input[0] * conv.input[1]),
                        Geometry::Conv2d(conv) => (6, 6 * conv.output()[0] * conv.output()[1]),
                        Geometry::Linear(_) => (1, 3 * if inputs { 10 } else { 7 }),
                        Geometry::Matmul(_) => (1, 10 * if inputs { 6 } else { 4 }),
                    };
                    let values = vec![0.0; 2 * size as usize];
                    let views = views(&geometry, pass, granularity, &values, 2, channels);
                    let cut = views.iter().map(|view| view.layout().vectors() as u64 / 2).max();
                    assert_eq!(cut, Some(count_sample_vectors(&geometry, pass, granularity)), "{geometry:?} {pass}");
                }
            }
        }
    }
}
