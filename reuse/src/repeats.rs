//! What an unlimited MCACHE would hit, and signatures sorted by their low bits.

use crate::config::{MAX_BITS, Scope, SetIndex};
use crate::peers::Peers;
use crate::repeated::{Table, count_repeats};
use crate::vectors::Layout;
use rayon::prelude::*;

/// How many vectors of each run, `[samples][streams]`, repeat the low `bits` bits of a signature of
/// an earlier vector of their stream and scope: the HITs of an unlimited MCACHE at this one signature
/// length.
///
/// O(n) for n vectors.
///
/// ```
/// use mercury_reuse::{Layout, config::Scope, unlimited_hits};
/// let layout = Layout { samples: 1, streams: 1, positions: 3 };
/// assert_eq!(unlimited_hits(layout, &[0b0101, 0b1101, 0b0101], 3, Scope::Channel), [2]);
/// assert_eq!(unlimited_hits(layout, &[0b0101, 0b1101, 0b0101], 4, Scope::Channel), [1]);
/// ```
///
/// # Panics
/// If there are not as many signatures as the layout has vectors, or 2^32 or more; if `bits` is not
/// within 1 to 64.
pub fn unlimited_hits(layout: Layout, signatures: &[u64], bits: u32, scope: Scope) -> Vec<u64> {
    check(layout, signatures);
    assert!((1..=MAX_BITS).contains(&bits), "{bits} bits");
    let peers = Peers::new(layout, scope);
    let kept = u64::MAX >> (MAX_BITS - bits);
    let of_group = |(table, hashes): &mut (Table, Vec<u64>), group| {
        hashes.clear();
        // Mixed one to one: equal hashes are equal signatures.
        hashes.extend(peers.of_group(group, signatures).map(|signature| SetIndex::Mixed.key(signature & kept)));
        count_repeats(table, hashes, layout.positions, |_, _| true)
    };
    if layout.positions == 0 {
        return vec![0; layout.runs()];
    }
    let groups: Vec<Vec<u64>> = (0..peers.groups()).into_par_iter().map_init(Default::default, of_group).collect();
    peers.by_run(&groups)
}

/// Panics if the signatures are not the layout's, or more than 32 bits can number.
pub(crate) fn check(layout: Layout, signatures: &[u64]) {
    assert_eq!(signatures.len(), layout.vectors(), "signatures of the layout");
    assert!(u32::try_from(layout.vectors()).is_ok(), "vectors are numbered in 32 bits");
}

/// A group's members sorted by the low bits of their signatures, the lowest bit first; of equal ones
/// the earlier first.
pub(crate) struct Sorted {
    /// Members.
    pub order: Vec<u32>,
    /// Bits that each shares with the one before it, at most as many as were asked for; 0 of the
    /// first.
    pub shared: Vec<u8>,
}

impl Sorted {
    /// Sorts the signatures of so many members by their low `bits` bits.
    pub fn new(members: usize, signatures: impl Iterator<Item = u64>, bits: u32) -> Self {
        let kept = !u64::MAX.checked_shr(bits).unwrap_or(0);
        let keys = signatures.map(|signature| signature.reverse_bits() & kept).zip(0u32..);
        let number_bits = usize::BITS - members.saturating_sub(1).leading_zeros();
        // Where key and number fit into one word, sorting words takes half the time of pairs.
        if bits + number_bits <= u64::BITS {
            let numbers = !u64::MAX.checked_shl(number_bits).unwrap_or(0);
            let mut words: Vec<u64> = keys.map(|(key, member)| key | u64::from(member)).collect();
            sort(&mut words);
            let order = words.iter().map(|word| (word & numbers) as u32).collect();
            Self { order, shared: shared_bits(words.iter().map(|word| word & kept), bits) }
        } else {
            let mut pairs: Vec<(u64, u32)> = keys.collect();
            sort(&mut pairs);
            let order = pairs.iter().map(|pair| pair.1).collect();
            Self { order, shared: shared_bits(pairs.iter().map(|pair| pair.0), bits) }
        }
    }
}

/// Items that one thread sorts in less time than it takes to share them out.
const IN_ONE_GO: usize = 1 << 16;

fn sort<T: Ord + Send>(items: &mut [T]) {
    if items.len() < IN_ONE_GO { items.sort_unstable() } else { items.par_sort_unstable() }
}

fn shared_bits(keys: impl ExactSizeIterator<Item = u64>, bits: u32) -> Vec<u8> {
    let mut shared = Vec::with_capacity(keys.len());
    let mut previous = None;
    for key in keys {
        shared.push(previous.map_or(0, |previous: u64| (previous ^ key).leading_zeros().min(bits) as u8));
        previous = Some(key);
    }
    shared
}
