//! Output errors, and how close matches are.

use super::{Bytes, Measure, Samples};
use crate::accuracy::sampling::RunningSums;
use crate::accuracy::{ErrorSums, SKETCH, WeightGradient, output_error};
use crate::config::Substitution;
use crate::operand::Kept;
use crate::request::ErrorMode;
use mercury_reuse::{MatchOptions, MatchQuality, Outcomes, Substitutes, match_quality};
use mercury_trace::geometry::{Geometry, Pass};

/// Errors of the passes whose HITs are substituted in one way.
#[derive(Clone)]
pub struct ErrorMeasure {
    substitution: Substitution,
    mode: ErrorMode,
    /// Samples of the batch that each kept one stands for.
    samples_per_kept: f64,
    passes: Vec<(Pass, PassErrors)>,
    bytes: Bytes,
}

/// Errors of a pass, by product.
#[derive(Clone)]
struct PassErrors {
    /// Of the forward pass or the input gradient.
    outputs: Vec<(Option<ErrorSums>, RunningSums)>,
    /// Of the weight gradient.
    gradients: Vec<Option<WeightGradient>>,
    quality: Vec<MatchQuality>,
}

impl PassErrors {
    fn new(products: usize) -> Self {
        Self {
            outputs: vec![Default::default(); products],
            gradients: vec![None; products],
            quality: vec![MatchQuality::default(); products],
        }
    }
}

impl ErrorMeasure {
    /// Begins without samples: errors of passes with this number of products, of a batch of `batch` samples.
    pub fn new(
        kept: &Kept,
        (substitution, passes): &(Substitution, Vec<Pass>),
        products: usize,
        batch: u32,
        mode: ErrorMode,
    ) -> Self {
        let gradients = if passes.contains(&Pass::WeightGrad) { gradient_bytes(kept) } else { 0 };
        let passes = passes.iter().map(|&pass| (pass, PassErrors::new(products))).collect();
        let samples_per_kept = f64::from(batch) / kept.samples as f64;
        let bytes = Bytes { fixed: gradients, per_sample: 0 };
        Self { substitution: *substitution, mode, samples_per_kept, passes, bytes }
    }

    /// How HITs are substituted.
    pub fn substitution(&self) -> Substitution {
        self.substitution
    }

    /// Leaves the other passes out.
    pub fn keep_passes(&mut self, passes: &[Pass]) {
        self.passes.retain(|(pass, _)| passes.contains(pass));
    }

    /// Output error and quality of matches of a pass; the weight gradient's matches are the forward pass's.
    pub fn results(&self, pass: Pass) -> (Option<ErrorSums>, Option<MatchQuality>) {
        let Some((_, errors)) = self.passes.iter().find(|(known, _)| *known == pass) else { return (None, None) };
        let outputs = errors.outputs.iter().filter_map(|(sums, _)| sums.clone());
        let gradients = errors.gradients.iter().flatten().map(WeightGradient::error);
        let products = outputs.chain(gradients).filter(|error| !error.is_empty());
        let error = products.reduce(|mut sum, error| {
            sum.add(&error);
            sum
        });
        let quality = (pass != Pass::WeightGrad).then(|| errors.quality.iter().cloned().sum());
        (error, quality)
    }
}

impl PassErrors {
    fn add_outputs(
        &mut self,
        samples: Samples,
        pass: Pass,
        substitutes: &[Substitutes],
        mode: ErrorMode,
        samples_per_kept: f64,
    ) {
        let data = samples.data;
        let has_loss = pass == Pass::Forward && data.grad_output.is_some();
        for (product, substitutes) in substitutes.iter().enumerate() {
            self.quality[product] += match_quality(substitutes, &MatchOptions::default());
            let (errors, sums) = &mut self.outputs[product];
            for sample in output_error(data, (pass, product), substitutes, mode, sums).into_iter().flatten() {
                errors.get_or_insert_with(|| ErrorSums::new(samples_per_kept, has_loss)).push(sample);
            }
        }
    }

    fn add_gradients(&mut self, samples: Samples, substitutes: &[Substitutes], mode: ErrorMode, samples_per_kept: f64) {
        for (gradient, substitutes) in self.gradients.iter_mut().zip(substitutes) {
            if gradient.is_none() {
                *gradient = WeightGradient::new(samples.data, mode, samples_per_kept);
            }
            if let Some(gradient) = gradient {
                gradient.add(samples.data, substitutes);
            }
        }
    }
}

impl Measure for ErrorMeasure {
    fn add(&mut self, samples: Samples, outcomes: &[Outcomes]) {
        let Substitution { variant, representative } = self.substitution;
        let views = samples.signed.views.iter().zip(outcomes);
        let substitutes: Vec<Substitutes> =
            views.map(|(view, outcomes)| Substitutes::new(view, outcomes, variant, representative)).collect();
        let (mode, samples_per_kept) = (self.mode, self.samples_per_kept);
        for (pass, errors) in &mut self.passes {
            match *pass {
                Pass::WeightGrad => errors.add_gradients(samples, &substitutes, mode, samples_per_kept),
                pass => errors.add_outputs(samples, pass, &substitutes, mode, samples_per_kept),
            }
        }
    }

    fn bytes(&self) -> Bytes {
        self.bytes
    }
}

/// Bytes for each weight of a gradient: sums in f64 of it and its change, and of a sample's share.
const WEIGHT: u64 = 32;

/// Bytes of a weight gradient, if all kept weights are evaluated.
fn gradient_bytes(kept: &Kept) -> u64 {
    let filters = kept.filters.len() as u64;
    let weights = match kept.layer.geometry {
        Geometry::Conv2d(conv) => {
            let taps = u64::from(conv.kernel[0]) * u64::from(conv.kernel[1]);
            filters * (kept.channels.len() as u64).div_ceil(u64::from(conv.groups)) * taps
        }
        Geometry::Linear(linear) => filters * u64::from(linear.in_features),
        Geometry::Matmul(matmul) => u64::from(matmul.heads) * u64::from(matmul.inner) * u64::from(matmul.columns),
    };
    let shares = 16 * SKETCH as u64 * kept.samples as u64;
    WEIGHT.saturating_mul(weights).saturating_add(shares)
}
