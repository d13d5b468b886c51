//! Choices judged by parts of the trace that they were not chosen by.

use super::bound::{ErrorKind, ErrorLimit};
use super::evidence::Evidence;
use super::figures::Figures;
use super::problem::{Picks, Problem};
use crate::interval::{self, Sampled, Step};
use mercury_trace::geometry::Pass;
use std::collections::BTreeMap;

/// How a choice is made on some parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The settings as they are configured, without reuse in layers in which it costs cycles; bounds are ignored.
    Configured,
    /// The best setting for all layers that reuse; the others run without.
    OneSetting,
    /// The best setting for each layer.
    PerLayer,
}

impl Method {
    /// All methods.
    pub const ALL: [Self; 3] = [Self::Configured, Self::OneSetting, Self::PerLayer];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::OneSetting => "one setting",
            Self::PerLayer => "per layer",
        }
    }
}

/// What a choice does on some parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// Sums over all passes.
    pub total: Figures,
    /// Sums over the forward passes with reuse.
    pub forward: Figures,
    /// Sums over the weight gradients with reuse.
    pub gradients: Figures,
    /// Vectors of forward passes with and without reuse, and HITs among them.
    pub vectors: [u64; 2],
    /// 95 % interval of the speed-up over samples and, of several, projections.
    pub interval: Option<[f64; 2]>,
    /// 95 % interval of the mean speed-up over training steps and projections; `None` for a single step.
    pub interval_over_steps: Option<[f64; 2]>,
    /// Largest error of a layer's pass.
    pub largest_error: f64,
    /// Passes with reuse, counted in each fold.
    pub passes: usize,
    /// Those of them whose error exceeds the bound on layers.
    pub exceeding: usize,
    /// Values of the limited errors, the largest of all folds.
    pub values: Vec<f64>,
    /// Root mean square of the errors of all passes, the largest of all folds.
    pub step_error: f64,
}

impl Judgement {
    /// Mean hit rate of the forward passes; those without reuse have no hits.
    pub fn hit_rate(&self) -> Option<f64> {
        let [vectors, hits] = self.vectors;
        (vectors > 0).then(|| hits as f64 / vectors as f64)
    }
}

/// Makes the choice of a method on some parts; with how far it may be from the best.
pub fn choose(problem: &Problem, method: Method, bounds: &[ErrorLimit], parts: &[usize]) -> (Picks, f64) {
    match method {
        Method::Configured => (problem.apply_to_all(problem.configured(), parts), 0.0),
        Method::OneSetting => {
            let chosen = problem.choose_one(bounds, parts);
            (chosen.picks, chosen.gap)
        }
        Method::PerLayer => {
            let chosen = problem.choose_per_layer(bounds, parts);
            (chosen.picks, chosen.gap)
        }
    }
}

/// Judges a choice by some parts.
pub fn judge(problem: &Problem, bounds: &[ErrorLimit], picks: &Picks, parts: &[usize]) -> Judgement {
    sum_up(problem, bounds, &[(picks.clone(), parts.to_vec())])
}

/// Judges a method by choosing on all folds but one, and judging by that one, for each fold. `None` without folds.
pub fn cross_fit(problem: &Problem, evidence: &Evidence, method: Method, bounds: &[ErrorLimit]) -> Option<Judgement> {
    let choose_outside = |fold: usize| choose(problem, method, bounds, &evidence.outside(fold)).0;
    let judged: Vec<(Picks, Vec<usize>)> =
        evidence.folds.iter().enumerate().map(|(fold, parts)| (choose_outside(fold), parts.clone())).collect();
    (!judged.is_empty()).then(|| sum_up(problem, bounds, &judged))
}

/// Sums choices over the parts that each is judged by.
fn sum_up(problem: &Problem, bounds: &[ErrorLimit], judged: &[(Picks, Vec<usize>)]) -> Judgement {
    let mut judgement = Judgement {
        total: Figures::default(),
        forward: Figures::default(),
        gradients: Figures::default(),
        vectors: [0; 2],
        interval: find_interval(problem, judged),
        interval_over_steps: find_interval_over_steps(problem, judged),
        largest_error: 0.0,
        passes: 0,
        exceeding: 0,
        values: vec![0.0; bounds.len()],
        step_error: 0.0,
    };
    let limits = bounds.iter().filter(|bound| bound.kind == ErrorKind::LayerError).map(|bound| bound.limit);
    let layer_limit = limits.fold(f64::INFINITY, f64::min);
    for (picks, parts) in judged {
        judgement.total += problem.total(parts, picks);
        for (group, &pick) in problem.groups.iter().zip(picks) {
            for &pass in group.passes() {
                let figures = problem.figures(parts, group.layer, pick, pass);
                let reuses = problem.candidates()[pick].reuses(pass);
                match pass {
                    Pass::Forward if reuses => judgement.forward += figures,
                    Pass::WeightGrad if reuses => judgement.gradients += figures,
                    _ => (),
                }
                if pass == Pass::Forward {
                    (0..2).for_each(|which| judgement.vectors[which] += figures.vectors[which]);
                }
            }
        }
        for (.., error) in problem.list_errors(parts, picks) {
            judgement.passes += 1;
            judgement.exceeding += usize::from(error > layer_limit);
            judgement.largest_error = judgement.largest_error.max(error);
        }
        for (value, bound) in judgement.values.iter_mut().zip(bounds) {
            *value = value.max(problem.measure(bound.kind, parts, picks));
        }
        judgement.step_error = judgement.step_error.max(problem.measure(ErrorKind::StepError, parts, picks));
    }
    judgement
}

/// The interval of the speed-up over samples, and over projections if there are several.
fn find_interval(problem: &Problem, judged: &[(Picks, Vec<usize>)]) -> Option<[f64; 2]> {
    let mut by_seed: Vec<Vec<Step>> = Vec::new();
    for (picks, parts) in judged {
        for &part in parts {
            let seed = problem.part(part).seed;
            by_seed.resize(by_seed.len().max(seed + 1), Vec::new());
            by_seed[seed].push(sum_step(problem, picks, part));
        }
    }
    let sampled = |steps: &Vec<Step>| {
        let total = steps.iter().fold([0; 2], |sum: [u64; 2], step| [sum[0] + step.total[0], sum[1] + step.total[1]]);
        Sampled::new(total, steps)
    };
    interval::cover(&by_seed.iter().map(sampled).collect::<Option<Vec<_>>>()?)
}

/// The interval of the mean speed-up over steps and projections.
fn find_interval_over_steps(problem: &Problem, judged: &[(Picks, Vec<usize>)]) -> Option<[f64; 2]> {
    // Several parts may be samples of one step.
    let mut by_seed: BTreeMap<usize, BTreeMap<u64, [u64; 2]>> = BTreeMap::new();
    for (picks, parts) in judged {
        for &part in parts {
            let [baseline, mercury] = problem.total(&[part], picks).cycles;
            let found = problem.part(part);
            let sum = by_seed.entry(found.seed).or_default().entry(found.step).or_default();
            *sum = [sum[0] + baseline, sum[1] + mercury];
        }
    }
    let cycles: Vec<Vec<[u64; 2]>> = by_seed.into_values().map(|steps| steps.into_values().collect()).collect();
    interval::over_steps(&cycles)
}

/// Cycles of all passes of a part.
fn sum_step(problem: &Problem, picks: &Picks, part: usize) -> Step {
    let mut step = Step { left_out: problem.part(part).left_out, ..Step::default() };
    for (group, &pick) in problem.groups.iter().zip(picks) {
        for &pass in group.passes() {
            let Some(found) = problem.pass(part, group.layer, pick, pass) else { continue };
            step.leave_one_out.resize(found.leave_one_out.len(), [0; 2]);
            for side in 0..2 {
                step.total[side] += found.figures.cycles[side];
                let samples = step.leave_one_out.iter_mut().zip(&found.leave_one_out);
                samples.for_each(|(sum, cycles)| sum[side] += cycles[side]);
            }
        }
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accuracy::ErrorSums;
    use crate::adaptation::tests::result;
    use crate::config::Config;
    use crate::search::bound::Objective;
    use crate::search::space::{Candidate, OFF, Reading, Space};
    use mercury_trace::geometry::{Geometry, Linear};
    use mercury_trace::layers::Layer;
    use proptest::prelude::*;

    const FORWARD_ONLY: &str = "[reuse]\npasses = ['forward']";

    /// A space of candidates that differ in their signature length, for the forward passes of some layers.
    fn space(settings: u32) -> Space {
        let base: Config = toml::from_str(FORWARD_ONLY).unwrap();
        let mut reading = Reading { name: "a".to_owned(), base: base.clone(), candidates: Vec::new(), configured: 1 };
        for bits in 0..=settings {
            let mut config = base.clone();
            if bits == 0 {
                config.reuse.passes.clear();
            } else {
                config.rpq.bits = bits;
            }
            reading.candidates.push(Candidate { config, is_choosable: true, is_whole: true });
        }
        Space { readings: vec![reading], seeds: 1, left_out: None }
    }

    fn layers(count: usize) -> Vec<Layer> {
        let geometry = Geometry::Linear(Linear { rows: 1, in_features: 9, out_features: 1 });
        (0..count)
            .map(|number| Layer { name: number.to_string(), geometry, input_grad: false, weight_grad: true })
            .collect()
    }

    /// Evidence of steps that are folds: cycles and error, `[steps][layers][settings]`; 100 cycles without reuse.
    fn evidence(space: &Space, steps: &[Vec<Vec<(u64, f64)>>]) -> Evidence {
        let mut evidence = Evidence::default();
        for (step, layers) in (0..).zip(steps) {
            let first = evidence.add_parts(space, layers.len());
            for (layer, settings) in layers.iter().enumerate() {
                evidence.add(
                    space,
                    first,
                    &crate::result::PassResult { configuration: OFF, reuse: false, ..result(step, layer, 100, 100) },
                );
                for (number, (cycles, error)) in settings.iter().enumerate() {
                    let moments = [1.0, error * error, 0.0, 0.0];
                    let sums = ErrorSums::from_total((moments, Default::default()), 1.0);
                    let found = result(step, layer, 100, *cycles);
                    evidence.add(
                        space,
                        first,
                        &crate::result::PassResult { configuration: number + 1, error: Some(sums), ..found },
                    );
                }
            }
            evidence.folds.push(vec![first]);
            evidence.all.push(first);
        }
        evidence
    }

    fn bound(kind: ErrorKind, limit: f64) -> ErrorLimit {
        ErrorLimit { kind, limit }
    }

    /// The second setting is fast and exact in the first step alone.
    #[test]
    fn a_setting_that_is_good_in_one_fold_only_is_told_with_the_error_of_the_other() {
        let space = space(2);
        let steady = (80, 0.05);
        let evidence = evidence(&space, &[vec![vec![steady, (50, 0.01)]], vec![vec![steady, (50, 0.5)]]]);
        let layers = layers(1);
        let problem = Problem::new(&evidence, &space, 0, &layers, Objective::Cycles);
        let bounds = [bound(ErrorKind::LayerError, 0.1)];
        let judged = cross_fit(&problem, &evidence, Method::PerLayer, &bounds).unwrap();
        // Chosen on the first step and judged by the second, and the other way round.
        assert_eq!((judged.passes, judged.exceeding), (2, 1));
        assert!((judged.largest_error - 0.5).abs() < 1e-12, "{judged:?}");
        assert_eq!(judged.total.cycles, [200, 130]);
        // On both steps together its error exceeds the bound.
        let (picks, _) = choose(&problem, Method::PerLayer, &bounds, &evidence.all);
        assert_eq!(picks, [1]);
        let (picks, _) = choose(&problem, Method::PerLayer, &bounds, &evidence.folds[0]);
        assert_eq!(picks, [2]);
    }

    #[test]
    fn one_setting_leaves_out_layers_in_which_it_exceeds_the_bound() {
        let space = space(2);
        let evidence = evidence(&space, &[vec![vec![(90, 0.05), (70, 0.3)], vec![(90, 0.08), (60, 0.02)]]]);
        let layers = layers(2);
        let problem = Problem::new(&evidence, &space, 0, &layers, Objective::Cycles);
        let picks = |method, limit| choose(&problem, method, &[bound(ErrorKind::LayerError, limit)], &evidence.all).0;
        assert_eq!(picks(Method::OneSetting, 0.1), [OFF, 2]);
        assert_eq!(picks(Method::PerLayer, 0.1), [1, 2]);
        assert_eq!(picks(Method::PerLayer, 0.01), [OFF, OFF]);
        // The configured setting has no bound.
        assert_eq!(picks(Method::Configured, 0.01), [1, 1]);
    }

    proptest! {
        /// Under any bounds together the choice is the best of all.
        #[test]
        fn the_choice_is_the_best_of_all_within_the_bounds(
            figures in prop::collection::vec(prop::collection::vec((40u64..120, 0u32..40), 2), 1..5),
            layer_error in 0u32..50,
            step_error in 0u32..40,
        ) {
            let space = space(2);
            let step: Vec<Vec<(u64, f64)>> = figures
                .iter()
                .map(|layer| layer.iter().map(|(cycles, error)| (*cycles, f64::from(*error) / 100.0)).collect())
                .collect();
            let evidence = evidence(&space, &[step]);
            let layers = layers(figures.len());
            let problem = Problem::new(&evidence, &space, 0, &layers, Objective::Cycles);
            let bounds = [
                bound(ErrorKind::LayerError, f64::from(layer_error) / 100.0),
                bound(ErrorKind::StepError, f64::from(step_error) / 100.0),
            ];
            let chosen = problem.choose_per_layer(&bounds, &evidence.all);
            let mut least = u64::MAX;
            for number in 0..3usize.pow(figures.len() as u32) {
                let picks: Picks = (0..figures.len()).map(|layer| number / 3usize.pow(layer as u32) % 3).collect();
                // Sums of squares differ in their last digits.
                let within = bounds.iter().all(|bound| {
                    problem.measure(bound.kind, &evidence.all, &picks) <= bound.limit * (1.0 + 1e-9)
                });
                if within {
                    least = least.min(problem.total(&evidence.all, &picks).cycles[1]);
                }
            }
            prop_assert_eq!(problem.total(&evidence.all, &chosen.picks).cycles[1], least);
        }
    }
}
