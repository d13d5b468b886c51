//! The set that a signature falls into.

use crate::config::SetIndex;

/// Signatures whose sets are found before the first of them is looked up: the multiplications of
/// many overlap, which those of one, waited for, do not.
pub(crate) const BLOCK: usize = 128;

/// Numbers the sets as `key % sets` does, without dividing.
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

    /// A signature's set.
    #[inline]
    pub fn of(&self, signature: u64) -> u32 {
        self.reduce(self.index.key(signature))
    }

    /// The sets of up to [`BLOCK`] signatures.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
    pub fn block(&self, signatures: &[u64], numbers: &mut [u32; BLOCK]) {
        // A loop for each case: the first two have vector code.
        let pairs = signatures.iter().zip(numbers);
        let low = self.sets - 1;
        match (self.sets.is_power_of_two(), self.index) {
            (true, SetIndex::Mixed) => {
                pairs.for_each(|(&signature, number)| *number = (SetIndex::Mixed.key(signature) & low) as u32);
            }
            (true, SetIndex::LowBits) => pairs.for_each(|(&signature, number)| *number = (signature & low) as u32),
            (false, index) => pairs.for_each(|(&signature, number)| *number = self.reduce(index.key(signature))),
        }
    }

    /// `key % sets`. The quotient that the reciprocal gives is the true one or one less, as
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
        fn numbers_are_the_remainder(keys in prop::collection::vec(any::<u64>(), 1..BLOCK), sets in 1u32..=1 << 20, near: u32) {
            for index in [SetIndex::LowBits, SetIndex::Mixed] {
                for sets in [sets, sets.next_power_of_two(), 1] {
                    let number = SetNumber::new(index, sets);
                    // Multiples and their neighbours, where a quotient that is one off would show.
                    let multiple = u64::from(near) * u64::from(sets);
                    let edges = [0, u64::MAX, multiple, multiple.wrapping_sub(1), multiple + 1];
                    let keys: Vec<u64> = keys.iter().copied().chain(edges).take(BLOCK).collect();
                    let mut numbers = [0; BLOCK];
                    number.block(&keys, &mut numbers);
                    for (&key, &found) in keys.iter().zip(&numbers) {
                        prop_assert_eq!(u64::from(found), index.key(key) % u64::from(sets));
                        prop_assert_eq!(found, number.of(key));
                    }
                }
            }
        }
    }
}
