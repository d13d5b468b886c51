//! Sections of the configuration in addition to those of the scheme, with their range checks.
//! Errors name the key.

use crate::timing::row_stationary::{DealingRule, HitCycles};
use crate::timing::{DataflowName, MAX_ARRAY};
use serde::{Deserialize, Serialize};

/// The array and its dataflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArrayConfig {
    /// The dataflow: which operand stays in the array.
    pub dataflow: DataflowName,
    /// Rows of processing elements.
    pub rows: u32,
    /// Columns of processing elements.
    pub columns: u32,
    /// Clock, MHz. It converts cycles into seconds.
    pub clock_mhz: f64,
    /// Additions per cycle for the gradients of HITs, which are added to those of their group;
    /// default: `columns`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accumulate_lanes: Option<u32>,
    /// Row stationary: words of the ifmap scratchpad of a PE.
    pub ifmap_words: u32,
    /// Row stationary: words of the filter scratchpad of a PE.
    pub filter_words: u32,
    /// Row stationary: words of the psum scratchpad of a PE.
    pub psum_words: u32,
    /// Row stationary: cycles of a HIT.
    pub hit_cycles: HitCycles,
    /// Row stationary: how output rows are dealt to PE sets.
    pub dealing: DealingRule,
    /// Row stationary: whether PE sets wait for each other after every filter.
    pub schedule: ScheduleName,
    /// Row stationary: whether computing waits for the buses for ifmaps and psums, with the widths
    /// of Eyeriss. They limit the gain of reuse.
    pub network_bound: bool,
}

/// When a PE set may begin its next filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleName {
    /// When all sets have finished the one before.
    Synchronous,
    /// When it is at most `mcache.versions` - 1 filters ahead of the slowest set.
    Asynchronous,
}

impl Default for ArrayConfig {
    fn default() -> Self {
        let dataflow = DataflowName::RowStationary;
        Self {
            dataflow,
            rows: 12,
            columns: 14,
            clock_mhz: 200.0,
            accumulate_lanes: None,
            ifmap_words: 12,
            filter_words: 224,
            psum_words: 24,
            hit_cycles: HitCycles::ONE,
            dealing: DealingRule::Static,
            schedule: ScheduleName::Asynchronous,
            network_bound: false,
        }
    }
}

impl ArrayConfig {
    /// Processing elements.
    pub fn pes(&self) -> u32 {
        self.rows.saturating_mul(self.columns)
    }

    pub(super) fn validate(&self) -> Result<(), String> {
        let lanes = self.accumulate_lanes.unwrap_or(1);
        let sizes = [
            ("rows", self.rows),
            ("columns", self.columns),
            ("accumulate_lanes", lanes),
            ("ifmap_words", self.ifmap_words),
            ("filter_words", self.filter_words),
            ("psum_words", self.psum_words),
        ];
        for (name, value) in sizes {
            if !(1..=MAX_ARRAY).contains(&value) {
                return Err(format!("array.{name}: is {value}, but must be between 1 and {MAX_ARRAY}"));
            }
        }
        let (ifmap, filter) = (self.ifmap_words, self.filter_words);
        if filter < ifmap {
            return Err(format!(
                "array.filter_words: is {filter}, but a PE holds as many filter words as array.ifmap_words ({ifmap}) at least"
            ));
        }
        let clock = self.clock_mhz;
        if !clock.is_finite() || clock <= 0.0 {
            return Err(format!("array.clock_mhz: is {clock}, but must be above 0"));
        }
        Ok(())
    }
}

/// Bounds and other methods to compare MERCURY with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BoundsConfig {
    /// Ideal similarity: least cosine with an earlier vector for reuse.
    pub cosine: f64,
    /// Ideal similarity: most vectors of a stream and scope for which all are examined.
    pub exact_vectors: u32,
    /// Ideal similarity: vectors to examine otherwise, for each product of a pass. They are spread
    /// evenly over streams and scopes, with at least one of each.
    pub sampled_vectors: u32,
    /// Pairs of vectors, for each product of a pass, whose angle is compared with their signatures.
    pub pairs: u32,
    /// Weight repetition: bits of a quantised weight.
    pub weight_bits: u32,
}

impl Default for BoundsConfig {
    fn default() -> Self {
        Self { cosine: 0.95, exact_vectors: 128, sampled_vectors: 4096, pairs: 4096, weight_bits: 8 }
    }
}

impl BoundsConfig {
    pub(super) fn validate(&self) -> Result<(), String> {
        let Self { cosine, weight_bits, .. } = *self;
        if !(cosine > 0.0 && cosine <= 1.0) {
            return Err(format!("bounds.cosine: is {cosine}, but must be above 0 and at most 1"));
        }
        let most = 1 << 20;
        let sizes =
            [("exact_vectors", self.exact_vectors), ("sampled_vectors", self.sampled_vectors), ("pairs", self.pairs)];
        if let Some((name, value)) = sizes.into_iter().find(|(_, value)| *value > most) {
            return Err(format!("bounds.{name}: is {value}, but must be at most {most}"));
        }
        if !(2..=16).contains(&weight_bits) {
            return Err(format!("bounds.weight_bits: is {weight_bits}, but must be between 2 and 16"));
        }
        Ok(())
    }
}
