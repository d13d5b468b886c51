//! The door to the model of an array: a new array implements [`Dataflow`], and nothing else asks which array it is.

use super::memory::{MemoryModel, Traffic};
use super::{MercuryCycles, Work};
use mercury_reuse::config::{Granularity, Scope};
use mercury_reuse::{Outcomes, VectorView};
use mercury_trace::geometry::{Gemm, Geometry, Pass};
use std::any::Any;
use std::fmt::Debug;

/// One product of a layer's pass, for the whole batch.
#[derive(Debug, Clone, Copy)]
pub struct LayerProduct {
    /// The layer.
    pub geometry: Geometry,
    /// The pass.
    pub pass: Pass,
    /// Number of the product, as [`Geometry::gemms`] counts them.
    pub number: usize,
    /// Samples of the batch.
    pub batch: u32,
    /// Bits of a signature.
    pub bits: u32,
}

impl LayerProduct {
    /// The dense matrix product.
    pub fn gemm(&self) -> Gemm {
        self.geometry.gemms(self.pass, self.batch)[self.number]
    }
}

/// How an array runs the products of a layer, without reuse and with.
pub trait Dataflow: Any + Debug + Send + Sync {
    /// Its name in words, such as "weight stationary".
    fn name(&self) -> &'static str;

    /// Whether the array can skip single vectors of this granularity whose MCACHE lives for this scope.
    ///
    /// # Errors
    /// If it cannot: the configuration's key, the reason and the remedy.
    fn check(&self, granularity: Granularity, scope: Scope) -> Result<(), String>;

    /// Whether another array is the same: of one kind, with the same parameters.
    fn is_equal(&self, other: &dyn Dataflow) -> bool;

    /// The model of one product.
    fn model(&self, product: &LayerProduct) -> Box<dyn ProductModel>;
}

/// Cycles and traffic of one product on an array.
pub trait ProductModel: Send + Sync {
    /// Cycles without reuse.
    fn baseline(&self) -> u64;

    /// Cycles with reuse. `dealt` are the cycles of [`ProductModel::dealing`], for arrays that need it.
    fn mercury(&self, work: &Work, dealt: Option<DealtCycles>) -> MercuryCycles;

    /// Most results per cycle that the array takes from MCACHE; `None` if nothing limits them.
    fn peak_results(&self) -> Option<f64>;

    /// Whether HITs take less time than the array's PEs need for them, so that cycles with reuse are a bound.
    fn is_hit_a_bound(&self) -> bool {
        false
    }

    /// Words moved without reuse, and the wait for them.
    fn baseline_traffic(&self, memory: &MemoryModel) -> Traffic;

    /// Words moved with reuse, whose products take `cycles`, and the wait for them.
    fn traffic(&self, memory: &MemoryModel, work: &Work, cycles: MercuryCycles) -> Traffic;

    /// Where outcomes are dealt to the array's parts, if cycles depend on more than the outcomes' counts.
    fn dealing(&self) -> Option<Box<dyn Dealing>> {
        None
    }
}

/// Cycles of outcomes that were dealt to the parts of an array.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DealtCycles {
    /// Computing.
    pub compute: u64,
    /// Waiting for results from MCACHE.
    pub delivery: u64,
    /// Waiting for signatures from a unit beside the array.
    pub signature: u64,
}

/// Outcomes dealt to the parts of an array, samples in order.
pub trait Dealing: Send + Sync {
    /// Deals the outcomes of the samples that come next.
    ///
    /// # Panics
    /// If [`Dealing::takes_all_samples`] and samples came before.
    fn add(&mut self, view: &VectorView, outcomes: &Outcomes);

    /// Cycles of the whole batch, from all samples dealt or all but one.
    fn cycles(&self, without: Option<usize>) -> DealtCycles;

    /// Whether all kept samples have to be dealt at once.
    fn takes_all_samples(&self) -> bool;

    /// Bytes that it takes, whatever the number of samples.
    fn bytes(&self) -> u64;

    /// A copy, as configurations that had the same outcomes so far may part.
    fn boxed_clone(&self) -> Box<dyn Dealing>;
}

impl Clone for Box<dyn Dealing> {
    fn clone(&self) -> Self {
        self.boxed_clone()
    }
}
