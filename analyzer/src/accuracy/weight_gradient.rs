//! Error of the weight gradient.

use super::batch::{self, SKETCH, Shares};
use super::gradients::Gradients;
use super::sampling::{columns_needed, residual_variance};
use super::sums::{self, CHANGE, Covariance, EXACT, OfBatch, of_parts};
use super::{ErrorSums, Moments, Sums, sampling_seed};
use crate::operand::LayerData;
use crate::request::ErrorMode;
use mercury_reuse::{Buffers, PRODUCT_LANES, Substitutes, VectorView, add_outer_products, shuffle};
use mercury_trace::geometry::Pass;
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;

/// Error of the weight gradient, dW = Xᵀ dY, of kept filters, from samples as they come.
///
/// A stream's weights are its vectors' elements by columns: filters, as dY has them. [`ErrorMode::Sampled`] draws
/// columns of each stream, as many as the gradient of the first sample asks for: sums run over samples, so columns cannot
/// be added later. The interval says how precise the result is.
///
/// Where samples come some at a time it holds 16 bytes for each weight that is evaluated, until the last has come; where
/// they come all at once no more than some MB a thread.
#[derive(Debug, Clone)]
pub struct WeightGradient {
    parts: Vec<GradientPart>,
    /// Samples of the batch that each kept one stands for.
    of_each: f64,
    mode: ErrorMode,
}

/// The gradient of a stream's weights in some columns.
#[derive(Debug, Clone)]
struct GradientPart {
    stream: usize,
    /// Length of the stream's vectors.
    length: usize,
    /// Columns that were drawn, some at the beginning and some after the first sample.
    blocks: Vec<ColumnBlock>,
    /// Columns that were not, in the order in which they would be.
    undrawn: Vec<usize>,
    all: usize,
    /// Numbers that each sample's share is kept as, where samples of the batch were left out.
    sketch: Option<usize>,
    /// Whether moments are kept by column, for their variance, or of all columns together.
    by_column: bool,
}

/// Columns that were drawn at the same time.
#[derive(Debug, Clone)]
struct ColumnBlock {
    columns: Vec<usize>,
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
/// Columns that a weight gradient begins with, over all streams; of each stream, at least, as fewer take no less time;
/// and weights of a stream that these may be.
const PILOT_COLUMNS: usize = 1024;
const PILOT_OF_STREAM: usize = PRODUCT_LANES;
const PILOT_WEIGHTS: usize = 1 << 18;

impl WeightGradient {
    /// Begins with none of the samples, each of which stands for `of_each` of the batch. `None` where dY was not
    /// captured.
    pub fn new(data: &LayerData, view: &VectorView, mode: ErrorMode, of_each: f64) -> Option<Self> {
        let gradients = Gradients::new(data)?;
        let seed = sampling_seed(&data.kept.layer.name, Pass::WeightGrad);
        let streams = view.streams().iter().enumerate();
        let mut parts = Vec::new();
        for (stream, cut) in streams {
            let (channel, _, _) = view.element(stream, 0);
            let columns = gradients.columns(&data.kept, channel);
            if mode == ErrorMode::Sampled {
                let order = shuffle(columns.len(), seed.wrapping_add(stream as u64));
                let drawn = order.iter().map(|&at| columns[at as usize]).collect();
                let mut part = GradientPart::new(stream, cut.length, drawn, true);
                let share = PILOT_COLUMNS.div_ceil(view.streams().len());
                part.draw(share.min(PILOT_WEIGHTS / cut.length).max(PILOT_OF_STREAM));
                parts.push(part);
                continue;
            }
            let at_a_time = (PART_WEIGHTS / cut.length).max(1);
            // A stream without columns has a part, too: all streams are counted.
            for columns in columns.chunks(at_a_time).chain(columns.is_empty().then_some([].as_slice())) {
                let mut part = GradientPart::new(stream, cut.length, columns.to_vec(), false);
                part.draw(columns.len());
                parts.push(part);
            }
        }
        if of_each > 1.0 && !data.kept.weights_change_with_sample() {
            let most = (SKETCH / parts.len().max(1)).max(SKETCH_OF_PART);
            for part in &mut parts {
                part.sketch = Some(most);
            }
        }
        Some(Self { parts, of_each, mode })
    }

    /// Adds the samples that come next.
    ///
    /// # Panics
    /// If their dY was not captured.
    pub fn add(&mut self, data: &LayerData, substitutes: &Substitutes) {
        let gradients = Gradients::new(data).expect("dY of one sample is dY of all");
        let samples = substitutes.view().layout().samples;
        let source = Source { data, gradients: &gradients, substitutes };
        let mut first = 0;
        if self.mode == ErrorMode::Sampled && data.first_sample == 0 && samples > 0 {
            self.parts.par_iter_mut().for_each(|part| part.add_sample(source, 0, 0));
            self.draw_columns();
            self.parts.par_iter_mut().for_each(|part| part.add_sample(source, 0, 1));
            first = 1;
        }
        let samples = first..samples;
        self.parts.par_iter_mut().for_each(|part| {
            samples.clone().for_each(|sample| part.add_sample(source, sample, 0));
        });
    }

    /// Draws the columns that the first sample's gradient asks for.
    fn draw_columns(&mut self) {
        let (mut sums, mut spread) = (Moments::default(), Covariance::default());
        for part in &self.parts {
            let (moments, covariance) = of_parts(&part.blocks[0].current_moments(part.by_column), part.all);
            sums::add(&mut sums, &moments);
            sums::add_covariance(&mut spread, &covariance, 1.0);
        }
        let residual = residual_variance(&spread, sums[CHANGE] / sums[EXACT]);
        for part in &mut self.parts {
            let drawn = part.all - part.undrawn.len();
            part.draw(columns_needed(residual, sums[CHANGE], drawn, part.all) - drawn);
        }
    }

    /// The error of the gradient that the samples add up to, and what they tell of the batch's; nothing where that does
    /// not rise above their scatter.
    pub fn error(&self) -> ErrorSums {
        let (kept, (moments, _)) = (self.estimate(1.0), self.estimate(1.0 / self.of_each));
        let batch = self.between().filter(|_| batch::is_possible(&moments, &kept.0));
        let batch = batch.map(|(covariance, samples)| OfBatch { moments, covariance, samples });
        ErrorSums::of_all(kept, self.of_each).with_batch(batch)
    }

    /// Moments that stand for the gradient of a batch, `fraction` of whose samples came, and their covariances.
    fn estimate(&self, fraction: f64) -> (Moments, Covariance) {
        let (mut sum, mut spread) = (Moments::default(), Covariance::default());
        if self.mode == ErrorMode::Sampled {
            for part in &self.parts {
                let (moments, covariance) = of_parts(&part.moments(fraction), part.all);
                sums::add(&mut sum, &moments);
                sums::add_covariance(&mut spread, &covariance, 1.0);
            }
            return (sum, spread);
        }
        for parts in self.parts.chunk_by(|a, b| a.stream == b.stream) {
            let mut stream = Moments::default();
            for moments in parts.iter().flat_map(|part| part.moments(fraction)) {
                sums::add(&mut stream, &moments);
            }
            sums::add(&mut sum, &stream);
        }
        (sum, spread)
    }

    /// Covariances over samples of the whole, from the sketches.
    fn between(&self) -> Option<(Covariance, usize)> {
        let sketched = || self.parts.iter().filter(|part| part.sketch.is_some());
        let blocks = || sketched().flat_map(|part| part.blocks.iter().map(move |block| (part, block)));
        let count = blocks().next()?.1.shares.len();
        let share = |sample: usize| {
            let mut share = Vec::new();
            for (part, block) in blocks() {
                // Squares of columns that were not drawn are like those that were.
                let scale = part.column_scale().sqrt();
                share.extend(block.shares[sample].iter().map(|numbers| numbers.map(|number| scale * number)));
            }
            share
        };
        let covariance = batch::jackknife(&(0..count).map(share).collect(), 1.0 / self.of_each)?;
        Some((covariance, count))
    }
}

/// Where samples come from.
#[derive(Clone, Copy)]
struct Source<'a, 'v> {
    data: &'a LayerData,
    gradients: &'a Gradients<'a>,
    substitutes: &'a Substitutes<'a, 'v>,
}

impl GradientPart {
    /// A part of none of these columns yet, which are drawn in their order.
    fn new(stream: usize, length: usize, columns: Vec<usize>, by_column: bool) -> Self {
        Self { stream, length, blocks: Vec::new(), all: columns.len(), undrawn: columns, sketch: None, by_column }
    }

    /// Draws `count` more columns, or as many as are left.
    fn draw(&mut self, count: usize) {
        let rest = self.undrawn.split_off(count.min(self.undrawn.len()));
        self.blocks.push(ColumnBlock::new(std::mem::replace(&mut self.undrawn, rest)));
    }

    /// How many of the stream's columns each drawn one stands for.
    fn column_scale(&self) -> f64 {
        let drawn = self.all - self.undrawn.len();
        if drawn == 0 { 1.0 } else { self.all as f64 / drawn as f64 }
    }

    /// Moments that stand for the batch's gradient, of which `fraction` of the samples came.
    fn moments(&self, fraction: f64) -> Vec<Moments> {
        let mut moments = Vec::new();
        for block in &self.blocks {
            if self.sketch.is_none() {
                moments.extend(&block.moments);
                continue;
            }
            let both = block.moments.iter().zip(&block.own);
            moments.extend(both.map(|(sum, own)| batch::unbiased(*sum, *own, block.shares.len(), fraction)));
        }
        moments
    }

    /// Adds a sample to the blocks from number `first_block` on.
    fn add_sample(&mut self, source: Source, sample: usize, first_block: usize) {
        let Source { data, gradients, substitutes } = source;
        let Self { length, sketch, by_column, .. } = *self;
        let layout = substitutes.view().layout();
        let blocks = self.blocks.get_mut(first_block..).unwrap_or_default();
        let mut sums: Vec<Sums> = blocks.iter_mut().map(|block| block.begin_sample(length, sketch)).collect();
        let (channel, _, _) = substitutes.view().element(self.stream, 0);
        let mut vectors = Vectors::new(substitutes, length);
        let mut dy = Vec::new();
        let end = if blocks.iter().all(|block| block.columns.is_empty()) { 0 } else { layout.positions };
        for first in (0..end).step_by(vectors.at_once) {
            let positions = first..end.min(first + vectors.at_once);
            let are_substituted = vectors.cut(substitutes, (sample, self.stream), positions.clone());
            for (block, sums) in blocks.iter().zip(&mut sums).filter(|(block, _)| !block.columns.is_empty()) {
                dy.clear();
                dy.resize(positions.len() * block.width(), 0.0);
                let run = (sample, channel);
                gradients.gather_block(run, positions.clone(), &block.columns, block.width(), &mut dy);
                add_outer_products(&mut sums.exact, &vectors.exact, &dy, block.width());
                if are_substituted {
                    add_outer_products(&mut sums.change, &vectors.change, &dy, block.width());
                }
            }
        }
        let is_last = data.is_last() && sample + 1 == layout.samples;
        let ends = is_last || data.kept.weights_change_with_sample();
        for (block, sums) in blocks.iter_mut().zip(sums) {
            block.end_sample(sums, sketch, by_column, ends);
        }
    }
}

/// Vectors of some positions and how their substitutes differ, `[positions][elements]`.
struct Vectors {
    at_once: usize,
    elements: Vec<usize>,
    buffers: Buffers,
    exact: Vec<f64>,
    change: Vec<f64>,
}

/// Elements of the vectors that are cut at once, and most vectors: they should stay in the first level's cache.
const ELEMENTS: usize = 1 << 11;
const POSITIONS: usize = 128;

impl Vectors {
    fn new(substitutes: &Substitutes, length: usize) -> Self {
        let at_once = (ELEMENTS / length).clamp(1, POSITIONS);
        let elements = (0..length).collect();
        Self { at_once, elements, buffers: substitutes.buffers(), exact: Vec::new(), change: Vec::new() }
    }

    /// Cuts vectors of a run; whether any has a substitute.
    fn cut(&mut self, substitutes: &Substitutes, (sample, stream): (usize, usize), positions: Range<usize>) -> bool {
        let Self { elements, buffers, exact, change, .. } = self;
        let length = elements.len();
        exact.resize(positions.len() * length, 0.0);
        change.resize(positions.len() * length, 0.0);
        let mut are_substituted = false;
        let rows = exact.chunks_exact_mut(length).zip(change.chunks_exact_mut(length));
        for (position, (exact, change)) in positions.zip(rows) {
            let place = (sample, stream, position);
            are_substituted |= substitutes.each_element(place, elements, buffers, |element, value, substitute| {
                exact[element] = f64::from(value);
                change[element] = f64::from(substitute - value);
            });
        }
        are_substituted
    }
}

impl ColumnBlock {
    fn new(columns: Vec<usize>) -> Self {
        Self { columns, sums: None, moments: Vec::new(), own: Vec::new(), shares: Shares::new() }
    }

    /// Columns in whole registers.
    fn width(&self) -> usize {
        self.columns.len().next_multiple_of(PRODUCT_LANES)
    }

    /// The sums that a sample is added to: its own, where its share is kept, otherwise those of all samples.
    fn begin_sample(&mut self, length: usize, sketch: Option<usize>) -> Sums {
        let kept = if sketch.is_some() { None } else { self.sums.take() };
        kept.unwrap_or_else(|| Sums::new(length * self.width()))
    }

    /// Takes the sums of a sample back; `ends` if the gradient ends with it.
    fn end_sample(&mut self, sums: Sums, sketch: Option<usize>, by_column: bool, ends: bool) {
        if let Some(length) = sketch {
            let own = self.measure(&sums, by_column);
            add_all(&mut self.own, own);
            let [exact, change] = [&sums.exact, &sums.change].map(|values| self.without_padding(values));
            self.shares.push(batch::sketch(&exact, &change, length.min(exact.len())));
            match &mut self.sums {
                Some(all) => all.add(&sums),
                none => *none = Some(sums),
            }
        } else {
            self.sums = Some(sums);
        }
        if let Some(sums) = self.sums.take_if(|_| ends) {
            let moments = self.measure(&sums, by_column);
            add_all(&mut self.moments, moments);
        }
    }

    fn without_padding<'s>(&self, sums: &'s [f64]) -> Cow<'s, [f64]> {
        let columns = self.columns.len();
        if columns == self.width() {
            return sums.into();
        }
        sums.chunks_exact(self.width()).flat_map(|row| &row[..columns]).copied().collect()
    }

    /// Moments of sums by column, or of all columns together.
    fn measure(&self, sums: &Sums, by_column: bool) -> Vec<Moments> {
        if !by_column {
            return vec![sums.moments(&[])];
        }
        let mut moments = vec![Moments::default(); self.columns.len()];
        let rows = |values| <[f64]>::chunks_exact(values, self.width().max(1));
        for (exact, change) in rows(&sums.exact).zip(rows(&sums.change)) {
            for ((moments, exact), change) in moments.iter_mut().zip(exact).zip(change) {
                sums::add(moments, &[exact * exact, change * change, exact * change, 0.0]);
            }
        }
        moments
    }

    /// Moments of the samples that came so far.
    fn current_moments(&self, by_column: bool) -> Vec<Moments> {
        self.sums.as_ref().map_or_else(|| self.moments.clone(), |sums| self.measure(sums, by_column))
    }
}

/// Adds moments one by one, to none at first.
fn add_all(sum: &mut Vec<Moments>, more: Vec<Moments>) {
    sum.resize(more.len(), Moments::default());
    sum.iter_mut().zip(&more).for_each(|(sum, more)| sums::add(sum, more));
}
