//! Output error: how far a pass's result with reuse is from its exact one.
//!
//! Reuse computes with a substitute of a vector, such as its representative, instead of the vector
//! ([`Substitutes`](mercury_reuse::Substitutes)). So the result differs by the products of `x' - x`. Results and
//! differences are summed over the kept samples, channels and filters; where channels were left out, both cover the kept
//! channels alone. Sums are in f64, of products of two f32, which are exact there, in a fixed order: the same on every
//! machine and for every number of threads.
//!
//! [`ErrorMode::Sampled`](crate::request::ErrorMode) evaluates some output positions of the forward pass and the input
//! gradient, and some filters of each stream of a weight gradient, until [`sampling`] says that these suffice.

mod batch;
mod gradients;
mod outputs;
mod pilot;
mod products;
#[cfg(test)]
mod sampled_tests;
pub mod sampling;
mod side_by_side;
mod sums;
mod weight_gradient;

pub use batch::SKETCH;
pub use outputs::{OutputErrors, output_error};
pub use sums::{ErrorSums, Estimate, Interval, Moments, NORMAL};
pub use weight_gradient::WeightGradient;

use crate::operand::Kept;
use mercury_trace::geometry::Pass;

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

/// A seed for each step, layer, pass and product, so that errors of different ones are sampled independently (FNV-1a).
fn sampling_seed(kept: &Kept, pass: Pass, product: usize) -> u64 {
    let numbers = kept.step.to_le_bytes().into_iter().chain(product.to_le_bytes());
    let bytes = kept.layer.name.bytes().chain(pass.name().bytes()).chain(numbers);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
