//! Output error: how far a pass's result with reuse is from its exact one.
//!
//! Reuse computes with a substitute of a vector, such as its representative, in place of the vector
//! ([`Substitutes`]), so the result differs by the products of `x' - x`. Both are summed here over what
//! the trace kept: kept samples, kept channels and kept filters; where channels were left out, of result
//! and error alike only the part of the kept channels is seen. Every sum is in f64, of products of two f32, which are exact there,
//! in a fixed order: the same on every machine and for every number of threads.

use crate::operand::{Kept, LayerData};
use crate::weights::StreamWeights;
use mercury_reuse::{Buffers, Substitutes, VectorView, add_outer, add_scaled_rows, draw};
use mercury_trace::geometry::{Geometry, Pass};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Squares summed over a result's elements: all of them, or estimated from a sample of its parts.
///
/// A part is an output position of a sample (of a weight gradient: a stream of vectors). Parts of each
/// stratum (a sample; of a weight gradient, the layer) are drawn without replacement, and the sums
/// scaled up; the variances and covariance of the two estimated sums come with them, so that sums
/// over strata have theirs by addition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SquaredError {
    /// |Y' - Y|²
    pub error: f64,
    /// |Y|²
    pub exact: f64,
    /// Variance of the estimate of `error`; 0 where all was summed, as the other two.
    pub error_variance: f64,
    /// Covariance of the two estimates.
    pub covariance: f64,
    /// Variance of the estimate of `exact`.
    pub exact_variance: f64,
}

impl SquaredError {
    /// Relative error |Y' - Y| / |Y|; 0 where nothing differs, infinite where only Y vanishes.
    pub fn relative(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { (self.error / self.exact).sqrt() }
    }

    /// 95 % interval of the relative error: that of the ratio of the two sums, linearised (Cochran,
    /// Sampling Techniques, 1977, section 6.4), normal, and cut off at 0. The relative error itself
    /// where all was summed.
    pub fn interval(&self) -> [f64; 2] {
        let variance = self.error_variance + self.exact_variance + self.covariance.abs();
        if variance == 0.0 || self.exact == 0.0 {
            return [self.relative(); 2];
        }
        let ratio = self.error / self.exact;
        let spread = self.error_variance - 2.0 * ratio * self.covariance + ratio * ratio * self.exact_variance;
        let half = 1.959_964 * spread.max(0.0).sqrt() / self.exact;
        [(ratio - half).max(0.0).sqrt(), (ratio + half).sqrt()]
    }

    /// The estimate of a stratum of `all` parts from the squares of some.
    fn of_parts(parts: &[(f64, f64)], all: usize) -> Self {
        let n = parts.len() as f64;
        let (error, exact) = parts.iter().fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        if parts.len() >= all {
            return Self { error, exact, ..Self::default() };
        }
        let (scale, mean) = (all as f64 / n, (error / n, exact / n));
        let moment = |of: fn((f64, f64)) -> f64| {
            let sum: f64 = parts.iter().map(|part| of((part.0 - mean.0, part.1 - mean.1))).sum();
            // Of a single part nothing is known; then the others of the layer have to do.
            let sample = if parts.len() > 1 { sum / (n - 1.0) } else { 0.0 };
            sample * all as f64 * (all as f64 - n) / n
        };
        Self {
            error: error * scale,
            exact: exact * scale,
            error_variance: moment(|(error, _)| error * error),
            covariance: moment(|(error, exact)| error * exact),
            exact_variance: moment(|(_, exact)| exact * exact),
        }
    }
}

impl std::ops::AddAssign for SquaredError {
    fn add_assign(&mut self, other: Self) {
        self.error += other.error;
        self.exact += other.exact;
        self.error_variance += other.error_variance;
        self.covariance += other.covariance;
        self.exact_variance += other.exact_variance;
    }
}

impl std::iter::Sum for SquaredError {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |mut sum, item| {
            sum += item;
            sum
        })
    }
}

/// Which of so many parts are looked at: `most`, but two at least, if it is given.
fn some(all: usize, most: Option<usize>, seed: u64) -> Vec<usize> {
    match most {
        Some(most) if most.max(2) < all => draw(all, most.max(2), seed),
        _ => (0..all).collect(),
    }
}

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

    fn squares(&self) -> (f64, f64) {
        let square = |values: &[f64]| values.iter().map(|value| value * value).sum();
        (square(&self.change), square(&self.exact))
    }
}

/// Output error of the forward pass or the input gradient through one view, sample by sample; `None`
/// where the weights were not captured. Of all positions, or of `most` of all kept samples, spread
/// evenly over them.
pub fn output_error(
    data: &LayerData,
    pass: Pass,
    substitutes: &Substitutes,
    most: Option<usize>,
) -> Option<Vec<SquaredError>> {
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
    let chosen = |sample| some(layout.positions, most, (data.first_sample + sample) as u64);
    let chosen: Vec<Vec<usize>> = (0..layout.samples).map(chosen).collect();
    let of_position = |buffers: &mut (Buffers, Sums), (sample, position): (usize, usize)| {
        let (buffers, sums) = buffers;
        sums.clear();
        for (stream, weights) in weights[if own { sample } else { 0 }].iter().enumerate() {
            let (x, substitute) = substitutes.cut(sample, stream, position, buffers);
            let exact = &mut sums.exact[weights.outputs.clone()];
            add_scaled_rows(exact, weights.elements.iter().map(|&element| x[element]), &weights.values);
            if let Some(substitute) = substitute {
                let change = &mut sums.change[weights.outputs.clone()];
                let changes = weights.elements.iter().map(|&element| substitute[element] - x[element]);
                add_scaled_rows(change, changes, &weights.values);
            }
        }
        sums.squares()
    };
    let of_sample = |(sample, chosen): (usize, &Vec<usize>)| {
        let positions = chosen.par_iter().with_min_len(16).map(|&position| (sample, position));
        let buffers = || (substitutes.buffers(), Sums::new(outputs));
        let squares: Vec<(f64, f64)> = positions.map_init(buffers, of_position).collect();
        SquaredError::of_parts(&squares, layout.positions)
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
}

/// The gradient of a stream's weights in some columns (filters).
#[derive(Debug, Clone)]
struct GradientPart {
    stream: usize,
    columns: Vec<usize>,
    sums: Option<Sums>,
    squares: (f64, f64),
}

/// Weights of a part, but one column at least.
const PART_WEIGHTS: usize = 1 << 18;

impl WeightGradient {
    /// Begins with none of the samples; of all streams, or of as many as have `most` vectors in all. `None`
    /// where dY was not captured.
    pub fn new(data: &LayerData, view: &VectorView, most: Option<usize>) -> Option<Self> {
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
                parts.push(GradientPart { stream, columns: part.to_vec(), sums: None, squares: (0.0, 0.0) });
            }
        }
        Some(Self { parts, all: layout.streams })
    }

    /// Adds the samples that come next.
    ///
    /// # Panics
    /// If their dY was not captured.
    pub fn add(&mut self, data: &LayerData, substitutes: &Substitutes) {
        let grad = Gradients::new(data).expect("dY of one sample is dY of all");
        self.parts.par_iter_mut().for_each(|part| part.add(data, &grad, substitutes));
    }

    /// The error of the whole.
    pub fn error(&self) -> SquaredError {
        let streams = self.parts.chunk_by(|a, b| a.stream == b.stream);
        let sum = |parts: &[GradientPart]| {
            parts.iter().fold((0.0, 0.0), |sum, part| (sum.0 + part.squares.0, sum.1 + part.squares.1))
        };
        SquaredError::of_parts(&streams.map(sum).collect::<Vec<_>>(), self.all)
    }
}

impl GradientPart {
    fn add(&mut self, data: &LayerData, grad: &Gradients, substitutes: &Substitutes) {
        let view = substitutes.view();
        let layout = view.layout();
        let length = view.streams()[self.stream].length;
        let (channel, _, _) = view.element(self.stream, 0);
        let columns = &self.columns;
        let mut buffers = substitutes.buffers();
        let mut right = vec![0.0; columns.len()];
        for sample in 0..layout.samples {
            let sums = self.sums.get_or_insert_with(|| Sums::new(length * columns.len()));
            for position in 0..layout.positions {
                grad.gather(sample, channel, position, columns, &mut right);
                let (x, substitute) = substitutes.cut(sample, self.stream, position, &mut buffers);
                add_outer(&mut sums.exact, x.iter().copied(), &right);
                if let Some(substitute) = substitute {
                    add_outer(&mut sums.change, substitute.iter().zip(x).map(|(substitute, x)| substitute - x), &right);
                }
            }
            let last = data.is_last() && sample + 1 == layout.samples;
            if last || data.kept.weights_change_with_sample() {
                let (error, exact) = self.sums.take().map_or((0.0, 0.0), |sums| sums.squares());
                self.squares = (self.squares.0 + error, self.squares.1 + exact);
            }
        }
    }
}

/// dY of kept filters, laid out as the vectors of the forward pass.
struct Gradients<'a> {
    values: &'a [f32],
    geometry: Geometry,
    /// Rows in the file for each kept filter, of a convolution.
    planes: Vec<usize>,
    planes_of_sample: usize,
    width: usize,
}

impl<'a> Gradients<'a> {
    fn new(data: &'a LayerData) -> Option<Self> {
        let tensor = data.grad_output.as_ref()?;
        let place = |filter| data.kept.grad_channels.binary_search(filter).ok();
        let Kept { grad_channels, filters, .. } = &*data.kept;
        let geometry = data.kept.layer.geometry;
        let (planes, planes_of_sample) = match geometry {
            Geometry::Conv2d(_) => (filters.iter().filter_map(place).collect(), grad_channels.len()),
            Geometry::Linear(linear) => (Vec::new(), linear.rows as usize),
            Geometry::Attention(attention) => (Vec::new(), (attention.heads * attention.rows) as usize),
        };
        Some(Self { values: &tensor.values, geometry, planes, planes_of_sample, width: tensor.shape.width })
    }

    /// What the gradients of a stream's vectors are: planes of a convolution's filters of the same
    /// group, features of a row.
    fn columns(&self, data: &Kept, channel: usize) -> Vec<usize> {
        match self.geometry {
            Geometry::Conv2d(conv) => {
                let group = data.channels[channel] / (conv.in_channels / conv.groups);
                let of_group = |plane: &usize| data.grad_channels[*plane] / (conv.out_channels / conv.groups) == group;
                self.planes.iter().copied().filter(of_group).collect()
            }
            Geometry::Linear(_) => data.filters.iter().map(|&filter| filter as usize).collect(),
            Geometry::Attention(attention) => (0..attention.columns as usize).collect(),
        }
    }

    fn gather(&self, sample: usize, channel: usize, position: usize, columns: &[usize], out: &mut [f32]) {
        let base = sample * self.planes_of_sample;
        for (slot, &column) in out.iter_mut().zip(columns) {
            *slot = match self.geometry {
                Geometry::Conv2d(_) => self.values[(base + column) * self.width + position],
                Geometry::Linear(_) => self.values[(base + position) * self.width + column],
                Geometry::Attention(attention) => {
                    let row = channel * attention.rows as usize + position;
                    self.values[(base + row) * self.width + column]
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of a layer as they are: most contribute little, some much, error and result related.
    fn parts() -> Vec<(f64, f64)> {
        let part = |i: usize| {
            let (a, b) = ((i * 7919 % 101) as f64 / 101.0, (i * 104_729 % 97) as f64 / 97.0);
            (a * a * a * (1.0 + b), 2.0 + 5.0 * a * b)
        };
        (0..600).map(part).collect()
    }

    #[test]
    fn all_parts_are_no_estimate() {
        let all = SquaredError::of_parts(&parts(), 600);
        let sum = parts().iter().fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        assert_eq!((all.error.to_bits(), all.exact.to_bits()), (sum.0.to_bits(), sum.1.to_bits()));
        assert_eq!(all.interval().map(f64::to_bits), [all.relative().to_bits(); 2]);
    }

    #[test]
    fn intervals_hold_the_whole_about_as_often_as_they_say() {
        let (parts, seeds) = (parts(), 1000);
        let whole = SquaredError::of_parts(&parts, 600).relative();
        let (mut held, mut width) = (0, 0.0);
        for seed in 0..seeds {
            // Two strata, of different sampling rates.
            let sampled = |from: usize, count: usize| {
                let chosen: Vec<_> = draw(300, count, seed).into_iter().map(|part| parts[from + part]).collect();
                SquaredError::of_parts(&chosen, 300)
            };
            let found: SquaredError = [sampled(0, 60), sampled(300, 30)].into_iter().sum();
            let [low, high] = found.interval();
            assert!(low <= found.relative() && found.relative() <= high);
            held += u32::from((low..=high).contains(&whole));
            width += high - low;
        }
        // 95 % but for the normal approximation; and no wider than needed.
        assert!((910..=985).contains(&held), "{held} of {seeds}");
        assert!(width / (seeds as f64) < 0.5 * whole, "{width}");
    }
}
