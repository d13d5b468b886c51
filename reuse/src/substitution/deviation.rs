//! The deviation of a result with reuse from the exact result.

use serde::{Deserialize, Serialize};

/// Sums over the elements of an exact result Y and the result with reuse Y'.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Deviation {
    /// |Y|²
    pub exact: f64,
    /// |Y' - Y|²
    pub change: f64,
    /// <Y, Y' - Y>
    pub cross: f64,
}

impl Deviation {
    /// Relative error |Y' - Y| / |Y|: 0 if Y' equals Y, infinite if only Y is zero.
    pub fn relative(&self) -> f64 {
        if self.change == 0.0 { 0.0 } else { (self.change / self.exact).sqrt() }
    }

    /// |Y'|²
    fn reused(&self) -> f64 {
        // Rounding can make the sum negative.
        (self.exact + 2.0 * self.cross + self.change).max(0.0)
    }

    /// Cosine of the angle between Y and Y': 1 if they are equal, NaN if only one of them is zero.
    pub fn cosine(&self) -> f64 {
        if self.change == 0.0 {
            return 1.0;
        }
        ((self.exact + self.cross) / (self.exact * self.reused()).sqrt()).clamp(-1.0, 1.0)
    }

    /// |Y'| / |Y|: 1 if they are equal, infinite if only Y is zero.
    pub fn norm_ratio(&self) -> f64 {
        if self.change == 0.0 { 1.0 } else { (self.reused() / self.exact).sqrt() }
    }
}

impl std::ops::AddAssign for Deviation {
    fn add_assign(&mut self, other: Self) {
        self.exact += other.exact;
        self.change += other.change;
        self.cross += other.cross;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_give_the_same_as_the_vectors(
            pairs in prop::collection::vec((-3.0f64..3.0, prop_oneof![Just(0.0), -3.0f64..3.0]), 1..20),
        ) {
            let mut sum = Deviation::default();
            for &(y, d) in &pairs {
                sum += Deviation { exact: y * y, change: d * d, cross: y * d };
            }
            let norm = |value: fn(&(f64, f64)) -> f64| {
                pairs.iter().map(|pair| value(pair).powi(2)).sum::<f64>().sqrt()
            };
            let (exact, reused) = (norm(|(y, _)| *y), norm(|(y, d)| y + d));
            prop_assume!(exact > 1e-3 && reused > 1e-3);
            let dot: f64 = pairs.iter().map(|(y, d)| y * (y + d)).sum();
            prop_assert!((sum.cosine() - dot / (exact * reused)).abs() < 1e-9);
            prop_assert!((sum.norm_ratio() - reused / exact).abs() < 1e-9);
            prop_assert!((sum.relative() - norm(|(_, d)| *d) / exact).abs() < 1e-12);
        }
    }

    #[test]
    fn equal_and_vanishing_results_have_defined_deviations() {
        let same = Deviation { exact: 2.0, ..Deviation::default() };
        assert_eq!((same.relative(), same.cosine(), same.norm_ratio()), (0.0, 1.0, 1.0));
        let zeros = Deviation::default();
        assert_eq!((zeros.relative(), zeros.cosine(), zeros.norm_ratio()), (0.0, 1.0, 1.0));
        let from_nothing = Deviation { change: 1.0, ..Deviation::default() };
        assert_eq!((from_nothing.relative(), from_nothing.norm_ratio()), (f64::INFINITY, f64::INFINITY));
        assert!(from_nothing.cosine().is_nan());
    }
}
