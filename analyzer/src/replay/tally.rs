//! What is summed up over a layer's samples for the caches that had the same outcomes so far.

use super::similarity::Signed;
use crate::accuracy::{ErrorSums, OutputErrors, WeightGradient};
use crate::config::{Config, Substitution};
use crate::operand::LayerData;
use crate::timing::rows::{Dealt, Rounds, RowArray, RowProduct};
use mercury_reuse::{Counts, MatchQuality, Substitutes};
use mercury_trace::geometry::Pass;

/// Outcomes, errors and schedules, by product of the layer's pass.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Of each run, `[products][samples][streams]`.
    counts: Vec<Vec<Counts>>,
    errors: Vec<Errors>,
    dealt: Vec<(RowPass, Vec<Dealt>)>,
}

/// A pass and how its HITs are computed.
pub type Substituted = (Pass, Substitution);
/// A pass on a row-stationary array.
pub type RowPass = (Pass, RowArray);

/// Errors of a pass, by product.
#[derive(Debug, Clone)]
struct Errors {
    of: Substituted,
    /// Of the forward pass or the input gradient.
    outputs: Vec<Option<ErrorSums>>,
    /// Of the weight gradient.
    gradients: Vec<Option<WeightGradient>>,
    quality: Vec<MatchQuality>,
}

impl Tally {
    /// Of no samples. `rows` are the row-stationary products of each pass, `substituted` those whose errors
    /// are wanted.
    pub fn new(products: usize, substituted: Vec<Substituted>, rows: Vec<(RowPass, &[RowProduct])>) -> Self {
        let errors = |of| Errors {
            of,
            outputs: vec![None; products],
            gradients: vec![None; products],
            quality: vec![MatchQuality::default(); products],
        };
        let dealt = |(of, rows): (RowPass, &[RowProduct])| (of, rows.iter().map(RowProduct::begin).collect());
        Self {
            counts: vec![Vec::new(); products],
            errors: substituted.into_iter().map(errors).collect(),
            dealt: rows.into_iter().map(dealt).collect(),
        }
    }

    /// A copy of what these configurations ask for.
    pub fn of(&self, members: &[&Config]) -> Self {
        let reuses = |config: &Config, pass: Pass| config.reuse.passes.contains(&pass);
        let any = |wanted: &dyn Fn(&Config) -> bool| members.iter().any(|config| wanted(config));
        let errors = self.errors.iter().filter(|Errors { of: (pass, substitution), .. }| {
            any(&|config| reuses(config, *pass) && config.substitution() == *substitution)
        });
        let dealt = self.dealt.iter().filter(|((pass, array), _)| {
            any(&|config| reuses(config, *pass) && config.dataflow().is_none() && config.row_array() == *array)
        });
        Self { counts: self.counts.clone(), errors: errors.cloned().collect(), dealt: dealt.cloned().collect() }
    }

    /// The passes whose errors are wanted, and how their HITs are computed.
    pub fn substituted(&self) -> impl Iterator<Item = Substituted> {
        self.errors.iter().map(|errors| errors.of)
    }

    /// The passes that are dealt to PE sets.
    pub fn row_passes(&self) -> impl Iterator<Item = RowPass> {
        self.dealt.iter().map(|(of, _)| *of)
    }

    /// The passes that are dealt to PE sets, and what was dealt so far, by product.
    pub fn dealt_mut(&mut self) -> impl Iterator<Item = (&RowPass, &mut [Dealt])> {
        self.dealt.iter_mut().map(|(of, dealt)| (&*of, dealt.as_mut_slice()))
    }

    /// Adds the outcomes of samples, by product.
    pub fn add_counts<'c>(&mut self, counts: impl Iterator<Item = &'c Vec<Counts>>) {
        for (sum, counts) in self.counts.iter_mut().zip(counts) {
            sum.extend(counts);
        }
    }

    /// Adds the errors of samples, by product and sample, of a pass for which they are wanted, to `none` at
    /// first.
    pub fn add_errors(&mut self, of: Substituted, found: &[(Option<OutputErrors>, MatchQuality)], none: &ErrorSums) {
        let Some(errors) = self.errors.iter_mut().find(|errors| errors.of == of) else { return };
        for (product, (samples, quality)) in found.iter().enumerate() {
            for sample in samples.iter().flatten() {
                errors.outputs[product].get_or_insert_with(|| none.clone()).push(*sample);
            }
            errors.quality[product] += quality.clone();
        }
    }

    /// Adds samples to the weight gradient, if its error is wanted; each stands for `of_each` of the batch.
    pub fn add_gradients(
        &mut self,
        substitution: Substitution,
        data: &LayerData,
        signed: &Signed,
        substitutes: &[Substitutes],
        most: Option<usize>,
        of_each: f64,
    ) {
        let of = (Pass::WeightGrad, substitution);
        let Some(errors) = self.errors.iter_mut().find(|errors| errors.of == of) else { return };
        for ((sum, view), substitutes) in errors.gradients.iter_mut().zip(&signed.views).zip(substitutes) {
            if sum.is_none() {
                *sum = WeightGradient::new(data, view, most, of_each);
            }
            if let Some(sum) = sum {
                sum.add(data, substitutes);
            }
        }
    }

    /// Adds the rounds of samples, by product, if they are wanted.
    pub fn add_rounds(&mut self, of: RowPass, rounds: &[Rounds]) {
        let Some((_, dealt)) = self.dealt.iter_mut().find(|(known, _)| *known == of) else { return };
        for (dealt, rounds) in dealt.iter_mut().zip(rounds) {
            dealt.add(rounds);
        }
    }

    /// Outcomes of each run, `[products][samples][streams]`.
    pub fn counts(&self) -> &[Vec<Counts>] {
        &self.counts
    }

    /// Output error, and how good the matches are; the weight gradient's are the forward pass's.
    pub fn error(&self, pass: Pass, substitution: Substitution) -> (Option<ErrorSums>, Option<MatchQuality>) {
        let Some(errors) = self.errors.iter().find(|errors| errors.of == (pass, substitution)) else {
            return (None, None);
        };
        let gradients = errors.gradients.iter().flatten().map(WeightGradient::error);
        let products = errors.outputs.iter().flatten().cloned().chain(gradients);
        let known = products.filter(|error| !error.is_empty()).reduce(|mut sum, error| {
            sum.add(&error);
            sum
        });
        let quality = (pass != Pass::WeightGrad).then(|| errors.quality.iter().cloned().sum());
        (known, quality)
    }

    /// A product's schedule.
    ///
    /// # Panics
    /// If it was not asked for.
    pub fn dealt(&self, pass: Pass, array: &RowArray, product: usize) -> &Dealt {
        let (_, dealt) = self.dealt.iter().find(|(of, _)| *of == (pass, *array)).expect("dealt as configured");
        &dealt[product]
    }
}
