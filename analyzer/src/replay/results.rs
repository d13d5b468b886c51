//! Results of a layer: what was measured of each pass under each configuration, and what it costs.

use super::layer::{LayerReplay, ProjectionReplay};
use super::measure::BoundsMeasure;
use super::place::Place;
use super::plan::{passes_decided_by, sources};
use super::tally::Tally;
use crate::config::{BitsConfig, BoundsConfig, Config, ReuseConfig, StopConfig, find_source};
use crate::operand::Kept;
use crate::result::{Demand, Matches, PassResult, Settings};
use crate::timing::MercuryCycles;
use crate::timing::memory::Traffic;
use mercury_hardware::timed::{ProductOutcomes, Timed, sum_samples};
use mercury_reuse::Counts;
use mercury_reuse::config::{McacheConfig, Rpq};
use mercury_trace::geometry::{Gemm, Pass};
use rayon::prelude::*;

/// The configuration's part on which cycles and traffic depend, given the outcomes.
fn timing_part(config: &Config) -> Config {
    let mut part = Config {
        bits: BitsConfig::default(),
        stop: StopConfig::default(),
        bounds: BoundsConfig::default(),
        ..config.clone()
    };
    let McacheConfig { entries, ways, index, replacement, .. } = McacheConfig::default();
    part.mcache = McacheConfig { entries, ways, index, replacement, ..part.mcache };
    part
}

/// The configuration's part on which a pass without reuse depends.
fn baseline_part(config: &Config) -> Config {
    let Rpq { unit, macs_per_cycle, .. } = config.rpq;
    let McacheConfig { scope, representative, .. } = McacheConfig::default();
    timing_part(&Config {
        rpq: Rpq { unit, macs_per_cycle, ..Rpq::default() },
        mcache: McacheConfig { scope, representative, ..config.mcache.clone() },
        reuse: ReuseConfig::default(),
        ..config.clone()
    })
}

/// Cycles and traffic of a pass without reuse.
#[derive(Clone, Copy)]
struct BaselineTime {
    cycles: u64,
    /// On an array that has the multiply-accumulates of a unit for signatures as well.
    equal_macs: u64,
    traffic: Traffic,
}

/// Configurations that had the same outcomes.
struct Group<'a> {
    replay: &'a ProjectionReplay,
    tally: &'a Tally,
    bounds: &'a [BoundsMeasure],
    configs: Vec<usize>,
}

impl LayerReplay<'_> {
    /// The results, by configuration and in it by pass.
    pub fn results(&self) -> Vec<PassResult> {
        let passes = sources(&self.kept).flat_map(passes_decided_by).copied();
        let is_wanted = |pass: &Pass| self.measures.selection.pass(*pass) && self.kept.layer.trains(*pass);
        let passes = passes.filter(is_wanted);
        let mut results: Vec<PassResult> = passes.flat_map(|pass| self.pass_results(pass)).collect();
        results.sort_by_key(|result| (result.configuration, result.pass));
        results
    }

    /// A pass under each configuration.
    fn pass_results(&self, pass: Pass) -> Vec<PassResult> {
        let baselines = self.baselines(pass);
        let mut groups = Vec::new();
        for (plan, replay) in self.plan.projections.iter().zip(&self.projections) {
            if plan.source == find_source(pass) {
                for (length, found) in plan.lengths.iter().zip(&replay.lengths) {
                    for (tally, caches) in found.tallies.groups() {
                        let configs = caches.iter().flat_map(|&cache| length.caches[cache].configs.clone());
                        let configs =
                            configs.filter(|&number| self.plan.config(number, pass).reuse.passes.contains(&pass));
                        let bounds = if pass == plan.source { found.bounds.as_slice() } else { &[] };
                        groups.push(Group { replay, tally, bounds, configs: configs.collect() });
                    }
                }
            }
        }
        let found: Vec<Vec<PassResult>> =
            groups.into_par_iter().map(|group| self.time_group(&group, &baselines, pass)).collect();
        let mut results = baselines.clone();
        for result in found.into_iter().flatten() {
            let number = result.configuration;
            results[number] = result;
        }
        results
    }

    /// A pass under the configurations of a tally; those that differ in outcomes alone are timed once.
    fn time_group(&self, group: &Group, baselines: &[PassResult], pass: Pass) -> Vec<PassResult> {
        let mut timed: Vec<(Config, PassResult)> = Vec::new();
        let mut results = Vec::new();
        for &number in &group.configs {
            let config = self.plan.config(number, pass);
            let part = timing_part(config);
            let known = timed.iter().position(|(known, _)| *known == part).unwrap_or_else(|| {
                timed.push((part, self.time(group.replay, group.tally, &baselines[number], pass)));
                timed.len() - 1
            });
            let (error, quality) = group.tally.errors(pass, config.substitution());
            let limits = group.bounds.iter().find(|bounds| *bounds.config() == config.bounds);
            results.push(PassResult {
                configuration: number,
                error,
                matches: quality.map(Matches::from),
                limits: limits.map(|bounds| bounds.limits().clone()),
                demand: Demand { mcache_kb: config.mcache_kb(), ..timed[known].1.demand },
                ..timed[known].1.clone()
            });
        }
        results
    }

    /// Outcomes and cycles of a pass, given its result without reuse.
    fn time(&self, replay: &ProjectionReplay, tally: &Tally, baseline: &PassResult, pass: Pass) -> PassResult {
        let number = baseline.configuration;
        let config = self.plan.config(number, pass);
        let extent = self.kept.extent();
        let mut result = PassResult {
            reuse: true,
            baseline: 0,
            mercury: MercuryCycles::default(),
            traffic: Traffic::default(),
            ..baseline.clone()
        };
        result.leave_one_out.fill([0; 2]);
        for (product, (cut, counts)) in replay.cuts.iter().zip(tally.counts()).enumerate() {
            let timed = self.timed(number, pass, product);
            let lengths: Vec<u64> = cut.streams.iter().map(|stream| stream.length as u64).collect();
            let sums = sum_samples(&counts, lengths.len());
            let dealing = tally.dealing(pass, self.plan.array_numbers[number], product);
            let outcomes = ProductOutcomes { lengths: &lengths, counts: &counts, sums: &sums, dealing };
            let baseline = timed.baseline();
            result.baseline += baseline;
            let cycles = timed.mercury(outcomes, None);
            result.mercury += cycles;
            result.traffic += timed.traffic(outcomes, cycles);
            for (sample, sum) in result.leave_one_out.iter_mut().enumerate() {
                sum[0] += baseline;
                sum[1] += timed.mercury(outcomes, Some(sample)).total();
            }
            let work = timed.work(outcomes, None);
            result.macs_skipped += work.macs_skipped();
            result.macs_saved_net += timed.macs_saved_net(outcomes);
            let demand = &mut result.demand;
            // A weight gradient takes no results from MCACHE.
            let delivered = if pass == Pass::WeightGrad { 0 } else { work.hit_results() };
            demand.results += delivered;
            demand.is_bound |= timed.is_bound();
            if delivered > 0 {
                demand.peak_results = demand.peak_results.zip(timed.peak_results()).map(|(a, b)| a.max(b));
            }
            result.vector_length = result.vector_length.max(lengths.iter().copied().max().unwrap_or(0) as usize);
            result.streams[0] += lengths.len() as u64;
            result.streams[1] += extent.streams_in_all(pass, lengths.len());
            result.counts += counts.iter().copied().sum();
        }
        result.energy[1] = result.traffic.accesses.energy(&config.energy);
        result
    }

    /// A pass without reuse under each configuration.
    fn baselines(&self, pass: Pass) -> Vec<PassResult> {
        let mut timed: Vec<(Config, BaselineTime)> = Vec::new();
        let mut results = Vec::with_capacity(self.plan.configs.len());
        for number in 0..self.plan.configs.len() {
            let part = baseline_part(self.plan.config(number, pass));
            let known = timed.iter().position(|(known, _)| *known == part).unwrap_or_else(|| {
                timed.push((part, self.time_baseline(number, pass)));
                timed.len() - 1
            });
            results.push(self.baseline(number, pass, timed[known].1));
        }
        results
    }

    /// Times a product of a pass on the array of a configuration.
    fn timed(&self, number: usize, pass: Pass, product: usize) -> Timed {
        let array = &*self.plan.arrays[self.plan.array_numbers[number]];
        Timed::with_dataflow(
            array,
            self.kept.extent(),
            self.plan.config(number, pass),
            (pass, product),
            self.place.batch,
        )
    }

    /// Cycles and traffic of a pass without reuse.
    fn time_baseline(&self, number: usize, pass: Pass) -> BaselineTime {
        let mut sum = BaselineTime { cycles: 0, equal_macs: 0, traffic: Traffic::default() };
        for product in 0..self.kept.layer.geometry.gemms(pass, self.place.batch).len() {
            let timed = self.timed(number, pass, product);
            sum.cycles += timed.baseline();
            sum.equal_macs += timed.baseline_equal_macs();
            sum.traffic += timed.baseline_traffic();
        }
        sum
    }

    fn baseline(&self, number: usize, pass: Pass, time: BaselineTime) -> PassResult {
        let BaselineTime { cycles, equal_macs, traffic } = time;
        let Place { step, layer_index, batch } = self.place;
        let config = self.plan.config(number, pass);
        let Kept { layer, samples, .. } = &*self.kept;
        let energy = traffic.accesses.energy(&config.energy);
        PassResult {
            configuration: number,
            step,
            layer_index,
            layer: layer.name.clone(),
            op: layer.geometry.op().to_owned(),
            pass,
            samples: *samples,
            batch,
            reuse: false,
            switched_off: false,
            trial: false,
            bits: config.rpq.signature_bits(),
            settings: Settings::new(config, &layer.geometry),
            vector_length: 0,
            streams: [0; 2],
            vectors: self.count_vectors(config, pass),
            counts: Counts::default(),
            limits: None,
            macs: layer.geometry.gemms(pass, batch).iter().map(Gemm::macs).sum(),
            macs_skipped: 0,
            macs_saved_net: 0,
            demand: Demand::baseline(equal_macs),
            baseline: cycles,
            mercury: MercuryCycles { compute: cycles, ..MercuryCycles::default() },
            baseline_traffic: traffic,
            traffic,
            energy: [energy; 2],
            error: None,
            matches: None,
            leave_one_out: vec![[cycles; 2]; if *samples > 1 { *samples } else { 0 }],
        }
    }

    /// Captured vectors that a pass streams; none where they cannot be cut so.
    fn count_vectors(&self, config: &Config, pass: Pass) -> u64 {
        let source = find_source(pass);
        if !self.kept.has_streamed(source) {
            return 0;
        }
        let cuts = self.kept.cuts(source, config.rpq.granularity, self.kept.samples);
        cuts.iter().flatten().map(|cut| cut.layout.vectors() as u64).sum()
    }
}
