//! One layer of a captured step under any number of configurations, from samples as they come.

use super::Place;
use super::grouped::{distinct, grouped};
use super::projected::Projected;
use super::similarity::Memory;
use super::tally::Tally;
use crate::config::{BitsConfig, BoundsConfig, Config, StopConfig};
use crate::error::Result;
use crate::operand::{Kept, LayerData};
use crate::request::Measures;
use crate::result::{Matches, PassResult};
use crate::timing::MercuryCycles;
use crate::timing::memory::Traffic;
use mercury_hardware::timed::{Outcomes, Timed, sums};
use mercury_reuse::Counts;
use mercury_reuse::config::{Granularity, McacheConfig, Rpq};
use mercury_trace::geometry::{Gemm, Pass};
use rayon::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

/// A layer of a step, of which some samples were evaluated.
pub struct Layer<'a> {
    kept: Arc<Kept>,
    /// With the signature length in force at this step.
    configs: Vec<Config>,
    measures: &'a Measures,
    place: Place,
    /// Configurations that apply the scheme to a pass that streams vectors, by projection.
    projected: Vec<Projected>,
    /// Captured vectors that a pass streams.
    vectors: Vec<((Pass, Granularity), u64)>,
    /// Cycles and traffic of baselines that were asked for.
    baselines: Mutex<Vec<Baseline>>,
    memory: Memory,
}

/// What a pass takes and moves without reuse under configurations that are alike but for reuse.
struct Baseline {
    pass: Pass,
    config: Config,
    cycles: u64,
    traffic: Traffic,
}

impl Baseline {
    fn totals(&self) -> (u64, Traffic) {
        (self.cycles, self.traffic)
    }
}

/// A configuration without what only the outcomes depend on.
fn like(config: &Config) -> Config {
    let mut like = Config {
        bits: BitsConfig::default(),
        stop: StopConfig::default(),
        bounds: BoundsConfig::default(),
        ..config.clone()
    };
    let McacheConfig { entries, ways, index, replacement, .. } = McacheConfig::default();
    like.mcache = McacheConfig { entries, ways, index, replacement, ..like.mcache };
    like
}

/// The passes that a pass's vectors decide; the weight gradient keeps the forward pass's signatures and
/// outcomes.
fn decided_by(source: Pass) -> &'static [Pass] {
    match source {
        Pass::Forward => &[Pass::Forward, Pass::WeightGrad],
        Pass::InputGrad => &[Pass::InputGrad],
        Pass::WeightGrad => &[],
    }
}

impl<'a> Layer<'a> {
    /// A layer whose first samples these are; what lanes of PE sets do may take so many bytes at a time.
    pub fn new(data: &LayerData, configs: Vec<Config>, measures: &'a Measures, place: Place, lanes: usize) -> Self {
        let kept = Arc::clone(&data.kept);
        let (mut projected, mut vectors) = (Vec::new(), Vec::new());
        for source in [Pass::Forward, Pass::InputGrad] {
            if source == Pass::InputGrad && !kept.layer.input_grad {
                continue;
            }
            for granularity in distinct(configs.iter().map(|config| config.rpq.granularity)) {
                let views = data.views(source, granularity);
                // None where vectors cannot be cut so.
                let of_samples: usize = views.iter().flatten().map(|view| view.layout().vectors()).sum();
                let all = (of_samples / data.samples * kept.samples) as u64;
                vectors.push(((source, granularity), all));
            }
            let passes: Vec<Pass> =
                decided_by(source).iter().copied().filter(|&pass| measures.selection.pass(pass)).collect();
            // A pass whose operand was not captured runs as in the baseline.
            if passes.is_empty() || data.streamed(source).is_none() {
                continue;
            }
            let reusing = (0..configs.len()).filter(|&number| configs[number].reuse.passes.contains(&source));
            // All but the length, of which the longest is made.
            let projections = grouped(reusing, |number| Rpq { bits: 1, ..configs[number].rpq.clone() });
            for members in projections.into_values() {
                projected.push(Projected::new(&kept, source, &passes, &members, &configs, measures, place));
            }
        }
        Self {
            kept,
            configs,
            measures,
            place,
            projected,
            vectors,
            baselines: Mutex::default(),
            memory: Memory { lanes, ..Memory::default() },
        }
    }

    /// Evaluates the samples that come next.
    pub fn add(&mut self, data: &LayerData) -> Result<()> {
        let Self { projected, configs, measures, memory, .. } = self;
        projected.iter_mut().try_for_each(|projected| projected.add(data, configs, measures, memory))
    }

    /// The results, by configuration and in it by pass.
    pub fn results(&self) -> Vec<PassResult> {
        let sources = [Pass::Forward, Pass::InputGrad];
        let sources = sources.into_iter().filter(|&source| source == Pass::Forward || self.kept.layer.input_grad);
        let passes = sources.flat_map(decided_by).copied().filter(|&pass| self.measures.selection.pass(pass));
        let mut results: Vec<PassResult> = passes.flat_map(|pass| self.pass(pass)).collect();
        results.sort_by_key(|result| (result.configuration, result.pass));
        results
    }

    /// A pass under each configuration.
    fn pass(&self, pass: Pass) -> Vec<PassResult> {
        let source = if pass == Pass::WeightGrad { Pass::Forward } else { pass };
        let projected = self.projected.iter().filter(|projected| projected.source() == source);
        let tallies: Vec<_> =
            projected.flat_map(|projected| projected.tallies().map(move |of| (projected, of))).collect();
        let found: Vec<Vec<PassResult>> = tallies
            .into_par_iter()
            .map(|(projected, (tally, members))| self.of_tally(projected, tally, members, pass))
            .collect();
        let mut results: Vec<Option<PassResult>> = vec![None; self.configs.len()];
        for result in found.into_iter().flatten() {
            let number = result.configuration;
            results[number] = Some(result);
        }
        let of = |(number, result): (usize, Option<PassResult>)| result.unwrap_or_else(|| self.baseline(number, pass));
        results.into_iter().enumerate().map(of).collect()
    }

    /// A pass under the configurations of a tally that apply the scheme to it.
    fn of_tally(
        &self,
        projected: &Projected,
        tally: &Tally,
        members: impl Iterator<Item = usize>,
        pass: Pass,
    ) -> Vec<PassResult> {
        let mut timed: Vec<(Config, PassResult)> = Vec::new();
        let of = |number: usize| {
            let config = &self.configs[number];
            let like = like(config);
            let known = timed.iter().position(|(other, _)| *other == like).unwrap_or_else(|| {
                timed.push((like, self.timed(projected.lengths(), tally, number, pass)));
                timed.len() - 1
            });
            let (error, quality) = tally.error(pass, config.substitution());
            PassResult {
                configuration: number,
                error,
                matches: quality.map(Matches::from),
                limits: projected.limits(pass, config, &self.kept).cloned(),
                ..timed[known].1.clone()
            }
        };
        members.filter(|&number| self.configs[number].reuse.passes.contains(&pass)).map(of).collect()
    }

    /// Outcomes and cycles of a pass.
    fn timed(&self, lengths: &[Vec<u64>], tally: &Tally, number: usize, pass: Pass) -> PassResult {
        let config = &self.configs[number];
        let mut result = self.baseline(number, pass);
        result.reuse = true;
        result.baseline = 0;
        result.mercury = MercuryCycles::default();
        result.traffic = Traffic::default();
        result.leave_one_out.fill([0; 2]);
        for (product, (lengths, counts)) in lengths.iter().zip(tally.counts()).enumerate() {
            let timed = Timed::new(self.kept.known(), config, (pass, product), self.place.batch);
            let dealt = config.dataflow().is_none().then(|| tally.dealt(pass, &config.row_array(), product));
            let sums = sums(counts, lengths.len());
            let outcomes = Outcomes { lengths, counts, sums: &sums, dealt };
            let baseline = timed.baseline();
            result.baseline += baseline;
            let cycles = timed.mercury(outcomes, None);
            result.mercury += cycles;
            result.traffic += timed.traffic(outcomes, cycles);
            for (sample, sum) in result.leave_one_out.iter_mut().enumerate() {
                sum[0] += baseline;
                sum[1] += timed.mercury(outcomes, Some(sample)).total();
            }
            result.macs_skipped += timed.work(outcomes, None).macs_skipped();
            result.vector_length = result.vector_length.max(lengths.iter().copied().max().unwrap_or(0) as usize);
            let captured = lengths.len();
            result.streams[0] += captured as u64;
            result.streams[1] += self.kept.known().streams_in_all(pass, captured);
            result.counts += counts.iter().copied().sum();
        }
        result.energy[1] = result.traffic.accesses.energy(&config.energy);
        result
    }

    /// A pass without reuse.
    fn baseline(&self, number: usize, pass: Pass) -> PassResult {
        let Place { step, layer_index, batch } = self.place;
        let config = &self.configs[number];
        let Kept { layer, samples, .. } = &*self.kept;
        let gemms = layer.geometry.gemms(pass, batch);
        let like = like(&Config { rpq: Rpq::default(), ..config.clone() });
        let baselines = || self.baselines.lock().unwrap_or_else(PoisonError::into_inner);
        let known = baselines().iter().find(|known| known.pass == pass && known.config == like).map(Baseline::totals);
        let (baseline, traffic) = known.unwrap_or_else(|| {
            let (mut cycles, mut traffic) = (0, Traffic::default());
            for product in 0..gemms.len() {
                let timed = Timed::new(self.kept.known(), config, (pass, product), batch);
                cycles += timed.baseline();
                traffic += timed.baseline_traffic();
            }
            // Another thread may have added the same.
            baselines().push(Baseline { pass, config: like, cycles, traffic });
            (cycles, traffic)
        });
        let energy = traffic.accesses.energy(&config.energy);
        let source = if pass == Pass::WeightGrad { Pass::Forward } else { pass };
        let vectors = self.vectors.iter().find(|(key, _)| *key == (source, config.rpq.granularity));
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
            vector_length: 0,
            streams: [0; 2],
            vectors: vectors.map_or(0, |&(_, vectors)| vectors),
            counts: Counts::default(),
            limits: None,
            macs: gemms.iter().map(Gemm::macs).sum(),
            macs_skipped: 0,
            baseline,
            mercury: MercuryCycles { compute: baseline, ..MercuryCycles::default() },
            baseline_traffic: traffic,
            traffic,
            energy: [energy; 2],
            error: None,
            matches: None,
            leave_one_out: vec![[baseline; 2]; if *samples > 1 { *samples } else { 0 }],
        }
    }
}
