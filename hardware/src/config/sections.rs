//! Sections of the configuration beside the scheme's, each with its range checks; errors name the key.

use crate::timing::{DataflowName, MAX_ARRAY};
use serde::{Deserialize, Serialize};

/// The array and its dataflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArrayConfig {
    /// Which operand stays in place.
    pub dataflow: DataflowName,
    /// Rows of processing elements.
    pub rows: u32,
    /// Columns of processing elements.
    pub columns: u32,
    /// Clock, MHz: turns cycles into seconds.
    pub clock_mhz: f64,
    /// Additions a cycle by which a HIT's gradient joins its group's; default: `columns`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accumulate_lanes: Option<u32>,
    /// Row stationary: words of a PE's ifmap scratchpad.
    pub ifmap_words: u32,
    /// Row stationary: words of a PE's filter scratchpad.
    pub filter_words: u32,
    /// Row stationary: words of a PE's psum scratchpad.
    pub psum_words: u32,
    /// Row stationary: cycles of a HIT.
    pub hit_cycles: u32,
    /// Row stationary: whether PE sets wait for each other after every filter.
    pub schedule: ScheduleName,
    /// Row stationary: whether computing waits for the buses that bring ifmaps and psums, of Eyeriss's
    /// widths. They bound what reuse can gain.
    pub network_bound: bool,
}

/// When a PE set may begin its next filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleName {
    /// When all have ended the one before.
    Synchronous,
    /// Up to `mcache.versions` - 1 filters before the slowest.
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
            hit_cycles: 1,
            schedule: ScheduleName::Asynchronous,
            network_bound: false,
        }
    }
}

impl ArrayConfig {
    pub(super) fn validate(&self) -> Result<(), String> {
        let lanes = self.accumulate_lanes.unwrap_or(1);
        let sizes = [
            ("rows", self.rows),
            ("columns", self.columns),
            ("accumulate_lanes", lanes),
            ("hit_cycles", self.hit_cycles),
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

/// Bounds and competitors that stand beside MERCURY.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BoundsConfig {
    /// Least cosine with an earlier vector at which ideal similarity reuses.
    pub cosine: f64,
    /// Vectors of a stream and scope up to which all are looked at for that.
    pub exact_vectors: u32,
    /// Vectors of each product of a pass that are looked at where there are more, spread evenly over streams
    /// and scopes, one of each at least.
    pub sampled_vectors: u32,
    /// Pairs of vectors of each product of a pass whose angle is set beside their signatures.
    pub pairs: u32,
    /// Bits of a weight, for weight repetition.
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
