//! Outcomes dealt to the parts of an array.

use super::{Bytes, Measure, Samples};
use crate::operand::Kept;
use crate::timing::{Dataflow, Dealing, LayerProduct};
use mercury_reuse::Outcomes;
use mercury_trace::geometry::Pass;

/// What the parts of an array do in a pass, by product; nothing for an array that needs counts alone.
#[derive(Clone)]
pub struct ScheduleMeasure {
    products: Vec<Option<Box<dyn Dealing>>>,
}

impl ScheduleMeasure {
    /// Begins a pass without samples, whose signatures have `bits` bits; the batch has `batch` samples.
    pub fn new(array: &dyn Dataflow, kept: &Kept, pass: Pass, batch: u32, bits: u32) -> Self {
        let geometry = kept.layer.geometry;
        let numbers = 0..geometry.gemms(pass, batch).len();
        let product = |number| LayerProduct { geometry, pass, number, batch, bits };
        Self { products: numbers.map(|number| array.model(&product(number)).dealing()).collect() }
    }

    /// What was dealt of a product.
    pub fn dealing(&self, product: usize) -> Option<&dyn Dealing> {
        self.products.get(product)?.as_deref()
    }

    /// Whether all samples have to be added at once.
    pub fn takes_all_samples(&self) -> bool {
        self.products.iter().flatten().any(|dealing| dealing.takes_all_samples())
    }
}

impl Measure for ScheduleMeasure {
    fn add(&mut self, samples: Samples, outcomes: &[Outcomes]) {
        for ((dealing, view), outcomes) in self.products.iter_mut().zip(&samples.signed.views).zip(outcomes) {
            if let Some(dealing) = dealing {
                dealing.add(view, outcomes);
            }
        }
    }

    fn bytes(&self) -> Bytes {
        let fixed = self.products.iter().flatten().map(|dealing| dealing.bytes()).fold(0, u64::saturating_add);
        Bytes { fixed, per_sample: 0 }
    }
}
