//! Results: `run.json`, `layers.parquet`, `models.parquet`, `configurations.parquet`, `angles.parquet`.

use crate::accuracy::{ErrorSums, Estimate};
use crate::config::Config;
use crate::error::Result;
use crate::error_columns::error_columns;
use crate::layer_settings::{LayerSettings, list_layer_settings};
use crate::limits::{BINS, Limits};
use crate::request::Measures;
use crate::result::{Demand, PassResult, error_shares, forward_error, gradient_error, mean_results, step_interval};
use crate::schema::run::{MeasuresRecord, RUN_FILE, RunRecord, SearchRecord, TraceIdentity};
use crate::schema::{self, ColumnSpec, TableSpec};
use crate::sweep::{designs, seeds, summary};
use crate::table;
use mercury_reuse::analytic::AngleBin;
use mercury_trace::atomic::Unsynced;
use mercury_trace::geometry::Pass;
use mercury_trace::manifest::{self, Manifest};
use mercury_trace::{Trace, checksum};
use polars::prelude::*;
use std::path::Path;

/// The files of a replay's results, all but their checksums.
pub const FILES: [&str; 6] = [
    RUN_FILE,
    schema::layers::TABLE.file,
    schema::models::TABLE.file,
    schema::angles::TABLE.file,
    schema::configurations::TABLE.file,
    schema::designs::TABLE.file,
];

/// Writes [`FILES`] of the run that `run` describes, on a model of so many layers. Several configurations differ in the
/// seed of the projection.
pub(crate) fn write_tables(
    dir: &Path,
    run: &str,
    layers_in_all: usize,
    configs: &[Config],
    results: &[PassResult],
) -> Result<Unsynced> {
    let seeds = Column::new(seeds::SEED.into(), configs.iter().map(|config| config.rpq.seed).collect::<Vec<_>>());
    let swept = if configs.len() > 1 { vec![seeds] } else { Vec::new() };
    let designs = designs::build_frame(&swept, &designs::find_designs(configs, results, layers_in_all))?;
    let mut files = Unsynced::default();
    files.write(dir.join(RUN_FILE), run.as_bytes())?;
    let tables: [(TableSpec, DataFrame); 5] = [
        (schema::models::TABLE, models_frame(results, layers_in_all)?),
        (schema::layers::TABLE, layers_frame(results)?),
        (schema::angles::TABLE, angles_frame(results)?),
        (schema::configurations::TABLE, summary::frame(swept, results, layers_in_all)?),
        (schema::designs::TABLE, designs),
    ];
    for (spec, frame) in tables {
        table::write(&mut files, dir.join(spec.file), &frame)?;
    }
    Ok(files)
}

/// The text of `run.json`; `label` is what its user calls the run.
pub(crate) fn run_text(trace: &Trace, configs: &[Config], measures: &Measures, label: Option<&str>) -> Result<String> {
    search_text(trace, configs, measures, label, None)
}

/// The text of `run.json`, of a search if there is a record of it.
pub(crate) fn search_text(
    trace: &Trace,
    configs: &[Config],
    measures: &Measures,
    label: Option<&str>,
    search: Option<SearchRecord>,
) -> Result<String> {
    let run: RunRecord<&Config> = RunRecord {
        schema_version: schema::VERSION,
        created_by: concat!("mercury-analyzer ", env!("CARGO_PKG_VERSION")).to_owned(),
        label: label.map(str::to_owned),
        configurations: configs.iter().collect(),
        layer_settings: list_own_settings(trace, configs),
        search,
        measures: MeasuresRecord::from(measures),
        trace: identify_trace(trace)?,
    };
    let mut text = serde_json::to_string_pretty(&run).expect("a run has string keys and finite numbers");
    text.push('\n');
    Ok(text)
}

/// The settings of all layers under configurations with `[[layer]]` tables.
fn list_own_settings(trace: &Trace, configs: &[Config]) -> Vec<LayerSettings> {
    let own = configs.iter().enumerate().filter(|(_, config)| !config.layer.is_empty());
    own.flat_map(|(number, config)| list_layer_settings(number, config, trace.layers())).collect()
}

fn identify_trace(trace: &Trace) -> Result<TraceIdentity> {
    let path = trace.dir().join(manifest::FILE_NAME);
    let manifest: &Manifest = trace.manifest();
    Ok(TraceIdentity {
        manifest_sha256: checksum::hash_file(&path)?,
        label: manifest.label.clone(),
        command: manifest.command.clone(),
        model: manifest.model.clone(),
        dataset: manifest.dataset.clone(),
        seed: manifest.seed,
        batch_size: manifest.training.batch_size,
        settings: manifest.training.settings.clone(),
        captured_steps: manifest.captured.iter().map(|step| step.step).collect(),
    })
}

/// The rows of `layers.parquet`: one per configuration, step, layer and pass.
pub fn layers_frame(results: &[PassResult]) -> Result<DataFrame> {
    let estimates: Vec<Option<Estimate>> = results.iter().map(|r| r.error.as_ref().map(ErrorSums::estimate)).collect();
    let mut columns = identity_columns(results);
    columns.extend(outcome_columns(results));
    columns.extend(limit_columns(results));
    columns.extend(cycle_columns(results));
    columns.extend(demand_columns(results));
    columns.extend(memory_columns(results));
    columns.extend(match_columns(results));
    columns.extend(error_columns(&schema::layers::TABLE, &estimates, &error_shares(results, &estimates)));
    Ok(schema::layers::TABLE.frame(results.len(), columns)?)
}

fn identity_columns(results: &[PassResult]) -> Vec<Column> {
    use schema::layers as columns;
    vec![
        columns::CONFIGURATION.build_u64s(results, |r| r.configuration as u64),
        columns::STEP.build_u64s(results, |r| r.step),
        columns::LAYER_INDEX.build_u64s(results, |r| r.layer_index as u64),
        columns::LAYER.build_texts(results, |r| r.layer.as_str()),
        columns::OP.build_texts(results, |r| r.op.as_str()),
        columns::PASS.build_texts(results, |r| r.pass.name()),
        columns::REUSE.build_bools(results, |r| r.reuse),
        columns::SWITCHED_OFF.build_bools(results, |r| r.switched_off),
        columns::TRIAL.build_bools(results, |r| r.trial),
        columns::SIGNATURE_BITS.build_u64s(results, |r| u64::from(r.bits)),
        columns::GRANULARITY.build_settings(results, |r| r.settings.granularity),
        columns::VARIANT.build_settings(results, |r| r.settings.variant),
        columns::PROJECTION.build_settings(results, |r| r.settings.projection.clone()),
        columns::SEED.build_u64s(results, |r| r.settings.seed),
        columns::REPRESENTATIVE.build_settings(results, |r| r.settings.representative),
        columns::SCOPE.build_settings(results, |r| r.settings.scope),
        columns::SAMPLES.build_u64s(results, |r| r.samples as u64),
        columns::BATCH.build_u64s(results, |r| u64::from(r.batch)),
        columns::VECTOR_LENGTH.build_u64s(results, |r| r.vector_length as u64),
        columns::STREAMS_CAPTURED.build_u64s(results, |r| r.streams[0]),
        columns::STREAMS.build_u64s(results, |r| r.streams[1]),
    ]
}

fn outcome_columns(results: &[PassResult]) -> Vec<Column> {
    use schema::layers as columns;
    vec![
        columns::VECTORS.build_u64s(results, |r| r.vectors),
        columns::HIT.build_u64s(results, |r| r.counts.hit),
        columns::MAU.build_u64s(results, |r| r.counts.mau),
        columns::MNU.build_u64s(results, |r| r.counts.mnu),
        columns::HIT_RATE.build_f64s(results, |r| ratio(r.counts.hit, r.vectors)),
    ]
}

/// Bounds and competitors, null where they were not measured.
fn limit_columns(results: &[PassResult]) -> Vec<Column> {
    use schema::layers as columns;
    let counts =
        |column: ColumnSpec, count: fn(&Limits) -> u64| column.build_u64s(results, |r| r.limits.as_ref().map(count));
    let shares = |column: ColumnSpec, share: fn(&Limits) -> Option<f64>| {
        column.build_f64s(results, |r| r.limits.as_ref().and_then(share))
    };
    vec![
        counts(columns::UNLIMITED_HIT, |limits| limits.unlimited),
        counts(columns::EXACT_DUPLICATE, |limits| limits.duplicates),
        counts(columns::ZERO_VECTOR, |limits| limits.zeros.zero_vectors),
        counts(columns::OPERANDS, |limits| limits.zeros.operands),
        counts(columns::ZERO_OPERANDS, |limits| limits.zeros.zero_operands),
        counts(columns::COSINE_SAMPLED, |limits| limits.cosine.sampled),
        counts(columns::COSINE_SIMILAR, |limits| limits.cosine.similar),
        shares(columns::COSINE_SHARE, |limits| limits.cosine.share()),
        shares(columns::COSINE_SHARE_LOW, |limits| Some(limits.cosine.interval()[0])),
        shares(columns::COSINE_SHARE_HIGH, |limits| Some(limits.cosine.interval()[1])),
        counts(columns::MULTIPLICATIONS, |limits| limits.repetition.weights),
        counts(columns::MULTIPLICATIONS_BY_ZERO, |limits| limits.repetition.zero),
        counts(columns::MULTIPLICATIONS_DISTINCT, |limits| limits.repetition.distinct),
        counts(columns::PAIRS_SAMPLED, |limits| limits.pairs().0),
        counts(columns::PAIRS_COLLIDING, |limits| limits.pairs().1),
        shares(columns::PAIRS_PREDICTED, |limits| Some(limits.pairs().2)),
    ]
}

fn cycle_columns(results: &[PassResult]) -> Vec<Column> {
    use schema::layers as columns;
    vec![
        columns::MACS.build_u64s(results, |r| r.macs),
        columns::MACS_SKIPPED.build_u64s(results, |r| r.macs_skipped),
        columns::MACS_SAVED_NET.build_i64s(results, |r| r.macs_saved_net),
        columns::BASELINE_CYCLES.build_u64s(results, |r| r.baseline),
        columns::MERCURY_CYCLES.build_u64s(results, |r| r.mercury.total()),
        columns::SIGNATURE_CYCLES.build_u64s(results, |r| r.mercury.signature),
        columns::COMPUTE_CYCLES.build_u64s(results, |r| r.mercury.compute),
        columns::STALL_CYCLES.build_u64s(results, |r| r.mercury.stall),
        columns::EXTRA_CYCLES.build_u64s(results, |r| r.mercury.extra),
        columns::SPEED_UP.build_f64s(results, |r| r.baseline as f64 / r.mercury.total() as f64),
        columns::SPEED_UP_LOW.build_f64s(results, |r| r.interval().map(|bounds| bounds[0])),
        columns::SPEED_UP_HIGH.build_f64s(results, |r| r.interval().map(|bounds| bounds[1])),
    ]
}

/// What reuse asks of the hardware.
fn demand_columns(results: &[PassResult]) -> Vec<Column> {
    use schema::layers as columns;
    let speed_up = |r: &PassResult| r.demand.baseline_equal_macs as f64 / r.mercury.total() as f64;
    vec![
        columns::BASELINE_EQUAL_MACS_CYCLES.build_u64s(results, |r| r.demand.baseline_equal_macs),
        columns::SPEED_UP_EQUAL_MACS.build_f64s(results, speed_up),
        columns::IS_BOUND.build_bools(results, |r| r.demand.is_bound),
        columns::MCACHE_RESULTS.build_u64s(results, |r| r.demand.results),
        columns::MCACHE_RESULTS_MEAN.build_f64s(results, |r| mean_results([r])),
        columns::MCACHE_RESULTS_PEAK.build_f64s(results, |r| r.demand.peak_results),
        columns::MCACHE_KB.build_f64s(results, |r| r.demand.mcache_kb),
    ]
}

fn memory_columns(results: &[PassResult]) -> Vec<Column> {
    use schema::layers as columns;
    vec![
        columns::BASELINE_MEMORY_STALL.build_u64s(results, |r| r.baseline_traffic.stall),
        columns::MERCURY_MEMORY_STALL.build_u64s(results, |r| r.traffic.stall),
        columns::BASELINE_DRAM_WORDS.build_u64s(results, |r| r.baseline_traffic.accesses.dram.total()),
        columns::MERCURY_DRAM_WORDS.build_u64s(results, |r| r.traffic.accesses.dram.total()),
        columns::BASELINE_BUFFER_WORDS.build_u64s(results, |r| r.baseline_traffic.accesses.buffer.total()),
        columns::MERCURY_BUFFER_WORDS.build_u64s(results, |r| r.traffic.accesses.buffer.total()),
        columns::MCACHE_WORDS.build_u64s(results, |r| r.traffic.accesses.mcache),
        columns::BASELINE_ENERGY.build_f64s(results, |r| r.energy[0]),
        columns::MERCURY_ENERGY.build_f64s(results, |r| r.energy[1]),
    ]
}

/// How good matches are, null where errors were not computed.
fn match_columns(results: &[PassResult]) -> Vec<Column> {
    use schema::layers as columns;
    vec![
        columns::HITS_SAMPLED.build_u64s(results, |r| r.matches.map(|matches| matches.sampled)),
        columns::MATCH_COSINE_MEDIAN.build_f64s(results, |r| match_cosine(r, 0)),
        columns::MATCH_COSINE_P90.build_f64s(results, |r| match_cosine(r, 1)),
        columns::MATCH_COSINE_P99.build_f64s(results, |r| match_cosine(r, 2)),
        columns::MATCH_DISTANCE_MEDIAN.build_f64s(results, |r| match_distance(r, 0)),
        columns::MATCH_DISTANCE_P90.build_f64s(results, |r| match_distance(r, 1)),
        columns::MATCH_DISTANCE_P99.build_f64s(results, |r| match_distance(r, 2)),
    ]
}

/// The cosine that half, 90 % or 99 % of the HITs reach, by `quantile` from 0.
fn match_cosine(result: &PassResult, quantile: usize) -> Option<f64> {
    Some(result.matches?.cosine?[quantile])
}

/// The distance that half, 90 % or 99 % of the HITs do not exceed, by `quantile` from 0.
fn match_distance(result: &PassResult, quantile: usize) -> Option<f64> {
    Some(result.matches?.distance?[quantile])
}

/// None without a divisor.
fn ratio(above: u64, below: u64) -> Option<f64> {
    (below > 0).then(|| above as f64 / below as f64)
}

/// Degrees of a bin of angles.
const WIDTH: f64 = 180.0 / BINS as f64;

/// The pairs of a bin of angles.
struct AngleRow<'a> {
    result: &'a PassResult,
    /// Place of the bin, from the smallest angles.
    number: usize,
    bin: &'a AngleBin,
}

/// The rows of `angles.parquet`: sampled pairs of vectors by their angle, how many of them share a signature, and how
/// many are expected to.
pub fn angles_frame(results: &[PassResult]) -> Result<DataFrame> {
    use schema::angles as columns;
    let mut rows: Vec<AngleRow> = Vec::new();
    for result in results {
        let bins = result.limits.iter().flat_map(|limits| limits.angles.iter().enumerate());
        let filled = bins.filter(|(_, bin)| bin.pairs > 0);
        rows.extend(filled.map(|(number, bin)| AngleRow { result, number, bin }));
    }
    let table = vec![
        columns::CONFIGURATION.build_u64s(&rows, |row| row.result.configuration as u64),
        columns::STEP.build_u64s(&rows, |row| row.result.step),
        columns::LAYER_INDEX.build_u64s(&rows, |row| row.result.layer_index as u64),
        columns::LAYER.build_texts(&rows, |row| row.result.layer.as_str()),
        columns::PASS.build_texts(&rows, |row| row.result.pass.name()),
        columns::SIGNATURE_BITS.build_u64s(&rows, |row| u64::from(row.result.bits)),
        columns::DEGREES_FROM.build_f64s(&rows, |row| row.number as f64 * WIDTH),
        columns::DEGREES_TO.build_f64s(&rows, |row| (row.number + 1) as f64 * WIDTH),
        columns::DEGREES_MEAN.build_f64s(&rows, |row| row.bin.angle.to_degrees() / row.bin.pairs as f64),
        columns::PAIRS.build_u64s(&rows, |row| row.bin.pairs),
        columns::COLLIDING.build_u64s(&rows, |row| row.bin.measured[0]),
        columns::PREDICTED.build_f64s(&rows, |row| row.bin.predicted[0]),
    ];
    Ok(columns::TABLE.frame(rows.len(), table)?)
}

/// The rows of `models.parquet`: totals per configuration and step, with the speed-up's 95 % interval over samples.
///
/// Outcomes and output error are those of the forward pass, cycles and MACs those of all passes. The change of
/// the loss is that of all `layers_in_all` layers together, to first order; none where some are missing.
/// `results` are ordered by configuration and step.
pub fn models_frame(results: &[PassResult], layers_in_all: usize) -> Result<DataFrame> {
    use schema::models as columns;
    let steps: Vec<&[PassResult]> =
        results.chunk_by(|a, b| (a.configuration, a.step) == (b.configuration, b.step)).collect();
    let references: Vec<Vec<&PassResult>> = steps.iter().map(|step| step.iter().collect()).collect();
    let intervals: Vec<Option<[f64; 2]>> = references.iter().map(|results| step_interval(results)).collect();
    let errors: Vec<_> = references.iter().map(|results| forward_error(results, layers_in_all)).collect();
    let demands: Vec<Demand> = steps.iter().map(|step| Demand::combine(*step)).collect();
    let forward =
        |column: ColumnSpec, value: fn(&PassResult) -> u64| column.build_u64s(&steps, |step| sum_forward(step, value));
    let all = |column: ColumnSpec, value: fn(&PassResult) -> u64| column.build_u64s(&steps, |step| sum(step, value));

    let mut table = vec![
        columns::CONFIGURATION.build_u64s(&steps, |step| step[0].configuration as u64),
        columns::STEP.build_u64s(&steps, |step| step[0].step),
        columns::TRIAL.build_bools(&steps, |step| step[0].trial),
        columns::SAMPLES.build_u64s(&steps, |step| step.iter().map(|r| r.samples as u64).max().unwrap_or(0)),
        columns::BATCH.build_u64s(&steps, |step| step.iter().map(|r| u64::from(r.batch)).max().unwrap_or(0)),
        forward(columns::VECTORS, |r| r.vectors),
        forward(columns::HIT, |r| r.counts.hit),
        forward(columns::MAU, |r| r.counts.mau),
        forward(columns::MNU, |r| r.counts.mnu),
        all(columns::MACS, |r| r.macs),
        all(columns::MACS_SKIPPED, |r| r.macs_skipped),
        columns::MACS_SAVED_NET.build_i64s(&steps, |step| step.iter().map(|r| r.macs_saved_net).sum()),
        all(columns::BASELINE_CYCLES, |r| r.baseline),
        all(columns::MERCURY_CYCLES, |r| r.mercury.total()),
        all(columns::SIGNATURE_CYCLES, |r| r.mercury.signature),
        all(columns::COMPUTE_CYCLES, |r| r.mercury.compute),
        all(columns::STALL_CYCLES, |r| r.mercury.stall),
        all(columns::EXTRA_CYCLES, |r| r.mercury.extra),
        all(columns::BASELINE_MEMORY_STALL, |r| r.baseline_traffic.stall),
        all(columns::MERCURY_MEMORY_STALL, |r| r.traffic.stall),
        all(columns::BASELINE_DRAM_WORDS, |r| r.baseline_traffic.accesses.dram.total()),
        all(columns::MERCURY_DRAM_WORDS, |r| r.traffic.accesses.dram.total()),
        columns::BASELINE_ENERGY.build_f64s(&steps, |step| step.iter().map(|r| r.energy[0]).sum::<f64>()),
        columns::MERCURY_ENERGY.build_f64s(&steps, |step| step.iter().map(|r| r.energy[1]).sum::<f64>()),
        columns::HIT_RATE
            .build_f64s(&steps, |step| ratio(sum_forward(step, |r| r.counts.hit), sum_forward(step, |r| r.vectors))),
        columns::SPEED_UP.build_f64s(&steps, |step| ratio(sum(step, |r| r.baseline), sum(step, |r| r.mercury.total()))),
        columns::SPEED_UP_LOW.build_f64s(&intervals, |interval| interval.map(|bounds| bounds[0])),
        columns::SPEED_UP_HIGH.build_f64s(&intervals, |interval| interval.map(|bounds| bounds[1])),
        all(columns::BASELINE_EQUAL_MACS_CYCLES, |r| r.demand.baseline_equal_macs),
        columns::SPEED_UP_EQUAL_MACS.build_f64s(&steps, |step| {
            ratio(sum(step, |r| r.demand.baseline_equal_macs), sum(step, |r| r.mercury.total()))
        }),
        columns::IS_BOUND.build_bools(&demands, |demand| demand.is_bound),
        columns::MCACHE_RESULTS.build_u64s(&demands, |demand| demand.results),
        columns::MCACHE_RESULTS_MEAN.build_f64s(&steps, |step| mean_results(*step)),
        columns::MCACHE_RESULTS_PEAK.build_f64s(&demands, |demand| demand.peak_results),
        columns::MCACHE_KB.build_f64s(&demands, |demand| demand.mcache_kb),
    ];
    table.extend(error_columns(&columns::TABLE, &errors, &[]));
    table.push(columns::GRADIENT_ERROR.build_f64s(&references, |results| gradient_error(results)));
    Ok(columns::TABLE.frame(steps.len(), table)?)
}

fn sum(results: &[PassResult], value: fn(&PassResult) -> u64) -> u64 {
    results.iter().map(value).sum()
}

/// The sum over forward passes.
fn sum_forward(results: &[PassResult], value: fn(&PassResult) -> u64) -> u64 {
    results.iter().filter(|result| result.pass == Pass::Forward).map(value).sum()
}
