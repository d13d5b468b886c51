//! Results: `run.json`, `layers.parquet`, `models.parquet`, `configurations.parquet`, `angles.parquet`.

use crate::accuracy::ErrorSums;
use crate::config::Config;
use crate::error::Result;
use crate::error_columns::error_columns;
use crate::limits::{BINS, Limits};
use crate::request::Measures;
use crate::result::{PassResult, forward_error, step_interval};
use crate::sweep::summary;
use crate::table;
use mercury_reuse::analytic::AngleBin;
use mercury_trace::atomic::Unsynced;
use mercury_trace::geometry::Pass;
use mercury_trace::manifest::{self, Manifest};
use mercury_trace::{Trace, checksum};
use polars::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Version of the files of results.
pub const SCHEMA_VERSION: u32 = 1;
/// What was run, and on what.
pub const RUN_FILE: &str = "run.json";
/// A row per configuration, step, layer and pass.
pub const LAYERS_FILE: &str = "layers.parquet";
/// A row per configuration and step.
pub const MODELS_FILE: &str = "models.parquet";
/// A row per configuration, step, layer, pass and bin of angles.
pub const ANGLES_FILE: &str = "angles.parquet";

/// What a run computed and from what: enough to do it again. No times, and no paths but those that the trace's
/// manifest has, so that equal runs write equal bytes.
#[derive(Debug, Serialize)]
struct Run<'a> {
    schema_version: u32,
    created_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    configurations: &'a [Config],
    measures: &'a Measures,
    trace: TraceIdentity<'a>,
}

#[derive(Debug, Serialize)]
struct TraceIdentity<'a> {
    manifest_sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a str>,
    model: &'a manifest::Model,
    dataset: &'a manifest::Dataset,
    seed: u64,
    batch_size: u32,
    settings: &'a BTreeMap<String, String>,
    captured_steps: Vec<u64>,
}

/// The files of a replay's results, all but their checksums.
pub const FILES: [&str; 5] = [RUN_FILE, LAYERS_FILE, MODELS_FILE, ANGLES_FILE, summary::FILE];

/// Writes [`FILES`] of the run that `run` describes, on a model of so many layers.
pub(crate) fn write_tables(dir: &Path, run: &str, layers_in_all: usize, results: &[PassResult]) -> Result<Unsynced> {
    let mut files = Unsynced::default();
    files.write(dir.join(RUN_FILE), run.as_bytes())?;
    let mut table = |name: &str, frame: DataFrame| table::write(&mut files, dir.join(name), &frame);
    table(MODELS_FILE, models_frame(results, layers_in_all)?)?;
    table(LAYERS_FILE, layers_frame(results)?)?;
    table(ANGLES_FILE, angles_frame(results)?)?;
    table(summary::FILE, summary::frame(Vec::new(), results, layers_in_all)?)?;
    Ok(files)
}

/// The text of `run.json`; `label` is what its user calls the run.
pub(crate) fn run_text(trace: &Trace, configs: &[Config], measures: &Measures, label: Option<&str>) -> Result<String> {
    let run = Run {
        schema_version: SCHEMA_VERSION,
        created_by: concat!("mercury-analyzer ", env!("CARGO_PKG_VERSION")),
        label,
        configurations: configs,
        measures,
        trace: identity(trace)?,
    };
    let mut text = serde_json::to_string_pretty(&run).expect("a run has string keys and finite numbers");
    text.push('\n');
    Ok(text)
}

fn identity(trace: &Trace) -> Result<TraceIdentity<'_>> {
    let path = trace.dir().join(manifest::FILE_NAME);
    let manifest: &Manifest = trace.manifest();
    Ok(TraceIdentity {
        manifest_sha256: checksum::of_file(&path)?,
        label: manifest.label.as_deref(),
        command: manifest.command.as_deref(),
        model: &manifest.model,
        dataset: &manifest.dataset,
        seed: manifest.seed,
        batch_size: manifest.training.batch_size,
        settings: &manifest.training.settings,
        captured_steps: manifest.captured.iter().map(|step| step.step).collect(),
    })
}

/// One row per configuration, step, layer and pass.
pub fn layers_frame(results: &[PassResult]) -> Result<DataFrame> {
    let u64s =
        |name: &str, of: fn(&PassResult) -> u64| Column::new(name.into(), results.iter().map(of).collect::<Vec<_>>());
    let f64s = |name: &str, of: fn(&PassResult) -> Option<f64>| {
        Column::new(name.into(), results.iter().map(of).collect::<Vec<_>>())
    };
    let limits = |name: &str, of: fn(&Limits) -> u64| {
        Column::new(name.into(), results.iter().map(|r| r.limits.as_ref().map(of)).collect::<Vec<_>>())
    };
    let texts =
        |name: &str, of: fn(&PassResult) -> &str| Column::new(name.into(), results.iter().map(of).collect::<Vec<_>>());
    let mut columns = vec![
        u64s("configuration", |r| r.configuration as u64),
        u64s("step", |r| r.step),
        u64s("layer_index", |r| r.layer_index as u64),
        texts("layer", |r| &r.layer),
        texts("op", |r| &r.op),
        texts("pass", |r| r.pass.name()),
        Column::new("reuse".into(), results.iter().map(|r| r.reuse).collect::<Vec<_>>()),
        Column::new("switched_off".into(), results.iter().map(|r| r.switched_off).collect::<Vec<_>>()),
        Column::new("trial".into(), results.iter().map(|r| r.trial).collect::<Vec<_>>()),
        u64s("signature_bits", |r| u64::from(r.bits)),
        u64s("samples", |r| r.samples as u64),
        u64s("batch", |r| u64::from(r.batch)),
        u64s("vector_length", |r| r.vector_length as u64),
        u64s("streams_captured", |r| r.streams[0]),
        u64s("streams", |r| r.streams[1]),
        u64s("vectors", |r| r.vectors),
        u64s("hit", |r| r.counts.hit),
        u64s("mau", |r| r.counts.mau),
        u64s("mnu", |r| r.counts.mnu),
        f64s("hit_rate", |r| (r.vectors > 0).then(|| r.counts.hit as f64 / r.vectors as f64)),
        limits("unlimited_hit", |limits| limits.unlimited),
        limits("exact_duplicate", |limits| limits.duplicates),
        limits("zero_vector", |limits| limits.zeros.zero_vectors),
        limits("operands", |limits| limits.zeros.operands),
        limits("zero_operands", |limits| limits.zeros.zero_operands),
        limits("cosine_sampled", |limits| limits.cosine.sampled),
        limits("cosine_similar", |limits| limits.cosine.similar),
        f64s("cosine_share", |r| r.limits.as_ref().and_then(|limits| limits.cosine.share())),
        f64s("cosine_share_low", |r| r.limits.as_ref().map(|limits| limits.cosine.interval()[0])),
        f64s("cosine_share_high", |r| r.limits.as_ref().map(|limits| limits.cosine.interval()[1])),
        limits("multiplications", |limits| limits.repetition.weights),
        limits("multiplications_by_zero", |limits| limits.repetition.zero),
        limits("multiplications_distinct", |limits| limits.repetition.distinct),
        limits("pairs_sampled", |limits| limits.pairs().0),
        limits("pairs_colliding", |limits| limits.pairs().1),
        f64s("pairs_predicted", |r| r.limits.as_ref().map(|limits| limits.pairs().2)),
        u64s("macs", |r| r.macs),
        u64s("macs_skipped", |r| r.macs_skipped),
        u64s("baseline_cycles", |r| r.baseline),
        u64s("mercury_cycles", |r| r.mercury.total()),
        u64s("signature_cycles", |r| r.mercury.signature),
        u64s("compute_cycles", |r| r.mercury.compute),
        u64s("stall_cycles", |r| r.mercury.stall),
        u64s("extra_cycles", |r| r.mercury.extra),
        f64s("speed_up", |r| Some(r.baseline as f64 / r.mercury.total() as f64)),
        f64s("speed_up_low", |r| r.interval().map(|bounds| bounds[0])),
        f64s("speed_up_high", |r| r.interval().map(|bounds| bounds[1])),
        u64s("baseline_memory_stall", |r| r.baseline_traffic.stall),
        u64s("mercury_memory_stall", |r| r.traffic.stall),
        u64s("baseline_dram_words", |r| r.baseline_traffic.accesses.dram.total()),
        u64s("mercury_dram_words", |r| r.traffic.accesses.dram.total()),
        u64s("baseline_buffer_words", |r| r.baseline_traffic.accesses.buffer.total()),
        u64s("mercury_buffer_words", |r| r.traffic.accesses.buffer.total()),
        u64s("mcache_words", |r| r.traffic.accesses.mcache),
        f64s("baseline_energy", |r| Some(r.energy[0])),
        f64s("mercury_energy", |r| Some(r.energy[1])),
        Column::new("hits_sampled".into(), results.iter().map(|r| r.matches.map(|m| m.sampled)).collect::<Vec<_>>()),
        f64s("match_cosine_median", |r| r.matches?.cosine.map(|q| q[0])),
        f64s("match_cosine_p90", |r| r.matches?.cosine.map(|q| q[1])),
        f64s("match_cosine_p99", |r| r.matches?.cosine.map(|q| q[2])),
        f64s("match_distance_median", |r| r.matches?.distance.map(|q| q[0])),
        f64s("match_distance_p90", |r| r.matches?.distance.map(|q| q[1])),
        f64s("match_distance_p99", |r| r.matches?.distance.map(|q| q[2])),
    ];
    let estimates: Vec<_> = results.iter().map(|r| r.error.as_ref().map(ErrorSums::estimate)).collect();
    columns.extend(error_columns(&estimates));
    Ok(DataFrame::new(results.len(), columns)?)
}

/// Degrees of a bin of angles.
const WIDTH: f64 = 180.0 / BINS as f64;

/// Sampled pairs of vectors by their angle: how many share a signature, and how many are expected to.
pub fn angles_frame(results: &[PassResult]) -> Result<DataFrame> {
    let rows: Vec<(&PassResult, usize, &AngleBin)> = results
        .iter()
        .flat_map(|result| {
            result
                .limits
                .iter()
                .flat_map(|limits| limits.angles.iter().enumerate())
                .map(move |(number, bin)| (result, number, bin))
        })
        .filter(|(.., bin)| bin.pairs > 0)
        .collect();
    let column = |name: &str, of: fn(&(&PassResult, usize, &AngleBin)) -> u64| {
        Column::new(name.into(), rows.iter().map(of).collect::<Vec<_>>())
    };
    let float = |name: &str, of: fn(&(&PassResult, usize, &AngleBin)) -> f64| {
        Column::new(name.into(), rows.iter().map(of).collect::<Vec<_>>())
    };
    let columns = vec![
        column("configuration", |(r, ..)| r.configuration as u64),
        column("step", |(r, ..)| r.step),
        column("layer_index", |(r, ..)| r.layer_index as u64),
        Column::new("layer".into(), rows.iter().map(|(r, ..)| r.layer.as_str()).collect::<Vec<_>>()),
        Column::new("pass".into(), rows.iter().map(|(r, ..)| r.pass.name()).collect::<Vec<_>>()),
        column("signature_bits", |(r, ..)| u64::from(r.bits)),
        float("degrees_from", |(_, bin, _)| *bin as f64 * WIDTH),
        float("degrees_to", |(_, bin, _)| (*bin + 1) as f64 * WIDTH),
        float("degrees_mean", |(.., bin)| bin.angle.to_degrees() / bin.pairs as f64),
        column("pairs", |(.., bin)| bin.pairs),
        column("colliding", |(.., bin)| bin.measured[0]),
        float("predicted", |(.., bin)| bin.predicted[0]),
    ];
    Ok(DataFrame::new(rows.len(), columns)?)
}

/// Totals per configuration and step, with the speed-up's 95 % interval over samples. Outcomes
/// and output error are those of the forward pass, cycles and MACs those of all passes. The change of
/// the loss is that of all `layers_in_all` layers together, to first order; none where some are missing.
/// `results` are ordered by configuration and step.
pub fn models_frame(results: &[PassResult], layers_in_all: usize) -> Result<DataFrame> {
    type Of<T> = fn(&PassResult) -> T;
    const FORWARD: [(&str, Of<u64>); 4] =
        [("vectors", |r| r.vectors), ("hit", |r| r.counts.hit), ("mau", |r| r.counts.mau), ("mnu", |r| r.counts.mnu)];
    const ALL: [(&str, Of<u64>); 12] = [
        ("macs", |r| r.macs),
        ("macs_skipped", |r| r.macs_skipped),
        ("baseline_cycles", |r| r.baseline),
        ("mercury_cycles", |r| r.mercury.total()),
        ("signature_cycles", |r| r.mercury.signature),
        ("compute_cycles", |r| r.mercury.compute),
        ("stall_cycles", |r| r.mercury.stall),
        ("extra_cycles", |r| r.mercury.extra),
        ("baseline_memory_stall", |r| r.baseline_traffic.stall),
        ("mercury_memory_stall", |r| r.traffic.stall),
        ("baseline_dram_words", |r| r.baseline_traffic.accesses.dram.total()),
        ("mercury_dram_words", |r| r.traffic.accesses.dram.total()),
    ];
    const ENERGY: [(&str, Of<f64>); 2] = [("baseline_energy", |r| r.energy[0]), ("mercury_energy", |r| r.energy[1])];
    let steps: Vec<&[PassResult]> =
        results.chunk_by(|a, b| (a.configuration, a.step) == (b.configuration, b.step)).collect();
    let of_steps = |name: &str, of: &dyn Fn(&[PassResult]) -> u64| {
        Column::new(name.into(), steps.iter().map(|step| of(step)).collect::<Vec<_>>())
    };
    let floats = |name: &str, of: &dyn Fn(&[PassResult]) -> Option<f64>| {
        Column::new(name.into(), steps.iter().map(|step| of(step)).collect::<Vec<_>>())
    };
    let forward = |step: &[PassResult], of: Of<u64>| -> u64 {
        step.iter().filter(|result| result.pass == Pass::Forward).map(of).sum()
    };
    let ratio = |above: u64, below: u64| (below > 0).then(|| above as f64 / below as f64);

    let mut columns = vec![
        of_steps("configuration", &|step| step[0].configuration as u64),
        of_steps("step", &|step| step[0].step),
        Column::new("trial".into(), steps.iter().map(|step| step[0].trial).collect::<Vec<_>>()),
        of_steps("samples", &|step| step.iter().map(|result| result.samples as u64).max().unwrap_or(0)),
        of_steps("batch", &|step| step.iter().map(|result| u64::from(result.batch)).max().unwrap_or(0)),
    ];
    columns.extend(FORWARD.map(|(name, of)| of_steps(name, &|step| forward(step, of))));
    columns.extend(ALL.map(|(name, of)| of_steps(name, &|step| step.iter().map(of).sum())));
    columns.extend(ENERGY.map(|(name, of)| floats(name, &|step| Some(step.iter().map(of).sum()))));
    let [cycles, reusing]: [Of<u64>; 2] = [|r| r.baseline, |r| r.mercury.total()];
    columns.extend([
        floats("hit_rate", &|step| ratio(forward(step, |r| r.counts.hit), forward(step, |r| r.vectors))),
        floats("speed_up", &|step| ratio(step.iter().map(cycles).sum(), step.iter().map(reusing).sum())),
    ]);
    let of_step: Vec<Vec<&PassResult>> = steps.iter().map(|step| step.iter().collect()).collect();
    let intervals: Vec<Option<[f64; 2]>> = of_step.iter().map(|results| step_interval(results)).collect();
    for (index, name) in ["speed_up_low", "speed_up_high"].into_iter().enumerate() {
        let bounds: Vec<Option<f64>> = intervals.iter().map(|bounds| bounds.map(|bounds| bounds[index])).collect();
        columns.push(Column::new(name.into(), bounds));
    }
    let errors: Vec<_> = of_step.iter().map(|results| forward_error(results, layers_in_all)).collect();
    columns.extend(error_columns(&errors));
    Ok(DataFrame::new(steps.len(), columns)?)
}
