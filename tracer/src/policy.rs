//! Policies that choose the steps to capture or measure.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Chooses steps, counted from 0, to capture or measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// None.
    None,
    /// Every Nth step, from the first on.
    Every(u64),
    /// These steps.
    Steps(BTreeSet<u64>),
    /// The first step of each epoch.
    Epochs,
    /// Steps 0, 1, 2, 4, 8, …: often at the start, where training changes most.
    Geometric,
}

impl Policy {
    /// Whether a step is chosen, in epochs of `steps_per_epoch`.
    pub fn captures(&self, step: u64, steps_per_epoch: u64) -> bool {
        match self {
            Policy::None => false,
            Policy::Every(every) => step.is_multiple_of(*every),
            Policy::Steps(steps) => steps.contains(&step),
            Policy::Epochs => step.is_multiple_of(steps_per_epoch),
            Policy::Geometric => step == 0 || step.is_power_of_two(),
        }
    }

    /// Counts the chosen steps of a run.
    pub fn count(&self, steps: u64, steps_per_epoch: u64) -> u64 {
        match self {
            Policy::None => 0,
            Policy::Every(every) => steps.div_ceil(*every),
            Policy::Steps(wanted) => wanted.range(..steps).count() as u64,
            Policy::Epochs => steps.div_ceil(steps_per_epoch),
            // Step 0, and one step for each bit of the last step's number.
            Policy::Geometric => {
                u64::from(steps > 0) + u64::from(steps.saturating_sub(1).checked_ilog2().map_or(0, |log| log + 1))
            }
        }
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
        match text.split_once('=') {
            None if text == "none" => Ok(Policy::None),
            None if text == "epochs" => Ok(Policy::Epochs),
            None if text == "geometric" => Ok(Policy::Geometric),
            Some(("every", every)) => match number(every)? {
                0 => Err("every=0: must be at least 1".to_owned()),
                every => Ok(Policy::Every(every)),
            },
            Some(("steps", steps)) => Ok(Policy::Steps(steps.split(',').map(number).collect::<Result<_, _>>()?)),
            _ => Err("not one of every=N, steps=N,N,…, epochs, geometric, none".to_owned()),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Policy::None => f.write_str("none"),
            Policy::Every(every) => write!(f, "every={every}"),
            Policy::Steps(steps) => {
                let steps: Vec<String> = steps.iter().map(u64::to_string).collect();
                write!(f, "steps={}", steps.join(","))
            }
            Policy::Epochs => f.write_str("epochs"),
            Policy::Geometric => f.write_str("geometric"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_round_trip_and_count_their_steps() {
        for text in ["none", "every=1", "every=50", "steps=0,10,100", "epochs", "geometric"] {
            let policy: Policy = text.parse().unwrap();
            assert_eq!(policy.to_string(), text);
            for steps in [0, 1, 2, 3, 8, 9, 10, 11, 100, 101, 128, 129] {
                let counted = (0..steps).filter(|&step| policy.captures(step, 7)).count();
                assert_eq!(policy.count(steps, 7), counted as u64, "{text}, {steps} steps");
            }
        }
        let captured =
            |text: &str| (0..20).filter(|&step| text.parse::<Policy>().unwrap().captures(step, 8)).collect::<Vec<_>>();
        assert_eq!(captured("geometric"), [0, 1, 2, 4, 8, 16]);
        assert_eq!(captured("epochs"), [0, 8, 16]);
        for wrong in ["", "every", "every=0", "every=x", "steps=", "steps=1,,2", "sometimes", "epochs=3"] {
            assert!(wrong.parse::<Policy>().is_err(), "{wrong}");
        }
    }
}
