//! The parts of a trace that a search chooses on, and those that it is judged by.

use super::figures::Part;
use super::space::Space;
use crate::error::{AnalyzerError, Result};
use crate::result::PassResult;
use mercury_trace::manifest::CapturedStep;
use serde::Serialize;
use std::ops::Range;

/// Captured samples that a fold has at least.
pub const LEAST_SAMPLES: usize = 4;
/// Folds, if there are as many captured steps and no other number is asked for.
pub const DEFAULT_FOLDS: usize = 5;

/// How the trace is divided: a design is chosen on all folds but one, and judged by that one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Folds {
    /// Captured steps, in the order of training.
    Steps(Vec<Vec<u64>>),
    /// Samples of the only step.
    Samples(Vec<Range<usize>>),
    /// None: a design is judged by what it was chosen on.
    None,
}

impl Folds {
    /// Divides the chosen steps; `wanted` is the number of folds if one is asked for, 0 for none.
    ///
    /// # Errors
    /// If there are too few steps or samples.
    pub fn new(steps: &[&CapturedStep], wanted: Option<usize>) -> Result<Self> {
        let fail = |reason: String| Err(AnalyzerError::Flag { flag: "--folds", reason });
        if wanted == Some(0) {
            return Ok(Self::None);
        }
        if wanted == Some(1) {
            return fail(
                "is 1, but a design is chosen on all folds but one; give 2 or more, or 0 to judge nothing".to_owned(),
            );
        }
        if let [step] = steps {
            let samples = step.samples.len();
            let folds = wanted.unwrap_or(2);
            if samples / folds < LEAST_SAMPLES {
                return fail(format!(
                    "one step of {samples} samples is too little to choose a design and judge it by other samples: {folds} folds \
                     take {} samples; capture more steps (--capture every=N) or samples (--samples {}), or give --folds 0 \
                     to judge nothing",
                    folds * LEAST_SAMPLES,
                    folds * LEAST_SAMPLES
                ));
            }
            return Ok(Self::Samples(divide(samples, folds)));
        }
        let folds = wanted.unwrap_or_else(|| steps.len().min(DEFAULT_FOLDS));
        if folds > steps.len() {
            return fail(format!("is {folds}, but there are {} steps; give fewer, or capture more", steps.len()));
        }
        let numbers = |range: Range<usize>| steps[range].iter().map(|step| step.step).collect::<Vec<_>>();
        let parts: Vec<Vec<u64>> = divide(steps.len(), folds).into_iter().map(numbers).collect();
        let count = |fold: &Vec<u64>| -> usize {
            steps.iter().filter(|step| fold.contains(&step.step)).map(|step| step.samples.len()).sum()
        };
        match parts.iter().map(count).min() {
            Some(least) if least < LEAST_SAMPLES => fail(format!(
                "a fold has {least} samples, but takes {LEAST_SAMPLES} at least to judge settings; capture more samples of \
                 each step, or give 0 folds, which judge nothing"
            )),
            _ => Ok(Self::Steps(parts)),
        }
    }

    /// How many folds there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Steps(folds) => folds.len(),
            Self::Samples(folds) => folds.len(),
            Self::None => 0,
        }
    }
}

/// Divides a range into parts of about equal length, in order.
fn divide(length: usize, parts: usize) -> Vec<Range<usize>> {
    (0..parts).map(|part| length * part / parts..length * (part + 1) / parts).collect()
}

/// The figures of all candidates, by part.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Each with one step, or some samples of it, and one projection.
    pub parts: Vec<Part>,
    /// The parts of each fold.
    pub folds: Vec<Vec<usize>>,
    /// The parts that together are all that was captured.
    pub all: Vec<usize>,
}

impl Evidence {
    /// Adds parts for the projections of a step or of some of its samples, and returns the number of the first.
    pub fn add_parts(&mut self, space: &Space, layers: usize) -> usize {
        let first = self.parts.len();
        let candidates = space.candidates().count();
        self.parts.extend((0..space.seeds as usize).map(|seed| Part::new(seed, layers, candidates)));
        first
    }

    /// Adds a result to the parts that begin with `first`.
    pub fn add(&mut self, space: &Space, first: usize, result: &PassResult) {
        let seeds = space.seeds as usize;
        self.parts[first + result.configuration % seeds].add(result.configuration / seeds, result);
    }

    /// Projections of each candidate.
    pub fn count_projections(&self) -> u64 {
        self.parts.iter().map(|part| part.seed as u64 + 1).max().unwrap_or(1)
    }

    /// The parts outside of a fold.
    pub fn outside(&self, fold: usize) -> Vec<usize> {
        self.folds.iter().enumerate().filter(|(other, _)| *other != fold).flat_map(|(_, parts)| parts.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(number: u64, samples: u32) -> CapturedStep {
        CapturedStep { step: number, samples: (0..samples).collect(), dataset_indices: Vec::new(), tensors: Vec::new() }
    }

    #[test]
    fn steps_or_the_samples_of_one_are_divided() {
        let steps: Vec<CapturedStep> = (0..7).map(|number| step(10 * number, 4)).collect();
        let steps: Vec<&CapturedStep> = steps.iter().collect();
        let Ok(Folds::Steps(folds)) = Folds::new(&steps, None) else { panic!() };
        assert_eq!(folds, [vec![0], vec![10], vec![20, 30], vec![40], vec![50, 60]]);
        assert_eq!(Folds::new(&steps[..2], None).unwrap(), Folds::Steps(vec![vec![0], vec![10]]));
        assert_eq!(Folds::new(&[&step(3, 9)], None).unwrap(), Folds::Samples(vec![0..4, 4..9]));
        assert_eq!(Folds::new(&[&step(3, 9)], Some(0)).unwrap(), Folds::None);
        for (steps, wanted) in [(&steps[..2], Some(3)), (&steps[..2], Some(1)), (&[&step(0, 7)][..], None)] {
            assert!(Folds::new(steps, wanted).is_err());
        }
        let few: Vec<CapturedStep> = (0..2).map(|number| step(number, 3)).collect();
        let error = Folds::new(&few.iter().collect::<Vec<_>>(), None).unwrap_err().to_string();
        assert!(error.contains("a fold has 3 samples"), "{error}");
    }
}
