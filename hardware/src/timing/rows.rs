//! Row-stationary cycles of a layer's pass: its mapping, and its outcomes dealt to PE sets.

mod deal;
mod dealing;

use super::dataflow::{Dataflow, Dealing, DealtCycles, LayerProduct, ProductModel};
use super::memory::{MemoryModel, ProductWords, Traffic};
use super::row_stationary::{DealingRule, Discipline, Fraction, HitCycles, Mapping, PeArray, Shape};
use super::{MercuryCycles, SigningUnit};
use crate::timing::Work;
use dealing::RowDealing;
use mercury_reuse::config::{Granularity, Scope};
use std::any::Any;

/// A row-stationary array and how its PE sets wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowArray {
    /// The array.
    pub array: PeArray,
    /// Cycles of a HIT.
    pub hit_cycles: HitCycles,
    /// How output rows are dealt to PE sets.
    pub dealing: DealingRule,
    /// Results that MCACHE delivers in a cycle; 0: as many as the PE sets take.
    pub results_per_cycle: u64,
    /// What computes signatures.
    pub signing: SigningUnit,
    /// When a PE set may begin its next filter.
    pub discipline: Discipline,
    /// Whether a fully connected layer's MCACHE is flushed after each sample.
    pub per_sample: bool,
}

impl Dataflow for RowArray {
    fn name(&self) -> &'static str {
        "row stationary"
    }

    fn check(&self, granularity: Granularity, scope: Scope) -> Result<(), String> {
        if scope == Scope::Batch {
            return Err("mcache.scope: is batch, but a row-stationary array ends all filters of one sample's channel \
                        before the next, when an entry holds results of the last mcache.versions filters alone; set it \
                        to channel or sample"
                .to_owned());
        }
        if !matches!(granularity, Granularity::ChannelPatch(_)) {
            return Err(format!(
                "rpq.granularity: is {granularity}, but a row-stationary array runs windows channel by channel; set it to \
                 channel-patch or channel-patch(q)"
            ));
        }
        Ok(())
    }

    fn is_equal(&self, other: &dyn Dataflow) -> bool {
        (other as &dyn Any).downcast_ref::<Self>().is_some_and(|other| other == self)
    }

    fn model(&self, product: &LayerProduct) -> Box<dyn ProductModel> {
        Box::new(RowProduct::new(*self, product))
    }
}

/// One product of a layer's pass on a row-stationary array.
#[derive(Debug, Clone)]
pub struct RowProduct {
    array: RowArray,
    product: LayerProduct,
    /// Of the whole batch.
    mapping: Mapping,
}

impl ProductModel for RowProduct {
    fn baseline(&self) -> u64 {
        self.mapping.baseline().total()
    }

    fn mercury(&self, work: &Work, dealt: Option<DealtCycles>) -> MercuryCycles {
        let dealt = dealt.expect("outcomes are dealt to the PE sets of a row-stationary array");
        let baseline = self.dealt_mapping().baseline();
        let signature = if self.signs_on_array() {
            self.signatures(self.count_vector_channels(work)).baseline().total()
        } else {
            dealt.signature
        };
        MercuryCycles {
            signature,
            compute: dealt.compute + baseline.overhead(),
            stall: dealt.delivery + baseline.network.saturating_sub(dealt.compute + dealt.delivery),
            extra: 0,
        }
    }

    fn peak_results(&self) -> Option<f64> {
        let choice = self.mapping.choice();
        let sets = (self.mapping.sets() * choice.filter_lanes) as f64;
        let taken = self.hit_cycles().per_cycle().map(|per_set| per_set * sets);
        let delivered = (self.array.results_per_cycle > 0).then_some(self.array.results_per_cycle as f64);
        match (taken, delivered) {
            (Some(taken), Some(delivered)) => Some(taken.min(delivered)),
            (taken, delivered) => taken.or(delivered),
        }
    }

    fn is_hit_a_bound(&self) -> bool {
        self.hit_cycles().is_below_part(self.mapping.choice().kernel_rows)
    }

    fn baseline_traffic(&self, memory: &MemoryModel) -> Traffic {
        memory.dense_rows(&self.mapping, &ProductWords::new(&self.product), self.baseline())
    }

    fn traffic(&self, memory: &MemoryModel, work: &Work, cycles: MercuryCycles) -> Traffic {
        let mappings = [self.dealt_mapping(), self.signatures(self.count_vector_channels(work))];
        memory.reused_rows(&mappings, &ProductWords::new(&self.product), work, cycles.total())
    }

    fn dealing(&self) -> Option<Box<dyn Dealing>> {
        Some(Box::new(RowDealing::new(self.clone())))
    }
}

impl RowProduct {
    /// A product on an array.
    pub fn new(array: RowArray, product: &LayerProduct) -> Self {
        let LayerProduct { geometry, pass, number, batch, .. } = product;
        let shape = Shape::from_layer(geometry, *pass, *batch, array.per_sample)[*number];
        Self { array, product: *product, mapping: Mapping::new(&shape, &array.array) }
    }

    /// How the product of the whole batch is laid on the array.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The mapping of the product that computes the signatures of vectors of `channels` channels.
    pub fn signatures(&self, channels: u64) -> Mapping {
        let shape = self.mapping.shape().signatures(u64::from(self.product.bits), channels);
        Mapping::new(&shape, &self.array.array)
    }

    /// Channels of the longest vector.
    fn count_vector_channels(&self, work: &Work) -> u64 {
        let longest = work.streams.iter().map(|stream| stream.length).max().unwrap_or(0);
        if self.is_convolution() { (longest / self.mapping.shape().taps()).max(1) } else { 1 }
    }

    /// The mapping of computing with reuse: rows that are dealt dynamically share no diagonals.
    fn dealt_mapping(&self) -> Mapping {
        match self.array.dealing {
            DealingRule::Static => self.mapping,
            // A row for each set stays where it is.
            DealingRule::Dynamic if self.mapping.strips() == 1 => self.mapping,
            DealingRule::Dynamic => self.mapping.without_diagonals(),
        }
    }

    /// Cycles of a HIT in the mapping's PE sets.
    fn hit_cycles(&self) -> Fraction {
        self.array.hit_cycles.resolve(self.mapping.choice().kernel_rows)
    }
}

fn scale(cycles: u64, all: u64, fed: u64) -> u64 {
    (u128::from(cycles) * u128::from(all) / u128::from(fed.max(1))) as u64
}

#[cfg(test)]
mod tests;
