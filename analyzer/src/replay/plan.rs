//! What a layer's evaluation consists of: configurations -> projections -> signature lengths -> caches. Pure.

use super::grouped::{distinct, grouped};
use crate::config::{BoundsConfig, Config, LayerConfigs, Substitution, find_source};
use crate::operand::Kept;
use crate::request::Measures;
use crate::timing::Dataflow;
use mercury_reuse::config::{McacheConfig, Replacement, Rpq, Scope, SetIndex};
use mercury_reuse::simplify_granularity;
use mercury_trace::geometry::{Geometry, Pass};

/// The evaluation of a layer under several configurations, with what they share done once.
pub struct LayerPlan {
    /// Configurations of the layer, with the signature length in force at the step.
    pub configs: Vec<LayerConfigs>,
    /// Different arrays.
    pub arrays: Vec<Box<dyn Dataflow>>,
    /// Number of each configuration's array.
    pub array_numbers: Vec<usize>,
    /// Vectors that are signed.
    pub projections: Vec<ProjectionPlan>,
}

/// Configurations that sign a pass's vectors by one projection, whose shorter signatures are prefixes of its longest.
pub struct ProjectionPlan {
    /// The pass whose vectors are signed.
    pub source: Pass,
    /// The projection at its longest length.
    pub rpq: Rpq,
    /// Lengths and scopes in which signatures are looked up.
    pub lengths: Vec<LengthPlan>,
}

/// Caches over signatures of one length in one scope.
pub struct LengthPlan {
    /// Bits of a whole signature.
    pub bits: u32,
    /// When the cache is flushed.
    pub scope: Scope,
    /// Different caches.
    pub caches: Vec<CachePlan>,
    /// Different bounds.
    pub bounds: Vec<BoundsConfig>,
}

/// A cache, and what is asked of its outcomes.
#[derive(Clone)]
pub struct CachePlan {
    /// The cache.
    pub cache: Cache,
    /// Numbers of its configurations.
    pub configs: Vec<usize>,
    /// Passes on arrays, by number.
    pub schedules: Vec<(Pass, usize)>,
    /// Substitutions whose errors are computed, and in which passes.
    pub errors: Vec<(Substitution, Vec<Pass>)>,
}

/// What decides outcomes beside vectors, their signatures and the scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cache {
    /// Entries; 0: without limit.
    pub entries: u32,
    /// Entries of a set.
    pub ways: u32,
    /// How a signature chooses its set.
    pub index: SetIndex,
    /// What makes room in a full set.
    pub replacement: Replacement,
}

impl Cache {
    /// A cache with room for all; how it is built makes no difference.
    pub const UNLIMITED: Self = Self { entries: 0, ways: 1, index: SetIndex::Mixed, replacement: Replacement::None };

    fn new(config: &McacheConfig) -> Self {
        let McacheConfig { entries, ways, index, replacement, .. } = *config;
        if entries == 0 { Self::UNLIMITED } else { Self { entries, ways, index, replacement } }
    }

    /// Sets of a cache with a limit.
    pub fn sets(self) -> u32 {
        self.entries / self.ways
    }

    /// The cache as a configuration has it.
    pub fn config(self) -> McacheConfig {
        let Self { entries, ways, index, replacement } = self;
        McacheConfig { entries, ways, index, replacement, ..McacheConfig::default() }
    }
}

/// The passes that the outcomes of a pass's vectors decide: the weight gradient keeps those of the forward pass.
pub fn passes_decided_by(source: Pass) -> &'static [Pass] {
    match source {
        Pass::Forward => &[Pass::Forward, Pass::WeightGrad],
        Pass::InputGrad => &[Pass::InputGrad],
        Pass::WeightGrad => &[],
    }
}

/// The passes of a layer whose vectors are signed.
pub fn sources(kept: &Kept) -> impl Iterator<Item = Pass> {
    [Pass::Forward, Pass::InputGrad].into_iter().filter(|&source| kept.layer.trains(source))
}

impl LayerPlan {
    /// Plans the evaluation of a layer.
    pub fn new(kept: &Kept, configs: Vec<LayerConfigs>, measures: &Measures) -> Self {
        let mut arrays: Vec<Box<dyn Dataflow>> = Vec::new();
        let mut array_numbers = Vec::with_capacity(configs.len());
        for config in &configs {
            // All passes have one array.
            let array = config.pass(Pass::Forward).dataflow();
            let known = arrays.iter().position(|known| known.is_equal(&*array));
            array_numbers.push(known.unwrap_or(arrays.len()));
            if known.is_none() {
                arrays.push(array);
            }
        }
        let mut plan = Self { configs, arrays, array_numbers, projections: Vec::new() };
        for source in sources(kept) {
            let passes = passes_decided_by(source).iter().copied();
            let is_wanted = |pass: &Pass| measures.selection.pass(*pass) && kept.layer.trains(*pass);
            let passes: Vec<Pass> = passes.filter(is_wanted).collect();
            // A pass whose operand was not captured runs as in the baseline.
            if !passes.is_empty() && kept.has_streamed(source) {
                plan.add_projections(kept, source, &passes, measures);
            }
        }
        plan
    }

    /// The configuration of a pass, by the number of the layer's configurations.
    pub fn config(&self, number: usize, pass: Pass) -> &Config {
        self.configs[number].pass(pass)
    }

    fn add_projections(&mut self, kept: &Kept, source: Pass, passes: &[Pass], measures: &Measures) {
        let config = |number: usize| self.config(number, source);
        let reusing = (0..self.configs.len()).filter(|&number| {
            let reused = &config(number).reuse.passes;
            reused.contains(&source) && passes.iter().any(|pass| reused.contains(pass))
        });
        // Configurations that cut a layer in the same way share its signatures.
        let geometry = &kept.layer.geometry;
        let by_projection = grouped(reusing, |number| {
            let key = config(number).rpq.projection_key();
            Rpq { granularity: simplify_granularity(geometry, source, key.granularity), ..key }
        });
        for (projection, members) in by_projection {
            let bits = members.iter().map(|&number| self.config(number, source).rpq.bits).max().unwrap_or(1);
            let rpq = Rpq { bits, ..projection };
            let lengths = self.plan_lengths(geometry, source, &members, passes, measures);
            self.projections.push(ProjectionPlan { source, rpq, lengths });
        }
    }

    fn plan_lengths(
        &self,
        geometry: &Geometry,
        source: Pass,
        members: &[usize],
        passes: &[Pass],
        measures: &Measures,
    ) -> Vec<LengthPlan> {
        let length = |number: usize| {
            let config = self.config(number, source);
            (config.rpq.signature_bits(), config.mcache.effective_scope(geometry))
        };
        let bounded = measures.bounds && passes.iter().any(|&pass| find_source(pass) == pass);
        let mut lengths = Vec::new();
        for ((bits, scope), members) in grouped(members.iter().copied(), length) {
            let caches = grouped(members.iter().copied(), |number| Cache::new(&self.config(number, source).mcache));
            let caches = caches.into_iter().map(|(cache, members)| self.plan_cache(cache, members, passes, measures));
            let bounds = members.iter().map(|&number| &self.config(number, source).bounds);
            let bounds = if bounded { distinct(bounds).into_iter().cloned().collect() } else { Vec::new() };
            lengths.push(LengthPlan { bits, scope, caches: caches.collect(), bounds });
        }
        lengths
    }

    fn plan_cache(&self, cache: Cache, members: Vec<usize>, passes: &[Pass], measures: &Measures) -> CachePlan {
        let reused = |number: usize| {
            let passes = passes.iter().copied();
            passes.filter(move |&pass| self.config(number, pass).reuse.passes.contains(&pass))
        };
        let mut plan = CachePlan { cache, configs: members, schedules: Vec::new(), errors: Vec::new() };
        for &number in &plan.configs {
            for pass in reused(number) {
                let substitution = self.config(number, pass).substitution();
                let schedule = (pass, self.array_numbers[number]);
                if !plan.schedules.contains(&schedule) {
                    plan.schedules.push(schedule);
                }
                if measures.errors.is_none() {
                    continue;
                }
                let known = plan.errors.iter().position(|(known, _)| *known == substitution);
                let at = known.unwrap_or_else(|| {
                    plan.errors.push((substitution, Vec::new()));
                    plan.errors.len() - 1
                });
                let passes = &mut plan.errors[at].1;
                if !passes.contains(&pass) {
                    passes.push(pass);
                }
            }
        }
        plan
    }
}

impl ProjectionPlan {
    /// The cache, if there is one and signatures are needed for it alone: with its scope.
    pub fn single_cache(&self) -> Option<(Cache, Scope)> {
        match self.lengths.as_slice() {
            [LengthPlan { scope, caches, bounds, .. }] if bounds.is_empty() && caches.len() == 1 => {
                Some((caches[0].cache, *scope))
            }
            _ => None,
        }
    }
}

impl CachePlan {
    /// What is asked of the outcomes that several caches have in common.
    pub fn merge(&mut self, other: &Self) {
        for schedule in &other.schedules {
            if !self.schedules.contains(schedule) {
                self.schedules.push(*schedule);
            }
        }
        for (substitution, passes) in &other.errors {
            match self.errors.iter_mut().find(|(known, _)| known == substitution) {
                Some((_, known)) => {
                    for pass in passes {
                        if !known.contains(pass) {
                            known.push(*pass);
                        }
                    }
                }
                None => self.errors.push((*substitution, passes.clone())),
            }
        }
    }
}
