//! A reading's candidates as groups of options, of which one per group is chosen.

use super::bound::{ErrorKind, ErrorLimit, Objective};
use super::choice;
use super::evidence::Evidence;
use super::figures::{Figures, Part, PassFigures};
use super::space::{Candidate, OFF, Reading, Space};
use mercury_trace::geometry::Pass;
use mercury_trace::layers::Layer;

/// Passes of a layer that share signatures, and so settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Place of the layer in execution order.
    pub layer: usize,
    /// The pass whose vectors are signed.
    pub source: Pass,
    /// The passes, as far as they were replayed.
    passes: &'static [Pass],
}

impl Group {
    /// The group of a layer's passes that share the signatures of `source`; `None` if it was not replayed.
    fn find(layer: usize, source: Pass, has: impl Fn(Pass) -> bool) -> Option<Self> {
        let passes: &'static [Pass] = match source {
            Pass::InputGrad if has(Pass::InputGrad) => &[Pass::InputGrad],
            Pass::Forward if has(Pass::Forward) && has(Pass::WeightGrad) => &[Pass::Forward, Pass::WeightGrad],
            Pass::Forward if has(Pass::Forward) => &[Pass::Forward],
            _ => return None,
        };
        Some(Self { layer, source, passes })
    }

    /// The passes, as far as they were replayed.
    pub fn passes(&self) -> &'static [Pass] {
        self.passes
    }
}

/// One candidate per group.
pub type Picks = Vec<usize>;

/// A choice, and how far it may be from the best.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// The candidate of each group.
    pub picks: Picks,
    /// How far the objective may be above the least, as a share.
    pub gap: f64,
}

/// The choice under one reading.
pub struct Problem<'a> {
    evidence: &'a Evidence,
    reading: &'a Reading,
    /// Number of the reading's first candidate among all.
    first: usize,
    /// The groups.
    pub groups: Vec<Group>,
    objective: Objective,
}

impl<'a> Problem<'a> {
    /// The choice under a reading, by number, over the groups that were replayed.
    pub fn new(
        evidence: &'a Evidence,
        space: &'a Space,
        reading: usize,
        layers: &[Layer],
        objective: Objective,
    ) -> Self {
        let first = space.first_candidate(reading);
        let find = |layer: usize, source: Pass| {
            Group::find(layer, source, |pass| evidence.parts.iter().any(|part| part.pass(layer, first, pass).is_some()))
        };
        let sources = [Pass::Forward, Pass::InputGrad];
        let groups = (0..layers.len()).flat_map(|layer| sources.map(|source| find(layer, source))).flatten().collect();
        Self { evidence, reading: &space.readings[reading], first, groups, objective }
    }

    /// The candidates.
    pub fn candidates(&self) -> &'a [Candidate] {
        &self.reading.candidates
    }

    /// Number of the candidate that the reading has configured.
    pub fn configured(&self) -> usize {
        self.reading.configured
    }

    /// A part of what was captured.
    pub fn part(&self, number: usize) -> &'a Part {
        &self.evidence.parts[number]
    }

    /// The figures of a pass in a part, under a candidate.
    pub fn pass(&self, part: usize, layer: usize, candidate: usize, pass: Pass) -> Option<&'a PassFigures> {
        self.evidence.parts[part].pass(layer, self.first + candidate, pass)
    }

    /// The figures of a pass over some parts, under a candidate; zeros if there is no such pass.
    pub fn figures(&self, parts: &[usize], layer: usize, candidate: usize, pass: Pass) -> Figures {
        let passes = parts.iter().filter_map(|&part| self.pass(part, layer, candidate, pass));
        passes.map(|found| found.figures).sum()
    }

    /// Squared norm of all exact weight gradients, as far as candidates have them: a mean over these, as each has its own
    /// sample.
    fn exact_gradients(&self, parts: &[usize]) -> f64 {
        let of_layer = |group: &Group| {
            let reusing =
                (0..self.candidates().len()).filter(|&number| self.candidates()[number].reuses(Pass::WeightGrad));
            let exact = reusing.map(|number| self.figures(parts, group.layer, number, Pass::WeightGrad).squares[1]);
            let known: Vec<f64> = exact.filter(|square| *square > 0.0).collect();
            known.iter().sum::<f64>() / known.len().max(1) as f64
        };
        self.groups.iter().filter(|group| group.source == Pass::Forward).map(of_layer).sum()
    }

    /// Passes of all groups.
    fn count_passes(&self) -> usize {
        self.groups.iter().map(|group| group.passes().len()).sum()
    }

    /// The value of a bound's error under some picks.
    pub fn measure(&self, kind: ErrorKind, parts: &[usize], picks: &Picks) -> f64 {
        let load = || -> f64 {
            let weigh = |(group, &pick): (&Group, &usize)| self.weigh(kind, parts, *group, pick);
            self.groups.iter().zip(picks).map(weigh).sum()
        };
        match kind {
            ErrorKind::LayerError => {
                self.list_errors(parts, picks).into_iter().map(|(.., error)| error).fold(0.0, f64::max)
            }
            ErrorKind::StepError => (load() / self.count_passes().max(1) as f64).sqrt(),
            ErrorKind::GradientError => {
                let (change, exact) = (load(), self.exact_gradients(parts));
                if change > 0.0 { (change / exact).sqrt() } else { 0.0 }
            }
            ErrorKind::LossChange => load() / parts.len().max(1) as f64,
        }
    }

    /// What an option adds to the sum that a bound limits.
    fn weigh(&self, kind: ErrorKind, parts: &[usize], group: Group, candidate: usize) -> f64 {
        let figures = |pass: Pass| self.figures(parts, group.layer, candidate, pass);
        match kind {
            ErrorKind::StepError => group.passes().iter().map(|&pass| figures(pass).error().powi(2)).sum(),
            ErrorKind::GradientError if group.source == Pass::Forward => figures(Pass::WeightGrad).squares[0],
            ErrorKind::LossChange if group.source == Pass::Forward => figures(Pass::Forward).loss_limit,
            ErrorKind::LayerError | ErrorKind::GradientError | ErrorKind::LossChange => 0.0,
        }
    }

    /// The sum that a bound allows.
    fn allow(&self, bound: &ErrorLimit, parts: &[usize]) -> f64 {
        let square = bound.limit.powi(2);
        match bound.kind {
            ErrorKind::LayerError => f64::INFINITY,
            ErrorKind::StepError => square * self.count_passes() as f64,
            ErrorKind::GradientError => square * self.exact_gradients(parts),
            ErrorKind::LossChange => bound.limit * parts.len() as f64,
        }
    }

    /// The largest error of an option's passes with reuse.
    pub fn largest_error(&self, parts: &[usize], group: Group, candidate: usize) -> f64 {
        let reusing = group.passes().iter().filter(|&&pass| self.candidates()[candidate].reuses(pass));
        reusing.map(|&pass| self.figures(parts, group.layer, candidate, pass).error()).fold(0.0, f64::max)
    }

    /// Errors of all passes with reuse under some picks.
    pub fn list_errors(&self, parts: &[usize], picks: &Picks) -> Vec<(Group, Pass, f64)> {
        let mut errors = Vec::new();
        for (group, &pick) in self.groups.iter().zip(picks) {
            for &pass in group.passes().iter().filter(|&&pass| self.candidates()[pick].reuses(pass)) {
                errors.push((*group, pass, self.figures(parts, group.layer, pick, pass).error()));
            }
        }
        errors
    }

    /// The sums that the objective is made of: one, or energy and cycles.
    fn costs(&self, figures: Figures) -> Vec<f64> {
        let (cycles, stalls, energy) = (figures.cycles[1] as f64, figures.stalls[1] as f64, figures.energy[1]);
        match self.objective {
            Objective::Cycles => vec![cycles],
            Objective::CyclesWithStalls => vec![cycles + stalls],
            Objective::Energy => vec![energy],
            Objective::Edp => vec![cycles + stalls, energy],
        }
    }

    /// The objective of a sum.
    pub fn value(&self, figures: Figures) -> f64 {
        self.costs(figures).into_iter().product()
    }

    /// The sum over all passes under some picks.
    pub fn total(&self, parts: &[usize], picks: &Picks) -> Figures {
        let of_group = |(group, &pick): (&Group, &usize)| -> Figures {
            group.passes().iter().map(|&pass| self.figures(parts, group.layer, pick, pass)).sum()
        };
        self.groups.iter().zip(picks).map(of_group).sum()
    }

    /// Whether some picks keep all bounds on some parts.
    pub fn is_within(&self, bounds: &[ErrorLimit], parts: &[usize], picks: &Picks) -> bool {
        bounds.iter().all(|bound| self.measure(bound.kind, parts, picks) <= bound.limit)
    }

    /// The best candidate for each group within the bounds, on some parts.
    pub fn choose_per_layer(&self, bounds: &[ErrorLimit], parts: &[usize]) -> Chosen {
        self.choose_from(bounds, parts, |_| true)
    }

    /// The best choice on some parts whose candidates are among those of `is_offered`.
    fn choose_from(&self, bounds: &[ErrorLimit], parts: &[usize], is_offered: impl Fn(usize) -> bool) -> Chosen {
        let layer_limit = bounds.iter().filter(|bound| bound.kind == ErrorKind::LayerError).map(|bound| bound.limit);
        let layer_limit = layer_limit.fold(f64::INFINITY, f64::min);
        let summed: Vec<&ErrorLimit> = bounds.iter().filter(|bound| bound.kind != ErrorKind::LayerError).collect();
        let mut numbers: Vec<Vec<usize>> = Vec::new();
        let mut costs: Vec<Vec<Vec<f64>>> = Vec::new();
        let mut weights: Vec<Vec<Vec<f64>>> = Vec::new();
        for &group in &self.groups {
            let options = self.list_options(group).filter(|&number| number == OFF || is_offered(number));
            let options = options.filter(|&number| self.largest_error(parts, group, number) <= layer_limit);
            let options: Vec<usize> = options.collect();
            let figures = |number: usize| -> Figures {
                group.passes().iter().map(|&pass| self.figures(parts, group.layer, number, pass)).sum()
            };
            costs.push(options.iter().map(|&number| self.costs(figures(number))).collect());
            let weigh =
                |&number: &usize| summed.iter().map(|bound| self.weigh(bound.kind, parts, group, number)).collect();
            weights.push(options.iter().map(weigh).collect());
            numbers.push(options);
        }
        let limits: Vec<f64> = summed.iter().map(|bound| self.allow(bound, parts)).collect();
        let chosen = choice::choose_product(&costs, &weights, &limits);
        let picks = numbers.iter().zip(&chosen.picks).map(|(options, &pick)| options[pick]).collect();
        Chosen { picks, gap: chosen.gap() }
    }

    /// The candidates that a group may choose from. One that is not whole differs in the weight gradient alone.
    fn list_options(&self, group: Group) -> impl Iterator<Item = usize> + '_ {
        (0..self.candidates().len()).filter(move |&number| {
            let candidate = &self.candidates()[number];
            let is_own = group.passes.contains(&Pass::WeightGrad) || candidate.is_whole;
            number == OFF || (candidate.is_choosable && is_own && candidate.reuses(group.source))
        })
    }

    /// The best candidate for all layers that reuse, within the bounds, on some parts; the other layers run without reuse,
    /// and weight gradients may be exact.
    pub fn choose_one(&self, bounds: &[ErrorLimit], parts: &[usize]) -> Chosen {
        let mut best = Chosen { picks: vec![OFF; self.groups.len()], gap: 0.0 };
        let mut least = f64::INFINITY;
        let settings =
            (0..self.candidates().len()).filter(|&number| number != OFF && self.candidates()[number].is_whole);
        for setting in settings {
            // Those that follow differ from it in the weight gradient alone.
            let is_same =
                |number: usize| number == setting || (number == setting + 1 && !self.candidates()[number].is_whole);
            let chosen = self.choose_from(bounds, parts, is_same);
            let value = self.value(self.total(parts, &chosen.picks));
            least = least.min(value * (1.0 - chosen.gap));
            if value < self.value(self.total(parts, &best.picks)) {
                best = chosen;
            }
        }
        let value = self.value(self.total(parts, &best.picks));
        Chosen { gap: (1.0 - least / value).clamp(0.0, 1.0), ..best }
    }

    /// A candidate in all layers, but for those in which it costs cycles in all passes together, on some parts.
    pub fn apply_to_all(&self, candidate: usize, parts: &[usize]) -> Picks {
        let saves = |group: &Group| {
            let own = self.groups.iter().filter(|other| other.layer == group.layer);
            let passes = own.flat_map(Group::passes);
            let sum: Figures = passes.map(|&pass| self.figures(parts, group.layer, candidate, pass)).sum();
            sum.cycles[1] <= sum.cycles[0]
        };
        self.groups.iter().map(|group| if saves(group) { candidate } else { OFF }).collect()
    }

    /// The option with reuse that alone exceeds the bounds least; `None` if an option keeps all of them.
    pub fn find_nearest(&self, bounds: &[ErrorLimit], parts: &[usize]) -> Option<Nearest> {
        let mut nearest: Option<Nearest> = None;
        for (place, &group) in self.groups.iter().enumerate() {
            for candidate in self.list_options(group).filter(|&number| number != OFF) {
                let mut picks = vec![OFF; self.groups.len()];
                picks[place] = candidate;
                let measured = bounds.iter().map(|bound| {
                    let error = self.measure(bound.kind, parts, &picks);
                    Nearest { group, candidate, bound: *bound, error }
                });
                let worst = measured.max_by(|a, b| a.excess().total_cmp(&b.excess()))?;
                if worst.error <= worst.bound.limit {
                    return None;
                }
                if nearest.as_ref().is_none_or(|known| worst.excess() < known.excess()) {
                    nearest = Some(worst);
                }
            }
        }
        nearest
    }
}

/// An option that exceeds a bound, of several the one that it exceeds most.
#[derive(Debug, Clone, PartialEq)]
pub struct Nearest {
    /// The group.
    pub group: Group,
    /// The candidate.
    pub candidate: usize,
    /// The bound.
    pub bound: ErrorLimit,
    /// The error that it limits.
    pub error: f64,
}

impl Nearest {
    /// How many times the limit the error is; of a limit of 0, the error beyond all others.
    pub fn excess(&self) -> f64 {
        if self.bound.limit > 0.0 { self.error / self.bound.limit } else { 1e12 * (1.0 + self.error) }
    }
}
