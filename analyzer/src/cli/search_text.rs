//! What `search` prints.

use crate::error::Result;
use crate::export::{Align, text_table};
use crate::schema::choices as columns;
use crate::search::evidence::Folds;
use crate::search::found::Found;
use crate::search::judge::{Judgement, Method};
use crate::search::outcome::{MethodOutcome, ReadingOutcome};
use crate::search::tables;
use mercury_cli::quote;
use polars::prelude::DataFrame;
use std::path::Path;

/// Formats the verdict, the readings, and the layers of the recommended design.
pub fn format_search(found: &Found, trace: &Path, out: &Path) -> Result<String> {
    let best = found.find_best();
    let mut text = format_verdict(found, best);
    text += "\n";
    text += &format_readings(found);
    text += &describe_columns(found);
    let outcome = &found.outcomes[best];
    text += &format!("\nsettings per layer under {}, on all steps:\n", outcome.reading.name);
    let choices =
        tables::build_choices(&found.outcomes[best..=best], found.evidence, found.question, found.trace.layers())?;
    text += &format_choices(&choices, found.folds)?;
    let (trace, out) = (quote(&trace.display().to_string()), out.join("best.toml"));
    let design = quote(&out.display().to_string());
    let [_, cycles] = found.first_projection_cycles(best);
    text += &format!(
        "\nThe design: {design}. A replay of it takes {cycles} cycles:\n  mercury-analyzer replay {trace} --config {design} --out \
         RESULTS\nErrors are local: each layer is computed from exact operands. What they do to the loss, only a run with \
         reuse in every layer tells:\n  mercury-tracer evaluate … --reuse {design}\n  mercury-tracer train … --probe {design}\n",
    );
    Ok(text)
}

/// The answer in a sentence or two.
fn format_verdict(found: &Found, best: usize) -> String {
    let outcome = &found.outcomes[best];
    let (design, configured) = (outcome.method(Method::PerLayer), outcome.method(Method::Configured));
    let bounds: Vec<String> = found.question.bounds.iter().map(ToString::to_string).collect();
    let (bounds, name) = (bounds.join(", "), &outcome.reading.name);
    if design.is_off() {
        return format!(
            "Within {bounds} no layer's reuse saves {} under {name}: 1.00x.\n",
            found.question.objective.name()
        );
    }
    let (figures, configured) = (design.figures(), configured.figures());
    let which = if found.outcomes.len() > 1 { " (of the readings that are no bounds, the best)" } else { "" };
    let equal_macs = if figures.total.equal_macs == figures.total.cycles[0] {
        String::new()
    } else {
        format!(", {:.2}x at equal MACs", figures.total.equal_macs as f64 / figures.total.cycles[1] as f64)
    };
    format!(
        "{} within {bounds}: {}{equal_macs}, under {name}{which}, with settings per layer.\nAs configured it is {}, with errors \
         of up to {}.\n",
        found.trace.manifest().model.name,
        format_speed_up(figures),
        format_speed_up(configured),
        percent(configured.largest_error),
    )
}

fn format_speed_up(figures: &Judgement) -> String {
    let interval = figures.interval.map_or_else(String::new, |[low, high]| format!(" ({low:.2} to {high:.2})"));
    format!("{:.2}x{interval}", figures.total.speed_up())
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn format_readings(found: &Found) -> String {
    let columns = [
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
    let mut rows = Vec::new();
    for outcome in &found.outcomes {
        rows.extend(outcome.methods.iter().map(|found| format_method(outcome, found, found.method.name())));
        rows.push(format_method(outcome, &outcome.one_point_more, "per layer, bound + 1 %"));
    }
    text_table(&columns, rows)
}

fn format_method(outcome: &ReadingOutcome, found: &MethodOutcome, name: &str) -> Vec<String> {
    let figures = found.figures();
    let reading = &outcome.reading.name;
    let interval = figures.interval.map_or_else(|| "-".to_owned(), |[low, high]| format!("{low:.2} to {high:.2}"));
    let [before, after] = figures.total.energy;
    let exceeding = match found.method {
        Method::Configured => "-".to_owned(),
        Method::OneSetting | Method::PerLayer => format!("{} of {}", figures.exceeding, figures.passes),
    };
    vec![
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
    ]
}

/// What the columns of the readings say.
fn describe_columns(found: &Found) -> String {
    let judged = match found.folds {
        Folds::Steps(folds) => format!(
            "All figures but `when chosen` are judged: settings were chosen without the captured steps that judge them ({} \
             folds).",
            folds.len()
        ),
        Folds::Samples(folds) => format!(
            "All figures but `when chosen` are judged: settings were chosen without the captured samples that judge them ({} \
             folds).",
            folds.len()
        ),
        Folds::None => "Nothing is judged (--folds 0): settings are shown on the data that they were chosen by, which \
                        flatters them."
            .to_owned(),
    };
    let seeds = match found.space.seeds {
        1 => "Intervals cover captured samples, not the draw of the projection (--seeds 6 covers both).".to_owned(),
        seeds => format!("Figures are means over {seeds} projections, intervals cover samples and projections."),
    };
    let gap = found.outcomes.iter().map(|outcome| outcome.method(Method::PerLayer).gap).fold(0.0, f64::max);
    let gap = if gap > 0.0 {
        format!("\nDesigns may be up to {:.2} % above the least {}.", 100.0 * gap, found.question.objective.name())
    } else {
        String::new()
    };
    format!(
        "{judged} {seeds}\n`configured`: the reading's own settings in all layers in which they save cycles, whatever their \
         errors. `one setting`: the best for all layers that reuse; others run without. Errors are of passes with reuse.{gap}\n"
    )
}

/// A row per layer and pass.
fn format_choices(choices: &DataFrame, folds: &Folds) -> Result<String> {
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
    let (layers, passes) = (columns::LAYER.read_texts(choices)?, columns::PASS.read_texts(choices)?);
    let (reuse, bits) = (columns::REUSE.read_bools(choices)?, columns::SIGNATURE_BITS.read_u64s(choices)?);
    let variants = columns::VARIANT.read_texts(choices)?;
    let granularities = columns::GRANULARITY.read_texts(choices)?;
    let (hits, errors) = (columns::HIT_RATE.read_f64s(choices)?, columns::OUTPUT_ERROR.read_f64s(choices)?);
    let (shares, cycles) = (columns::ERROR_SHARE.read_f64s(choices)?, columns::MERCURY_CYCLES.read_u64s(choices)?);
    let speed_ups = columns::SPEED_UP.read_f64s(choices)?;
    let (in_folds, exceeding) = (columns::FOLDS.read_u64s(choices)?, columns::FOLDS_EXCEEDING.read_u64s(choices)?);
    let dash = || "-".to_owned();
    let row = |row: usize| {
        let is_on = reuse[row] == Some(true);
        let number = |value: Option<u64>| value.map_or_else(dash, |value| value.to_string());
        let share = |value: Option<f64>| value.filter(|_| is_on).map_or_else(dash, percent);
        let setting = match (is_on, &variants[row], &granularities[row], bits[row]) {
            (true, Some(variant), Some(granularity), Some(bits)) if granularity != "channel-patch" => {
                format!("{variant}, {bits} bits, {granularity}")
            }
            (true, Some(variant), _, Some(bits)) => format!("{variant}, {bits} bits"),
            _ => "off".to_owned(),
        };
        let over = match folds {
            Folds::None => dash(),
            _ if in_folds[row] == Some(0) => dash(),
            _ => format!("{} of {}", number(exceeding[row]), number(in_folds[row])),
        };
        vec![
            layers[row].clone().unwrap_or_default(),
            passes[row].clone().unwrap_or_default(),
            setting,
            share(hits[row]),
            share(errors[row]),
            share(shares[row]),
            number(cycles[row]),
            speed_ups[row].map_or_else(dash, |speed_up| format!("{speed_up:.2}x")),
            over,
        ]
    };
    Ok(text_table(&header, (0..choices.height()).map(row)))
}
