//! `frontier.parquet` and `choices.parquet`.

use super::evidence::Evidence;
use super::figures::Figures;
use super::judge::{self, Judgement, Method};
use super::outcome::{MethodOutcome, Question, ReadingOutcome};
use super::problem::{Group, Picks};
use crate::config::Config;
use crate::error::Result;
use crate::layer_settings::format_setting;
use crate::schema::{ColumnSpec, choices, frontier};
use mercury_trace::geometry::Pass;
use mercury_trace::layers::Layer;
use polars::prelude::*;

/// Builds `frontier.parquet`.
pub fn build_frontier(outcomes: &[ReadingOutcome], question: &Question) -> Result<DataFrame> {
    use frontier as columns;
    let mut rows: Vec<(&ReadingOutcome, &MethodOutcome)> = Vec::new();
    for outcome in outcomes {
        rows.push((outcome, outcome.method(Method::Configured)));
        rows.extend(outcome.frontier.iter().map(|found| (outcome, found)));
    }
    let figures =
        |column: ColumnSpec, value: fn(&Judgement) -> f64| column.build_f64s(&rows, |row| value(row.1.figures()));
    let has_layer_bound = question.has_layer_bound();
    let kinds: Vec<Option<&str>> = rows.iter().map(|row| row.1.limit.map(|_| question.bounds[0].kind.name())).collect();
    let table = vec![
        columns::READING.build_texts(&rows, |row| row.0.reading.name.as_str()),
        columns::METHOD.build_texts(&rows, |row| row.1.method.name()),
        Column::new(columns::BOUND.name.into(), kinds),
        columns::LIMIT.build_f64s(&rows, |row| row.1.limit),
        columns::IS_JUDGED.build_bools(&rows, |row| row.1.judged.is_some()),
        figures(columns::SPEED_UP, |found| found.total.speed_up()),
        columns::SPEED_UP_LOW.build_f64s(&rows, |row| row.1.figures().interval.map(|bounds| bounds[0])),
        columns::SPEED_UP_HIGH.build_f64s(&rows, |row| row.1.figures().interval.map(|bounds| bounds[1])),
        columns::SPEED_UP_STEPS_LOW
            .build_f64s(&rows, |row| row.1.figures().interval_over_steps.map(|bounds| bounds[0])),
        columns::SPEED_UP_STEPS_HIGH
            .build_f64s(&rows, |row| row.1.figures().interval_over_steps.map(|bounds| bounds[1])),
        columns::SPEED_UP_CHOSEN.build_f64s(&rows, |row| row.1.chosen.total.speed_up()),
        figures(columns::SPEED_UP_WITH_STALLS, |found| {
            let [before, after] = [0, 1].map(|side| (found.total.cycles[side] + found.total.stalls[side]) as f64);
            before / after
        }),
        figures(columns::SPEED_UP_EQUAL_MACS, |found| found.total.equal_macs as f64 / found.total.cycles[1] as f64),
        columns::ENERGY.build_f64s(&rows, |row| {
            let [before, after] = row.1.figures().total.energy;
            (before > 0.0).then(|| after / before)
        }),
        columns::HIT_RATE.build_f64s(&rows, |row| row.1.figures().hit_rate()),
        columns::COMPUTATIONS_SAVED.build_f64s(&rows, |row| row.1.figures().total.computations_saved()),
        figures(columns::OUTPUT_ERROR, |found| found.forward.error()),
        figures(columns::GRADIENT_ERROR, |found| found.gradients.error()),
        figures(columns::LARGEST_ERROR, |found| found.largest_error),
        columns::PASSES.build_u64s(&rows, |row| row.1.figures().passes as u64),
        columns::EXCEEDING.build_u64s(&rows, |row| has_layer_bound.then(|| row.1.figures().exceeding as u64)),
        columns::BOUND_VALUE
            .build_f64s(&rows, |row| row.1.limit.and_then(|_| question.list_values(row.1.figures())[0])),
        figures(columns::STEP_ERROR, |found| found.step_error),
        columns::ACCURACY_LOSS.build_f64s(&rows, |row| question.predict_loss(row.1.figures()).map(|loss| loss.points)),
        columns::ACCURACY_LOSS_UPPER
            .build_f64s(&rows, |row| question.predict_loss(row.1.figures()).map(|loss| loss.upper)),
        columns::IS_BOUND.build_bools(&rows, |row| row.0.is_bound),
        columns::GAP.build_f64s(&rows, |row| row.1.gap),
    ];
    Ok(columns::TABLE.frame(rows.len(), table)?)
}

/// A pass under the chosen settings.
pub struct ChoiceRow<'a, 'b> {
    /// The reading.
    pub outcome: &'a ReadingOutcome<'b>,
    /// The layer.
    pub layer: &'a Layer,
    group: Group,
    /// The pass.
    pub pass: Pass,
    pick: usize,
    /// Sums over all captured steps and projections.
    pub figures: Figures,
    /// Its squared error's share in that of the pass in all layers.
    pub share: Option<f64>,
    /// Folds in which it reuses, and in which its error exceeds the bound on layers.
    pub folds: [u64; 2],
}

impl ChoiceRow<'_, '_> {
    /// The configuration, if the pass reuses.
    pub fn reusing_config(&self) -> Option<&Config> {
        let candidate = &self.outcome.problem.candidates()[self.pick];
        candidate.reuses(self.pass).then_some(&candidate.config)
    }
}

/// Builds `choices.parquet`.
pub fn build_choices(
    outcomes: &[ReadingOutcome],
    evidence: &Evidence,
    question: &Question,
    layers: &[Layer],
) -> Result<DataFrame> {
    use choices as columns;
    let mut rows: Vec<ChoiceRow> = Vec::new();
    for outcome in outcomes {
        rows.extend(list_choices(outcome, evidence, question, layers));
    }
    let projections = evidence.count_projections();
    let setting = |column: ColumnSpec, value: fn(&Config) -> String| {
        let texts: Vec<Option<String>> = rows.iter().map(|row| row.reusing_config().map(value)).collect();
        Column::new(column.name.into(), texts)
    };
    let table = vec![
        columns::READING.build_texts(&rows, |row| row.outcome.reading.name.as_str()),
        columns::LAYER_INDEX.build_u64s(&rows, |row| row.group.layer as u64),
        columns::LAYER.build_texts(&rows, |row| row.layer.name.as_str()),
        columns::PASS.build_texts(&rows, |row| row.pass.name()),
        columns::REUSE.build_bools(&rows, |row| row.reusing_config().is_some()),
        columns::SIGNATURE_BITS
            .build_u64s(&rows, |row| row.reusing_config().map(|config| u64::from(config.rpq.signature_bits()))),
        setting(columns::GRANULARITY, |config| format_setting(&config.rpq.granularity)),
        setting(columns::VARIANT, |config| format_setting(&config.rpq.variant)),
        setting(columns::PROJECTION, |config| format_setting(&config.rpq.projection)),
        columns::SEED.build_u64s(&rows, |row| row.reusing_config().map(|config| config.rpq.seed)),
        setting(columns::REPRESENTATIVE, |config| format_setting(&config.mcache.representative)),
        setting(columns::SCOPE, |config| format_setting(&config.mcache.scope)),
        columns::HIT_RATE.build_f64s(&rows, |row| row.figures.hit_rate()),
        columns::OUTPUT_ERROR.build_f64s(&rows, |row| row.figures.error()),
        columns::ERROR_SHARE.build_f64s(&rows, |row| row.share),
        columns::BASELINE_CYCLES.build_u64s(&rows, |row| row.figures.cycles[0] / projections),
        columns::MERCURY_CYCLES.build_u64s(&rows, |row| row.figures.cycles[1] / projections),
        columns::SPEED_UP.build_f64s(&rows, |row| row.figures.speed_up()),
        columns::FOLDS.build_u64s(&rows, |row| row.folds[0]),
        columns::FOLDS_EXCEEDING.build_u64s(&rows, |row| question.has_layer_bound().then_some(row.folds[1])),
    ];
    Ok(columns::TABLE.frame(rows.len(), table)?)
}

/// Lists the chosen settings under a reading, by layer and pass.
pub fn list_choices<'a, 'b>(
    outcome: &'a ReadingOutcome<'b>,
    evidence: &Evidence,
    question: &Question,
    layers: &'a [Layer],
) -> Vec<ChoiceRow<'a, 'b>> {
    let problem = &outcome.problem;
    let picks = &outcome.method(Method::PerLayer).picks;
    let limits = question.bounds.iter().filter(|bound| bound.limits_layers()).map(|bound| bound.limit);
    let limit = limits.fold(f64::INFINITY, f64::min);
    let error_limits = question.error_limits();
    let by_fold: Vec<Picks> = (0..evidence.folds.len())
        .map(|fold| judge::choose(problem, Method::PerLayer, &error_limits, &evidence.outside(fold)).0)
        .collect();
    let mut rows = Vec::new();
    for (place, (group, &pick)) in problem.groups.iter().zip(picks).enumerate() {
        for &pass in group.passes() {
            let mut folds = [0; 2];
            for (picks, parts) in by_fold.iter().zip(&evidence.folds) {
                let pick = picks[place];
                if problem.candidates()[pick].reuses(pass) {
                    folds[0] += 1;
                    folds[1] += u64::from(problem.figures(parts, group.layer, pick, pass).error() > limit);
                }
            }
            let figures = problem.figures(&evidence.all, group.layer, pick, pass);
            rows.push(ChoiceRow {
                outcome,
                layer: &layers[group.layer],
                group: *group,
                pass,
                pick,
                figures,
                share: None,
                folds,
            });
        }
    }
    rows.sort_by_key(|row| (row.group.layer, row.pass));
    for pass in Pass::ALL {
        let sum: f64 = rows.iter().filter(|row| row.pass == pass).map(|row| row.figures.squares[0]).sum();
        for row in rows.iter_mut().filter(|row| row.pass == pass && sum > 0.0) {
            row.share = Some(row.figures.squares[0] / sum);
        }
    }
    rows
}
