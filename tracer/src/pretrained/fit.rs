//! Compares a file's tensors with the model's by name, shape and value.

use crate::error::TracerError;
use crate::patterns::{NamePatterns, list_names};
use crate::weights::{WeightEntry, Weights};
use std::collections::{BTreeMap, BTreeSet};
use tch::{Kind, Tensor, no_grad};

/// Prefixes of names that wrappers add: `nn.DataParallel`, `torch.compile`, and Lightning and
/// scripts.
const PREFIXES: [&str; 3] = ["module.", "_orig_mod.", "model."];
/// Maximum number of prefixes in sequence.
const MAX_PREFIXES: usize = 3;
/// Suffix of batch normalisation's counters, which are not used: a file may lack them or have more.
const COUNTER: &str = "num_batches_tracked";

/// Tensors under the model's names.
pub(super) struct FittedWeights {
    tensors: BTreeMap<String, Tensor>,
    /// The prefix that was removed from the file's names; may be empty.
    pub(super) prefix: String,
}

/// Refuses patterns of `--fresh` that match no name of the model or the file.
pub(super) fn check_fresh(
    weights: &Weights,
    found: &BTreeMap<String, Tensor>,
    fresh: &NamePatterns,
) -> Result<(), TracerError> {
    let names: Vec<String> = weights.entries().iter().map(|entry| entry.name.clone()).collect();
    let prefixes = list_prefixes();
    let candidates = prefixes
        .iter()
        .flat_map(|prefix| names.iter().chain(found.keys()).map(move |name| without_prefix(name, prefix)));
    match fresh.find_unused(candidates) {
        None => Ok(()),
        Some(pattern) => Err(fresh.refuse_unused(pattern, &names)),
    }
}

/// Compares a file's tensors with the model's; an error lists the differences.
///
/// Names that match `fresh` are not compared.
pub(super) fn compare(
    weights: &Weights,
    found: BTreeMap<String, Tensor>,
    fresh: &NamePatterns,
) -> Result<FittedWeights, String> {
    let entries = weights.entries();
    let in_order: Vec<&WeightEntry> = entries.iter().filter(|entry| is_compared(&entry.name, fresh)).collect();
    let wanted: BTreeSet<&str> = in_order.iter().map(|entry| entry.name.as_str()).collect();
    let prefix = find_best_prefix(&wanted, &found, fresh);
    let foreign = find_foreign_prefix(&wanted, &found, fresh);
    let mut tensors: BTreeMap<String, Tensor> =
        found.into_iter().map(|(name, tensor)| (without_prefix(&name, &prefix).to_owned(), tensor)).collect();
    tensors.retain(|name, _| !fresh.is_match(name));

    let mut missing = Vec::new();
    let mut shapes = Vec::new();
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
    let unknown = tensors.keys().filter(|name| is_compared(name, fresh) && !wanted.contains(name.as_str())).cloned();
    let parts = [("missing", missing), ("not in the model", unknown.collect()), ("of another shape", shapes)];
    let wrong: Vec<String> =
        parts.iter().filter(|(_, names)| !names.is_empty()).map(|(label, names)| list(label, names)).collect();
    if wrong.is_empty() {
        return Ok(FittedWeights { tensors, prefix });
    }
    let wrong = wrong.join("; ");
    if let Some(foreign) = foreign {
        return Err(format!(
            "all its names have the prefix {foreign:?}, which the model's names lack; save it without the \
             prefix (now it does not fit the model: {wrong})"
        ));
    }
    let without = if prefix.is_empty() { String::new() } else { format!(", even without the prefix {prefix:?}") };
    let advice = if most_are_missing {
        "is it for another model?"
    } else {
        "is it for another model or another number of classes? To start from it, name the parameters that \
         differ with --fresh"
    };
    Err(format!("does not fit the model{without}: {wrong}; {advice}"))
}

/// Finds a prefix of no known wrapper without which all names of the file are the model's.
fn find_foreign_prefix(
    wanted: &BTreeSet<&str>,
    found: &BTreeMap<String, Tensor>,
    fresh: &NamePatterns,
) -> Option<String> {
    let known = list_prefixes();
    let first = found.keys().next()?;
    for (dot, _) in first.match_indices('.') {
        let prefix = &first[..=dot];
        let mut is_model = false;
        let all_fit = found.keys().all(|name| {
            let Some(name) = name.strip_prefix(prefix) else { return false };
            is_model |= wanted.contains(name);
            wanted.contains(name) || !is_compared(name, fresh)
        });
        if all_fit && is_model && !known.iter().any(|known| known == prefix) {
            return Some(prefix.to_owned());
        }
    }
    None
}

impl FittedWeights {
    /// Refuses values that are not finite numbers.
    pub(super) fn check_finite(&self) -> Result<(), String> {
        let broken: Vec<String> =
            self.tensors.iter().filter_map(|(name, tensor)| describe_not_finite(name, tensor)).collect();
        if broken.is_empty() {
            return Ok(());
        }
        let broken = list("has values that are not finite", &broken);
        Err(format!("{broken}; use earlier weights, or name these parameters with --fresh"))
    }

    /// Refuses integers instead of floating-point values: quantised weights need their scales.
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
            "{} {verb} {}, which are not floating-point weights; dequantise to float32 and save again",
            list_names(&names),
            kind_name(kind)
        ))
    }

    /// Copies the values into the model; returns the number of tensors.
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
fn is_compared(name: &str, fresh: &NamePatterns) -> bool {
    !name.ends_with(COUNTER) && !fresh.is_match(name)
}

/// Finds the wrappers' prefix whose removal leaves the fewest differing names; prefers no prefix.
fn find_best_prefix(wanted: &BTreeSet<&str>, found: &BTreeMap<String, Tensor>, fresh: &NamePatterns) -> String {
    let prefixes = list_prefixes().into_iter();
    prefixes.min_by_key(|prefix| count_differing(prefix, wanted, found, fresh)).unwrap_or_default()
}

/// Counts the names that differ between model and file if a prefix is removed from the file's.
fn count_differing(
    prefix: &str,
    wanted: &BTreeSet<&str>,
    found: &BTreeMap<String, Tensor>,
    fresh: &NamePatterns,
) -> usize {
    let names: BTreeSet<&str> = found.keys().map(|name| without_prefix(name, prefix)).collect();
    if names.len() < found.len() {
        // Without the prefix, two names are equal.
        return usize::MAX;
    }
    let names: BTreeSet<&str> = names.into_iter().filter(|name| is_compared(name, fresh)).collect();
    names.symmetric_difference(wanted).count()
}

/// Lists no prefix, single prefixes and all sequences of prefixes, in this order.
fn list_prefixes() -> Vec<String> {
    let mut all = vec![String::new()];
    let mut longest = all.clone();
    for _ in 0..MAX_PREFIXES {
        longest = longest.iter().flat_map(|outer| PREFIXES.map(|inner| format!("{outer}{inner}"))).collect();
        all.extend(longest.iter().cloned());
    }
    all
}

/// Removes a prefix from a name, if it has the prefix.
fn without_prefix<'a>(name: &'a str, prefix: &str) -> &'a str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// Describes the values of a tensor that are not finite, if any.
fn describe_not_finite(name: &str, tensor: &Tensor) -> Option<String> {
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

/// Returns a kind's name in PyTorch.
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

fn list(label: &str, names: &[String]) -> String {
    format!("{label}: {}", list_names(names))
}
