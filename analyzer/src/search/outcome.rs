//! What a search found: for each reading and method a choice, judged, and how it changes with the bound.

use super::accuracy_curve::{AccuracyCurve, AccuracyLoss};
use super::bound::{Bound, BoundKind, ErrorKind, ErrorLimit, Objective};
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
/// The same for a loss of accuracy, percentage points, as far as the calibration resolves them.
const POINTS: [f64; 7] = [0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0];
/// By how much the bound is higher in the question what a higher one would give: a percentage point; of a change of the
/// loss, 1 %. Limits of an accuracy loss are percentage points themselves.
const ONE_POINT: f64 = 0.01;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Question {
    /// The quantity that a design minimises.
    pub objective: Objective,
    /// The bounds that it keeps.
    pub bounds: Vec<Bound>,
    /// The curve that predicts accuracy losses.
    pub curve: AccuracyCurve,
    /// The command that asks it, with TRACE and SEARCH for its folders.
    pub command: String,
    /// The flags that chose a part of the trace; empty for all of it.
    pub selection: String,
}

impl Question {
    /// Whether a bound limits the error of each layer.
    pub fn has_layer_bound(&self) -> bool {
        self.bounds.iter().any(Bound::limits_layers)
    }

    /// The bound on the accuracy loss, if there is one.
    pub fn accuracy_bound(&self) -> Option<Bound> {
        self.bounds.iter().find(|bound| bound.kind == BoundKind::AccuracyLoss).copied()
    }

    /// The limits on errors that the bounds ask for, in the same order.
    pub fn error_limits(&self) -> Vec<ErrorLimit> {
        self.curve.limit_errors(&self.bounds)
    }

    /// The accuracy loss that the calibration predicts for a judged choice; `None` beyond its largest step error.
    pub fn predict_loss(&self, figures: &Judgement) -> Option<AccuracyLoss> {
        self.curve.predict(figures.step_error)
    }

    /// What each bound limits, as measured or predicted; `None` for a loss beyond the calibration.
    pub fn list_values(&self, figures: &Judgement) -> Vec<Option<f64>> {
        let value = |(bound, &error): (&Bound, &f64)| match bound.kind {
            BoundKind::Error(_) => Some(error),
            BoundKind::AccuracyLoss => self.predict_loss(figures).map(|loss| loss.upper),
        };
        self.bounds.iter().zip(&figures.values).map(value).collect()
    }

    /// Describes the bounds, that on the accuracy loss with the step error which it allows.
    pub fn describe_bounds(&self) -> String {
        let describe = |(bound, limit): (&Bound, &ErrorLimit)| match bound.kind {
            BoundKind::Error(_) => bound.to_string(),
            BoundKind::AccuracyLoss => format!("{bound} ({} <= {:.4})", limit.kind.name(), limit.limit),
        };
        let described: Vec<String> = self.bounds.iter().zip(&self.error_limits()).map(describe).collect();
        described.join(", ")
    }

    /// The limits on errors with another limit of the first bound.
    fn with_limit(&self, limit: f64) -> Vec<ErrorLimit> {
        let mut bounds = self.bounds.clone();
        bounds[0].limit = limit;
        self.curve.limit_errors(&bounds)
    }

    /// Limits of the first bound for which the frontier is computed, from the lowest.
    fn list_limits(&self) -> Vec<f64> {
        let asked = self.bounds[0].limit;
        let mut limits = match self.bounds[0].kind {
            BoundKind::Error(ErrorKind::LossChange) => MULTIPLES.map(|times| times * asked).to_vec(),
            BoundKind::Error(_) => LIMITS.to_vec(),
            BoundKind::AccuracyLoss => {
                let resolved = self.curve.resolution()..=self.curve.last_upper();
                POINTS.into_iter().filter(|limit| resolved.contains(limit)).collect()
            }
        };
        limits.push(asked);
        limits.sort_by(f64::total_cmp);
        limits.dedup();
        limits
    }

    /// The limit of the first bound in the question what a higher one would give.
    fn raise_limit(&self) -> f64 {
        let asked = self.bounds[0].limit;
        match self.bounds[0].kind {
            BoundKind::Error(ErrorKind::LossChange) => asked * (1.0 + ONE_POINT),
            BoundKind::Error(_) => asked + ONE_POINT,
            BoundKind::AccuracyLoss => asked + 1.0,
        }
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
    fn find(problem: &Problem, evidence: &Evidence, method: Method, question: &Question, limit: f64) -> Self {
        let bounds = question.with_limit(limit);
        let (picks, gap) = judge::choose(problem, method, &bounds, &evidence.all);
        Self {
            method,
            limit: (method != Method::Configured).then_some(limit),
            gap,
            chosen: judge::judge(problem, &bounds, &picks, &evidence.all),
            judged: judge::cross_fit(problem, evidence, method, &bounds),
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
        let find = |method, limit| MethodOutcome::find(&problem, evidence, method, question, limit);
        let methods = [Method::OneSetting, Method::PerLayer];
        let limits = question.list_limits();
        let asked: Vec<(Method, f64)> =
            limits.iter().flat_map(|&limit| methods.map(|method| (method, limit))).collect();
        let frontier = asked.par_iter().map(|&(method, limit)| find(method, limit));
        let everything = vec![reading.configured; problem.groups.len()];
        Self {
            reading,
            methods: Method::ALL.map(|method| find(method, question.bounds[0].limit)).to_vec(),
            frontier: frontier.collect(),
            one_point_more: find(Method::PerLayer, question.raise_limit()),
            is_bound: problem.total(&evidence.all, &everything).is_bound,
            problem,
        }
    }

    /// The choice of a method within the bounds.
    pub fn method(&self, method: Method) -> &MethodOutcome {
        self.methods.iter().find(|found| found.method == method).expect("all methods are there")
    }
}
