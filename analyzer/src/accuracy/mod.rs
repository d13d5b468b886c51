//! Output error: how far a pass's result with reuse is from its exact one.
//!
//! Reuse computes with a substitute of a vector, such as its representative, in place of the vector
//! ([`Substitutes`]), so the result differs by the products of `x' - x`. Both are summed here over what
//! the trace kept: kept samples, kept channels and kept filters; where channels were left out, of result
//! and error alike only the part of the kept channels is seen. Every sum is in f64, of products of two f32, which are exact there,
//! in a fixed order: the same on every machine and for every number of threads.

mod batch;
mod gradients;
mod side_by_side;
mod sums;

pub use batch::SKETCH;
pub use sums::{ErrorSums, Estimate, Interval, Moments};

use crate::operand::LayerData;
use crate::weights::StreamWeights;
use batch::Shares;
use gradients::Gradients;
use mercury_reuse::{Substitutes, VectorView, add_outer, draw};
use mercury_trace::geometry::Pass;
use rayon::prelude::*;
use side_by_side::SideBySide;
use sums::{Covariance, OfBatch, of_parts};

/// Which of so many parts are looked at: `most`, but two at least, if it is given.
fn some(all: usize, most: Option<usize>, seed: u64) -> Vec<usize> {
    match most {
        Some(most) if most.max(2) < all => draw(all, most.max(2), seed),
        _ => (0..all).collect(),
    }
}

/// Sums of each of some samples, and their covariances where positions were drawn.
pub type OutputErrors = Vec<(Moments, Covariance)>;

/// A result and how reuse changes it.
#[derive(Debug, Clone)]
struct Sums {
    exact: Vec<f64>,
    change: Vec<f64>,
}

impl Sums {
    fn new(length: usize) -> Self {
        Self { exact: vec![0.0; length], change: vec![0.0; length] }
    }

    fn clear(&mut self) {
        self.exact.fill(0.0);
        self.change.fill(0.0);
    }

    fn add(&mut self, more: &Self) {
        self.exact.iter_mut().zip(&more.exact).for_each(|(sum, more)| *sum += more);
        self.change.iter_mut().zip(&more.change).for_each(|(sum, more)| *sum += more);
    }

    /// |Y|², |Y' - Y|², <Y, Y' - Y>, and <dY, Y' - Y> for dY of these elements, if it is there.
    fn moments(&self, gradients: &[f32]) -> Moments {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum();
        let loss = gradients.iter().zip(&self.change).map(|(&gradient, change)| f64::from(gradient) * change).sum();
        let Self { exact, change } = self;
        [dot(exact, exact), dot(change, change), dot(exact, change), loss]
    }
}

/// Output error of the forward pass or the input gradient through one view, sample by sample; `None`
/// where the weights were not captured. Of all positions, or of `most` of all kept samples, spread
/// evenly over them. The loss is that of the forward pass, scaled to all channels and filters.
pub fn output_error(
    data: &LayerData,
    pass: Pass,
    substitutes: &Substitutes,
    most: Option<usize>,
) -> Option<OutputErrors> {
    data.weight.as_ref()?;
    let view = substitutes.view();
    let layout = view.layout();
    let outputs = data.outputs(pass);
    let most = most.map(|most| most.div_ceil(data.kept.samples));
    let blocks = |sample| -> Vec<_> {
        (0..layout.streams).filter_map(|stream| data.stream_weights(view, pass, sample, stream)).collect()
    };
    let own = data.kept.weights_change_with_sample();
    let weights: Vec<Vec<StreamWeights>> =
        (0..if own { layout.samples } else { 1 }).into_par_iter().map(blocks).collect();
    // Other positions in each layer and pass, so that their errors are independent.
    let layer = data
        .kept
        .layer
        .name
        .bytes()
        .chain(pass.name().bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let chosen = |sample| some(layout.positions, most, layer.wrapping_add((data.first_sample + sample) as u64));
    let chosen: Vec<Vec<usize>> = (0..layout.samples).map(chosen).collect();
    let gradients = if pass == Pass::Forward { Gradients::new(data) } else { None };
    let products_of_each = gradients.as_ref().map_or(1.0, |gradients| gradients.products_of_each(&data.kept));
    let moments = |sums: &Sums, (sample, position): (usize, usize), dy: &mut Vec<f32>| {
        if let Some(gradients) = &gradients {
            dy.resize(outputs, 0.0);
            gradients.of_outputs(&data.kept, sample, position, dy);
        }
        let [exact, change, cross, loss] = sums.moments(dy);
        // 0 of nothing is known as 0.
        [exact, change, cross, if loss == 0.0 { 0.0 } else { loss * products_of_each }]
    };
    let all: usize = chosen.iter().map(Vec::len).sum();
    let at_once = side_by_side::at_once(view.max_length(), outputs, all);
    let of_positions =
        |(block, dy): &mut (SideBySide, Vec<f32>), (sample, positions): (usize, &[usize])| -> Vec<Moments> {
            block.sum(substitutes, &weights[if own { sample } else { 0 }], sample, positions);
            let of_position = |(lane, &position)| moments(block.sums_of(lane), (sample, position), dy);
            positions.iter().enumerate().map(of_position).collect()
        };
    let of_sample = |(sample, chosen): (usize, &Vec<usize>)| {
        let memory = || (SideBySide::new(substitutes, outputs), Vec::new());
        let blocks = chosen.par_chunks(at_once).with_min_len(16usize.div_ceil(at_once));
        let blocks = blocks.map(|positions| (sample, positions));
        let parts: Vec<Vec<Moments>> = blocks.map_init(memory, of_positions).collect();
        of_parts(&parts.concat(), layout.positions)
    };
    Some(chosen.par_iter().enumerate().map(of_sample).collect())
}

/// Error of the weight gradient, dW = Xᵀ dY, of kept filters, from samples as they come.
///
/// Where samples come some at a time it holds 16 bytes for each weight of the streams that are looked at,
/// until the last has come; where they come all at once no more than some MB a thread.
#[derive(Debug, Clone)]
pub struct WeightGradient {
    parts: Vec<GradientPart>,
    all: usize,
    of_each: f64,
}

/// The gradient of a stream's weights in some columns (filters).
#[derive(Debug, Clone)]
struct GradientPart {
    stream: usize,
    columns: Vec<usize>,
    weights: usize,
    sums: Option<Sums>,
    moments: Moments,
    /// What each sample adds, where samples were left out.
    samples: Option<Samples>,
}

/// What samples add to a part.
#[derive(Debug, Clone)]
struct Samples {
    /// Moments of each sample's share, added up.
    own: Moments,
    /// The shares' sketches, of so many numbers.
    length: usize,
    shares: Shares,
}

/// Weights of a part, but one column at least.
const PART_WEIGHTS: usize = 1 << 18;
const SKETCH_OF_PART: usize = 4;

impl WeightGradient {
    /// Begins with none of the samples, each of which stands for `of_each` of the batch; of all streams, or of as many
    /// as have `most` vectors in all. `None` where dY was not captured.
    pub fn new(data: &LayerData, view: &VectorView, most: Option<usize>, of_each: f64) -> Option<Self> {
        let grad = Gradients::new(data)?;
        let layout = view.layout();
        let of_stream_length = (data.kept.samples * layout.positions).max(1);
        let mut parts = Vec::new();
        for stream in some(layout.streams, most.map(|most| most.div_ceil(of_stream_length)), 0) {
            let (channel, _, _) = view.element(stream, 0);
            let columns = grad.columns(&data.kept, channel);
            let at_a_time = (PART_WEIGHTS / view.streams()[stream].length).max(1);
            // A stream without columns has a part, too: there are as many as were drawn.
            for part in columns.chunks(at_a_time).chain(columns.is_empty().then_some([].as_slice())) {
                parts.push(GradientPart::new(stream, part.to_vec(), view.streams()[stream].length));
            }
        }
        if of_each > 1.0 && !data.kept.weights_change_with_sample() {
            let most = (SKETCH / parts.len().max(1)).max(SKETCH_OF_PART);
            for part in &mut parts {
                let length = most.min(part.weights);
                part.samples = Some(Samples { own: Moments::default(), length, shares: Vec::new() });
            }
        }
        Some(Self { parts, all: layout.streams, of_each })
    }

    /// Adds the samples that come next.
    ///
    /// # Panics
    /// If their dY was not captured.
    pub fn add(&mut self, data: &LayerData, substitutes: &Substitutes) {
        let grad = Gradients::new(data).expect("dY of one sample is dY of all");
        self.parts.par_iter_mut().for_each(|part| part.add(data, &grad, substitutes));
    }

    /// The error of the gradient that the samples add up to, and what they tell of the batch's; nothing where that does
    /// not rise above their scatter. What was drawn are streams.
    pub fn error(&self) -> ErrorSums {
        let of_all = |fraction: f64| {
            let streams = self.parts.chunk_by(|a, b| a.stream == b.stream);
            let sum = |parts: &[GradientPart]| {
                let mut sum = Moments::default();
                for part in parts {
                    sums::add(&mut sum, &part.of_batch(fraction));
                }
                sum
            };
            of_parts(&streams.map(sum).collect::<Vec<_>>(), self.all)
        };
        let (kept, (moments, _)) = (of_all(1.0), of_all(1.0 / self.of_each));
        let batch = self.between().filter(|_| batch::is_possible(&moments, &kept.0));
        let batch = batch.map(|(covariance, samples)| OfBatch { moments, covariance, samples });
        ErrorSums::of_all(kept, self.of_each).with_batch(batch)
    }

    /// Covariances over samples of the whole, from the sketches.
    fn between(&self) -> Option<(Covariance, usize)> {
        let samples: Vec<&Samples> = self.parts.iter().filter_map(|part| part.samples.as_ref()).collect();
        let count = samples.first()?.shares.len();
        let share = |sample: usize| samples.iter().flat_map(|part| part.shares[sample].iter().copied()).collect();
        let mut covariance = batch::jackknife(&(0..count).map(share).collect(), 1.0 / self.of_each)?;
        // Streams that were not looked at vary with the samples as the others do.
        let streams = self.parts.chunk_by(|a, b| a.stream == b.stream).count();
        let scale = self.all as f64 / streams.max(1) as f64;
        covariance.iter_mut().flatten().for_each(|entry| *entry *= scale * scale);
        Some((covariance, count))
    }
}

impl GradientPart {
    fn new(stream: usize, columns: Vec<usize>, length: usize) -> Self {
        let weights = length * columns.len();
        Self { stream, columns, weights, sums: None, moments: Moments::default(), samples: None }
    }

    /// Moments that stand for the batch's gradient, of which `fraction` of the samples came.
    fn of_batch(&self, fraction: f64) -> Moments {
        match &self.samples {
            Some(Samples { own, shares, .. }) => batch::unbiased(self.moments, *own, shares.len(), fraction),
            None => self.moments,
        }
    }

    fn add(&mut self, data: &LayerData, grad: &Gradients, substitutes: &Substitutes) {
        let view = substitutes.view();
        let layout = view.layout();
        let (channel, _, _) = view.element(self.stream, 0);
        let columns = &self.columns;
        let mut buffers = substitutes.buffers();
        let mut right = vec![0.0; columns.len()];
        let weights = self.weights;
        let mut own = self.samples.as_ref().map(|_| Sums::new(weights));
        for sample in 0..layout.samples {
            let all = self.sums.get_or_insert_with(|| Sums::new(weights));
            let sums = own.as_mut().unwrap_or(all);
            for position in 0..layout.positions {
                grad.gather(sample, channel, position, columns, &mut right);
                let (x, substitute) = substitutes.cut(sample, self.stream, position, &mut buffers);
                add_outer(&mut sums.exact, x.iter().copied(), &right);
                if let Some(substitute) = substitute {
                    add_outer(&mut sums.change, substitute.iter().zip(x).map(|(substitute, x)| substitute - x), &right);
                }
            }
            if let (Some(own), Some(samples)) = (&mut own, &mut self.samples) {
                self.sums.get_or_insert_with(|| Sums::new(weights)).add(own);
                samples.add(own);
                own.clear();
            }
            let last = data.is_last() && sample + 1 == layout.samples;
            let ends = last || data.kept.weights_change_with_sample();
            if let Some(sums) = self.sums.take_if(|_| ends) {
                sums::add(&mut self.moments, &sums.moments(&[]));
            }
        }
    }
}

impl Samples {
    /// Adds a sample's share.
    fn add(&mut self, share: &Sums) {
        sums::add(&mut self.own, &share.moments(&[]));
        self.shares.push(batch::sketch(&share.exact, &share.change, self.length));
    }
}
