//! Counts of look-up outcomes.

use serde::{Deserialize, Serialize};

/// The number of vectors of a run (one sample, one stream) with each outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// HIT: found.
    pub hit: u64,
    /// MAU: missed, inserted.
    pub mau: u64,
    /// MNU: missed, not inserted.
    pub mnu: u64,
}

impl Counts {
    /// All vectors.
    pub fn vectors(&self) -> u64 {
        self.hit + self.mau + self.mnu
    }

    /// Vectors whose dot products are computed: MAU and MNU.
    pub fn computed(&self) -> u64 {
        self.mau + self.mnu
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.hit += other.hit;
        self.mau += other.mau;
        self.mnu += other.mnu;
    }
}

impl std::ops::Sub for Counts {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { hit: self.hit - other.hit, mau: self.mau - other.mau, mnu: self.mnu - other.mnu }
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |mut sum, counts| {
            sum += counts;
            sum
        })
    }
}
