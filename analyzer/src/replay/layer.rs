//! One layer of a captured step under any number of configurations, with as little done twice as the
//! mathematics allows: vectors are signed once at the longest length, shorter signatures are their
//! prefixes, caches in which everything finds room have one Hitmap among them, and errors depend on
//! Hitmap and substitution alone.

use super::similarity::Signed;
use super::timed::{Outcomes, Timed};
use super::{Matches, Measures, PassResult, Place};
use crate::accuracy::{self, SquaredError};
use crate::config::{BitsConfig, BoundsConfig, Config, StopConfig, Substitution};
use crate::error::Result;
use crate::limits::Limits;
use crate::operand::LayerData;
use crate::timing::MercuryCycles;
use crate::timing::memory::Traffic;
use mercury_reuse::config::{McacheConfig, Replacement, Rpq, Scope, SetIndex};
use mercury_reuse::{Counts, Hitmap, MatchOptions, MatchQuality, Substitutes, counts_grid, match_quality};
use mercury_trace::geometry::{Gemm, Pass};
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;

/// The results of a layer, by configuration and in it by pass. `configs` have the signature length
/// in force at this step.
pub fn evaluate(data: &LayerData, configs: &[Config], measures: &Measures, place: Place) -> Result<Vec<PassResult>> {
    let layer = Layer { data, configs, measures, place, baselines: RefCell::default() };
    let mut results = Vec::new();
    // The weight gradient keeps the forward pass's signatures and outcomes.
    layer.streamed(Pass::Forward, &[Pass::Forward, Pass::WeightGrad], &mut results)?;
    if data.layer.input_grad {
        layer.streamed(Pass::InputGrad, &[Pass::InputGrad], &mut results)?;
    }
    results.sort_by_key(|result| (result.configuration, result.pass));
    Ok(results)
}

struct Layer<'a> {
    data: &'a LayerData,
    configs: &'a [Config],
    measures: &'a Measures,
    place: Place,
    /// Cycles and traffic of baselines that were asked for.
    baselines: RefCell<Vec<Baseline>>,
}

/// What a pass takes and moves without reuse under configurations that are alike but for reuse.
struct Baseline {
    pass: Pass,
    config: Config,
    cycles: u64,
    traffic: Traffic,
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

/// What a Hitmap depends on beside the vectors and their longest signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Cache {
    /// Bits of the whole signature.
    bits: u32,
    scope: Scope,
    entries: u32,
    ways: u32,
    index: SetIndex,
    replacement: Replacement,
}

impl Cache {
    /// A cache of which nothing matters, as it has room for all.
    fn unlimited(self) -> Self {
        Self { entries: 0, ways: 1, index: SetIndex::Mixed, replacement: Replacement::None, ..self }
    }

    fn config(self) -> McacheConfig {
        let Self { entries, ways, index, replacement, .. } = self;
        McacheConfig { entries, ways, index, replacement, ..McacheConfig::default() }
    }
}

/// The outcomes of one cache, product by product.
struct LookedUp {
    counts: Vec<Vec<Counts>>,
    hitmaps: Option<Vec<Hitmap>>,
}

impl Layer<'_> {
    /// The passes that depend on the vectors of one.
    fn streamed(&self, source: Pass, passes: &[Pass], results: &mut Vec<PassResult>) -> Result<()> {
        let passes: Vec<Pass> = passes.iter().copied().filter(|&pass| self.measures.selection.pass(pass)).collect();
        if passes.is_empty() {
            return Ok(());
        }
        // A pass whose operand was not captured runs as in the baseline.
        let captured = self.data.streamed(source).is_some();
        let reuses = |number: &usize| captured && self.configs[*number].reuse.passes.contains(&source);
        let (reusing, plain): (Vec<usize>, Vec<usize>) = (0..self.configs.len()).partition(reuses);
        for number in plain {
            results.extend(passes.iter().map(|&pass| self.baseline(number, pass)));
        }
        // All but the length, of which the longest is made.
        let projected = |number: usize| Rpq { bits: 1, ..self.configs[number].rpq.clone() };
        for (rpq, members) in grouped(&reusing, projected) {
            let bits = members.iter().map(|&number| self.configs[number].rpq.bits).max().unwrap_or(1);
            let signed = Signed::of(self.data, source, &Rpq { bits, ..rpq })?;
            self.looked_up(&signed, &passes, &members, results);
        }
        Ok(())
    }

    fn looked_up(&self, signed: &Signed, passes: &[Pass], members: &[usize], results: &mut Vec<PassResult>) {
        let mut caches: HashMap<usize, Cache> = members.iter().map(|&number| (number, self.cache(number))).collect();
        let mut known = grid(signed, members, &mut caches);
        let mut limits: Vec<((u32, Scope, &BoundsConfig), Limits)> = Vec::new();
        for (cache, members) in grouped(members, |number| caches[&number]) {
            let signatures = signed.shortened(cache.bits);
            // With sums alone at stake the grid's are enough.
            let sums = self.measures.errors.is_none()
                && members.iter().all(|&number| self.configs[number].dataflow().is_some());
            let outcomes = if let Some(counts) = known.remove(&cache).filter(|_| sums) {
                LookedUp { counts, hitmaps: None }
            } else {
                let hitmaps = signed.look_up(&signatures, &cache.config(), cache.scope);
                let counts = hitmaps.iter().map(|hitmap| hitmap.counts().to_vec()).collect();
                LookedUp { counts, hitmaps: Some(hitmaps) }
            };
            for &pass in passes {
                let substituted = |number: usize| self.configs[number].substitution();
                for (substitution, members) in grouped(&members, substituted) {
                    let (error, quality) = self.error(signed, &outcomes, pass, substitution);
                    let matches = quality.map(Matches::from);
                    let mut timed: Vec<(Config, PassResult)> = Vec::new();
                    for number in members {
                        if !self.configs[number].reuse.passes.contains(&pass) {
                            results.push(self.baseline(number, pass));
                            continue;
                        }
                        let like = like(&self.configs[number]);
                        let known = timed.iter().position(|(other, _)| *other == like).unwrap_or_else(|| {
                            timed.push((like, self.timed(signed, &outcomes, number, pass)));
                            timed.len() - 1
                        });
                        let mut result = PassResult { configuration: number, ..timed[known].1.clone() };
                        result.error = error;
                        result.matches = matches;
                        if self.measures.bounds && pass != Pass::WeightGrad {
                            let config = &self.configs[number];
                            let key = (cache.bits, cache.scope, &config.bounds);
                            let known = limits.iter().position(|(other, _)| *other == key).unwrap_or_else(|| {
                                let found = Limits::of(self.data, pass, signed, &signatures, cache.scope, config);
                                limits.push((key, found));
                                limits.len() - 1
                            });
                            result.limits = Some(limits[known].1.clone());
                        }
                        results.push(result);
                    }
                }
            }
        }
    }

    fn cache(&self, number: usize) -> Cache {
        let config = &self.configs[number];
        let McacheConfig { entries, ways, index, replacement, .. } = config.mcache;
        let scope = self.data.scope(config.mcache.scope, config.mcache.scope_linear);
        let cache = Cache { bits: config.rpq.signature_bits(), scope, entries, ways, index, replacement };
        if entries == 0 { cache.unlimited() } else { cache }
    }

    /// Output error, and how good the matches are; the weight gradient's are the forward pass's.
    fn error(
        &self,
        signed: &Signed,
        outcomes: &LookedUp,
        pass: Pass,
        Substitution { variant, representative }: Substitution,
    ) -> (Option<SquaredError>, Option<MatchQuality>) {
        let Some(hitmaps) = outcomes.hitmaps.as_ref().filter(|_| !self.measures.errors.is_none()) else {
            return (None, None);
        };
        let most = self.measures.errors.most();
        let (mut sum, mut quality) = (None, None);
        for (view, hitmap) in signed.views.iter().zip(hitmaps) {
            let substitutes = Substitutes::new(view, hitmap, variant, representative);
            let error = match pass {
                Pass::WeightGrad => accuracy::weight_gradient_error(self.data, &substitutes, most),
                Pass::Forward | Pass::InputGrad => accuracy::output_error(self.data, pass, &substitutes, most),
            };
            // Where nothing of what was kept meets (channels and filters of other groups), nothing is known.
            if let Some(error) = error.filter(|error| error.exact > 0.0 || error.error > 0.0) {
                *sum.get_or_insert_with(SquaredError::default) += error;
            }
            if pass != Pass::WeightGrad {
                *quality.get_or_insert_with(MatchQuality::default) +=
                    match_quality(&substitutes, &MatchOptions::default());
            }
        }
        (sum, quality)
    }

    /// Outcomes and cycles of a pass.
    fn timed(&self, signed: &Signed, outcomes: &LookedUp, number: usize, pass: Pass) -> PassResult {
        let config = &self.configs[number];
        let row_array = config.row_array();
        let mut result = self.baseline(number, pass);
        result.reuse = true;
        result.baseline = 0;
        result.mercury = MercuryCycles::default();
        result.traffic = Traffic::default();
        result.leave_one_out.fill([0; 2]);
        for (product, view) in signed.views.iter().enumerate() {
            let timed = Timed::new(self.data, config, &row_array, (pass, product), self.place.batch);
            let hitmap = outcomes.hitmaps.as_ref().map(|hitmaps| &hitmaps[product]);
            let outcomes = Outcomes { view, counts: &outcomes.counts[product], hitmap };
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
            result.vector_length = result.vector_length.max(view.max_length());
            let captured = view.layout().streams;
            result.streams = [captured as u64, self.data.streams_in_all(pass, captured)];
            result.counts += outcomes.counts.iter().copied().sum();
        }
        result.energy[1] = result.traffic.accesses.energy(&config.energy);
        result
    }

    /// Vectors of a pass; none where its operand was not captured or cannot be cut so.
    fn vectors(&self, config: &Config, pass: Pass) -> u64 {
        let views = self.data.views(pass, config.rpq.granularity);
        views.iter().flatten().map(|view| view.layout().vectors() as u64).sum()
    }

    /// A pass without reuse.
    fn baseline(&self, number: usize, pass: Pass) -> PassResult {
        let Place { step, layer_index, batch } = self.place;
        let config = &self.configs[number];
        let row_array = config.row_array();
        let gemms = self.data.layer.geometry.gemms(pass, batch);
        let like = like(&Config { rpq: Rpq::default(), ..config.clone() });
        let known = self.baselines.borrow().iter().position(|known| known.pass == pass && known.config == like);
        let known = known.unwrap_or_else(|| {
            let (mut cycles, mut traffic) = (0, Traffic::default());
            for product in 0..gemms.len() {
                let timed = Timed::new(self.data, config, &row_array, (pass, product), batch);
                cycles += timed.baseline();
                traffic += timed.baseline_traffic();
            }
            let mut baselines = self.baselines.borrow_mut();
            baselines.push(Baseline { pass, config: like, cycles, traffic });
            baselines.len() - 1
        });
        let Baseline { cycles: baseline, traffic, .. } = self.baselines.borrow()[known];
        let energy = traffic.accesses.energy(&config.energy);
        let samples = self.data.samples;
        PassResult {
            configuration: number,
            step,
            layer_index,
            layer: self.data.layer.name.clone(),
            op: self.data.layer.geometry.op().to_owned(),
            pass,
            samples,
            batch,
            reuse: false,
            switched_off: false,
            bits: config.rpq.signature_bits(),
            vector_length: 0,
            streams: [0; 2],
            vectors: self.vectors(config, pass),
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
            leave_one_out: vec![[baseline; 2]; if samples > 1 { samples } else { 0 }],
        }
    }
}

/// Counts of all caches from one sort, where there are several; those in which everything finds
/// room become one.
fn grid(signed: &Signed, members: &[usize], caches: &mut HashMap<usize, Cache>) -> HashMap<Cache, Vec<Vec<Counts>>> {
    let mut known = HashMap::new();
    let limited: Vec<usize> = members.iter().copied().filter(|number| caches[number].entries > 0).collect();
    if grouped(&limited, |number| caches[&number]).len() < 2 {
        return known;
    }
    for ((scope, index), members) in grouped(&limited, |number| (caches[&number].scope, caches[&number].index)) {
        let of = |number: usize| caches[&number];
        let bits: Vec<u32> = grouped(&members, |number| of(number).bits).into_iter().map(|(key, _)| key).collect();
        let sizes = grouped(&members, |number| (of(number).entries, of(number).ways));
        let sizes: Vec<(u32, u32)> = sizes.into_iter().map(|(key, _)| key).collect();
        let products: Vec<Vec<Vec<Counts>>> = signed
            .views
            .iter()
            .zip(&signed.signatures)
            .map(|(view, signatures)| counts_grid(view.layout(), signatures, &bits, &sizes, index, scope))
            .collect();
        for number in members {
            let cache = caches[&number];
            let length = bits.iter().position(|&bits| bits == cache.bits).expect("a length of the list");
            let size = sizes.iter().position(|&size| size == (cache.entries, cache.ways)).expect("a size of it");
            let counts = products.iter().map(|product| &product[length * sizes.len() + size]);
            let roomy = counts.clone().flatten().all(|counts| counts.mnu == 0);
            let cache = if roomy { cache.unlimited() } else { cache };
            caches.insert(number, cache);
            // The grid's caches never replace anything.
            if roomy || cache.replacement == Replacement::None {
                known.entry(cache).or_insert_with(|| counts.cloned().collect());
            }
        }
    }
    known
}

/// Items by key, in order of first appearance.
fn grouped<K: Hash + Eq + Clone>(items: &[usize], key: impl Fn(usize) -> K) -> Vec<(K, Vec<usize>)> {
    let mut groups: Vec<(K, Vec<usize>)> = Vec::new();
    let mut places: HashMap<K, usize> = HashMap::new();
    for &item in items {
        let key = key(item);
        let place = *places.entry(key.clone()).or_insert_with(|| {
            groups.push((key, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(item);
    }
    groups
}
