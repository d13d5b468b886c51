//! The text that `replay` prints.

use super::replay_notes::{describe_bounds, describe_causes, describe_demand, describe_zero_vectors};
use crate::accuracy::Interval;
use crate::adaptation::{steady_state, trial};
use crate::config::Config;
use crate::export::Align::{Left, Right};
use crate::export::text_table;
use crate::interval::{self, Sampled};
use crate::labels::summarise_steps;
use crate::request::{Measures, Selection};
use crate::result::{PassResult, forward_error, sample_step};
use crate::sweep::designs::{self, Design};
use mercury_reuse::Counts;
use mercury_trace::Trace;
use mercury_trace::geometry::Pass;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Sums over results: similarity and error of the forward pass, cycles of all passes.
#[derive(Default)]
struct Total<'a> {
    /// Projections that the results are of; vectors and cycles are shown for one.
    projections: u64,
    vectors: u64,
    counts: Counts,
    forward: Vec<&'a PassResult>,
    cycles: BTreeMap<Pass, [u64; 2]>,
}

impl<'a> Total<'a> {
    fn add(&mut self, result: &'a PassResult) {
        if result.pass == Pass::Forward {
            self.vectors += result.vectors;
            self.counts += result.counts;
            self.forward.push(result);
        }
        let sum = self.cycles.entry(result.pass).or_default();
        sum[0] += result.baseline;
        sum[1] += result.mercury.total();
    }

    fn sum(results: impl IntoIterator<Item = &'a PassResult>, projections: u64) -> Self {
        let mut total = Self { projections, ..Self::default() };
        results.into_iter().for_each(|result| total.add(result));
        total
    }

    fn all_cycles(&self) -> [u64; 2] {
        self.cycles.values().fold([0; 2], |sum, cycles| [sum[0] + cycles[0], sum[1] + cycles[1]])
    }

    fn row(&self, name: &str) -> Vec<String> {
        let vectors = self.vectors;
        let share = |part: u64| {
            if vectors == 0 { "-".to_owned() } else { format!("{:.1} %", 100.0 * part as f64 / vectors as f64) }
        };
        let error = forward_error(&self.forward, 0)
            .map_or_else(|| "-".into(), |error| format!("{:.1} %", 100.0 * error.relative().value));
        let [baseline, mercury] = self.all_cycles();
        let mut row = vec![
            name.to_owned(),
            (vectors / self.projections).to_string(),
            share(self.counts.hit),
            share(self.counts.mau),
            share(self.counts.mnu),
            error,
            (baseline / self.projections).to_string(),
            (mercury / self.projections).to_string(),
        ];
        row.extend(
            Pass::ALL.map(|pass| self.cycles.get(&pass).map_or_else(|| "-".into(), |&cycles| format_speed_up(cycles))),
        );
        row.push(format_speed_up([baseline, mercury]));
        row
    }
}

fn format_speed_up([baseline, mercury]: [u64; 2]) -> String {
    format!("{:.2}x", baseline as f64 / mercury as f64)
}

/// The estimated change of a step's loss, with reuse in all layers.
fn describe_loss_change(results: &[&PassResult], layers: usize, measures: &Measures) -> String {
    if measures.errors.is_none() {
        return "loss change not computed (--errors none)".to_owned();
    }
    if !measures.selection.pass(Pass::Forward) {
        return "loss change unknown: --passes leaves out the forward pass".to_owned();
    }
    let replayed = results.iter().filter(|result| result.pass == Pass::Forward).count();
    if replayed < layers {
        let restricted = measures.selection != Selection::default();
        let verb = if restricted { "replayed" } else { "captured" };
        return format!("loss change unknown: {replayed} of {layers} layers were {verb}");
    }
    match forward_error(results, layers).and_then(|error| error.loss_change()) {
        Some(Interval { value, bounds: Some([low, high]) }) => format!("loss {value:+.4} ({low:+.4} to {high:+.4})"),
        Some(Interval { value, bounds: None }) => format!("loss {value:+.4} (no interval: one sample)"),
        None => "loss change unknown: weights or output gradients were not captured".to_owned(),
    }
}

/// Changes during training: signature lengths, and layers switched off.
fn describe_adaptation(results: &[PassResult], projections: u64) -> String {
    let mut text = String::new();
    let bits: BTreeMap<u64, u32> = results.iter().map(|result| (result.step, result.bits)).collect();
    if bits.values().any(|length| Some(length) != bits.values().next()) {
        let lengths: Vec<String> = bits.iter().map(|(step, bits)| format!("{bits} at step {step}")).collect();
        text += &format!("signature bits in force: {}\n", lengths.join(", "));
    }
    let mut off: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for result in results.iter().filter(|result| result.switched_off) {
        if seen.insert(result.layer_index) {
            off.entry(result.step).or_default().push(&result.layer);
        }
    }
    for (step, layers) in off {
        let who = if projections > 1 { " under at least one projection" } else { "" };
        text += &format!("switched off from step {step} on{who}, as reuse cost cycles there: {}\n", layers.join(", "));
    }
    text
}

/// The steps that the table sums, and the totals of the trial before them.
fn describe_steps(results: &[PassResult], layers_in_all: usize, projections: u64) -> String {
    let (steady, trial) = (steady_state(results), trial(results));
    let steps = name_steps(&steady);
    let off: BTreeSet<usize> = steady.iter().filter(|r| r.switched_off).map(|r| r.layer_index).collect();
    let replayed: BTreeSet<usize> = steady.iter().map(|result| result.layer_index).collect();
    if trial.is_empty() && steady.iter().any(|result| result.trial) {
        return format!(
            "Figures: {steps}, a trial in which every layer reuses. Capture more than stop.window steps to see the steady\n\
             state, in which layers that do not pay are switched off, or set --stop.window 0.\n"
        );
    }
    if trial.is_empty() {
        return format!("Figures: {steps}; no layer is switched off.\n");
    }
    let total = Total::sum(trial.iter().copied(), projections);
    let error = forward_error(&trial, layers_in_all)
        .map_or_else(String::new, |error| format!("output error {:.1} %, ", 100.0 * error.relative().value));
    format!(
        "Figures: the steady state, {steps}, with {} of {} layers switched off.\n\
         The trial before it (stop.window), {}, in which every layer reuses: {:.1} % hit, {error}speed-up {}.\n",
        off.len(),
        replayed.len(),
        name_steps(&trial),
        100.0 * total.counts.hit as f64 / total.vectors.max(1) as f64,
        format_speed_up(total.all_cycles()),
    )
}

/// The steps of some results: each number if they are few, else a range.
fn name_steps(results: &[&PassResult]) -> String {
    let steps: BTreeSet<u64> = results.iter().map(|result| result.step).collect();
    let steps: Vec<u64> = steps.into_iter().collect();
    match steps.as_slice() {
        [step] => format!("step {step}"),
        few if few.len() <= 4 => format!("steps {}", few.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
        many => format!("steps {}", summarise_steps(many)),
    }
}

/// The speed-up and change of the loss of each step.
fn describe_each_step(results: &[PassResult], layers_in_all: usize, measures: &Measures, projections: u64) -> String {
    let over = if projections > 1 { "captured samples and projections" } else { "captured samples" };
    let mut text = format!(
        "\nby training step, with 95 % intervals over {over}: the model's speed-up, and how much reuse in the\n\
         forward pass changes the loss, to first order (the sum of dY (Y' - Y) over all layers{}):\n",
        if projections > 1 { "; of the first projection, over samples" } else { "" }
    );
    let mut steps: BTreeMap<u64, Vec<&PassResult>> = BTreeMap::new();
    for result in results {
        steps.entry(result.step).or_default().push(result);
    }
    for (step, results) in steps {
        let by_projection: Vec<&[&PassResult]> = results.chunk_by(|a, b| a.configuration == b.configuration).collect();
        let sampled: Option<Vec<Sampled>> = by_projection.iter().map(|results| sample_step(results)).collect();
        let interval = sampled.as_deref().and_then(interval::cover);
        let interval =
            interval.map_or_else(|| "no interval: one sample".into(), |[low, high]| format!("{low:.3} to {high:.3}"));
        let ratio = |results: &&[&PassResult]| {
            let [baseline, mercury] = Total::sum(results.iter().copied(), 1).all_cycles();
            baseline as f64 / mercury as f64
        };
        let mean = by_projection.iter().map(ratio).sum::<f64>() / projections as f64;
        let trial = if results[0].trial { " (trial)" } else { "" };
        // The same number of digits as the interval, so that the printed value lies within it.
        text += &format!(
            "  step {step}{trial}: {mean:.3}x ({interval}), {}\n",
            describe_loss_change(by_projection[0], layers_in_all, measures)
        );
    }
    if projections == 1 && results.iter().any(|result| result.settings.projection.is_drawn()) {
        text += "The intervals do not cover the draw of the projection: another rpq.seed gives another speed-up and error.\n\
                 --seeds 6 evaluates six projections in one pass, and its intervals cover both.\n";
    }
    text
}

/// The speed-ups of the projections over the steps of the table.
fn describe_projections(design: &Design) -> String {
    let (Some(mean), Some([least, most])) = (design.speed_up(), design.speed_up_range()) else { return String::new() };
    let percent = |error: f64| format!("{:.1} %", 100.0 * error);
    let interval = |bounds: Option<[f64; 2]>, format: &dyn Fn(f64) -> String| {
        bounds.map_or_else(String::new, |[low, high]| format!(", 95 % interval {} to {}", format(low), format(high)))
    };
    let mut text = format!(
        "over {} projections: speed-up {mean:.3}x{}, from {least:.3} to {most:.3}",
        design.configurations.len(),
        interval(design.speed_up_interval(), &|bound| format!("{bound:.3}")),
    );
    if let Some(error) = design.output_error() {
        text += &format!("; output error {}{}", percent(error), interval(design.output_error_interval(), &percent));
    }
    text + "\n(the intervals hold the figures of a further projection, and of other samples)\n"
}

/// Cycles by purpose, memory traffic, energy, and seconds.
fn describe_costs(config: &Config, results: &[&PassResult], projections: u64) -> String {
    let sum = |value: fn(&PassResult) -> u64| results.iter().map(|result| value(result)).sum::<u64>();
    let all = sum(|result| result.mercury.total()).max(1) as f64;
    let share = |cycles: u64| 100.0 * cycles as f64 / all;
    let mut text = format!(
        "MERCURY's cycles: {:.1} % signatures, {:.1} % products, {:.1} % waiting for copies, gradient additions or buses,\n\
         {:.1} % for variants and centroids\n",
        share(sum(|result| result.mercury.signature)),
        share(sum(|result| result.mercury.compute)),
        share(sum(|result| result.mercury.stall)),
        share(sum(|result| result.mercury.extra)),
    );
    let energy = |which: usize| results.iter().map(|result| result.energy[which]).sum::<f64>();
    let stalls = [sum(|result| result.baseline_traffic.stall), sum(|result| result.traffic.stall)];
    let [baseline, mercury] = Total::sum(results.iter().copied(), projections).all_cycles();
    text += &format!(
        "memory: {:.0} and {:.0} million words from and to DRAM (baseline, MERCURY), stalls of {:.1} and {:.1} % of their cycles;\n\
         with stalls {}; energy {:.1} % of the baseline's\n",
        sum(|result| result.baseline_traffic.accesses.dram.total()) as f64 / projections as f64 / 1e6,
        sum(|result| result.traffic.accesses.dram.total()) as f64 / projections as f64 / 1e6,
        100.0 * stalls[0] as f64 / baseline.max(1) as f64,
        100.0 * stalls[1] as f64 / mercury.max(1) as f64,
        format_speed_up([baseline + stalls[0], mercury + stalls[1]]),
        100.0 * energy(1) / energy(0).max(f64::MIN_POSITIVE),
    );
    let seconds = |cycles: u64| cycles as f64 / projections as f64 / (config.array.clock_mhz * 1e6);
    text += &format!(
        "at {} MHz: {:.3} s baseline, {:.3} s MERCURY for these steps\n",
        config.array.clock_mhz,
        seconds(baseline),
        seconds(mercury)
    );
    text
}

/// The chosen passes, such as `all passes` or `pass forward`.
fn name_passes(selection: &Selection) -> String {
    let chosen: Vec<&str> = Pass::ALL.into_iter().filter(|pass| selection.pass(*pass)).map(Pass::name).collect();
    match chosen.as_slice() {
        [pass] => format!("pass {pass}"),
        passes if passes.len() < Pass::ALL.len() => format!("passes {}", passes.join(", ")),
        _ => "all passes".to_owned(),
    }
}

/// The table of layers, the totals below it, and the paths of the results.
pub fn format_replay(
    trace: &Trace,
    configs: &[Config],
    measures: &Measures,
    results: &[PassResult],
    out: &Path,
) -> String {
    let (config, projections) = (&configs[0], configs.len() as u64);
    let manifest = trace.manifest();
    let layers_in_all = trace.layers().len();
    let cache = match config.mcache.entries {
        0 => "unlimited MCACHE".to_owned(),
        entries => format!("MCACHE {entries} x {}", config.mcache.ways),
    };
    let signatures = if config.layer.is_empty() {
        format!("{} bits, {}, {}", config.rpq.bits, config.rpq.granularity, config.rpq.variant)
    } else {
        "settings per layer (run.json lists them)".to_owned()
    };
    let mut text = format!(
        "{} on {}: {signatures}, {}, {}x{} {}\n",
        manifest.model.name,
        manifest.dataset.name,
        cache,
        config.array.rows,
        config.array.columns,
        config.dataflow().name(),
    );
    if projections > 1 {
        text += &format!(
            "The table sums {projections} projections, of seeds {} to {}; vectors and cycles are for one.\n",
            config.rpq.seed,
            configs[configs.len() - 1].rpq.seed
        );
    }
    text += &describe_steps(results, layers_in_all, projections);
    text.push('\n');
    let steady: Vec<&PassResult> =
        results.chunk_by(|a, b| a.configuration == b.configuration).flat_map(steady_state).collect();
    let mut layers: BTreeMap<usize, Vec<&PassResult>> = BTreeMap::new();
    for &result in &steady {
        layers.entry(result.layer_index).or_default().push(result);
    }
    let columns = [
        ("layer", Left),
        ("vectors", Right),
        ("HIT", Right),
        ("MAU", Right),
        ("MNU", Right),
        ("output error", Right),
        ("baseline cycles", Right),
        ("MERCURY cycles", Right),
        ("forward", Right),
        ("input-grad", Right),
        ("weight-grad", Right),
        ("speed-up", Right),
    ];
    let mut rows: Vec<Vec<String>> = layers
        .values()
        .map(|results| Total::sum(results.iter().copied(), projections).row(&results[0].layer))
        .collect();
    rows.push(Total::sum(steady.iter().copied(), projections).row("model"));
    text += &text_table(&columns, rows);
    text += &describe_bounds(config, &steady, projections);
    text += &describe_zero_vectors(&steady);
    text += &describe_each_step(results, layers_in_all, measures, projections);
    if projections > 1 {
        let designs = designs::find_designs(configs, results, layers_in_all);
        text.extend(designs.iter().map(describe_projections));
    }
    text += &describe_adaptation(results, projections);
    text += &describe_demand(config, &steady);
    text += &describe_costs(config, &steady, projections);
    text += &describe_causes(trace, config, &steady);
    let timed = layers.len();
    let passes = name_passes(&measures.selection);
    text += &format!(
        "\nvectors, HIT, MAU, MNU and output error |Y' - Y| / |Y|: the forward pass of the captured samples; vectors of\n\
         layers that are switched off are counted, but not looked up. Other passes are in the results. Cycles: {timed} of\n\
         {layers_in_all} layers, these steps, {passes}, whole batches, without memory stalls; captured samples and channels stand\n\
         for the others, so where MCACHE lives longer than a sample (linear layers) hits among samples that were not\n\
         captured are missing. Errors are of the captured channels and filters.\n",
    );
    text += &format!(
        "\nresults: {0}/layers.parquet, {0}/models.parquet, {0}/angles.parquet, {0}/run.json\n  \
         python: import polars; polars.read_parquet(\"{0}/layers.parquet\")\n",
        out.display()
    );
    text
}
