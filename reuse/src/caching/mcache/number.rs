//! The set of a signature, and its tag in the set.

use crate::config::{SetIndex, mix};

/// Signatures of a block. Their sets are computed before the first one is looked up, so that the
/// multiplications overlap.
pub(crate) const BLOCK: usize = 128;

/// Where to look for a signature: its set and its tag. The tag distinguishes it from nearly all
/// other signatures of the set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Place(u64);

impl Place {
    /// The tag is the highest bits of the mixed signature, because the lowest select the set.
    #[inline]
    fn new(mixed: u64, set: u64, size: u32) -> Self {
        // Both factors have 32 bits, so the compiler can use a vector multiplication.
        Self(((set & u64::from(u32::MAX)) * u64::from(size)) << 16 | mixed >> 48)
    }

    /// The number of the set times the `size` argument of [`SetNumber::find_places`].
    #[inline]
    pub fn start(self) -> usize {
        (self.0 >> 16) as usize
    }

    #[inline]
    pub fn tag(self) -> u16 {
        self.0 as u16
    }
}

/// Computes the set `key % sets` of a signature, without a division.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SetNumber {
    index: SetIndex,
    sets: u64,
    /// floor((2^64 - 1) / sets).
    reciprocal: u64,
}

impl SetNumber {
    pub fn new(index: SetIndex, sets: u32) -> Self {
        let sets = u64::from(sets);
        Self { index, sets, reciprocal: u64::MAX / sets }
    }

    /// Finds the set of a signature.
    #[inline]
    pub fn find_set(&self, signature: u64) -> u32 {
        self.reduce(self.index.key(signature))
    }

    /// Finds the places of up to [`BLOCK`] signatures, in sets of `size` words, which is below
    /// 2^16.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
    pub fn find_places(&self, signatures: &[u64], size: u32, places: &mut [Place; BLOCK]) {
        // A loop for each case. The compiler vectorises the first two.
        let pairs = signatures.iter().zip(places).map(|(&signature, place)| (signature, mix(signature), place));
        let low = self.sets - 1;
        match (self.sets.is_power_of_two(), self.index) {
            (true, SetIndex::Mixed) => {
                pairs.for_each(|(_, mixed, place)| *place = Place::new(mixed, mixed & low, size));
            }
            (true, SetIndex::LowBits) => {
                pairs.for_each(|(signature, mixed, place)| *place = Place::new(mixed, signature & low, size));
            }
            (false, index) => pairs.for_each(|(signature, mixed, place)| {
                *place = Place::new(mixed, u64::from(self.reduce(index.key(signature))), size);
            }),
        }
    }

    /// Computes `key % sets`. The quotient from the reciprocal is exact or one too small, because
    /// key / sets - key * reciprocal / 2^64 is below 1.
    #[inline]
    fn reduce(&self, key: u64) -> u32 {
        let quotient = ((u128::from(key) * u128::from(self.reciprocal)) >> 64) as u64;
        let rest = key - quotient * self.sets;
        (if rest >= self.sets { rest - self.sets } else { rest }) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sets_are_the_remainder(
            keys in prop::collection::vec(any::<u64>(), 1..BLOCK),
            sets in 1u32..=1 << 20, near: u32, size in 1u32..1 << 16,
        ) {
            for index in [SetIndex::LowBits, SetIndex::Mixed] {
                for sets in [sets, sets.next_power_of_two(), 1] {
                    let number = SetNumber::new(index, sets);
                    // At multiples of `sets` and their neighbours a quotient that is off by one
                    // shows.
                    let multiple = u64::from(near) * u64::from(sets);
                    let edges = [0, u64::MAX, multiple, multiple.wrapping_sub(1), multiple + 1];
                    let keys: Vec<u64> = keys.iter().copied().chain(edges).take(BLOCK).collect();
                    let mut places = [Place::default(); BLOCK];
                    number.find_places(&keys, size, &mut places);
                    for (&key, found) in keys.iter().zip(&places) {
                        let set = index.key(key) % u64::from(sets);
                        prop_assert_eq!(u64::from(number.find_set(key)), set);
                        prop_assert_eq!(found.start() as u64, set * u64::from(size));
                        prop_assert_eq!(u64::from(found.tag()), mix(key) >> 48);
                    }
                }
            }
        }
    }
}
