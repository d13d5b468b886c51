//! Rows of a table that belong together, and sums over them.

use indexmap::IndexMap;
use mercury_trace::geometry::Pass;
use std::hash::Hash;

/// The rows of each key, by their places; keys in the order of their first rows.
pub(crate) fn group_rows<K: Eq + Hash>(keys: impl IntoIterator<Item = K>) -> IndexMap<K, Vec<usize>> {
    let mut groups: IndexMap<K, Vec<usize>> = IndexMap::new();
    for (row, key) in keys.into_iter().enumerate() {
        groups.entry(key).or_default().push(row);
    }
    groups
}

/// The values of some rows, without nulls.
pub(crate) fn known_values<T: Copy>(values: &[Option<T>], rows: &[usize]) -> Vec<T> {
    rows.iter().filter_map(|&row| values[row]).collect()
}

/// The sum; the largest number if it is larger, as a file may hold any counts.
pub(crate) fn sum_counts(values: &[u64]) -> u64 {
    values.iter().fold(0, |sum, &value| sum.saturating_add(value))
}

/// The sum in the order of the values. What one addition loses by rounding is taken off the next value (Kahan,
/// "Further remarks on reducing truncation errors", 1965).
pub(crate) fn sum_floats(values: &[f64]) -> f64 {
    let mut sum: f64 = 0.0;
    let mut lost: f64 = 0.0;
    for &value in values {
        let corrected = value - lost;
        let next = sum + corrected;
        let error = (next - sum) - corrected;
        sum = next;
        // The error of an infinite sum is no number.
        if error.is_finite() {
            lost = error;
        }
    }
    sum
}

/// Place of a pass in the order of [`Pass::ALL`]; names of no pass come last.
pub(crate) fn pass_order(name: Option<&str>) -> usize {
    Pass::ALL.iter().position(|pass| name == Some(pass.name())).unwrap_or(Pass::ALL.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_grouped_in_the_order_of_first_rows() {
        let groups: Vec<(&str, Vec<usize>)> = group_rows(["b", "a", "b", "c", "a"]).into_iter().collect();
        assert_eq!(groups, [("b", vec![0, 2]), ("a", vec![1, 4]), ("c", vec![3])]);
        assert_eq!(known_values(&[Some(1), None, Some(3)], &[1, 2]), [3]);
    }

    #[test]
    fn sums_make_up_for_rounding() {
        // Each small value alone is lost beside the large one.
        let values = [1e16, 1.0, 1.0, 1.0, 1.0];
        assert!(sum_floats(&values).total_cmp(&(1e16 + 4.0)).is_eq());
        assert!(sum_floats(&[f64::INFINITY, 1.0, f64::INFINITY]).is_infinite());
        assert!(sum_floats(&[]).total_cmp(&0.0).is_eq());
        assert_eq!(sum_counts(&[u64::MAX, 1]), u64::MAX);
    }

    #[test]
    fn passes_are_ordered_as_a_step_runs_them() {
        let orders = ["forward", "input-grad", "weight-grad", "all"].map(|name| pass_order(Some(name)));
        assert_eq!(orders, [0, 1, 2, 3]);
        assert_eq!(pass_order(None), 3);
    }
}
