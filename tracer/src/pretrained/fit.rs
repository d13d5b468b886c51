//! Whether a file's tensors are the model's, by name, shape and value.

use crate::weights::{WeightEntry, Weights};
use globset::GlobSet;
use std::collections::{BTreeMap, BTreeSet};
use tch::{Kind, Tensor, no_grad};

/// What wrappers put before every name: `nn.DataParallel`, `torch.compile`, and Lightning and many scripts.
const PREFIXES: [&str; 3] = ["module.", "_orig_mod.", "model."];
/// How many of these are tried, one after the other.
const MOST_PREFIXES: usize = 3;
/// Counters of batch normalisation, which no computation here uses: a file may lack them or have more.
const COUNTER: &str = "num_batches_tracked";
/// Names that an error lists.
const LISTED: usize = 10;

/// Fewest characters that a name must share with a pattern to be suggested for it.
const NEAR: usize = 3;

/// Patterns of the names that keep the values with which the model begins.
#[derive(Debug, Default)]
pub struct Fresh {
    patterns: Vec<String>,
    pub(super) set: GlobSet,
}

impl Fresh {
    /// Of patterns, and the set that was made of them in this order.
    pub fn new(patterns: Vec<String>, set: GlobSet) -> Self {
        Self { patterns, set }
    }
}

/// Tensors under the model's names.
pub(super) struct Fitted {
    tensors: BTreeMap<String, Tensor>,
    /// What was taken off the file's names; may be nothing.
    pub(super) prefix: String,
}

/// Refuses patterns of `--fresh` that match neither a name of the model nor one of the file.
pub(super) fn check_fresh(weights: &Weights, found: &BTreeMap<String, Tensor>, fresh: &Fresh) -> Result<(), String> {
    let names: Vec<String> = weights.entries().iter().map(|entry| entry.name.clone()).collect();
    let mut is_used = vec![false; fresh.patterns.len()];
    for prefix in prefixes() {
        for name in names.iter().chain(found.keys()) {
            for index in fresh.set.matches(without_prefix(name, &prefix)) {
                is_used[index] = true;
            }
        }
    }
    match fresh.patterns.iter().zip(is_used).find(|(_, is_used)| !is_used) {
        None => Ok(()),
        Some((pattern, _)) => Err(format!(
            "{pattern:?} matches no parameter of the model, which has {}",
            join(&near_names(pattern, &names))
        )),
    }
}

/// The names that begin most like a pattern; all of them if none is near.
fn near_names(pattern: &str, names: &[String]) -> Vec<String> {
    let literal: Vec<char> = pattern.chars().take_while(|c| !"*?[{".contains(*c)).collect();
    for length in (NEAR..=literal.len()).rev() {
        let beginning: String = literal[..length].iter().collect();
        let near: Vec<String> = names.iter().filter(|name| name.starts_with(&beginning)).cloned().collect();
        if !near.is_empty() {
            return near;
        }
    }
    // The last ones are of the layer that decides the classes.
    names.iter().rev().cloned().collect()
}

/// Compares a file's tensors with the model's, and says what differs. Names that match `fresh` do not count.
pub(super) fn compare(weights: &Weights, found: BTreeMap<String, Tensor>, fresh: &GlobSet) -> Result<Fitted, String> {
    let entries = weights.entries();
    let in_order: Vec<&WeightEntry> = entries.iter().filter(|entry| counts(&entry.name, fresh)).collect();
    let wanted: BTreeSet<&str> = in_order.iter().map(|entry| entry.name.as_str()).collect();
    let prefix = best_prefix(&wanted, &found, fresh);
    let foreign = foreign_prefix(&wanted, &found, fresh);
    let mut tensors: BTreeMap<String, Tensor> =
        found.into_iter().map(|(name, tensor)| (without_prefix(&name, &prefix).to_owned(), tensor)).collect();
    tensors.retain(|name, _| !fresh.is_match(name));

    let (mut missing, mut shapes) = (Vec::new(), Vec::new());
    for entry in in_order {
        let expected = entry.tensor.size();
        match tensors.get(&entry.name).map(Tensor::size) {
            None => missing.push(entry.name.clone()),
            Some(size) if size != expected => {
                shapes.push(format!("{} ({size:?}, the model has {expected:?})", entry.name));
            }
            Some(_) => {}
        }
    }
    let most_are_missing = missing.len() * 2 > wanted.len();
    let unknown = tensors.keys().filter(|name| counts(name, fresh) && !wanted.contains(name.as_str())).cloned();
    let parts = [("missing", missing), ("not in the model", unknown.collect()), ("of another shape", shapes)];
    let wrong: Vec<String> =
        parts.iter().filter(|(_, names)| !names.is_empty()).map(|(what, names)| list(what, names)).collect();
    if wrong.is_empty() {
        return Ok(Fitted { tensors, prefix });
    }
    let wrong = wrong.join("; ");
    if let Some(foreign) = foreign {
        return Err(format!(
            "all its names begin with {foreign:?}, which the model's names do not: save it with names without that; \
             as it is, it does not fit the model: {wrong}"
        ));
    }
    let without = if prefix.is_empty() { String::new() } else { format!(", even without {prefix:?} before its names") };
    let advice = if most_are_missing {
        "is it of another model?"
    } else {
        "is it of another model, or of a data set with another number of classes? To train on from it, leave what \
         differs out with --fresh"
    };
    Err(format!("does not fit the model{without}: {wrong}; {advice}"))
}

/// A prefix that no known wrapper writes, without which all names of the file are the model's.
fn foreign_prefix(wanted: &BTreeSet<&str>, found: &BTreeMap<String, Tensor>, fresh: &GlobSet) -> Option<String> {
    let known = prefixes();
    let first = found.keys().next()?;
    let is_foreign = |prefix: &&str| {
        let is_wanted = |name: &str| !counts(name, fresh) || wanted.contains(name);
        !known.iter().any(|known| known == prefix)
            && found.keys().any(|name| name.strip_prefix(*prefix).is_some_and(|name| wanted.contains(name)))
            && found.keys().all(|name| name.strip_prefix(*prefix).is_some_and(is_wanted))
    };
    first.match_indices('.').map(|(dot, _)| &first[..=dot]).find(is_foreign).map(str::to_owned)
}

impl Fitted {
    /// Refuses values that are not finite numbers.
    pub(super) fn check_finite(&self) -> Result<(), String> {
        let broken: Vec<String> = self.tensors.iter().filter_map(|(name, tensor)| not_finite(name, tensor)).collect();
        if broken.is_empty() {
            return Ok(());
        }
        let broken = list("has values that are no finite numbers", &broken);
        Err(format!("{broken}; take weights from before they broke, or leave these out with --fresh"))
    }

    /// Refuses integers in place of the model's floating-point values: quantised weights mean nothing without their
    /// scales.
    pub(super) fn check_kinds(&self, weights: &Weights) -> Result<(), String> {
        let mut first_kind = None;
        let mut names = Vec::new();
        for entry in weights.entries().iter() {
            if entry.name.ends_with(COUNTER) || !entry.tensor.is_floating_point() {
                continue;
            }
            let Some(tensor) = self.tensors.get(&entry.name) else { continue };
            if !tensor.is_floating_point() && tensor.kind() == *first_kind.get_or_insert(tensor.kind()) {
                names.push(entry.name.clone());
            }
        }
        let Some(kind) = first_kind else { return Ok(()) };
        let verb = if names.len() == 1 { "holds" } else { "hold" };
        Err(format!(
            "{} {verb} {}, which are no weights as they stand; dequantise to float32 and save again",
            join(&names),
            kind_name(kind)
        ))
    }

    /// Puts the values into the model; returns how many tensors.
    pub(super) fn copy_to(&self, weights: &Weights) -> tch::Result<usize> {
        let mut count = 0;
        for entry in weights.entries().iter() {
            if let Some(tensor) = self.tensors.get(&entry.name).filter(|t| t.size() == entry.tensor.size()) {
                no_grad(|| entry.tensor.shallow_clone().f_copy_(tensor))?;
                count += 1;
            }
        }
        Ok(count)
    }
}

/// Whether a name must be in both the file and the model.
fn counts(name: &str, fresh: &GlobSet) -> bool {
    !name.ends_with(COUNTER) && !fresh.is_match(name)
}

/// The wrappers' prefix without which the fewest names differ: none where that is as good.
fn best_prefix(wanted: &BTreeSet<&str>, found: &BTreeMap<String, Tensor>, fresh: &GlobSet) -> String {
    let differing = |prefix: &str| {
        let names: BTreeSet<&str> = found.keys().map(|name| without_prefix(name, prefix)).collect();
        if names.len() < found.len() {
            // Two names became one.
            return usize::MAX;
        }
        let names: BTreeSet<&str> = names.into_iter().filter(|name| counts(name, fresh)).collect();
        names.symmetric_difference(wanted).count()
    };
    prefixes().into_iter().min_by_key(|prefix| differing(prefix)).unwrap_or_default()
}

/// No prefix, then one, then all sequences of more.
fn prefixes() -> Vec<String> {
    let mut all = vec![String::new()];
    let mut longest = all.clone();
    for _ in 0..MOST_PREFIXES {
        longest = longest.iter().flat_map(|outer| PREFIXES.map(|inner| format!("{outer}{inner}"))).collect();
        all.extend(longest.iter().cloned());
    }
    all
}

/// A name that has no such prefix is left as it is.
fn without_prefix<'a>(name: &'a str, prefix: &str) -> &'a str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// What of a tensor's values is not finite.
fn not_finite(name: &str, tensor: &Tensor) -> Option<String> {
    if !tensor.is_floating_point() {
        return None;
    }
    let count = |mask: Tensor| mask.sum(Kind::Int64).int64_value(&[]);
    let (nan, infinite) = (count(tensor.isnan()), count(tensor.isinf()));
    match (nan, infinite) {
        (0, 0) => None,
        (0, infinite) => Some(format!("{name} ({infinite} infinite)")),
        (nan, 0) => Some(format!("{name} ({nan} NaN)")),
        (nan, infinite) => Some(format!("{name} ({nan} NaN, {infinite} infinite)")),
    }
}

/// A kind's name in PyTorch.
fn kind_name(kind: Kind) -> String {
    match kind {
        Kind::Uint8 => "uint8".to_owned(),
        Kind::Int8 => "int8".to_owned(),
        Kind::Int16 => "int16".to_owned(),
        Kind::Int => "int32".to_owned(),
        Kind::Int64 => "int64".to_owned(),
        Kind::Bool => "bool".to_owned(),
        other => format!("{other:?}"),
    }
}

fn list(what: &str, names: &[String]) -> String {
    format!("{what}: {}", join(names))
}

/// The first names, and the number of the others.
fn join(names: &[String]) -> String {
    let more = names.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names[..names.len().min(LISTED)].join(", "))
}
