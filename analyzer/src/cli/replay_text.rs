//! What `replay` prints for people.

use crate::accuracy::Interval;
use crate::config::Config;
use crate::export::Align::{Left, Right};
use crate::export::text_table;
use crate::limits::Limits;
use crate::replay::PassResult;
use crate::results::{forward_error, step_interval};
use mercury_reuse::Counts;
use mercury_trace::Trace;
use mercury_trace::geometry::Pass;
use std::collections::BTreeMap;
use std::path::Path;

/// Sums over steps: similarity and error of the forward pass, cycles of all.
#[derive(Default)]
struct Total<'a> {
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

    fn of(results: impl IntoIterator<Item = &'a PassResult>) -> Self {
        let mut total = Self::default();
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
            vectors.to_string(),
            share(self.counts.hit),
            share(self.counts.mau),
            share(self.counts.mnu),
            error,
            baseline.to_string(),
            mercury.to_string(),
        ];
        row.extend(Pass::ALL.map(|pass| self.cycles.get(&pass).map_or_else(|| "-".into(), |&cycles| speed_up(cycles))));
        row.push(speed_up([baseline, mercury]));
        row
    }
}

fn speed_up([baseline, mercury]: [u64; 2]) -> String {
    format!("{:.2}x", baseline as f64 / mercury as f64)
}

/// What the forward pass could have spared at best, and by other means.
fn bounds(config: &Config, results: &[PassResult]) -> String {
    let forward = results.iter().filter(|result| result.pass == Pass::Forward);
    let (mut all, mut hits, mut limits) = (0, 0, Limits::default());
    for (result, found) in forward.filter_map(|result| Some((result, result.limits.as_ref()?))) {
        all += result.vectors;
        hits += result.counts.hit;
        limits += found.clone();
    }
    if all == 0 {
        return String::new();
    }
    let share = |count: u64, of: u64| 100.0 * count as f64 / of.max(1) as f64;
    let vectors = |count| share(count, all);
    let (pairs, colliding, predicted) = limits.pairs();
    let [low, high] = limits.cosine.interval().map(|bound| 100.0 * bound);
    format!(
        "\nof these vectors {:.1} % hit; {:.1} % would in an MCACHE with room for all, {:.1} % equal an earlier one exactly,\n\
         {low:.1} to {high:.1} % have an earlier one at a cosine of {} or more (95 % interval), {:.1} % are all zero; {:.1} % of\n\
         their elements are zero; equal weights of {} bits would spare {:.1} % of the multiplications; of {pairs} sampled\n\
         pairs {:.2} % share a signature, where their angles predict {:.2} %\n",
        vectors(hits),
        vectors(limits.unlimited),
        vectors(limits.duplicates),
        config.bounds.cosine,
        vectors(limits.zeros.zero_vectors),
        share(limits.zeros.zero_operands, limits.zeros.operands),
        config.bounds.weight_bits,
        100.0 * limits.repetition.saved(),
        share(colliding, pairs),
        100.0 * predicted / pairs.max(1) as f64,
    )
}

/// What reuse in all layers makes of a step's loss.
fn loss_change(results: &[&PassResult], layers: usize) -> String {
    match forward_error(results, layers).and_then(|error| error.loss_change()) {
        Some(Interval { value, bounds: Some([low, high]) }) => format!("loss {value:+.4} ({low:+.4} to {high:+.4})"),
        Some(Interval { value, bounds: None }) => format!("loss {value:+.4} (no interval: one sample)"),
        None => "loss unknown: it takes weights, output gradients and errors of all layers".to_owned(),
    }
}

/// Signature lengths and layers switched off, where training changed them.
fn adaptation(results: &[PassResult]) -> String {
    let mut text = String::new();
    let bits: BTreeMap<u64, u32> = results.iter().map(|result| (result.step, result.bits)).collect();
    if bits.values().any(|length| Some(length) != bits.values().next()) {
        let lengths: Vec<String> = bits.iter().map(|(step, bits)| format!("{bits} at step {step}")).collect();
        text += &format!("signature bits in force: {}\n", lengths.join(", "));
    }
    let mut off: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for result in results.iter().filter(|result| result.switched_off) {
        if seen.insert(result.layer_index) {
            off.entry(result.step).or_default().push(&result.layer);
        }
    }
    for (step, layers) in off {
        text += &format!("switched off from step {step} on, as reuse cost cycles there: {}\n", layers.join(", "));
    }
    text
}

/// The table, the totals, and where the results are.
pub fn text(trace: &Trace, config: &Config, results: &[PassResult], out: &Path) -> String {
    let manifest = trace.manifest();
    let cache = match config.mcache.entries {
        0 => "unlimited MCACHE".to_owned(),
        entries => format!("MCACHE {entries} x {}", config.mcache.ways),
    };
    let mut text = format!(
        "{} on {}: {} bits, {}, {}, {}, {}x{} {}\n\n",
        manifest.model.name,
        manifest.dataset.name,
        config.rpq.bits,
        config.rpq.granularity,
        config.rpq.variant,
        cache,
        config.array.rows,
        config.array.columns,
        config.dataflow_name(),
    );
    let mut layers: BTreeMap<usize, Vec<&PassResult>> = BTreeMap::new();
    let mut steps: BTreeMap<u64, Vec<&PassResult>> = BTreeMap::new();
    for result in results {
        layers.entry(result.layer_index).or_default().push(result);
        steps.entry(result.step).or_default().push(result);
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
    let mut rows: Vec<Vec<String>> =
        layers.values().map(|results| Total::of(results.iter().copied()).row(&results[0].layer)).collect();
    rows.push(Total::of(results).row("model"));
    text += &text_table(&columns, rows);

    text += &bounds(config, results);
    text += "\nby training step, with 95 % intervals over captured samples: the model's speed-up, and how much reuse in the\n\
             forward pass changes the loss, to first order (the sum of dY (Y' - Y) over all layers):\n";
    for (step, results) in &steps {
        let cycles = Total::of(results.iter().copied()).all_cycles();
        let interval = step_interval(results)
            .map_or_else(|| "no interval: one sample".into(), |[low, high]| format!("{low:.3} to {high:.3}"));
        let loss = loss_change(results, trace.layers().len());
        text += &format!("  step {step}: {} ({interval}), {loss}\n", speed_up(cycles));
    }
    text += &adaptation(results);
    let sum = |of: fn(&PassResult) -> u64| results.iter().map(of).sum::<u64>();
    let all = sum(|result| result.mercury.total()).max(1) as f64;
    let share = |cycles: u64| 100.0 * cycles as f64 / all;
    text += &format!(
        "MERCURY's cycles: {:.1} % signatures, {:.1} % products, {:.1} % waiting for copies, gradient additions or buses,\n\
         {:.1} % for variants and centroids\n",
        share(sum(|result| result.mercury.signature)),
        share(sum(|result| result.mercury.compute)),
        share(sum(|result| result.mercury.stall)),
        share(sum(|result| result.mercury.extra)),
    );
    let energy = |which: usize| results.iter().map(|result| result.energy[which]).sum::<f64>();
    let stalls = [sum(|result| result.baseline_traffic.stall), sum(|result| result.traffic.stall)];
    let [baseline, mercury] = Total::of(results).all_cycles();
    text += &format!(
        "memory: {:.0} and {:.0} million words from and to DRAM (baseline, MERCURY), stalls of {:.1} and {:.1} % of their cycles;\n\
         with stalls {}; energy {:.1} % of the baseline's\n",
        sum(|result| result.baseline_traffic.accesses.dram.total()) as f64 / 1e6,
        sum(|result| result.traffic.accesses.dram.total()) as f64 / 1e6,
        100.0 * stalls[0] as f64 / baseline.max(1) as f64,
        100.0 * stalls[1] as f64 / mercury.max(1) as f64,
        speed_up([baseline + stalls[0], mercury + stalls[1]]),
        100.0 * energy(1) / energy(0).max(f64::MIN_POSITIVE),
    );
    let seconds = |cycles: u64| cycles as f64 / (config.array.clock_mhz * 1e6);
    text += &format!(
        "at {} MHz: {:.3} s baseline, {:.3} s MERCURY for the captured steps\n",
        config.array.clock_mhz,
        seconds(baseline),
        seconds(mercury)
    );
    let timed = layers.len();
    let all = trace.layers().len();
    text += &format!(
        "\nvectors, HIT, MAU, MNU and output error |Y' - Y| / |Y|: the forward pass of the captured samples; vectors of\n\
         layers that are switched off are counted, but not looked up. Other passes are in the results. Cycles: {timed} of\n\
         {all} layers, captured steps and passes, whole batches, without memory stalls; captured samples and channels stand\n\
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
