//! Signatures that a unit beside the array computes.
//!
//! The unit signs the vectors of the next scope while the array computes this one, and holds the signatures of one
//! scope. So the array begins a scope when the scope before has ended and its own signatures are there, and the unit
//! begins the next scope at that moment. With s(i) and c(i) the cycles of signing and computing scope i of n:
//!
//! `s(1) + sum of max(c(i), s(i + 1)) over i < n + c(n)`
//!
//! The array waits `s(1) + sum of max(0, s(i + 1) - c(i))` of these cycles for signatures.

use super::StreamWork;

/// What computes the signatures of an array's vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningUnit {
    /// The array.
    Array,
    /// A unit beside it.
    Dedicated {
        /// Its multiply-accumulates per cycle.
        macs_per_cycle: u64,
    },
    /// Nothing, in no time.
    Free,
}

impl SigningUnit {
    /// Cycles that a unit takes for so many multiply-accumulates; none where the array computes signatures itself.
    pub(super) fn cycles(self, macs: u64) -> u64 {
        match self {
            Self::Dedicated { macs_per_cycle } => macs.div_ceil(macs_per_cycle),
            Self::Array | Self::Free => 0,
        }
    }
}

/// Computes the cycles that an array waits for the unit. Each stream is cut into `scopes` equal scopes, one for each
/// sample; the streams of a sample come one after another. `compute` are the cycles of each stream. `scale` extends the
/// sum from these streams to all.
pub(super) fn wait_for_streams(
    unit: SigningUnit,
    streams: &[StreamWork],
    compute: &[u64],
    bits: u64,
    scopes: u64,
    scale: impl Fn(u64) -> u64,
) -> u64 {
    let sign = |stream: &StreamWork| unit.cycles(stream.counts.vectors() * stream.length * bits);
    let (Some(first), Some(last)) = (streams.first(), compute.last()) else { return 0 };
    let first = sign(first);
    // All times are in units of 1 / scopes of a cycle. The next sample's first stream follows the last.
    let following = streams[1..].iter().map(sign).chain([first]);
    let waits: u64 = compute.iter().zip(following).map(|(compute, next)| next.saturating_sub(*compute)).sum();
    (first + scopes * scale(waits)).saturating_sub(first.saturating_sub(*last)).div_ceil(scopes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mercury_reuse::Counts;
    use proptest::prelude::*;

    proptest! {
        /// Scope by scope: two machines that hand signatures on.
        #[test]
        fn streams_wait_as_scopes_one_after_the_other_do(
            sizes in prop::collection::vec((0u64..50, 1u64..40), 1..6),
            scopes in 1u64..5,
            macs_per_cycle in 1u64..30,
        ) {
            let unit = SigningUnit::Dedicated { macs_per_cycle };
            let streams: Vec<StreamWork> = sizes
                .iter()
                .map(|&(_, vectors)| StreamWork { length: 3, counts: Counts { hit: 0, mau: vectors, mnu: 0 } })
                .collect();
            let compute: Vec<u64> = sizes.iter().map(|&(compute, _)| compute).collect();
            // In units of 1 / scopes of a cycle.
            let (mut array, mut signed) = (0, 0);
            for _ in 0..scopes {
                for (stream, compute) in streams.iter().zip(&compute) {
                    let signing = (stream.counts.vectors() * 3 * 4).div_ceil(macs_per_cycle);
                    let begin = array.max(signed + signing);
                    // The unit begins the next scope when the array takes the signatures of this one.
                    signed = begin;
                    array = begin + compute;
                }
            }
            let waiting = array - scopes * compute.iter().sum::<u64>();
            let found = wait_for_streams(unit, &streams, &compute, 4, scopes, |waits| waits);
            prop_assert_eq!(found, waiting.div_ceil(scopes));
        }
    }
}
