//! All that a search found, and how it is written.

use super::bound::{ErrorKind, Objective};
use super::design::{build_config, describe_setting};
use super::evidence::{Evidence, Folds};
use super::judge::Method;
use super::outcome::{MethodOutcome, Question, ReadingOutcome};
use super::problem::Nearest;
use super::space::Space;
use super::store::{BEST, Evaluation, SearchDir};
use super::tables;
use crate::error::{AnalyzerError, Result};
use crate::request::Measures;
use crate::results;
use crate::schema;
use crate::schema::run::{CurveRecord, MethodRecord, ReadingRecord, SearchRecord};
use crate::sweep::summary;
use crate::table;
use mercury_trace::geometry::Pass;
use mercury_trace::{Trace, checksum, manifest};
use polars::prelude::Column;
use std::collections::BTreeMap;

/// What was asked, what was tried, and what was found.
pub struct Found<'a> {
    /// The trace.
    pub trace: &'a Trace,
    /// What was tried.
    pub space: &'a Space,
    /// What was asked.
    pub question: &'a Question,
    /// How the trace is divided.
    pub folds: &'a Folds,
    /// The figures of all candidates.
    pub evidence: &'a Evidence,
    /// What was found, by reading.
    pub outcomes: Vec<ReadingOutcome<'a>>,
}

impl Found<'_> {
    /// Refuses bounds that no setting of any layer keeps.
    pub fn check_any(&self) -> Result<()> {
        let describe = |(outcome, nearest): (&ReadingOutcome, &Nearest)| {
            let layer = &self.trace.layers()[nearest.group.layer].name;
            let candidate = &outcome.problem.candidates()[nearest.candidate];
            let setting = describe_setting(&candidate.config, &outcome.reading.base);
            let measured = if nearest.error.is_finite() {
                format!("where {} is {:.4}", nearest.bound.kind.name(), nearest.error)
            } else {
                format!("where {} is not known; capture two samples or more", nearest.bound.kind.name())
            };
            format!("{setting} in {layer} ({}), {measured}", nearest.group.source)
        };
        let limits = self.question.error_limits();
        let nearest = |outcome: &ReadingOutcome| outcome.problem.find_nearest(&limits, &self.evidence.all);
        let all: Option<Vec<Nearest>> = self.outcomes.iter().map(nearest).collect();
        let all = all.unwrap_or_default();
        let least = self.outcomes.iter().zip(&all).min_by(|a, b| a.1.excess().total_cmp(&b.1.excess()));
        let Some(least) = least else { return Ok(()) };
        let reason = format!(
            "no design meets it{}; the nearest is {}. Raise the bound, or try longer signatures (--per-layer)",
            self.question
                .accuracy_bound()
                .map_or_else(String::new, |_| format!(": {}", self.question.describe_bounds())),
            describe(least)
        );
        Err(AnalyzerError::Flag { flag: "--bound", reason })
    }

    /// Place of the reading whose design is recommended: of those that are no bounds, the one with the least objective by
    /// judged figures. Cycles are those at equal MACs, so that a unit for signatures has to earn its own.
    pub fn find_best(&self) -> usize {
        let value = |number: &usize| {
            let outcome = &self.outcomes[*number];
            let total = outcome.method(Method::PerLayer).figures().total;
            let unit = match self.question.objective {
                Objective::Energy => 1.0,
                Objective::Cycles | Objective::CyclesWithStalls | Objective::Edp => {
                    total.cycles[0] as f64 / total.equal_macs as f64
                }
            };
            outcome.problem.value(total) * unit
        };
        let all = 0..self.outcomes.len();
        let any_real = self.outcomes.iter().any(|outcome| !outcome.is_bound);
        let compared = all.filter(|&number| !any_real || !self.outcomes[number].is_bound);
        compared.min_by(|a, b| value(a).total_cmp(&value(b))).unwrap_or(0)
    }

    /// The file of a reading's design.
    pub fn design_file(&self, number: usize) -> String {
        let name = &self.outcomes[number].reading.name;
        let is_word = name.chars().all(|character| character.is_ascii_alphanumeric() || character == '-');
        match self.outcomes.len() {
            1 => BEST.to_owned(),
            _ if is_word => format!("best-{name}.toml"),
            _ => format!("best-{}.toml", number + 1),
        }
    }

    /// Writes the designs and tables.
    pub fn write(
        &self,
        dir: &SearchDir,
        evaluation: &Evaluation,
        measures: &Measures,
        label: Option<&str>,
    ) -> Result<()> {
        let layers = self.trace.layers();
        let model = &self.trace.manifest().model.name;
        let (mut configs, mut chosen, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for (number, outcome) in self.outcomes.iter().enumerate() {
            for found in &outcome.methods {
                let base = &outcome.reading.base;
                configs.push(build_config(&outcome.problem, base, &found.picks, model, layers));
                chosen.push(self.list_candidates(number, found));
                names.push((outcome.reading.name.as_str(), found.method.name()));
            }
        }
        let found = dir.collect_designs(self.space, evaluation, &chosen)?;
        let best = self.find_best();
        let mut designs = Vec::new();
        for number in 0..self.outcomes.len() {
            let config = &configs[number * Method::ALL.len() + Method::ALL.len() - 1];
            let text = self.describe_design(number)? + &toml::to_string(config).expect("a configuration is a table");
            if number == best {
                designs.push((BEST.to_owned(), text.clone()));
            }
            if self.outcomes.len() > 1 {
                designs.push((self.design_file(number), text));
            }
        }
        let run = results::search_text(self.trace, &configs, measures, label, Some(self.record(best)))?;
        dir.begin_writing()?;
        dir.finish(&run, &designs, |dir, files| {
            let swept = vec![
                Column::new("reading".into(), names.iter().map(|name| name.0).collect::<Vec<_>>()),
                Column::new("method".into(), names.iter().map(|name| name.1).collect::<Vec<_>>()),
            ];
            let frames = [
                (schema::layers::TABLE, results::layers_frame(&found)?),
                (schema::models::TABLE, results::models_frame(&found, layers.len())?),
                (schema::configurations::TABLE, summary::frame(swept, &found, layers.len())?),
                (schema::frontier::TABLE, tables::build_frontier(&self.outcomes, self.question)?),
                (schema::choices::TABLE, tables::build_choices(&self.outcomes, self.evidence, self.question, layers)?),
            ];
            frames.into_iter().try_for_each(|(spec, frame)| table::write(files, dir.join(spec.file), &frame))
        })
    }

    /// The candidate of each pass, by number among all.
    fn list_candidates(&self, reading: usize, found: &MethodOutcome) -> BTreeMap<(usize, Pass), usize> {
        let first = self.space.first_candidate(reading);
        let groups = self.outcomes[reading].problem.groups.iter().zip(&found.picks);
        groups
            .flat_map(|(group, pick)| group.passes().iter().map(move |&pass| ((group.layer, pass), first + pick)))
            .collect()
    }

    /// The comment that a design's file begins with.
    fn describe_design(&self, number: usize) -> Result<String> {
        let outcome = &self.outcomes[number];
        let found = outcome.method(Method::PerLayer);
        let [before, after] = self.first_projection_cycles(number);
        let selection = &self.question.selection;
        let mut text = format!(
            "# Found by mercury-analyzer search for {}, reading {}: the settings of each layer with the least {} within\n# {}.\n",
            self.trace.manifest().model.name,
            outcome.reading.name,
            self.question.objective.name(),
            self.question.describe_bounds(),
        );
        text += &format!(
            "# A replay of the trace that it was chosen by{} takes {after} cycles instead of {before} ({:.3}x); the largest\n# \
             error of a pass is {:.4}.\n",
            if selection.is_empty() { String::new() } else { format!(" ({selection})") },
            before as f64 / after as f64,
            self.find_largest_error(number)
        );
        if let Some(judged) = &found.judged {
            text += &format!(
                "# Judged by {} that it was not chosen by: {:.3}x; {} of {} errors exceed a bound on layers.\n",
                self.judged_by(),
                judged.total.speed_up(),
                judged.exceeding,
                judged.passes
            );
        }
        let manifest = checksum::hash_file(&self.trace.dir().join(manifest::FILE_NAME))?;
        Ok(text + &format!("# SHA-256 of the trace's manifest: {manifest}\n\n"))
    }

    /// The parts of everything that was captured, with the projection that a design's file has.
    fn list_first_projection(&self) -> Vec<usize> {
        self.evidence.all.iter().copied().filter(|&part| self.evidence.parts[part].seed == 0).collect()
    }

    /// Cycles of a reading's design without and with reuse, with the projection that its file has.
    pub fn first_projection_cycles(&self, number: usize) -> [u64; 2] {
        let outcome = &self.outcomes[number];
        outcome.problem.total(&self.list_first_projection(), &outcome.method(Method::PerLayer).picks).cycles
    }

    /// The largest error of a pass in a reading's design, with the projection that its file has.
    fn find_largest_error(&self, number: usize) -> f64 {
        let outcome = &self.outcomes[number];
        let picks = &outcome.method(Method::PerLayer).picks;
        outcome.problem.measure(ErrorKind::LayerError, &self.list_first_projection(), picks)
    }

    /// What designs are judged by.
    pub fn judged_by(&self) -> &'static str {
        match self.folds {
            Folds::Steps(_) => "steps",
            Folds::Samples(_) => "samples",
            Folds::None => "nothing",
        }
    }

    fn record(&self, best: usize) -> SearchRecord {
        let reading = |(number, outcome): (usize, &ReadingOutcome)| ReadingRecord {
            name: outcome.reading.name.clone(),
            is_bound: outcome.is_bound,
            file: self.design_file(number),
            configurations: [0, 1, 2].map(|method| number * Method::ALL.len() + method),
            methods: outcome.methods.iter().map(|found| record_method(found, self.question)).collect(),
            speed_up_one_point_more: outcome.one_point_more.figures().total.speed_up(),
        };
        SearchRecord {
            command: self.question.command.clone(),
            objective: self.question.objective.name().to_owned(),
            bounds: self.question.bounds.iter().map(ToString::to_string).collect(),
            accuracy_curve: Some(record_curve(self.question)),
            judged_by: self.judged_by().to_owned(),
            folds: self.folds.count(),
            seeds: self.space.seeds,
            readings: self.outcomes.iter().enumerate().map(reading).collect(),
            best,
        }
    }
}

/// Records the curve that predicted accuracy losses, and what it made of the bound on them.
fn record_curve(question: &Question) -> CurveRecord {
    let curve = &question.curve;
    CurveRecord {
        sha256: curve.sha256.clone(),
        networks: curve.networks.clone(),
        last_step_error: curve.last_step_error(),
        allowed_step_error: question.accuracy_bound().and_then(|bound| curve.find_step_error(bound.limit)),
    }
}

fn record_method(found: &MethodOutcome, question: &Question) -> MethodRecord {
    let figures = found.figures();
    MethodRecord {
        method: found.method.name().to_owned(),
        speed_up: figures.total.speed_up(),
        speed_up_interval: figures.interval,
        output_error: figures.forward.error(),
        gradient_error: figures.gradients.error(),
        largest_error: figures.largest_error,
        passes: figures.passes,
        exceeding: figures.exceeding,
        bound_values: question.list_values(figures),
    }
}
