//! What `replay` says below its table: what reuse costs and needs, whose error it is, and what the figures leave out.

use super::ONLY_TRACER;
use crate::accuracy::ErrorSums;
use crate::config::Config;
use crate::limits::Limits;
use crate::presets::find_nearest_preset;
use crate::probe::format_probe;
use crate::result::{Demand, PassResult, mean_results};
use mercury_reuse::config::Scope;
use mercury_trace::Trace;
use mercury_trace::geometry::{Geometry, Pass};
use std::collections::BTreeMap;

/// Squared errors, relative to squared norms, up to this are rounding.
const ROUNDING: f64 = 1e-10;

/// Layers that are named as the main causes of an error.
const CAUSES: usize = 3;

/// Bounds on the forward pass's reuse and its competitors. Hits and bounds are shares of the same
/// vectors, those that were looked up.
pub fn describe_bounds(config: &Config, results: &[&PassResult], projections: u64) -> String {
    let forward: Vec<_> = results.iter().filter(|result| result.pass == Pass::Forward).collect();
    let looked_up = forward.iter().filter(|result| result.reuse);
    let (mut all, mut hits) = (0, 0);
    let mut limits = Limits::default();
    for (result, found) in looked_up.filter_map(|result| Some((result, result.limits.as_ref()?))) {
        all += result.vectors;
        hits += result.counts.hit;
        limits += found.clone();
    }
    if all == 0 {
        let is_measured = forward.iter().any(|result| result.limits.is_some());
        let nothing = "\nforward pass: no vector was looked up in these steps, as every layer is switched off\n";
        return if is_measured { nothing.to_owned() } else { String::new() };
    }
    let share = |count: u64, of: u64| 100.0 * count as f64 / of.max(1) as f64;
    let vectors = |count| share(count, all);
    let (pairs, colliding, predicted) = limits.pairs();
    let [low, high] = limits.cosine.interval().map(|bound| 100.0 * bound);
    format!(
        "\nforward pass, of the {} vectors that were looked up: {:.1} % hit; {:.1} % would hit in an unlimited MCACHE,\n\
         {:.1} % equal an earlier one exactly, {low:.1} to {high:.1} % have an earlier one at a cosine of {} or more (95 %\n\
         interval); {:.1} % of their elements are zero; equal weights of {} bits would spare {:.1} % of the multiplications;\n\
         of {pairs} sampled pairs {:.2} % share a signature, where their angles predict {:.2} % over many projections\n",
        all / projections,
        vectors(hits),
        vectors(limits.unlimited),
        vectors(limits.duplicates),
        config.bounds.cosine,
        share(limits.zeros.zero_operands, limits.zeros.operands),
        config.bounds.weight_bits,
        100.0 * limits.repetition.saved(),
        share(colliding, pairs),
        100.0 * predicted / pairs.max(1) as f64,
    )
}

/// The share of all-zero vectors in each pass. They hit under every configuration, so a high hit
/// rate may only mean that an operand is sparse.
pub fn describe_zero_vectors(results: &[&PassResult]) -> String {
    let mut passes: BTreeMap<Pass, [u64; 2]> = BTreeMap::new();
    for (result, limits) in results.iter().filter_map(|result| Some((result, result.limits.as_ref()?))) {
        let [zero, vectors] = passes.entry(result.pass).or_default();
        *zero += limits.zeros.zero_vectors;
        *vectors += result.vectors;
    }
    let share = |(pass, [zero, vectors]): (&Pass, &[u64; 2])| {
        format!("{pass} {:.1} %", 100.0 * *zero as f64 / (*vectors).max(1) as f64)
    };
    let shares: Vec<String> = passes.iter().map(share).collect();
    if shares.is_empty() {
        return String::new();
    }
    format!(
        "vectors that are all zero, looked up or not: {} (the weight gradient's are the forward pass's)\n",
        shares.join(", ")
    )
}

/// Computations saved, what MCACHE has to be, and what a baseline with the unit's multiply-accumulates would take.
pub fn describe_demand(config: &Config, results: &[&PassResult]) -> String {
    let sum = |value: fn(&PassResult) -> f64| results.iter().map(|result| value(result)).sum::<f64>();
    let macs = sum(|result| result.macs as f64).max(1.0);
    let demand = Demand::combine(results.iter().copied());
    let mut text = format!(
        "computations saved: {:.1} % ({:.1} % skipped, less the additions and multiplications of HITs and variants)\n",
        100.0 * sum(|result| result.macs_saved_net as f64) / macs,
        100.0 * sum(|result| result.macs_skipped as f64) / macs,
    );
    if !results.iter().any(|result| result.reuse) {
        return text + "no layer reuses in these steps\n";
    }
    let size = demand.mcache_kb.map_or_else(|| "without limit".to_owned(), |kb| format!("of {kb:.1} KB a bank"));
    let peak = demand.peak_results.map_or_else(|| "without limit".to_owned(), |peak| format!("up to {peak:.0}"));
    let mean = mean_results(results.iter().copied());
    text += &format!("MCACHE {size} delivers {mean:.1} results per cycle on average, {peak}\n");
    let mercury = sum(|result| result.mercury.total() as f64);
    if let Some(macs) = config.unit_macs() {
        text += &format!(
            "at equal MACs (the baseline has the {macs} MACs per cycle of the unit for signatures as {} more columns): {:.2}x\n",
            macs.div_ceil(config.array.rows),
            demand.baseline_equal_macs as f64 / mercury
        );
    }
    if demand.is_bound {
        text += "These speed-ups are a bound, no hardware: HITs or signatures take less time than real PEs need for them.\n";
    }
    text
}

/// The layers that cause most of the error of the forward pass and of the weight gradients, and what such local errors
/// leave out.
pub fn describe_causes(trace: &Trace, config: &Config, results: &[&PassResult]) -> String {
    let mut text = String::new();
    for (pass, what) in [(Pass::Forward, "output error"), (Pass::WeightGrad, "gradient error")] {
        let mut layers: BTreeMap<&str, f64> = BTreeMap::new();
        let mut exact = 0.0;
        for result in results.iter().filter(|result| result.pass == pass) {
            let Some(error) = result.error.as_ref().map(ErrorSums::estimate) else { continue };
            *layers.entry(&result.layer).or_default() += error.change().max(0.0);
            exact += error.exact();
        }
        let all: f64 = layers.values().sum();
        if all > ROUNDING * exact {
            let mut layers: Vec<(&str, f64)> = layers.into_iter().collect();
            layers.sort_by(|a, b| b.1.total_cmp(&a.1));
            let share = |(layer, change): &(&str, f64)| format!("{layer} {:.0} %", 100.0 * change / all);
            let causes: Vec<String> = layers.iter().take(CAUSES).map(share).collect();
            text += &format!("share in the squared {what} of these steps: {}\n", causes.join(", "));
        }
    }
    if text.is_empty() {
        return text;
    }
    text += "Errors are local: each layer is computed from exact operands. How they add up through the network, and what they\n\
         do to the norms of gradients, only a run with reuse in every layer tells";
    if !trace.manifest().has_tracer_model() {
        return text + &format!(" ({ONLY_TRACER}).\n");
    }
    let (preset, flags) = find_nearest_preset(config);
    // Flags cannot say what single layers have.
    let (preset, flags) = if config.layer.is_empty() { (preset, flags) } else { ("CONFIG.toml", Vec::new()) };
    let steps: Vec<u64> = trace.manifest().captured.iter().map(|step| step.step).collect();
    let probe = format_probe(trace.manifest().command.as_deref(), preset, &flags, &steps);
    text + &format!(":\n  {}\n", probe.replace('\n', "\n  "))
}

/// Warnings about configurations whose scope wastes room: a vector never finds an entry of another stream.
pub fn warn_of_scopes(config: &Config, trace: &Trace, results: &[PassResult]) -> Option<String> {
    let mut wasted: Vec<(&str, f64)> = Vec::new();
    for result in results.iter().filter(|result| result.pass != Pass::WeightGrad && result.reuse) {
        let geometry = &trace.layers()[result.layer_index].geometry;
        let keeps_streams = config.mcache.effective_scope(geometry) == Scope::Sample && result.streams[0] > 1;
        if keeps_streams && result.counts.mnu > 0 {
            wasted.push((&result.layer, result.counts.mnu as f64 / result.vectors.max(1) as f64));
        }
    }
    let (layer, share) = wasted.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))?;
    wasted.sort_unstable_by(|a, b| a.0.cmp(b.0));
    wasted.dedup_by_key(|(layer, _)| *layer);
    let is_convolution = |layer: &str| {
        let geometry = trace.layers().iter().find(|known| known.name == layer).map(|known| known.geometry);
        matches!(geometry, Some(Geometry::Conv2d(_)))
    };
    let remedy = if is_convolution(layer) {
        "set mcache.scope to channel, which flushes it when the weights change"
    } else {
        "mcache.entries = 0 shows what room would give"
    };
    Some(format!(
        "in {} layers MCACHE is full of entries of other weights, which no vector can find ({layer}: {:.1} % of the vectors \
         find no room); {remedy}",
        wasted.len(),
        100.0 * share
    ))
}
