//! What sorted signatures tell of several caches at once: counts, and what PE sets do.

use super::caches::Cache;
use super::grouped::grouped;
use super::similarity::Signed;
use super::tally::RowPass;
use crate::timing::rows::{Dealer, Dealt, LaneWork, RowProduct};
use mercury_reuse::config::{Replacement, Scope, SetIndex};
use mercury_reuse::{Counts, VectorView, counts_grid, outcomes_grid};
use std::collections::HashMap;
use std::ops::Range;

/// Several caches over the same signatures.
pub struct CacheGrid<'a> {
    signed: &'a Signed<'a>,
    /// The cache that stands for each: those in which everything finds room become one.
    pub standing: Vec<Cache>,
    groups: Vec<Group>,
    /// Of the caches that stand for themselves or others: those that replace nothing, or have room for all.
    members: HashMap<Cache, Member>,
    /// What deals runs, by product.
    dealers: Vec<Dealers>,
    parts: Vec<Part>,
}

/// Caches that have scope and index in common: of each length, each of these sizes.
struct Group {
    scope: Scope,
    index: SetIndex,
    bits: Vec<u32>,
    /// Entries and ways.
    sizes: Vec<(u32, u32)>,
    /// `[products][lengths * sizes][runs]`.
    counts: Vec<Vec<Vec<Counts>>>,
    /// What lanes do under all of them, if it is wanted and does not take too much.
    work: Option<PartWork>,
}

/// A cache of a group.
#[derive(Clone, Copy)]
struct Member {
    group: usize,
    length: usize,
    size: usize,
}

/// Caches of a group for which runs are dealt at once, as the work of their lanes does not take too much.
struct Part {
    group: usize,
    lengths: Range<usize>,
    sizes: Range<usize>,
}

/// What lanes do: `[products][lengths][runs][dealers]`, each under all sizes.
pub struct PartWork(Vec<Vec<Vec<Vec<LaneWork>>>>);

/// What deals a product's runs, for each row-stationary pass: few different ones, as disciplines have them in common. None for
/// a matrix product, whose runs are not dealt one by one.
struct Dealers {
    different: Vec<Dealer>,
    of_passes: Vec<(RowPass, usize)>,
}

impl Dealers {
    fn new(rows: &[(RowPass, Vec<RowProduct>)], product: usize, view: &VectorView) -> Self {
        let mut dealers = Self { different: Vec::new(), of_passes: Vec::new() };
        for (of, products) in rows {
            let Some(dealer) = products[product].run_dealer(view) else { continue };
            let known = dealers.different.iter().position(|known| *known == dealer);
            dealers.of_passes.push((*of, known.unwrap_or(dealers.different.len())));
            if known.is_none() {
                dealers.different.push(dealer);
            }
        }
        dealers
    }

    fn of(&self, pass: RowPass) -> Option<usize> {
        self.of_passes.iter().find(|(of, _)| *of == pass).map(|&(_, dealer)| dealer)
    }
}

impl<'a> CacheGrid<'a> {
    /// Counts under these caches. `rows` are row-stationary passes that are to be dealt; where any cache of a group is
    /// `wanted` they are under all of it. The work of lanes takes `most` bytes at a time, or as many as one cache takes.
    pub fn new(
        signed: &'a Signed,
        caches: &[Cache],
        rows: &[(RowPass, Vec<RowProduct>)],
        wanted: impl Fn(usize) -> bool,
        most: usize,
    ) -> Self {
        let (standing, members) = (caches.to_vec(), HashMap::new());
        let mut grid = Self { signed, standing, groups: Vec::new(), members, dealers: Vec::new(), parts: Vec::new() };
        if caches.len() < 2 {
            return grid;
        }
        let dealers = signed.views.iter().enumerate().map(|(product, view)| Dealers::new(rows, product, view));
        grid.dealers = dealers.collect();
        let groups = grouped(0..caches.len(), |number| (caches[number].scope, caches[number].index));
        let deals = |&number: &usize| caches[number].replacement == Replacement::None && wanted(number);
        let dealt = groups.values().filter(|members| members.iter().any(deals)).count();
        for members in groups.into_values() {
            // What is kept of one group is there while others are dealt.
            let most = members.iter().any(deals).then(|| most / dealt);
            grid.add_group(caches, &members, most);
        }
        grid
    }

    /// Adds caches that have scope and index in common.
    fn add_group(&mut self, caches: &[Cache], members: &[usize], most: Option<usize>) {
        let (scope, index) = (caches[members[0]].scope, caches[members[0]].index);
        let vectors = self.signed.views.iter().map(|view| view.layout().vectors()).max().unwrap_or(0);
        let room = u32::try_from(vectors.max(1)).expect("vectors are numbered in 32 bits");
        // Without limit: one set with room for all.
        let size = |number: usize| match caches[number] {
            Cache { entries: 0, .. } => (room, room),
            Cache { entries, ways, .. } => (entries, ways),
        };
        let bits: Vec<u32> = grouped(members.iter().copied(), |number| caches[number].bits).into_keys().collect();
        let sizes: Vec<(u32, u32)> = grouped(members.iter().copied(), size).into_keys().collect();
        let mut group = Group { scope, index, bits, sizes, counts: Vec::new(), work: None };
        let number = self.groups.len();
        let parts = most.map_or_else(Vec::new, |most| self.parts_of(&group, number, most));
        if let [part] = parts.as_slice() {
            let (counts, work) = self.evaluate(&group, part);
            (group.counts, group.work) = (counts, Some(work));
        } else {
            let products = self.signed.views.iter().zip(&self.signed.signatures);
            let counts = |(view, signatures): (&VectorView, &Vec<u64>)| {
                counts_grid(view.layout(), signatures, &group.bits, &group.sizes, index, scope)
            };
            group.counts = products.map(counts).collect();
        }
        self.parts.extend(parts);
        for &member in members {
            let cache = caches[member];
            let length = group.bits.iter().position(|&bits| bits == cache.bits).expect("a length of the list");
            let size = group.sizes.iter().position(|&known| known == size(member)).expect("a size of it");
            let roomy = group.counts_at(length, size).flatten().all(|counts| counts.mnu == 0);
            self.standing[member] = if roomy { cache.unlimited() } else { cache };
            // The grid's caches never replace anything.
            if roomy || cache.replacement == Replacement::None {
                let found = Member { group: number, length, size };
                let known = self.members.entry(self.standing[member]).or_insert(found);
                if self.parts.iter().all(|part| part.group != known.group) {
                    // Runs may be dealt in this group.
                    *known = found;
                }
            }
        }
        self.groups.push(group);
    }

    /// Parts of a group whose lanes' work takes no more than so many bytes each, or is that of one cache; none where runs are
    /// not dealt one by one.
    fn parts_of(&self, group: &Group, number: usize, most: usize) -> Vec<Part> {
        if group.scope == Scope::Batch || self.dealers.iter().any(|dealers| dealers.different.is_empty()) {
            return Vec::new();
        }
        let products = self.signed.views.iter().zip(&self.dealers);
        let of_product = |(view, dealers): (&VectorView, &Dealers), caches: usize| -> usize {
            let of_run = dealers.different.iter().map(|dealer| dealer.bytes(caches)).sum::<usize>();
            view.layout().runs() * (of_run + size_of::<Vec<LaneWork>>())
        };
        let bytes = |caches: usize| products.clone().map(|product| of_product(product, caches)).sum::<usize>().max(1);
        let (lengths, sizes) = (group.bits.len(), group.sizes.len());
        let sizes_at_once = (1..=sizes).rev().find(|&some| bytes(some) <= most).unwrap_or(1);
        let lengths_at_once = (most / bytes(sizes_at_once)).clamp(1, lengths);
        let some = |first: usize, at_once: usize, all: usize| first..all.min(first + at_once);
        let parts = (0..lengths).step_by(lengths_at_once).flat_map(|length| {
            let lengths = some(length, lengths_at_once, lengths);
            let sizes = (0..sizes).step_by(sizes_at_once).map(move |size| some(size, sizes_at_once, sizes));
            sizes.map(move |sizes| Part { group: number, lengths: lengths.clone(), sizes })
        });
        parts.collect()
    }

    /// Counts and lanes' work under the caches of a part, by product.
    fn evaluate(&self, group: &Group, part: &Part) -> (Vec<Vec<Vec<Counts>>>, PartWork) {
        let (bits, sizes) = (&group.bits[part.lengths.clone()], &group.sizes[part.sizes.clone()]);
        let products = self.signed.views.iter().zip(&self.signed.signatures).zip(&self.dealers);
        let of_product = |((view, signatures), dealers): ((&VectorView, &Vec<u64>), &Dealers)| {
            outcomes_grid(view.layout(), signatures, bits, sizes, group.index, group.scope, |outcomes| {
                Dealer::deal_run(&dealers.different, outcomes, sizes.len())
            })
        };
        let (counts, work) = products.map(of_product).unzip();
        (counts, PartWork(work))
    }

    /// The counts of a cache, `[products][runs]`, where they are known.
    pub fn counts(&self, cache: &Cache) -> Option<impl Iterator<Item = &Vec<Counts>>> {
        let &Member { group, length, size } = self.members.get(cache)?;
        Some(self.groups[group].counts_at(length, size))
    }

    /// Number of the part that a cache is dealt in, where runs are dealt under it in all of these passes.
    pub fn part(&self, cache: &Cache, passes: impl IntoIterator<Item = RowPass>) -> Option<usize> {
        let Member { group, length, size } = *self.members.get(cache)?;
        let holds = |part: &Part| part.group == group && part.lengths.contains(&length) && part.sizes.contains(&size);
        let part = self.parts.iter().position(holds)?;
        let deals = |pass| self.dealers.iter().all(|dealers| dealers.of(pass).is_some());
        passes.into_iter().all(deals).then_some(part)
    }

    /// Calls `with` with the work of lanes under the caches of a part.
    pub fn with_work(&self, part: usize, with: impl FnOnce(&PartWork)) {
        let part = &self.parts[part];
        let group = &self.groups[part.group];
        match &group.work {
            Some(work) => with(work),
            None => with(&self.evaluate(group, part).1),
        }
    }

    /// Adds what the PE sets do in a row-stationary pass under a cache, by product, from the work of its part.
    ///
    /// # Panics
    /// If they are not dealt ([`CacheGrid::part`]).
    pub fn add_runs(
        &self,
        part: usize,
        work: &PartWork,
        cache: &Cache,
        of: RowPass,
        rows: &[RowProduct],
        dealt: &mut [Dealt],
    ) {
        let (part, Member { length, size, .. }) = (&self.parts[part], self.members[cache]);
        let (length, size) = (length - part.lengths.start, size - part.sizes.start);
        let products = self.signed.views.iter().zip(&self.dealers).zip(&work.0);
        for (((view, dealers), work), (row, dealt)) in products.zip(rows.iter().zip(dealt)) {
            let dealer = dealers.of(of).expect("a pass that is dealt");
            let of_run = |run: usize| (&work[length][run][dealer], size);
            row.add_runs(dealt, &dealers.different[dealer], view.layout(), of_run);
        }
    }
}

impl Group {
    fn counts_at(&self, length: usize, size: usize) -> impl Iterator<Item = &Vec<Counts>> {
        self.counts.iter().map(move |product| &product[length * self.sizes.len() + size])
    }
}
