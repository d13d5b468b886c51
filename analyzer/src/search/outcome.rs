//! What a search found: for each reading and method a choice, judged, and how it changes with the bound.

use super::bound::{Bound, BoundKind, Objective};
use super::evidence::Evidence;
use super::judge::{self, Judgement, Method};
use super::problem::{Picks, Problem};
use super::space::{OFF, Reading, Space};
use mercury_trace::layers::Layer;
use rayon::prelude::*;

/// Limits of the first bound for which the frontier is computed in addition to the one that is asked for.
const LIMITS: [f64; 10] = [0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0];
/// The same for a change of the loss, as multiples of the one that is asked for.
const MULTIPLES: [f64; 6] = [0.1, 0.2, 0.5, 2.0, 5.0, 10.0];
/// By how much the bound is higher in the question what a higher one would give: a percentage point; of a change of the
/// loss, 1 %.
const ONE_POINT: f64 = 0.01;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Question {
    /// The quantity that a design minimises.
    pub objective: Objective,
    /// The bounds that it keeps.
    pub bounds: Vec<Bound>,
    /// The command that asks it, with TRACE and SEARCH for its folders.
    pub command: String,
    /// The flags that chose a part of the trace; empty for all of it.
    pub selection: String,
}

impl Question {
    /// Whether a bound limits the error of each layer.
    pub fn has_layer_bound(&self) -> bool {
        self.bounds.iter().any(|bound| bound.kind == BoundKind::LayerError)
    }

    /// The bounds with another limit of the first one.
    fn with_limit(&self, limit: f64) -> Vec<Bound> {
        let mut bounds = self.bounds.clone();
        bounds[0].limit = limit;
        bounds
    }
}

/// A choice of a method under some bounds.
#[derive(Debug, Clone)]
pub struct MethodOutcome {
    /// The method.
    pub method: Method,
    /// The limit of the first bound; `None` if the method has no bounds.
    pub limit: Option<f64>,
    /// The candidate of each group, chosen by all data.
    pub picks: Picks,
    /// How far its objective may be above the least, as a share.
    pub gap: f64,
    /// The choice on all data.
    pub chosen: Judgement,
    /// The method, judged by folds; `None` without folds.
    pub judged: Option<Judgement>,
}

impl MethodOutcome {
    /// Makes and judges the choice.
    fn find(problem: &Problem, evidence: &Evidence, method: Method, bounds: &[Bound]) -> Self {
        let (picks, gap) = judge::choose(problem, method, bounds, &evidence.all);
        Self {
            method,
            limit: (method != Method::Configured).then(|| bounds[0].limit),
            gap,
            chosen: judge::judge(problem, bounds, &picks, &evidence.all),
            judged: judge::cross_fit(problem, evidence, method, bounds),
            picks,
        }
    }

    /// The figures to tell: judged ones if there are some.
    pub fn figures(&self) -> &Judgement {
        self.judged.as_ref().unwrap_or(&self.chosen)
    }

    /// Whether no layer reuses.
    pub fn is_off(&self) -> bool {
        self.picks.iter().all(|&pick| pick == OFF)
    }
}

/// What was found under a reading.
pub struct ReadingOutcome<'a> {
    /// The reading.
    pub reading: &'a Reading,
    /// Its candidates as options.
    pub problem: Problem<'a>,
    /// The methods within the bounds, in the order of [`Method::ALL`].
    pub methods: Vec<MethodOutcome>,
    /// Settings per layer and for all layers, within other limits of the first bound, from the lowest.
    pub frontier: Vec<MethodOutcome>,
    /// Settings per layer if the first bound were a percentage point higher.
    pub one_point_more: MethodOutcome,
    /// Whether cycles are a bound that no hardware reaches.
    pub is_bound: bool,
}

impl<'a> ReadingOutcome<'a> {
    /// Answers the question under a reading, by number.
    pub fn find(
        evidence: &'a Evidence,
        space: &'a Space,
        number: usize,
        layers: &[Layer],
        question: &Question,
    ) -> Self {
        let problem = Problem::new(evidence, space, number, layers, question.objective);
        let reading = &space.readings[number];
        let find = |method, bounds: &[Bound]| MethodOutcome::find(&problem, evidence, method, bounds);
        let first = question.bounds[0];
        let is_share = first.kind != BoundKind::LossChange;
        let others = if is_share { LIMITS.to_vec() } else { MULTIPLES.map(|times| times * first.limit).to_vec() };
        let mut limits: Vec<f64> = others.into_iter().chain([first.limit]).collect();
        limits.sort_by(f64::total_cmp);
        limits.dedup();
        let higher = if is_share { first.limit + ONE_POINT } else { first.limit * (1.0 + ONE_POINT) };
        let methods = [Method::OneSetting, Method::PerLayer];
        let asked: Vec<(Method, f64)> =
            limits.iter().flat_map(|&limit| methods.map(|method| (method, limit))).collect();
        let frontier = asked.par_iter().map(|&(method, limit)| find(method, &question.with_limit(limit)));
        let everything = vec![reading.configured; problem.groups.len()];
        Self {
            reading,
            methods: Method::ALL.map(|method| find(method, &question.bounds)).to_vec(),
            frontier: frontier.collect(),
            one_point_more: find(Method::PerLayer, &question.with_limit(higher)),
            is_bound: problem.total(&evidence.all, &everything).is_bound,
            problem,
        }
    }

    /// The choice of a method within the bounds.
    pub fn method(&self, method: Method) -> &MethodOutcome {
        self.methods.iter().find(|found| found.method == method).expect("all methods are there")
    }
}
