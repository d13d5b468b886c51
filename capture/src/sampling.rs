//! Chooses the part of a captured step to keep, by seeded sampling without replacement.

use mercury_trace::geometry::{Geometry, Pass};
use mercury_trace::layers::Layer;
use mercury_trace::manifest::Sampling;
use mercury_trace::tensor::Dtype;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
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

/// Chooses channels and filters of all layers for a whole run.
///
/// The kept channels of the output gradient include the kept filters, so that the trace suffices to
/// compute these filters' gradients.
pub fn choose(seed: u64, limits: &SamplingLimits, layers: &[Layer]) -> Sampling {
    let SamplingLimits { passes, dtype, samples, .. } = limits.clone();
    let mut sampling = Sampling { passes, dtype, samples, ..Sampling::default() };
    for (index, layer) in layers.iter().enumerate() {
        let kept = choose_layer(seed, limits, index, &layer.geometry);
        let maps = [
            (&mut sampling.filters, kept.filters),
            (&mut sampling.channels, kept.channels),
            (&mut sampling.grad_channels, kept.grad_channels),
        ];
        for (map, kept) in maps {
            map.extend(kept.map(|kept| (layer.name.clone(), kept)));
        }
    }
    sampling
}

/// The kept part of a layer, ascending; `None` where all is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptLayer {
    /// Channels of the input.
    pub channels: Option<Vec<u32>>,
    /// Channels of the output gradient.
    pub grad_channels: Option<Vec<u32>>,
    /// Filters.
    pub filters: Option<Vec<u32>>,
}

/// Chooses the channels and filters of the layer with this index in the table of layers.
pub fn choose_layer(seed: u64, limits: &SamplingLimits, index: usize, geometry: &Geometry) -> KeptLayer {
    // Filters of a product of two activations are activations, which are kept whole.
    if matches!(geometry, Geometry::Matmul(_)) {
        return KeptLayer::default();
    }
    // Filters of a group meet only its channels, so one order of groups chooses both.
    let groups = match geometry {
        Geometry::Conv2d(conv) if conv.groups > 1 => permutation(seed, Purpose::Filters(index), conv.groups as usize),
        _ => Vec::new(),
    };
    let order = |purpose, count: u32| {
        if groups.is_empty() { permutation(seed, purpose, count as usize) } else { order_by_group(&groups, count) }
    };
    let filters = order(Purpose::Filters(index), geometry.filters());
    let mut kept = KeptLayer { filters: keep_first(&filters, limits.filters), ..KeptLayer::default() };
    // Rows of a matrix product are vectors, which are kept whole.
    if let Geometry::Conv2d(conv) = geometry {
        kept.channels = keep_first(&order(Purpose::Channels(index), conv.in_channels), limits.channels);
        let limit = limits.channels.map(|channels| channels.max(limits.filters.unwrap_or(conv.out_channels)));
        kept.grad_channels = keep_first(&filters, limit);
    }
    kept
}

/// A uniform sample of a batch that arrives in parts, such as the micro-batches of an accumulated
/// gradient.
///
/// It is reservoir sampling (Vitter 1985, algorithm R): how the batch is divided does not change
/// the choice.
#[derive(Debug)]
pub struct Reservoir {
    generator: ChaCha8Rng,
    limit: Option<usize>,
    kept: Vec<u32>,
    seen: u32,
}

impl Reservoir {
    /// An empty sample of at most `limit` samples of a step, or of all.
    pub fn new(seed: u64, step: u64, limit: Option<u32>) -> Self {
        let generator = ChaCha8Rng::from_seed(key(seed, 5, step));
        Self { generator, limit: limit.map(|limit| limit as usize), kept: Vec::new(), seen: 0 }
    }

    /// Adds the `count` samples that come next; returns the positions in the batch that are kept
    /// now, ascending.
    pub fn offer(&mut self, count: u32) -> Vec<u32> {
        for position in self.seen..self.seen + count {
            if self.limit.is_none_or(|limit| self.kept.len() < limit) {
                self.kept.push(position);
                continue;
            }
            let place = self.generator.random_range(0..=position) as usize;
            if let Some(slot) = self.kept.get_mut(place) {
                *slot = position;
            }
        }
        self.seen += count;
        let mut kept = self.kept.clone();
        kept.sort_unstable();
        kept
    }
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
        let layers =
            [Layer { name: "depthwise".into(), geometry: Geometry::Conv2d(conv), input_grad: true, weight_grad: true }];
        let sampling = choose(7, &SamplingLimits { channels: Some(4), filters: Some(8), ..keep_all() }, &layers);
        let groups: Vec<u32> = sampling.filters["depthwise"].iter().map(|filter| filter / 2).collect();
        let mut distinct = groups.clone();
        distinct.dedup();
        assert_eq!(distinct, sampling.channels["depthwise"]);
    }

    #[test]
    fn kept_filters_are_among_the_kept_gradient_channels() {
        let conv = conv(1);
        let layers =
            [Layer { name: "conv".into(), geometry: Geometry::Conv2d(conv), input_grad: true, weight_grad: true }];
        let limits = SamplingLimits { channels: Some(16), filters: Some(20), ..keep_all() };
        let sampling = choose(7, &limits, &layers);
        assert_eq!(sampling.channels["conv"].len(), 16);
        assert_eq!(sampling.filters["conv"].len(), 20);
        assert!(sampling.filters["conv"].iter().all(|filter| sampling.grad_channels["conv"].contains(filter)));
        assert_eq!(sampling, choose(7, &limits, &layers));
        assert_ne!(sampling, choose(8, &limits, &layers));
        assert_eq!(choose(7, &keep_all(), &layers), Sampling::default());
    }

    #[test]
    fn a_reservoir_does_not_depend_on_the_parts_of_a_batch() {
        let whole = Reservoir::new(7, 3, Some(5)).offer(64);
        let mut parts = Reservoir::new(7, 3, Some(5));
        let mut last = Vec::new();
        for part in [1, 7, 16, 40] {
            last = parts.offer(part);
        }
        assert_eq!(last, whole);
        assert_eq!(whole.len(), 5);
        assert!(whole.is_sorted_by(|a, b| a < b) && whole[4] < 64);
        assert_ne!(Reservoir::new(7, 4, Some(5)).offer(64), whole);
        assert_eq!(Reservoir::new(7, 3, None).offer(3), [0, 1, 2]);
    }

    #[test]
    fn a_reservoir_keeps_each_sample_equally_often() {
        let mut counts = [0u32; 12];
        for step in 0..4000 {
            Reservoir::new(1, step, Some(3)).offer(12).into_iter().for_each(|kept| counts[kept as usize] += 1);
        }
        // 1000 each; the standard deviation is 27.
        assert!(counts.iter().all(|count| (880..1120).contains(count)), "{counts:?}");
    }
}
