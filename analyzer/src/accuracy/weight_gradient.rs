//! Error of the weight gradient.

use super::batch::{self, SKETCH, Shares};
use super::gradients::Gradients;
use super::pilot::Pilot;
use super::products::{Source, measure_columns, padded_width};
use super::sums::{self, BatchEstimate, Covariance, estimate_total};
use super::{ErrorSums, Moments, Sums};
use crate::operand::LayerData;
use crate::request::ErrorMode;
use mercury_reuse::Substitutes;
use rayon::prelude::*;
use std::borrow::Cow;

/// Error of the weight gradient, dW = Xᵀ dY, of kept filters, from samples as they come.
///
/// A stream's weights are its vectors' elements by columns: filters, as dY has them. [`ErrorMode::Sampled`] evaluates
/// some columns of each stream. Sums run over samples, so columns cannot be added later; a `Pilot` on the first sample
/// decides how many are needed. The interval says how precise the result is.
///
/// Until the last sample it holds 16 bytes for each weight that is evaluated; if all samples come at once, no more than
/// some MB per thread.
#[derive(Debug, Clone)]
pub struct WeightGradient {
    /// None before the first sample.
    parts: Vec<GradientPart>,
    /// Samples of the batch that each kept one stands for.
    samples_per_kept: f64,
    mode: ErrorMode,
}

/// The gradient of a stream's weights in some columns.
#[derive(Debug, Clone)]
struct GradientPart {
    stream: usize,
    /// Length of the stream's vectors.
    length: usize,
    /// Columns that are evaluated, of `all`.
    columns: Vec<usize>,
    all: usize,
    /// Whether moments are kept by column, for their variance, or of all columns together.
    by_column: bool,
    /// Numbers that each sample's share is kept as, where samples of the batch were left out.
    sketch: Option<usize>,
    /// The gradient, `[elements][width]`, until its last sample came.
    sums: Option<Sums>,
    moments: Vec<Moments>,
    /// Moments of each sample's share, added up.
    own: Vec<Moments>,
    /// Sketches of the shares.
    shares: Shares,
}

/// Weights of a part, but one column at least.
const PART_WEIGHTS: usize = 1 << 18;
/// Numbers in the sketch of a part, at least.
const SKETCH_OF_PART: usize = 4;

impl WeightGradient {
    /// Begins without samples. Each one represents `samples_per_kept` samples of the batch. `None` if dY was not captured.
    pub fn new(data: &LayerData, mode: ErrorMode, samples_per_kept: f64) -> Option<Self> {
        data.grad_output.is_some().then(|| Self { parts: Vec::new(), samples_per_kept, mode })
    }

    /// Adds the samples that come next.
    ///
    /// # Panics
    /// If their dY was not captured.
    pub fn add(&mut self, data: &LayerData, substitutes: &Substitutes) {
        let gradients = Gradients::new(data).expect("dY of one sample is dY of all");
        let source = Source { data, gradients: &gradients, substitutes };
        if data.first_sample == 0 {
            self.parts = self.plan_parts(source);
        }
        let samples = substitutes.view().layout().samples;
        self.parts.par_iter_mut().for_each(|part| (0..samples).for_each(|sample| part.add_sample(source, sample)));
    }

    /// How many columns are evaluated, over all streams.
    #[cfg(test)]
    pub(super) fn evaluated_columns(&self) -> usize {
        self.parts.iter().map(|part| part.columns.len()).sum()
    }

    fn plan_parts(&self, source: Source) -> Vec<GradientPart> {
        let Source { data, substitutes, .. } = source;
        let streams = substitutes.view().streams().iter().map(|stream| stream.length).enumerate();
        let mut parts = Vec::new();
        let pilot = self.mode.precision().map(|precision| Pilot::run(source, precision));
        for (stream, length) in streams {
            let mut columns = source.columns(stream);
            let all = columns.len();
            if let Some(pilot) = &pilot {
                columns = pilot.draw_columns(stream, columns);
            }
            let at_a_time = (PART_WEIGHTS / length).max(1);
            // A stream without columns has a part, too: all streams are counted.
            for columns in columns.chunks(at_a_time).chain(columns.is_empty().then_some([].as_slice())) {
                parts.push(GradientPart::new(stream, length, columns.to_vec(), all, pilot.is_some()));
            }
        }
        if self.samples_per_kept > 1.0 && !data.kept.weights_change_with_sample() {
            let most = (SKETCH / parts.len().max(1)).max(SKETCH_OF_PART);
            for part in &mut parts {
                part.sketch = Some(most);
            }
        }
        parts
    }

    /// The error of the gradient of the kept samples, with an estimate of the batch's. There is none if the batch's
    /// gradient does not rise above the scatter of the samples.
    pub fn error(&self) -> ErrorSums {
        let kept = self.estimate(1.0);
        let (moments, drawn) = self.estimate(1.0 / self.samples_per_kept);
        let batch = self.between().filter(|_| batch::is_possible(&moments, &kept.0));
        let batch = batch.map(|(mut covariance, samples)| {
            sums::add_covariance(&mut covariance, &drawn, 1.0);
            BatchEstimate { moments, covariance, samples }
        });
        ErrorSums::from_total(kept, self.samples_per_kept).with_batch(batch)
    }

    /// Estimated moments of the gradient of a batch, a `fraction` of whose samples were kept, and their covariances.
    fn estimate(&self, fraction: f64) -> (Moments, Covariance) {
        let (mut sum, mut spread) = (Moments::default(), Covariance::default());
        for parts in self.parts.chunk_by(|a, b| a.stream == b.stream) {
            let moments: Vec<Moments> = parts.iter().flat_map(|part| part.moments(fraction).into_owned()).collect();
            let all = if parts[0].by_column { parts[0].all } else { moments.len() };
            let (moments, covariance) = estimate_total(&moments, all);
            sums::add(&mut sum, &moments);
            sums::add_covariance(&mut spread, &covariance, 1.0);
        }
        (sum, spread)
    }

    /// Covariances over samples of the whole, from the sketches.
    fn between(&self) -> Option<(Covariance, usize)> {
        let sketched = || self.parts.iter().filter(|part| part.sketch.is_some());
        let count = sketched().next()?.shares.len();
        let share = |sample: usize| {
            let mut share = Vec::new();
            for part in sketched() {
                // Squares of columns that were not drawn are like those that were.
                let scale = part.columns_per_drawn(&self.parts).sqrt();
                share.extend(part.shares[sample].iter().map(|numbers| numbers.map(|number| scale * number)));
            }
            share
        };
        let covariance = batch::jackknife(&(0..count).map(share).collect(), 1.0 / self.samples_per_kept)?;
        Some((covariance, count))
    }
}

impl GradientPart {
    fn new(stream: usize, length: usize, columns: Vec<usize>, all: usize, by_column: bool) -> Self {
        Self {
            stream,
            length,
            columns,
            all,
            by_column,
            sketch: None,
            sums: None,
            moments: Vec::new(),
            own: Vec::new(),
            shares: Shares::new(),
        }
    }

    fn add_sample(&mut self, source: Source, sample: usize) {
        // Of its own, where its share is kept, otherwise those of all samples.
        let kept = if self.sketch.is_some() { None } else { self.sums.take() };
        let mut sums = kept.unwrap_or_else(|| Sums::new(self.length * padded_width(&self.columns)));
        source.add_products(sample, self.stream, &self.columns, &mut sums);
        if let Some(length) = self.sketch {
            let own = self.measure(&sums);
            add_all(&mut self.own, &own);
            let [exact, change] = [&sums.exact, &sums.change].map(|values| self.without_padding(values));
            self.shares.push(batch::sketch(&exact, &change, length.min(exact.len())));
        }
        match &mut self.sums {
            Some(all) => all.add(&sums),
            none => *none = Some(sums),
        }
        let is_last = source.data.is_last() && sample + 1 == source.substitutes.view().layout().samples;
        let ends = is_last || source.data.kept.weights_change_with_sample();
        if let Some(sums) = self.sums.take_if(|_| ends) {
            let moments = self.measure(&sums);
            add_all(&mut self.moments, &moments);
        }
    }

    /// The columns of the stream per evaluated column.
    fn columns_per_drawn(&self, parts: &[Self]) -> f64 {
        if !self.by_column {
            return 1.0;
        }
        let drawn = parts.iter().filter(|part| part.stream == self.stream).map(|part| part.columns.len());
        self.all as f64 / drawn.sum::<usize>().max(1) as f64
    }

    /// Estimated moments of the gradient of a batch, a `fraction` of whose samples were kept.
    fn moments(&self, fraction: f64) -> Cow<'_, [Moments]> {
        if self.sketch.is_none() {
            return self.moments.as_slice().into();
        }
        let both = self.moments.iter().zip(&self.own);
        both.map(|(sum, own)| batch::unbiased(*sum, *own, self.shares.len(), fraction)).collect()
    }

    fn without_padding<'s>(&self, sums: &'s [f64]) -> Cow<'s, [f64]> {
        let (columns, width) = (self.columns.len(), padded_width(&self.columns));
        if columns == width {
            return sums.into();
        }
        sums.chunks_exact(width).flat_map(|row| &row[..columns]).copied().collect()
    }

    fn measure(&self, sums: &Sums) -> Vec<Moments> {
        if self.by_column { measure_columns(sums, self.columns.len()) } else { vec![sums.moments(&[])] }
    }
}

/// Adds moments one by one, to none at first.
fn add_all(sum: &mut Vec<Moments>, more: &[Moments]) {
    sum.resize(more.len(), Moments::default());
    sum.iter_mut().zip(more).for_each(|(sum, more)| sums::add(sum, more));
}
