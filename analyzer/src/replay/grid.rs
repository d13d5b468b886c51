//! What one sort of the signatures tells of several caches: counts, and what PE sets do.

use super::caches::Cache;
use super::grouped::grouped;
use super::similarity::Signed;
use super::tally::RowPass;
use crate::timing::rows::{Dealer, Dealt, Lanes, RowProduct};
use mercury_reuse::config::{Replacement, Scope};
use mercury_reuse::{Counts, Layout, VectorView, counts_grid, outcomes_grid};
use std::collections::HashMap;

/// What is known of caches before any vector is looked up.
pub struct Known {
    /// The cache that stands for each: those in which everything finds room become one.
    pub standing: Vec<Cache>,
    products: Vec<Product>,
    /// Of those that stand for others and of which the rest is known, its place in the products' lists.
    places: HashMap<Cache, Place>,
}

#[derive(Clone, Copy)]
struct Place {
    /// Number of the group that has scope and index in common.
    group: usize,
    length: usize,
    size: usize,
    sizes: usize,
}

/// One of a pass's products.
struct Product {
    layout: Layout,
    dealers: Dealers,
    /// By group.
    groups: Vec<Outcomes>,
}

/// The caches of a group, over signatures of several lengths.
struct Outcomes {
    /// `[lengths * sizes][runs]`
    counts: Vec<Vec<Counts>>,
    /// `[lengths][runs][dealers]`, where they are asked for.
    lanes: Vec<Vec<Vec<Lanes>>>,
}

/// What deals a product's runs, for each row-stationary pass: few different ones, as disciplines have them in common.
struct Dealers {
    different: Vec<Dealer>,
    of_passes: Vec<(RowPass, usize)>,
}

impl Dealers {
    /// None where runs are not dealt one by one.
    fn new(rows: &[(RowPass, Vec<RowProduct>)], product: usize, signed: &Signed) -> Self {
        let mut dealers = Self { different: Vec::new(), of_passes: Vec::new() };
        for (of, products) in rows {
            let Some(dealer) = products[product].run_dealer(&signed.views[product]) else { continue };
            let known = dealers.different.iter().position(|known| *known == dealer);
            dealers.of_passes.push((*of, known.unwrap_or(dealers.different.len())));
            if known.is_none() {
                dealers.different.push(dealer);
            }
        }
        dealers
    }
}

impl Known {
    /// Of caches over these signatures, and if `deals`, of what the PE sets do in `rows` with each.
    pub fn new(signed: &Signed, caches: &[Cache], rows: &[(RowPass, Vec<RowProduct>)], deals: bool) -> Self {
        let product = |(product, view): (usize, &VectorView)| Product {
            layout: view.layout(),
            dealers: Dealers::new(if deals { rows } else { &[] }, product, signed),
            groups: Vec::new(),
        };
        let products = signed.views.iter().enumerate().map(product).collect();
        let mut known = Self { standing: caches.to_vec(), products, places: HashMap::new() };
        let limited: Vec<usize> = (0..caches.len()).filter(|&number| caches[number].entries > 0).collect();
        if limited.len() < 2 {
            return known;
        }
        let groups = grouped(limited, |number| (caches[number].scope, caches[number].index));
        for (group, members) in groups.into_values().enumerate() {
            known.add_group(signed, caches, group, &members);
        }
        known
    }

    /// Adds caches that have scope and index in common.
    fn add_group(&mut self, signed: &Signed, caches: &[Cache], group: usize, members: &[usize]) {
        let of = |number: usize| caches[number];
        let (scope, index) = (of(members[0]).scope, of(members[0]).index);
        let bits: Vec<u32> = grouped(members.iter().copied(), |number| of(number).bits).into_keys().collect();
        let size = |number: usize| (of(number).entries, of(number).ways);
        let sizes: Vec<(u32, u32)> = grouped(members.iter().copied(), size).into_keys().collect();
        for (product, signatures) in self.products.iter_mut().zip(&signed.signatures) {
            let (layout, dealers) = (product.layout, product.dealers.different.as_slice());
            product.groups.push(if dealers.is_empty() || scope == Scope::Batch {
                let counts = counts_grid(layout, signatures, &bits, &sizes, index, scope);
                Outcomes { counts, lanes: Vec::new() }
            } else {
                let (counts, lanes) = outcomes_grid(layout, signatures, &bits, &sizes, index, scope, |outcomes| {
                    dealers.iter().map(|dealer| dealer.deal_run(outcomes, sizes.len())).collect::<Vec<Lanes>>()
                });
                Outcomes { counts, lanes }
            });
        }
        for &number in members {
            let cache = of(number);
            let length = bits.iter().position(|&bits| bits == cache.bits).expect("a length of the list");
            let size = sizes.iter().position(|&known| known == size(number)).expect("a size of it");
            let place = Place { group, length, size, sizes: sizes.len() };
            let roomy = self.counts_at(place).flatten().all(|counts| counts.mnu == 0);
            self.standing[number] = if roomy { cache.unlimited() } else { cache };
            // The grid's caches never replace anything.
            if roomy || cache.replacement == Replacement::None {
                self.places.entry(self.standing[number]).or_insert(place);
            }
        }
    }

    fn counts_at(&self, Place { group, length, size, sizes, .. }: Place) -> impl Iterator<Item = &Vec<Counts>> {
        self.products.iter().map(move |product| &product.groups[group].counts[length * sizes + size])
    }

    /// The counts of a cache, by product.
    pub fn counts(&self, cache: &Cache) -> Option<Vec<Vec<Counts>>> {
        Some(self.counts_at(*self.places.get(cache)?).cloned().collect())
    }

    /// Whether it is known what the PE sets do in a row-stationary pass under a cache.
    pub fn knows(&self, cache: &Cache, of: RowPass) -> bool {
        let Some(&Place { group, length, .. }) = self.places.get(cache) else { return false };
        let knows = |product: &Product| {
            product.dealers.of_passes.iter().any(|(pass, _)| *pass == of)
                && product.groups[group].lanes.get(length).is_some()
        };
        self.products.iter().all(knows)
    }

    /// Adds what the PE sets do in a row-stationary pass under a cache, by product.
    ///
    /// # Panics
    /// If it is not known.
    pub fn add_rounds(&self, cache: &Cache, of: RowPass, rows: &[RowProduct], dealt: &mut [Dealt]) {
        let Place { group, length, size, .. } = self.places[cache];
        for ((product, row), dealt) in self.products.iter().zip(rows).zip(dealt) {
            let dealer = product.dealers.of_passes.iter().find(|(pass, _)| *pass == of).expect("known").1;
            let lanes = &product.groups[group].lanes[length];
            let of_run = |run: usize| (&lanes[run][dealer], size);
            row.add_runs(dealt, &product.dealers.different[dealer], product.layout, of_run);
        }
    }
}
