//! Choices judged by parts of the trace that they were not chosen by.

use super::bound::{Bound, BoundKind};
use super::evidence::Evidence;
use super::figures::Figures;
use super::problem::{Picks, Problem};
use crate::interval::{self, Sampled, Step};
use mercury_trace::geometry::Pass;

/// How a choice is made on some parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The settings as they are configured, without reuse in layers in which it costs cycles; bounds are ignored.
    Configured,
    /// The best setting for all layers at once.
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
    /// Largest error of a layer's pass.
    pub largest_error: f64,
    /// Passes with reuse, counted in each fold.
    pub passes: usize,
    /// Those of them whose error exceeds the bound on layers.
    pub exceeding: usize,
    /// Values of the bounds, the largest of all folds.
    pub values: Vec<f64>,
}

impl Judgement {
    /// Mean hit rate of the forward passes; those without reuse have no hits.
    pub fn hit_rate(&self) -> Option<f64> {
        let [vectors, hits] = self.vectors;
        (vectors > 0).then(|| hits as f64 / vectors as f64)
    }
}

/// Makes the choice of a method on some parts; with how far it may be from the best.
pub fn choose(problem: &Problem, method: Method, bounds: &[Bound], parts: &[usize]) -> (Picks, f64) {
    match method {
        Method::Configured => (problem.apply_to_all(problem.configured(), parts), 0.0),
        Method::OneSetting => (problem.choose_one(bounds, parts), 0.0),
        Method::PerLayer => {
            let chosen = problem.choose_per_layer(bounds, parts);
            (chosen.picks, chosen.gap)
        }
    }
}

/// Judges a choice by some parts.
pub fn judge(problem: &Problem, bounds: &[Bound], picks: &Picks, parts: &[usize]) -> Judgement {
    sum_up(problem, bounds, &[(picks.clone(), parts.to_vec())])
}

/// Judges a method by choosing on all folds but one, and judging by that one, for each fold. `None` without folds.
pub fn cross_fit(problem: &Problem, evidence: &Evidence, method: Method, bounds: &[Bound]) -> Option<Judgement> {
    let choose_outside = |fold: usize| choose(problem, method, bounds, &evidence.outside(fold)).0;
    let judged: Vec<(Picks, Vec<usize>)> =
        evidence.folds.iter().enumerate().map(|(fold, parts)| (choose_outside(fold), parts.clone())).collect();
    (!judged.is_empty()).then(|| sum_up(problem, bounds, &judged))
}

/// Sums choices over the parts that each is judged by.
fn sum_up(problem: &Problem, bounds: &[Bound], judged: &[(Picks, Vec<usize>)]) -> Judgement {
    let mut judgement = Judgement {
        total: Figures::default(),
        forward: Figures::default(),
        gradients: Figures::default(),
        vectors: [0; 2],
        interval: find_interval(problem, judged),
        largest_error: 0.0,
        passes: 0,
        exceeding: 0,
        values: vec![0.0; bounds.len()],
    };
    let limits = bounds.iter().filter(|bound| bound.kind == BoundKind::LayerError).map(|bound| bound.limit);
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
