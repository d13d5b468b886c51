//! Chooses the part of a captured step to keep, by seeded sampling without replacement.

use mercury_trace::geometry::{Geometry, Pass};
use mercury_trace::layers::Layer;
use mercury_trace::manifest::Sampling;
use mercury_trace::tensor::Dtype;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Limits of the part to keep; `None` keeps all.
#[derive(Debug, Clone, Default)]
pub struct SamplingLimits {
    /// Passes whose operands are kept.
    pub passes: Vec<Pass>,
    /// How values are stored.
    pub dtype: Dtype,
    /// Samples of a batch.
    pub samples: Option<u32>,
    /// Channels of each convolution's input and output gradient.
    pub channels: Option<u32>,
    /// Filters of each layer's weight.
    pub filters: Option<u32>,
}

/// The purpose of a choice; each purpose has its own random numbers.
#[derive(Debug, Clone, Copy)]
pub enum Purpose {
    /// Order of the data set in an epoch.
    Epoch(u64),
    /// Samples of a captured step.
    Samples(u64),
    /// Input channels of a layer.
    Channels(usize),
    /// Filters of a layer, and with them channels of its output gradient.
    Filters(usize),
}

/// Draws a permutation of `0..count`, which depends only on seed and purpose.
pub fn permutation(seed: u64, purpose: Purpose, count: usize) -> Vec<u32> {
    let (tag, number) = match purpose {
        Purpose::Epoch(epoch) => (0, epoch),
        Purpose::Samples(step) => (1, step),
        Purpose::Channels(layer) => (2, layer as u64),
        Purpose::Filters(layer) => (3, layer as u64),
    };
    let mut order: Vec<u32> = (0..count as u32).collect();
    order.shuffle(&mut ChaCha8Rng::from_seed(key(seed, tag, number)));
    order
}

fn key(seed: u64, tag: u64, number: u64) -> [u8; 32] {
    let mut key = [0; 32];
    for (slot, word) in key.chunks_exact_mut(8).zip([seed, tag, number]) {
        slot.copy_from_slice(&u64::to_le_bytes(word));
    }
    key
}

/// Orders the numbers `0..count`, divided evenly among groups, group by group.
fn order_by_group(groups: &[u32], count: u32) -> Vec<u32> {
    let size = count / groups.len() as u32;
    groups.iter().flat_map(|group| group * size..(group + 1) * size).collect()
}

/// Draws the seed of libtorch's generator in a step, so that dropout does not depend on earlier
/// steps.
pub fn step_seed(seed: u64, step: u64) -> i64 {
    let mut generator = ChaCha8Rng::from_seed(key(seed, 4, step));
    i64::from(generator.next_u32())
}

/// Returns the first `limit` numbers of an order, ascending; `None` if the limit keeps all.
pub fn keep_first(order: &[u32], limit: Option<u32>) -> Option<Vec<u32>> {
    let limit = limit.filter(|&limit| (limit as usize) < order.len())?;
    let mut kept = order[..limit as usize].to_vec();
    kept.sort_unstable();
    Some(kept)
}

/// Chooses channels and filters for a whole run.
///
/// The kept channels of the output gradient include the kept filters, so that the trace suffices to
/// compute these filters' gradients.
pub fn choose(seed: u64, limits: &SamplingLimits, layers: &[Layer]) -> Sampling {
    let SamplingLimits { passes, dtype, samples, .. } = limits.clone();
    let mut sampling = Sampling { passes, dtype, samples, ..Sampling::default() };
    for (index, layer) in layers.iter().enumerate() {
        // Filters of an attention product are activations, which are kept whole.
        if matches!(layer.geometry, Geometry::Attention(_)) {
            continue;
        }
        // Filters of a group meet only its channels, so one order of groups chooses both.
        let groups = match layer.geometry {
            Geometry::Conv2d(conv) if conv.groups > 1 => {
                permutation(seed, Purpose::Filters(index), conv.groups as usize)
            }
            _ => Vec::new(),
        };
        let order = |purpose, count: u32| {
            if groups.is_empty() { permutation(seed, purpose, count as usize) } else { order_by_group(&groups, count) }
        };
        let filters = order(Purpose::Filters(index), layer.geometry.filters());
        if let Some(kept) = keep_first(&filters, limits.filters) {
            sampling.filters.insert(layer.name.clone(), kept);
        }
        // Rows of a matrix product are vectors, which are kept whole.
        if let Geometry::Conv2d(conv) = layer.geometry {
            let channels = order(Purpose::Channels(index), conv.in_channels);
            if let Some(kept) = keep_first(&channels, limits.channels) {
                sampling.channels.insert(layer.name.clone(), kept);
            }
            let limit = limits.channels.map(|channels| channels.max(limits.filters.unwrap_or(conv.out_channels)));
            if let Some(kept) = keep_first(&filters, limit) {
                sampling.grad_channels.insert(layer.name.clone(), kept);
            }
        }
    }
    sampling
}

#[cfg(test)]
mod tests {
    use super::*;
    use mercury_trace::geometry::Conv2d;

    fn conv(groups: u32) -> Conv2d {
        Conv2d {
            in_channels: 64,
            out_channels: 128,
            input: [8, 8],
            kernel: [3, 3],
            stride: [1; 2],
            padding: [1; 2],
            dilation: [1; 2],
            groups,
        }
    }

    fn keep_all() -> SamplingLimits {
        SamplingLimits { passes: Pass::ALL.to_vec(), ..SamplingLimits::default() }
    }

    #[test]
    fn kept_filters_of_groups_meet_kept_channels() {
        let conv = conv(64);
        let layers = [Layer { name: "depthwise".into(), geometry: Geometry::Conv2d(conv), input_grad: true }];
        let sampling = choose(7, &SamplingLimits { channels: Some(4), filters: Some(8), ..keep_all() }, &layers);
        let groups: Vec<u32> = sampling.filters["depthwise"].iter().map(|filter| filter / 2).collect();
        let mut distinct = groups.clone();
        distinct.dedup();
        assert_eq!(distinct, sampling.channels["depthwise"]);
    }

    #[test]
    fn kept_filters_are_among_the_kept_gradient_channels() {
        let conv = conv(1);
        let layers = [Layer { name: "conv".into(), geometry: Geometry::Conv2d(conv), input_grad: true }];
        let limits = SamplingLimits { channels: Some(16), filters: Some(20), ..keep_all() };
        let sampling = choose(7, &limits, &layers);
        assert_eq!(sampling.channels["conv"].len(), 16);
        assert_eq!(sampling.filters["conv"].len(), 20);
        assert!(sampling.filters["conv"].iter().all(|filter| sampling.grad_channels["conv"].contains(filter)));
        assert_eq!(sampling, choose(7, &limits, &layers));
        assert_ne!(sampling, choose(8, &limits, &layers));
        assert_eq!(choose(7, &keep_all(), &layers), Sampling::default());
    }
}
