//! Configuration of reuse during training: passes, growth of signatures, layers switched off.

use super::{ConfigError, MAX_BITS};
use mercury_trace::geometry::Pass;
use serde::{Deserialize, Serialize};

/// The passes with reuse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReuseConfig {
    /// Passes with reuse; the others run as in the baseline. The weight gradient uses the
    /// signatures of the forward pass, so `weight-grad` requires `forward`.
    pub passes: Vec<Pass>,
}

impl Default for ReuseConfig {
    fn default() -> Self {
        Self { passes: Pass::ALL.to_vec() }
    }
}

impl ReuseConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// If a value is invalid; the error names its key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.passes.contains(&Pass::WeightGrad) && !self.passes.contains(&Pass::Forward) {
            let reason = "weight-grad keeps the signatures of forward; add forward".to_owned();
            return Err(ConfigError { key: "reuse.passes", reason });
        }
        Ok(())
    }
}

/// How signatures grow during training.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BitsConfig {
    /// Steps without a new least training loss after which signatures grow by one bit, starting at
    /// `rpq.bits`; 0: signatures never grow.
    pub patience: u64,
    /// Maximum signature length, bits.
    pub max: u32,
}

impl Default for BitsConfig {
    fn default() -> Self {
        Self { patience: 200, max: MAX_BITS }
    }
}

impl BitsConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// If a value is invalid; the error names its key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let max = self.max;
        if !(1..=MAX_BITS).contains(&max) {
            let reason = format!("is {max}, but a signature has 1 to {MAX_BITS} bits");
            return Err(ConfigError { key: "bits.max", reason });
        }
        Ok(())
    }
}

/// When a layer is switched off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StopConfig {
    /// Captured steps over which a layer must not take more cycles than its baseline; 0: layers are
    /// never switched off.
    pub window: u32,
}

impl Default for StopConfig {
    fn default() -> Self {
        Self { window: 2 }
    }
}
