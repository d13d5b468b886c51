//! What was measured of caches that had the same outcomes so far, shared by reference count.

use super::measure::{Bytes, CountsMeasure, ErrorMeasure, Measure, Samples, ScheduleMeasure};
use super::outcomes::Found;
use super::plan::{CachePlan, LayerPlan, LengthPlan};
use crate::accuracy::ErrorSums;
use crate::config::Substitution;
use crate::error::Result;
use crate::operand::Kept;
use crate::request::ErrorMode;
use crate::stop::Stop;
use crate::timing::Dealing;
use mercury_reuse::{Counts, Cut, MatchQuality, Outcomes};
use mercury_trace::geometry::Pass;
use rayon::prelude::*;
use std::sync::Arc;

/// The measures of outcomes that some caches have in common.
#[derive(Clone)]
pub struct Tally {
    /// Number of the outcomes of all samples so far: caches with the same number had the same outcomes.
    history: u64,
    counts: CountsMeasure,
    schedules: Vec<((Pass, usize), ScheduleMeasure)>,
    errors: Vec<ErrorMeasure>,
}

impl Tally {
    fn new(
        layer: &LayerPlan,
        cache: &CachePlan,
        bits: u32,
        kept: &Kept,
        cuts: &[Cut],
        batch: u32,
        mode: ErrorMode,
    ) -> Self {
        let schedule = |&(pass, array): &(Pass, usize)| {
            ((pass, array), ScheduleMeasure::new(&*layer.arrays[array], kept, pass, batch, bits))
        };
        let error = |wanted| ErrorMeasure::new(kept, wanted, cuts.len(), batch, mode);
        Self {
            history: 0,
            counts: CountsMeasure::new(cuts),
            schedules: cache.schedules.iter().map(schedule).collect(),
            errors: cache.errors.iter().map(error).collect(),
        }
    }

    /// Leaves out all that these caches do not ask for.
    fn keep_wanted(&mut self, wanted: &CachePlan) {
        self.schedules.retain(|(key, _)| wanted.schedules.contains(key));
        self.errors.retain_mut(|error| {
            let found = wanted.errors.iter().find(|(substitution, _)| *substitution == error.substitution());
            found.is_some_and(|(_, passes)| {
                error.keep_passes(passes);
                true
            })
        });
    }

    /// Adds counts and schedules.
    fn add_counts_and_schedules(&mut self, samples: Samples, outcomes: &[Outcomes]) {
        self.counts.add(samples, outcomes);
        for (_, schedule) in &mut self.schedules {
            schedule.add(samples, outcomes);
        }
    }

    fn add_errors(&mut self, samples: Samples, outcomes: &[Outcomes], stop: &Stop) -> Result<()> {
        for error in &mut self.errors {
            stop.check()?;
            error.add(samples, outcomes);
        }
        Ok(())
    }

    /// Memory of what a cache asks for.
    fn bytes(&self, wanted: &CachePlan) -> Bytes {
        let schedules = self.schedules.iter().filter(|(key, _)| wanted.schedules.contains(key));
        let is_wanted =
            |error: &&ErrorMeasure| wanted.errors.iter().any(|(substitution, _)| *substitution == error.substitution());
        let schedules = schedules.map(|(_, schedule)| schedule.bytes());
        let errors = self.errors.iter().filter(is_wanted).map(Measure::bytes);
        std::iter::once(self.counts.bytes()).chain(schedules).chain(errors).sum()
    }

    /// Counts of each run, `[samples][streams]`, by product.
    pub fn counts(&self) -> impl Iterator<Item = Vec<Counts>> {
        self.counts.counts()
    }

    /// What was dealt to an array, by number, in a product of a pass.
    pub fn dealing(&self, pass: Pass, array: usize, product: usize) -> Option<&dyn Dealing> {
        let (_, schedule) = self.schedules.iter().find(|(known, _)| *known == (pass, array))?;
        schedule.dealing(product)
    }

    /// Output error and quality of matches of a pass.
    pub fn errors(&self, pass: Pass, substitution: Substitution) -> (Option<ErrorSums>, Option<MatchQuality>) {
        let error = self.errors.iter().find(|error| error.substitution() == substitution);
        error.map_or((None, None), |error| error.results(pass))
    }
}

/// The tallies of the caches of one length: one for all caches at first, which parts as outcomes do.
pub struct Tallies {
    /// Each cache's; none while samples are added to it.
    by_cache: Vec<Option<Arc<Tally>>>,
    /// Histories that were numbered so far.
    histories: u64,
    bytes: Bytes,
}

impl Tallies {
    /// Tallies of no samples.
    pub fn new(layer: &LayerPlan, length: &LengthPlan, kept: &Kept, cuts: &[Cut], batch: u32, mode: ErrorMode) -> Self {
        let wanted = merge_wanted(&length.caches, 0..length.caches.len());
        let tally = Arc::new(Tally::new(layer, &wanted, length.bits, kept, cuts, batch, mode));
        // No two caches may have the same outcomes.
        let bytes = length.caches.iter().map(|cache| tally.bytes(cache)).sum();
        Self { by_cache: vec![Some(tally); length.caches.len()], histories: 0, bytes }
    }

    /// Adds the outcomes that caches had in the samples that come next; after an error, the tallies are not complete.
    pub fn add(&mut self, length: &LengthPlan, samples: Samples, found: Vec<Found>, stop: &Stop) -> Result<()> {
        let mut parts = Vec::new();
        for Found { caches, outcomes } in found {
            for members in self.group_by_history(caches) {
                let mut tally = self.take(length, &members);
                self.histories += 1;
                tally.history = self.histories;
                parts.push((tally, members, outcomes.clone()));
            }
        }
        parts.par_iter_mut().with_max_len(1).for_each(|(tally, _, outcomes)| {
            tally.add_counts_and_schedules(samples, outcomes);
        });
        for (mut tally, members, outcomes) in parts {
            // One at a time, as each takes a lot of memory while it is computed.
            tally.add_errors(samples, &outcomes, stop)?;
            let tally = Arc::new(tally);
            for member in members {
                self.by_cache[member] = Some(Arc::clone(&tally));
            }
        }
        Ok(())
    }

    fn tally(&self, cache: usize) -> &Tally {
        self.by_cache[cache].as_ref().expect("put back when samples were added")
    }

    /// Caches by the outcomes that they had so far, in order.
    fn group_by_history(&self, caches: Vec<usize>) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for cache in caches {
            let history = self.tally(cache).history;
            match groups.iter_mut().find(|group| self.tally(group[0]).history == history) {
                Some(group) => group.push(cache),
                None => groups.push(vec![cache]),
            }
        }
        groups
    }

    /// The tally of caches that had the same outcomes so far, with what these ask for; a copy if other caches share it.
    fn take(&mut self, length: &LengthPlan, members: &[usize]) -> Tally {
        let taken = members.iter().map(|&member| self.by_cache[member].take());
        let last = taken.last().flatten().expect("put back when samples were added");
        let mut tally = Arc::unwrap_or_clone(last);
        tally.keep_wanted(&merge_wanted(&length.caches, members.iter().copied()));
        tally
    }

    /// Different tallies, with the numbers of their caches.
    pub fn groups(&self) -> Vec<(&Tally, Vec<usize>)> {
        let groups = self.group_by_history((0..self.by_cache.len()).collect());
        groups.into_iter().map(|caches| (self.tally(caches[0]), caches)).collect()
    }

    /// Whether all samples have to be added at once.
    pub fn takes_all_samples(&self) -> bool {
        let mut schedules = (0..self.by_cache.len()).flat_map(|cache| &self.tally(cache).schedules);
        schedules.any(|(_, schedule)| schedule.takes_all_samples())
    }

    /// Memory of the measures.
    pub fn bytes(&self) -> Bytes {
        self.bytes
    }
}

/// All that these caches ask for.
fn merge_wanted(caches: &[CachePlan], numbers: impl IntoIterator<Item = usize>) -> CachePlan {
    let mut numbers = numbers.into_iter();
    let first = numbers.next().expect("a length has caches");
    let mut wanted = caches[first].clone();
    numbers.for_each(|number| wanted.merge(&caches[number]));
    wanted
}
