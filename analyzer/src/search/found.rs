//! All that a search found, and how it is written.

use super::design::{build_config, describe_candidate};
use super::evidence::{Evidence, Folds};
use super::judge::Method;
use super::outcome::{MethodOutcome, Question, ReadingOutcome};
use super::space::Space;
use super::store::{BEST, Evaluation, SearchDir};
use super::tables;
use crate::error::{AnalyzerError, Result};
use crate::request::Measures;
use crate::results;
use crate::schema;
use crate::schema::run::{MethodRecord, ReadingRecord, SearchRecord};
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
        let nearest = |outcome: &ReadingOutcome| {
            let nearest = outcome.problem.find_nearest(&self.question.bounds, &self.evidence.all)?;
            let layer = &self.trace.layers()[nearest.group.layer].name;
            let setting = describe_candidate(&outcome.problem.candidates()[nearest.candidate].config);
            Some(format!(
                "{setting} in {layer} ({}), with {:.4} of {}",
                nearest.group.source, nearest.error, nearest.bound
            ))
        };
        let all: Option<Vec<String>> = self.outcomes.iter().map(nearest).collect();
        match all.as_deref() {
            Some([first, ..]) => {
                let reason = format!(
                    "no design meets it; the nearest is {first}. Raise the bound, or try longer signatures (--per-layer)"
                );
                Err(AnalyzerError::Flag { flag: "--bound", reason })
            }
            _ => Ok(()),
        }
    }

    /// Place of the reading whose design is recommended: of those that are no bounds, the one that has least of the
    /// objective.
    pub fn find_best(&self) -> usize {
        let value = |number: &usize| {
            let outcome = &self.outcomes[*number];
            outcome.problem.value(outcome.method(Method::PerLayer).chosen.total)
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
        let bounds: Vec<String> = self.question.bounds.iter().map(ToString::to_string).collect();
        let mut text = format!(
            "# Found by mercury-analyzer search for {}, reading {}: the settings of each layer with the least {} within\n# {}.\n",
            self.trace.manifest().model.name,
            outcome.reading.name,
            self.question.objective.name(),
            bounds.join(", "),
        );
        text += &format!(
            "# A replay of the trace that it was chosen by takes {after} cycles instead of {before} ({:.3}x).\n",
            before as f64 / after as f64
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

    /// Cycles of a reading's design without and with reuse, with the projection that its file has.
    pub fn first_projection_cycles(&self, number: usize) -> [u64; 2] {
        let problem = &self.outcomes[number].problem;
        let parts = self.evidence.all.iter().copied().filter(|&part| problem.part(part).seed == 0);
        let parts: Vec<usize> = parts.collect();
        problem.total(&parts, &self.outcomes[number].method(Method::PerLayer).picks).cycles
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
            methods: outcome.methods.iter().map(record_method).collect(),
            speed_up_one_point_more: outcome.one_point_more.figures().total.speed_up(),
        };
        SearchRecord {
            command: self.question.command.clone(),
            objective: self.question.objective.name().to_owned(),
            bounds: self.question.bounds.iter().map(ToString::to_string).collect(),
            judged_by: self.judged_by().to_owned(),
            folds: self.folds.count(),
            seeds: self.space.seeds,
            readings: self.outcomes.iter().enumerate().map(reading).collect(),
            best,
        }
    }
}

fn record_method(found: &MethodOutcome) -> MethodRecord {
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
    }
}
