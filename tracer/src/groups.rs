//! Groups of parameters: those that are not trained, and those with their own learning rate.

use crate::error::Result;
use crate::patterns::NamePatterns;
use crate::weights::Weights;
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Maximum learning rate of the parameters that match a pattern: `fc.*=0.01`.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupRate {
    pattern: String,
    rate: f64,
}

impl FromStr for GroupRate {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (pattern, value) =
            text.rsplit_once('=').ok_or_else(|| format!("{text:?} is not GLOB=X, such as \"fc.*=0.01\""))?;
        let rate: f64 = value.trim().parse().map_err(|_| format!("the rate {value:?} is not a number"))?;
        if rate == 0.0 {
            return Err(format!("with a rate of 0 nothing is learnt; give --freeze {pattern:?} instead"));
        }
        if !rate.is_finite() || rate < 0.0 {
            return Err(format!("the rate is {rate}, but must be a number above 0"));
        }
        Ok(Self { pattern: pattern.to_owned(), rate })
    }
}

impl fmt::Display for GroupRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.pattern, self.rate)
    }
}

impl Serialize for GroupRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The parameters that are not trained, and those with their own learning rate.
#[derive(Debug, Default)]
pub struct ParameterGroups {
    frozen: NamePatterns,
    rated: NamePatterns,
    /// The rates of the patterns in `rated`, in their order.
    rates: Vec<f64>,
}

impl ParameterGroups {
    /// Compiles the patterns of `--freeze` and `--group-lr`.
    pub fn new(freeze: &[String], rates: &[GroupRate]) -> Result<Self> {
        Ok(Self {
            frozen: NamePatterns::new("--freeze", freeze)?,
            rated: NamePatterns::new("--group-lr", rates.iter().map(|group| &group.pattern))?,
            rates: rates.iter().map(|group| group.rate).collect(),
        })
    }

    /// The maximum learning rate of a parameter, if it has its own. The last match counts.
    pub fn rate(&self, name: &str) -> Option<f64> {
        self.rated.find_last(name).map(|place| self.rates[place])
    }

    /// Freezes a model's parameters; a layer that is computed later has no gradient of them.
    ///
    /// # Errors
    /// If a pattern matches no parameter, if all parameters are frozen, or if a pattern with a rate
    /// matches only frozen parameters.
    pub fn freeze(&self, weights: &Weights) -> Result<()> {
        let names = weights.parameter_names();
        let all = || names.iter().map(String::as_str);
        for patterns in [&self.frozen, &self.rated] {
            if let Some(pattern) = patterns.find_unused(all()) {
                return Err(patterns.refuse_unused(pattern, &names));
            }
        }
        weights.freeze(|name| self.frozen.is_match(name));
        if let Some(last) = names.last().filter(|_| all().all(|name| self.frozen.is_match(name))) {
            let reason = format!("matches all parameters, so none is trained; leave some out, such as {last}");
            return Err(self.frozen.refuse(reason));
        }
        let trained = all().filter(|name| !self.frozen.is_match(name));
        if let Some(pattern) = self.rated.find_unused(trained) {
            let reason = format!(
                "{pattern:?} matches only parameters that --freeze excludes from training; remove one of the two"
            );
            return Err(self.rated.refuse(reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Role;
    use tch::{Device, Kind, Tensor};

    fn model() -> Weights {
        let weights = Weights::new(Device::Cpu);
        for module in ["features.0", "features.1", "fc"] {
            for name in ["weight", "bias"] {
                let ones = || Tensor::ones([2], (Kind::Float, Device::Cpu));
                let _ = weights.root().at(module).parameter(name, &[2], ones);
            }
        }
        let _ = weights
            .root()
            .at("features.1")
            .buffer("running_mean", &[2], || Tensor::zeros([2], (Kind::Float, Device::Cpu)));
        weights
    }

    fn groups(freeze: &[&str], rates: &[&str]) -> ParameterGroups {
        let freeze: Vec<String> = freeze.iter().map(|pattern| (*pattern).to_owned()).collect();
        let rates: Vec<GroupRate> = rates.iter().map(|rate| rate.parse().unwrap()).collect();
        ParameterGroups::new(&freeze, &rates).unwrap()
    }

    #[test]
    fn matching_parameters_are_frozen_and_buffers_are_not() {
        let weights = model();
        groups(&["features.*", "fc.bias"], &[]).freeze(&weights).unwrap();
        for entry in weights.entries().iter() {
            let expected = match entry.name.as_str() {
                "fc.weight" => Role::Trained,
                "features.1.running_mean" => Role::Buffer,
                _ => Role::Frozen,
            };
            assert_eq!(entry.role, expected, "{}", entry.name);
            assert_eq!(entry.tensor.requires_grad(), expected == Role::Trained, "{}", entry.name);
        }
        assert_eq!(weights.count_parameters(), 12);
        assert_eq!(weights.count_trained(), 2);
    }

    #[test]
    fn the_last_matching_rate_counts() {
        let groups = groups(&[], &["*=0.1", "fc.*=2e-3", "*.bias=0.5"]);
        assert_eq!(groups.rate("features.0.weight"), Some(0.1));
        assert_eq!(groups.rate("fc.weight"), Some(0.002));
        assert_eq!(groups.rate("fc.bias"), Some(0.5));
        assert_eq!(ParameterGroups::default().rate("fc.bias"), None);
    }

    #[test]
    fn rates_without_sense_are_refused() {
        let error = |text: &str| text.parse::<GroupRate>().unwrap_err();
        assert_eq!(error("fc.*"), "\"fc.*\" is not GLOB=X, such as \"fc.*=0.01\"");
        assert_eq!(error("fc.*=fast"), "the rate \"fast\" is not a number");
        assert_eq!(error("fc.*="), "the rate \"\" is not a number");
        for zero in ["0", "0.0", "-0"] {
            let message = error(&format!("fc.*={zero}"));
            assert_eq!(message, "with a rate of 0 nothing is learnt; give --freeze \"fc.*\" instead");
        }
        for (given, read) in [("-0.1", "-0.1"), ("nan", "NaN"), ("inf", "inf"), ("1e999", "inf")] {
            assert_eq!(error(&format!("fc.*={given}")), format!("the rate is {read}, but must be a number above 0"));
        }
        assert_eq!("fc.*=1e-3".parse::<GroupRate>().unwrap().to_string(), "fc.*=0.001");
    }

    #[test]
    fn patterns_without_effect_are_refused() {
        let error = |freeze: &[&str], rates: &[&str]| groups(freeze, rates).freeze(&model()).unwrap_err().to_string();
        assert_eq!(
            error(&["fc.*", "feature.*"], &[]),
            "--freeze: \"feature.*\" matches no parameter of the model, which has features.0.weight, \
             features.0.bias, features.1.weight, features.1.bias"
        );
        // A buffer is no parameter.
        assert!(error(&["*.running_mean"], &[]).starts_with("--freeze: \"*.running_mean\" matches no parameter"));
        assert!(error(&[], &["head.*=0.1"]).starts_with("--group-lr: \"head.*\" matches no parameter"));
        assert_eq!(
            error(&["features.*", "fc.*"], &[]),
            "--freeze: matches all parameters, so none is trained; leave some out, such as fc.bias"
        );
        assert_eq!(
            error(&["features.*"], &["fc.*=0.1", "features.0.*=0.2"]),
            "--group-lr: \"features.0.*\" matches only parameters that --freeze excludes from training; remove one of the two"
        );
        groups(&["features.*"], &["*=0.1"]).freeze(&model()).unwrap();
        assert!(ParameterGroups::new(&["[".to_owned()], &[]).unwrap_err().to_string().starts_with("--freeze: "));
    }
}
