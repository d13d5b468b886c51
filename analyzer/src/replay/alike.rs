//! Caches that had the same outcomes so far, and what the next samples add to them.

use super::caches::{Cache, Found};
use super::grid::{CacheGrid, PartWork};
use super::grouped::{Grouped, distinct, grouped};
use super::similarity::Signed;
use super::tally::{RowPass, Tally};
use crate::accuracy::{self, ErrorSums};
use crate::operand::LayerData;
use crate::request::Measures;
use crate::timing::rows::{Rounds, RowProduct};
use mercury_reuse::{Counts, Hitmap, MatchOptions, Substitutes, match_quality};
use mercury_trace::geometry::Pass;
use rayon::prelude::*;

/// Caches that had the same outcomes so far.
#[derive(Clone)]
pub struct Alike {
    /// Their numbers.
    pub caches: Vec<usize>,
    /// What came of them.
    pub tally: Tally,
}

/// Samples that are added, and what is asked of them.
#[derive(Clone, Copy)]
pub struct Samples<'a> {
    pub data: &'a LayerData,
    pub signed: &'a Signed<'a>,
    /// Samples of the step.
    pub batch: u32,
    pub rows: &'a [(RowPass, Vec<RowProduct>)],
    pub measures: &'a Measures,
}

impl Samples<'_> {
    /// Adds outcomes of some caches.
    pub fn add(self, found: &[Found], alike: &mut Grouped<Cache, Alike>) {
        let of = |cache: &Cache| found.iter().find(|(other, _)| other == cache).map(|(_, hitmaps)| hitmaps.as_slice());
        let mut known: Vec<(&[Hitmap], &mut Vec<Alike>)> =
            alike.iter_mut().filter_map(|(cache, alike)| Some((of(cache)?, alike))).collect();
        // Few, and long enough: none should wait for another's.
        known.par_iter_mut().with_max_len(1).for_each(|(hitmaps, alike)| self.deal(hitmaps, alike));
        if !self.measures.errors.is_none() {
            // One by one, as each takes a lot of memory.
            for (hitmaps, alike) in &mut known {
                self.compare(hitmaps, alike);
            }
        }
    }

    /// Adds what a grid tells of a cache, with the work of the lanes of its part if runs are dealt.
    pub fn add_told(self, grid: &CacheGrid, work: Option<(usize, &PartWork)>, cache: &Cache, alike: &mut [Alike]) {
        for Alike { tally, .. } in alike {
            tally.add_counts(grid.counts(cache).expect("of a cache that is told"));
            let Some((part, work)) = work else { continue };
            for (of, dealt) in tally.dealt_mut() {
                grid.add_runs(part, work, cache, *of, self.products(*of), dealt);
            }
        }
    }

    fn products(&self, of: RowPass) -> &[RowProduct] {
        let (_, products) = self.rows.iter().find(|(known, _)| *known == of).expect("made for all configurations");
        products
    }

    /// Adds counts and schedules.
    fn deal(self, hitmaps: &[Hitmap], alike: &mut [Alike]) {
        let counts: Vec<Vec<Counts>> = hitmaps.iter().map(|hitmap| hitmap.counts().to_vec()).collect();
        for alike in &mut *alike {
            alike.tally.add_counts(counts.iter());
        }
        for of in distinct(alike.iter().flat_map(|alike| alike.tally.row_passes())) {
            let deal = |((product, view), hitmap): ((&RowProduct, _), _)| product.deal(view, hitmap);
            let rounds: Vec<Rounds> = self.products(of).iter().zip(&self.signed.views).zip(hitmaps).map(deal).collect();
            for alike in &mut *alike {
                alike.tally.add_rounds(of, &rounds);
            }
        }
    }

    /// Adds errors.
    fn compare(self, hitmaps: &[Hitmap], alike: &mut [Alike]) {
        let Self { data, signed, measures, .. } = self;
        let most = measures.errors.most();
        let wanted: Vec<_> = alike.iter().flat_map(|alike| alike.tally.substituted()).collect();
        for (substitution, of) in grouped(wanted, |(_, substitution)| substitution) {
            let substitutes =
                |(view, hitmap)| Substitutes::new(view, hitmap, substitution.variant, substitution.representative);
            let substitutes: Vec<Substitutes> = signed.views.iter().zip(hitmaps).map(substitutes).collect();
            let of_each = f64::from(self.batch) / data.kept.samples as f64;
            for pass in distinct(of.into_iter().map(|(pass, _)| pass)) {
                if pass == Pass::WeightGrad {
                    for alike in &mut *alike {
                        alike.tally.add_gradients(substitution, data, signed, &substitutes, most, of_each);
                    }
                    continue;
                }
                let of_product = |substitutes: &Substitutes| {
                    let quality = match_quality(substitutes, &MatchOptions::default());
                    (accuracy::output_error(data, pass, substitutes, most), quality)
                };
                let found: Vec<_> = substitutes.iter().map(of_product).collect();
                let none = ErrorSums::new(of_each, pass == Pass::Forward && data.grad_output.is_some());
                for alike in &mut *alike {
                    alike.tally.add_errors((pass, substitution), &found, &none);
                }
            }
        }
    }
}
