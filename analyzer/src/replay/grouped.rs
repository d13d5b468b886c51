//! Items that are alike, in order of first appearance.

use indexmap::IndexMap;
use std::hash::Hash;

/// Items by key.
pub type Grouped<K, T> = IndexMap<K, Vec<T>>;

/// Groups items.
pub fn grouped<T: Copy, K: Hash + Eq>(items: impl IntoIterator<Item = T>, key: impl Fn(T) -> K) -> Grouped<K, T> {
    let mut groups = Grouped::new();
    for item in items {
        groups.entry(key(item)).or_default().push(item);
    }
    groups
}

/// Each item once; for few different ones.
pub fn distinct<T: Copy + PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut known = Vec::new();
    for item in items {
        if !known.contains(&item) {
            known.push(item);
        }
    }
    known
}
