//! What `search` prints.

use super::ONLY_TRACER;
use crate::export::{Align, text_table};
use crate::search::accuracy_curve::AccuracyLoss;
use crate::search::bound::{Bound, BoundKind, ErrorKind, Objective};
use crate::search::design::describe_setting;
use crate::search::evidence::Folds;
use crate::search::found::Found;
use crate::search::judge::{Judgement, Method};
use crate::search::outcome::{MethodOutcome, Question, ReadingOutcome};
use crate::search::tables::{ChoiceRow, list_choices};
use mercury_cli::quote;
use std::path::Path;

/// Formats the verdict, the readings, and the layers of the recommended design.
pub fn format_search(found: &Found, trace: &Path, out: &Path) -> String {
    let best = found.find_best();
    let mut text = format_verdict(found, best);
    text += "\n";
    text += &format_readings(found);
    text += &describe_columns(found);
    let outcome = &found.outcomes[best];
    let per_projection = if found.space.seeds > 1 { ", per projection" } else { "" };
    text += &format!("\nsettings per layer under {}, on all steps{per_projection}:\n", outcome.reading.name);
    let choices = list_choices(outcome, found.evidence, found.question, found.trace.layers());
    text += &format_choices(&choices, found);
    let (trace, out) = (quote(&trace.display().to_string()), out.join("best.toml"));
    let design = quote(&out.display().to_string());
    let [_, cycles] = found.first_projection_cycles(best);
    let selection = &found.question.selection;
    let selection = if selection.is_empty() { String::new() } else { format!(" {selection}") };
    text += &format!(
        "\nThe design: {design}. A replay of it takes {cycles} cycles:\n  mercury-analyzer replay {trace} --config {design} \
         --out RESULTS{selection}\nErrors are local: each layer is computed from exact operands. What they do to the loss, only \
         a run with reuse in every layer tells"
    );
    text += &if found.trace.manifest().has_tracer_model() {
        format!(":\n  mercury-tracer train … --probe {design}\n")
    } else {
        format!(" ({ONLY_TRACER}).\n")
    };
    text
}

/// The answer in a few sentences.
fn format_verdict(found: &Found, best: usize) -> String {
    let outcome = &found.outcomes[best];
    let (design, configured) = (outcome.method(Method::PerLayer), outcome.method(Method::Configured));
    let (bounds, name) = (found.question.describe_bounds(), &outcome.reading.name);
    let objective = found.question.objective.name();
    if found.outcomes.iter().all(|outcome| outcome.method(Method::PerLayer).is_off()) {
        return format!("Within {bounds} no setting of any layer saves {objective}, on all data: 1.00x.\n");
    }
    let (figures, configured) = (design.figures(), configured.figures());
    let which = match (found.outcomes.len(), found.question.objective) {
        (1, _) => String::new(),
        (_, Objective::Energy) => format!(", of the readings that are no bounds the one with least {objective}"),
        (_, _) => format!(", of the readings that are no bounds the one with least {objective} at equal MACs"),
    };
    let exceeding = if found.question.has_layer_bound() {
        format!("{} of {} errors exceed the bound; the largest is", figures.exceeding, figures.passes)
    } else {
        "The largest error of a layer's pass is".to_owned()
    };
    format!(
        "{} within {bounds}: {}{}, with settings per layer, under {name}{which}.\n{exceeding} {}. As configured (off where it \
         costs cycles) it is {}, with errors of up to {}.\n{}{}",
        found.trace.manifest().model.name,
        format_speed_up(figures),
        format_equal_macs(figures),
        percent(figures.largest_error),
        format_speed_up(configured),
        percent(configured.largest_error),
        found.question.accuracy_bound().map_or_else(String::new, |_| format_loss(found.question, figures)),
        warn_of_baselines(found),
    )
}

/// The predicted accuracy loss of the design, as a line.
fn format_loss(question: &Question, figures: &Judgement) -> String {
    let step_error = percent(figures.step_error);
    match question.predict_loss(figures) {
        Some(loss) => {
            let AccuracyLoss { points, upper } = loss;
            format!(
                "Predicted accuracy loss: {points:.2} points (at most {upper:.2}), from a step error of {step_error}.\n"
            )
        }
        None => format!("No accuracy loss is predicted: the calibration ends below the step error of {step_error}.\n"),
    }
}

fn format_speed_up(figures: &Judgement) -> String {
    let interval = figures.interval.map_or_else(String::new, |[low, high]| format!(" ({low:.2} to {high:.2})"));
    format!("{:.2}x{interval}", figures.total.speed_up())
}

/// The speed-up at equal MACs, if the reading has a unit for signatures.
fn format_equal_macs(figures: &Judgement) -> String {
    if figures.total.equal_macs == figures.total.cycles[0] {
        return String::new();
    }
    format!(", {:.2}x at equal MACs", figures.total.equal_macs as f64 / figures.total.cycles[1] as f64)
}

/// Says so if readings have different baselines.
fn warn_of_baselines(found: &Found) -> String {
    let baseline = |outcome: &ReadingOutcome| outcome.method(Method::PerLayer).chosen.total.cycles[0];
    if found.outcomes.windows(2).all(|pair| baseline(&pair[0]) == baseline(&pair[1])) {
        return String::new();
    }
    format!(
        "The readings have different baselines, so their speed-ups cannot be compared; the recommended one has least {}.\n",
        found.question.objective.name()
    )
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn is_summed(bound: &Bound) -> bool {
    !bound.limits_layers()
}

fn format_readings(found: &Found) -> String {
    let mut columns = vec![
        ("reading", Align::Left),
        ("settings", Align::Left),
        ("speed-up", Align::Right),
        ("interval", Align::Left),
        ("equal MACs", Align::Right),
        ("energy", Align::Right),
        ("hit rate", Align::Right),
        ("output error", Align::Right),
        ("gradient error", Align::Right),
        ("largest error", Align::Right),
        ("over bound", Align::Right),
        ("when chosen", Align::Right),
    ];
    let summed = found.question.bounds.iter().filter(|bound| is_summed(bound));
    columns.extend(summed.map(|bound| (bound.kind.name(), Align::Right)));
    if found.question.accuracy_bound().is_some() {
        columns.push(("accuracy loss at most", Align::Right));
    }
    let is_share = found.question.bounds[0].kind != BoundKind::Error(ErrorKind::LossChange);
    let higher = if is_share { "per layer, bound + 1 point" } else { "per layer, bound + 1 %" };
    let mut rows = Vec::new();
    for outcome in &found.outcomes {
        let methods = outcome.methods.iter().map(|method| (method, method.method.name()));
        for (method, name) in methods.chain([(&outcome.one_point_more, higher)]) {
            rows.push(format_method(outcome, method, name, found.question));
        }
    }
    text_table(&columns, rows)
}

fn format_method(outcome: &ReadingOutcome, found: &MethodOutcome, name: &str, question: &Question) -> Vec<String> {
    let figures = found.figures();
    let reading = &outcome.reading.name;
    let interval = figures.interval.map_or_else(|| "-".to_owned(), |[low, high]| format!("{low:.2} to {high:.2}"));
    let [before, after] = figures.total.energy;
    let exceeding = match found.method {
        Method::OneSetting | Method::PerLayer if question.has_layer_bound() => {
            format!("{} of {}", figures.exceeding, figures.passes)
        }
        _ => "-".to_owned(),
    };
    let mut row = vec![
        if outcome.is_bound && reading != "bound" { format!("{reading} (a bound)") } else { reading.clone() },
        name.to_owned(),
        format!("{:.3}x", figures.total.speed_up()),
        interval,
        format!("{:.3}x", figures.total.equal_macs as f64 / figures.total.cycles[1] as f64),
        if before > 0.0 { format!("{:.3}", after / before) } else { "-".to_owned() },
        figures.hit_rate().map_or_else(|| "-".to_owned(), percent),
        percent(figures.forward.error()),
        percent(figures.gradients.error()),
        percent(figures.largest_error),
        exceeding,
        format!("{:.3}x", found.chosen.total.speed_up()),
    ];
    let loss = question.predict_loss(figures);
    let format_points = |points: Option<f64>| points.map_or_else(|| "-".to_owned(), |points| format!("{points:.2}"));
    let values = question.bounds.iter().zip(&figures.values).filter(|(bound, _)| is_summed(bound));
    row.extend(values.map(|(bound, value)| match bound.kind {
        BoundKind::Error(ErrorKind::LossChange) => format!("{value:.4}"),
        BoundKind::Error(_) => percent(*value),
        BoundKind::AccuracyLoss => format_points(loss.map(|loss| loss.points)),
    }));
    if question.accuracy_bound().is_some() {
        row.push(format_points(loss.map(|loss| loss.upper)));
    }
    row
}

/// What the columns of the readings say.
fn describe_columns(found: &Found) -> String {
    let judged = |what: &str, folds: usize| {
        format!(
            "All figures but `when chosen` are judged: settings were chosen without the captured {what} that judge them \
             ({folds} folds)."
        )
    };
    let judged = match found.folds {
        Folds::Steps(folds) => judged("steps", folds.len()),
        Folds::Samples(folds) => judged("samples", folds.len()),
        Folds::None => "Nothing is judged (--folds 0): settings are shown on the data that they were chosen by, which \
                        flatters them."
            .to_owned(),
    };
    let seeds = match found.space.seeds {
        1 => "Intervals cover captured samples, not the draw of the projection (--seeds 6 covers both).".to_owned(),
        seeds => format!("Figures are means over {seeds} projections, intervals cover samples and projections."),
    };
    let gaps = found.outcomes.iter().flat_map(|outcome| &outcome.methods).map(|method| method.gap);
    let gap = gaps.fold(0.0, f64::max);
    let gap = if gap > 0.0 {
        format!("\nDesigns may be up to {:.2} % above the least {}.", 100.0 * gap, found.question.objective.name())
    } else {
        String::new()
    };
    let is_measured = |bound: &&Bound| is_summed(bound) && bound.kind != BoundKind::AccuracyLoss;
    let summed = found.question.bounds.iter().filter(is_measured).map(|bound| format!("`{}`", bound.kind.name()));
    let summed: Vec<String> = summed.collect();
    let accuracy = match found.question.accuracy_bound() {
        Some(_) => {
            "\n`accuracy-loss`: percentage points, predicted from the step error; the last column is its upper limit. \
                    Beyond the calibration: -."
        }
        None => "",
    };
    let summed = if summed.is_empty() {
        String::new()
    } else {
        format!(" {}: what the bound limits, the largest of all folds.", summed.join(", "))
    };
    format!(
        "{judged} {seeds}\n`configured`: the reading's own settings in all layers in which they save cycles, whatever their \
         errors. `one setting`: the best for all layers that reuse; others run without.\n`output error` and `gradient error`: of \
         the forward passes and weight gradients with reuse.{summed} `energy`: a share of the baseline's.{accuracy}{gap}\n"
    )
}

/// A row per layer and pass.
fn format_choices(choices: &[ChoiceRow], found: &Found) -> String {
    let header = [
        ("layer", Align::Left),
        ("pass", Align::Left),
        ("setting", Align::Left),
        ("hit rate", Align::Right),
        ("error", Align::Right),
        ("share of error", Align::Right),
        ("cycles", Align::Right),
        ("speed-up", Align::Right),
        ("over bound", Align::Right),
    ];
    text_table(&header, choices.iter().map(|choice| format_choice(choice, found)))
}

fn format_choice(choice: &ChoiceRow, found: &Found) -> Vec<String> {
    let dash = || "-".to_owned();
    let base = &choice.outcome.reading.base;
    let config = choice.reusing_config();
    let if_on = |share: Option<f64>| share.filter(|_| config.is_some()).map_or_else(dash, percent);
    let [folds, exceeding] = choice.folds;
    let is_counted = found.question.has_layer_bound() && folds > 0;
    vec![
        choice.layer.name.clone(),
        choice.pass.name().to_owned(),
        config.map_or_else(|| "off".to_owned(), |config| describe_setting(config, base)),
        if_on(choice.figures.hit_rate()),
        if_on(Some(choice.figures.error())),
        if_on(choice.share),
        (choice.figures.cycles[1] / found.evidence.count_projections()).to_string(),
        format!("{:.2}x", choice.figures.speed_up()),
        if is_counted { format!("{exceeding} of {folds}") } else { dash() },
    ]
}
