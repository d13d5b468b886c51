//! Which layers, steps and passes are replayed.

use crate::error::{AnalyzerError, Result};
use crate::suggest::did_you_mean;
use globset::{Glob, GlobSet, GlobSetBuilder};
use mercury_trace::Trace;
use mercury_trace::geometry::Pass;
use serde::Serialize;
use std::ops::RangeInclusive;

/// A selection; each list chooses all where it is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Selection {
    layers: Vec<String>,
    steps: Vec<RangeInclusive<u64>>,
    passes: Vec<Pass>,
    #[serde(skip)]
    globs: Option<Globs>,
}

/// Compared by the patterns that they come from.
#[derive(Debug, Clone)]
struct Globs(GlobSet);

impl PartialEq for Globs {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Globs {}

impl Selection {
    /// Layers by name or pattern, such as `features.*`; steps by number or range, such as `100..=500`;
    /// passes.
    pub fn new(layers: Vec<String>, steps: &[String], passes: Vec<Pass>) -> Result<Self> {
        let flag = |flag, reason| AnalyzerError::Flag { flag, reason };
        let mut globs = GlobSetBuilder::new();
        for pattern in &layers {
            globs.add(Glob::new(pattern).map_err(|error| flag("--layers", error.to_string()))?);
        }
        let globs = globs.build().map_err(|error| flag("--layers", error.to_string()))?;
        let range = |text: &String| {
            parse_range(text).ok_or_else(|| {
                flag("--steps", format!("{text:?} is neither a step nor a range of them, such as 100..=500"))
            })
        };
        let steps = steps.iter().map(range).collect::<Result<_>>()?;
        let globs = (!layers.is_empty()).then_some(Globs(globs));
        Ok(Self { layers, steps, passes, globs })
    }

    /// Whether a layer is chosen.
    pub fn layer(&self, name: &str) -> bool {
        self.globs.as_ref().is_none_or(|globs| globs.0.is_match(name))
    }

    /// Whether a step is chosen.
    pub fn step(&self, step: u64) -> bool {
        self.steps.is_empty() || self.steps.iter().any(|range| range.contains(&step))
    }

    /// Whether a pass is chosen.
    pub fn pass(&self, pass: Pass) -> bool {
        self.passes.is_empty() || self.passes.contains(&pass)
    }

    /// Whether no step and no pass is left out by name.
    pub fn has_all_steps_and_passes(&self) -> bool {
        self.steps.is_empty() && self.passes.is_empty()
    }

    /// Refuses a step, range, layer or pattern that chooses nothing of a trace.
    pub fn check(&self, trace: &Trace) -> Result<()> {
        let captured = &trace.manifest().captured;
        for range in &self.steps {
            if !captured.iter().any(|step| range.contains(&step.step)) {
                let steps: Vec<String> = captured.iter().map(|step| step.step.to_string()).collect();
                let reason =
                    format!("{} chooses none of the captured steps; these are {}", name_range(range), steps.join(", "));
                return Err(AnalyzerError::Flag { flag: "--steps", reason });
            }
        }
        for pattern in &self.layers {
            let glob = Glob::new(pattern).expect("checked when it was made").compile_matcher();
            if !trace.layers().iter().any(|layer| glob.is_match(&layer.name)) {
                // A pattern is like no name.
                let names = trace.layers().iter().filter(|_| !pattern.contains(['*', '?', '[', '{']));
                let meant = did_you_mean(pattern, names.map(|layer| layer.name.as_str()));
                let reason =
                    format!("{pattern:?} matches no layer of the trace; `mercury-analyzer inspect` lists them{meant}");
                return Err(AnalyzerError::Flag { flag: "--layers", reason });
            }
        }
        Ok(())
    }
}

fn parse_range(text: &str) -> Option<RangeInclusive<u64>> {
    if let Ok(step) = text.parse() {
        return Some(step..=step);
    }
    let (first, last) = text.split_once("..=")?;
    let range = first.parse().ok()?..=last.parse().ok()?;
    (!range.is_empty()).then_some(range)
}

fn name_range(range: &RangeInclusive<u64>) -> String {
    let (first, last) = (range.start(), range.end());
    if first == last { first.to_string() } else { format!("{first}..={last}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(layers: &[&str], steps: &[&str], passes: &[Pass]) -> Result<Selection> {
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        Selection::new(texts(layers), &texts(steps), passes.to_vec())
    }

    #[test]
    fn nothing_said_chooses_all() {
        let all = Selection::default();
        assert!(all.layer("features.0") && all.step(7) && Pass::ALL.into_iter().all(|pass| all.pass(pass)));
    }

    #[test]
    fn names_patterns_and_ranges_choose() {
        let some = selection(&["features.*", "classifier.0"], &["3", "10..=20"], &[Pass::Forward]).unwrap();
        assert!(some.layer("features.12") && some.layer("classifier.0") && !some.layer("classifier.3"));
        assert!(some.step(3) && some.step(20) && !some.step(4) && !some.step(21));
        assert!(some.pass(Pass::Forward) && !some.pass(Pass::InputGrad));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for steps in ["", "x", "5..=4", "1..3", "-1"] {
            assert!(selection(&[], &[steps], &[]).is_err(), "{steps}");
        }
        assert!(selection(&["[a"], &[], &[]).is_err());
    }
}
