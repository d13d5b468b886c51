//! How often each outcome came about.

use super::{Bytes, Measure, Samples};
use mercury_reuse::{Counts, Cut, Outcomes};

/// Counts of each run, by product of a pass.
#[derive(Debug, Clone)]
pub struct CountsMeasure {
    products: Vec<ProductCounts>,
    /// Runs of all kept samples, over the products.
    runs: u64,
}

/// Counts of a product. A sweep holds those of many caches, so they are kept small.
#[derive(Debug, Clone)]
struct ProductCounts {
    /// Vectors of a run.
    positions: u32,
    /// HITs and MAUs of each run, `[samples][streams]`; all other vectors are MNU.
    runs: Vec<[u32; 2]>,
}

impl CountsMeasure {
    /// Begins without samples; `cuts` are those of all kept samples, by product.
    pub fn new(cuts: &[Cut]) -> Self {
        let runs = cuts.iter().map(|cut| cut.layout.runs() as u64).sum();
        let product = |cut: &Cut| ProductCounts { positions: cut.layout.positions as u32, runs: Vec::new() };
        Self { products: cuts.iter().map(product).collect(), runs }
    }

    /// Counts of each run, `[samples][streams]`, by product.
    pub fn counts(&self) -> impl Iterator<Item = Vec<Counts>> {
        self.products.iter().map(ProductCounts::to_counts)
    }
}

impl ProductCounts {
    fn to_counts(&self) -> Vec<Counts> {
        let counts = |&[hit, mau]: &[u32; 2]| {
            let mnu = self.positions - hit - mau;
            Counts { hit: hit.into(), mau: mau.into(), mnu: mnu.into() }
        };
        self.runs.iter().map(counts).collect()
    }
}

impl Measure for CountsMeasure {
    fn add(&mut self, _: Samples, outcomes: &[Outcomes]) {
        for (product, outcomes) in self.products.iter_mut().zip(outcomes) {
            // Less than the positions of a run, which 32 bits number.
            product.runs.extend(outcomes.counts().iter().map(|counts| [counts.hit as u32, counts.mau as u32]));
        }
    }

    fn bytes(&self) -> Bytes {
        Bytes { fixed: self.runs.saturating_mul(size_of::<[u32; 2]>() as u64), per_sample: 0 }
    }
}
