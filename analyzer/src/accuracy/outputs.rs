//! Error of the outputs of the forward pass and the input gradient.

use super::gradients::Gradients;
use super::sampling::{PILOT, RunningSums};
use super::side_by_side::{self, SideBySide};
use super::sums::{Covariance, estimate_total};
use super::{Moments, Sums, sampling_seed};
use crate::operand::LayerData;
use crate::request::ErrorMode;
use crate::weights::StreamWeights;
use mercury_reuse::{Substitutes, shuffle};
use mercury_trace::geometry::Pass;
use rayon::prelude::*;

/// Sums of each of some samples, and their covariances, which are zero where all positions were evaluated.
pub type OutputErrors = Vec<(Moments, Covariance)>;

/// Output error of a product of the forward pass or the input gradient, sample by sample; `None` where the weights
/// were not captured. `sums` are those of the samples before, and of these afterwards; they decide how many positions
/// the mode samples. The loss is that of the forward pass, scaled to all channels and filters.
pub fn output_error(
    data: &LayerData,
    (pass, number): (Pass, usize),
    substitutes: &Substitutes,
    mode: ErrorMode,
    sums: &mut RunningSums,
) -> Option<OutputErrors> {
    data.weight.as_ref()?;
    let product = Product::new(data, pass, number, substitutes);
    let layout = substitutes.view().layout();
    if let Some(precision) = mode.precision().filter(|_| layout.positions > PILOT) {
        return Some((0..layout.samples).map(|sample| product.sample_positions(sample, precision, sums)).collect());
    }
    let positions: Vec<usize> = (0..layout.positions).collect();
    let evaluate = |sample| {
        estimate_total(&product.evaluate(sample, &positions, layout.samples * layout.positions), layout.positions)
    };
    let errors: OutputErrors = (0..layout.samples).into_par_iter().map(evaluate).collect();
    for (moments, _) in &errors {
        sums.add(moments);
    }
    Some(errors)
}

/// A product of a pass: what its outputs are computed from.
struct Product<'a, 'v> {
    data: &'a LayerData,
    pass: Pass,
    /// Number of the product in the pass.
    number: usize,
    substitutes: &'a Substitutes<'a, 'v>,
    outputs: usize,
    /// Of each sample, or of all; by stream.
    weights: Vec<Vec<StreamWeights>>,
    /// dY of the forward pass, where it was captured, and how many of the layer's products each kept one stands for.
    gradients: Option<(Gradients<'a>, f64)>,
}

impl<'a, 'v> Product<'a, 'v> {
    fn new(data: &'a LayerData, pass: Pass, number: usize, substitutes: &'a Substitutes<'a, 'v>) -> Self {
        let view = substitutes.view();
        let layout = view.layout();
        let sample_weights = |sample| -> Vec<_> {
            (0..layout.streams).filter_map(|stream| data.stream_weights(view, pass, sample, stream)).collect()
        };
        let samples = if data.kept.weights_change_with_sample() { layout.samples } else { 1 };
        let weights = (0..samples).into_par_iter().map(sample_weights).collect();
        let gradients = if pass == Pass::Forward { Gradients::new(data) } else { None };
        let gradients = gradients.map(|gradients| {
            let products_per_kept = gradients.products_per_kept(&data.kept);
            (gradients, products_per_kept)
        });
        Self { data, pass, number, substitutes, outputs: data.outputs(pass), weights, gradients }
    }

    /// Estimates a sample's sums from as many positions as it takes.
    fn sample_positions(&self, sample: usize, precision: f64, sums: &mut RunningSums) -> (Moments, Covariance) {
        let all = self.substitutes.view().layout().positions;
        let seed = sampling_seed(&self.data.kept, self.pass, self.number);
        let order = shuffle(all, seed.wrapping_add((self.data.first_sample + sample) as u64));
        let runs = self.substitutes.view().layout().streams;
        let counts = &self.substitutes.outcomes().counts()[sample * runs..][..runs];
        let has_hits = counts.iter().any(|counts| counts.hit > 0);
        sums.draw(&order, precision, has_hits, |drawn| {
            let mut positions: Vec<usize> = drawn.iter().map(|&at| at as usize).collect();
            // Neighbours share rows of planes.
            positions.sort_unstable();
            self.evaluate(sample, &positions, positions.len())
        })
    }

    /// The moments of a sample's outputs at each of these positions, of `work` that are evaluated at the same time.
    fn evaluate(&self, sample: usize, positions: &[usize], work: usize) -> Vec<Moments> {
        let at_once = side_by_side::at_once(self.substitutes.view().max_length(), self.outputs, work);
        let weights = &self.weights[if self.weights.len() > 1 { sample } else { 0 }];
        let memory = || (SideBySide::new(self.substitutes, self.outputs), Vec::new());
        let blocks = positions.par_chunks(at_once).with_min_len(16usize.div_ceil(at_once));
        let evaluate = |(block, dy): &mut (SideBySide, Vec<f32>), positions: &[usize]| -> Vec<Moments> {
            block.sum(self.substitutes, weights, sample, positions);
            let lanes = positions.iter().enumerate();
            lanes.map(|(lane, &position)| self.moments(block.gather_sums(lane), sample, position, dy)).collect()
        };
        let moments: Vec<Vec<Moments>> = blocks.map_init(memory, evaluate).collect();
        moments.concat()
    }

    /// The moments of the outputs at a position, in `dy` for its gradients.
    fn moments(&self, sums: &Sums, sample: usize, position: usize, dy: &mut Vec<f32>) -> Moments {
        let mut scale = 1.0;
        if let Some((gradients, products_per_kept)) = &self.gradients {
            dy.resize(self.outputs, 0.0);
            gradients.gather_outputs(&self.data.kept, sample, position, dy);
            scale = *products_per_kept;
        }
        let [exact, change, cross, loss] = sums.moments(dy);
        // The scale is infinite where nothing was kept: 0 stays 0.
        [exact, change, cross, if loss == 0.0 { 0.0 } else { loss * scale }]
    }
}
