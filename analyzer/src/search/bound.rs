//! Bounds on the error of a design, and the quantity that it minimises.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a bound limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BoundKind {
    /// The relative output error of each layer and pass with reuse.
    LayerError,
    /// The root mean square of these over all layers and passes; passes without reuse count with 0.
    StepError,
    /// The relative error of all weight gradients together.
    GradientError,
    /// The sum over layers of the upper 95 % limits of the absolute first-order changes of the loss, nats. The upper limit
    /// of the sum is at most as high.
    LossChange,
}

impl BoundKind {
    const ALL: [Self; 4] = [Self::LayerError, Self::StepError, Self::GradientError, Self::LossChange];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::LayerError => "layer-error",
            Self::StepError => "step-error",
            Self::GradientError => "gradient-error",
            Self::LossChange => "loss-change",
        }
    }
}

/// The most that a design may have of an error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// What is limited.
    pub kind: BoundKind,
    /// The limit: a share, or nats of a loss.
    pub limit: f64,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <= {}", self.kind.name(), self.limit)
    }
}

impl FromStr for Bound {
    type Err = String;

    /// Parses `layer-error<=0.1`, also with `=` alone, which needs no quotes in a shell, and with `10%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let names = || BoundKind::ALL.map(BoundKind::name).join(", ");
        let (name, limit) = text
            .split_once("<=")
            .or_else(|| text.split_once('='))
            .ok_or_else(|| format!("{text:?} is not KIND<=X, such as layer-error<=0.1; kinds are {}", names()))?;
        let kind = BoundKind::ALL.into_iter().find(|kind| kind.name() == name.trim());
        let kind = kind.ok_or_else(|| format!("{:?} is not one of {}", name.trim(), names()))?;
        let limit = limit.trim();
        let (number, unit) = limit.strip_suffix('%').map_or((limit, 1.0), |percent| (percent.trim(), 100.0));
        let value = number.parse::<f64>().ok().map(|number| number / unit);
        match value.filter(|value| value.is_finite() && *value >= 0.0) {
            Some(limit) => Ok(Self { kind, limit }),
            None => Err(format!("{limit:?} is no number of at least 0, such as 0.1 or 10%")),
        }
    }
}

/// The quantity that a design minimises, over the chosen steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// Cycles.
    #[default]
    Cycles,
    /// Cycles with those of waiting for DRAM.
    CyclesWithStalls,
    /// Energy.
    Energy,
    /// Energy times cycles with those of waiting for DRAM.
    Edp,
}

impl Objective {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cycles => "cycles",
            Self::CyclesWithStalls => "cycles-with-stalls",
            Self::Energy => "energy",
            Self::Edp => "edp",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_shares_or_percent() {
        let bound = |text: &str| text.parse::<Bound>().map(|bound| (bound.kind, bound.limit));
        assert_eq!(bound("layer-error<=0.1"), Ok((BoundKind::LayerError, 0.1)));
        assert_eq!(bound("step-error = 5 %"), Ok((BoundKind::StepError, 0.05)));
        assert_eq!(bound("loss-change<=0"), Ok((BoundKind::LossChange, 0.0)));
        for wrong in
            ["layer-error", "layer-error<0.1", "error<=1", "layer-error<=-1", "layer-error<=x", "layer-error<="]
        {
            assert!(bound(wrong).is_err(), "{wrong}");
        }
    }
}
