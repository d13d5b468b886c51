//! Bounds on the error of a design, and the quantity that it minimises.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An error of a design.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorKind {
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

impl ErrorKind {
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
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorLimit {
    /// The error.
    pub kind: ErrorKind,
    /// The limit: a share, or nats of a loss.
    pub limit: f64,
}

/// What a bound limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BoundKind {
    /// An error, which a replay measures.
    Error(ErrorKind),
    /// The upper limit of the accuracy loss of training, percentage points. A calibration predicts it from the step error.
    AccuracyLoss,
}

impl BoundKind {
    const ALL: [Self; 5] = [
        Self::Error(ErrorKind::LayerError),
        Self::Error(ErrorKind::StepError),
        Self::Error(ErrorKind::GradientError),
        Self::Error(ErrorKind::LossChange),
        Self::AccuracyLoss,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error(kind) => kind.name(),
            Self::AccuracyLoss => "accuracy-loss",
        }
    }
}

/// A bound as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// What is limited.
    pub kind: BoundKind,
    /// The limit: a share, nats of a loss, or percentage points of an accuracy.
    pub limit: f64,
}

impl Bound {
    /// Whether it limits the error of each layer.
    pub fn limits_layers(&self) -> bool {
        self.kind == BoundKind::Error(ErrorKind::LayerError)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <= {}", self.kind.name(), self.limit)
    }
}

impl FromStr for Bound {
    type Err = String;

    /// Parses `layer-error<=0.1`, also with `=` alone, which needs no quotes in a shell, and with `10%`. Accuracy losses
    /// are percentage points: 1 and `1%` are one point.
    fn from_str(text: &str) -> Result<Self, String> {
        let names = || BoundKind::ALL.map(BoundKind::name).join(", ");
        let (name, limit) = text
            .split_once("<=")
            .or_else(|| text.split_once('='))
            .ok_or_else(|| format!("{text:?} is not KIND<=X, such as layer-error<=0.1; kinds are {}", names()))?;
        let kind = BoundKind::ALL.into_iter().find(|kind| kind.name() == name.trim());
        let kind = kind.ok_or_else(|| format!("{:?} is not one of {}", name.trim(), names()))?;
        let percent = if kind == BoundKind::AccuracyLoss { 1.0 } else { 100.0 };
        let limit = limit.trim();
        let (number, unit) = limit.strip_suffix('%').map_or((limit, 1.0), |number| (number.trim(), percent));
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
        let bound = |text: &str| text.parse::<Bound>().map(|bound| (bound.kind.name(), bound.limit));
        assert_eq!(bound("layer-error<=0.1"), Ok(("layer-error", 0.1)));
        assert_eq!(bound("step-error = 5 %"), Ok(("step-error", 0.05)));
        assert_eq!(bound("loss-change<=0"), Ok(("loss-change", 0.0)));
        // A loss of one percentage point, in both forms; not 1 % of the accuracy.
        assert_eq!(bound("accuracy-loss<=1"), Ok(("accuracy-loss", 1.0)));
        assert_eq!(bound("accuracy-loss = 0.5 %"), Ok(("accuracy-loss", 0.5)));
        for wrong in
            ["layer-error", "layer-error<0.1", "error<=1", "layer-error<=-1", "layer-error<=x", "accuracy-loss<=-1"]
        {
            assert!(bound(wrong).is_err(), "{wrong}");
        }
    }
}
