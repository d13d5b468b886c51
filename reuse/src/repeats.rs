//! What an unlimited MCACHE would hit, at every signature length at once.

use crate::config::{MAX_BITS, Scope, SetIndex};
use crate::hitmap::Counts;
use crate::peers::Peers;
use crate::repeated::{Table, count_repeats};
use crate::vectors::Layout;
use rayon::prelude::*;

/// For each vector the most low bits, 0 to 64, that its signature shares with any earlier vector of
/// its stream and scope: it repeats an earlier signature of b bits exactly if b is at most that.
///
/// `signatures` are of 64 bits, in the layout's order, as is the result. A signature of b bits is
/// the low b bits of the one of 64, so the nearest of the earlier signatures are, among those sorted
/// by their bits from the lowest up, a vector's two neighbours. A group is sorted once; then its
/// vectors are unlinked from the newest back, so that at its removal a vector's neighbours are of
/// the earlier ones only. O(n log n) a group of n, and O(n) memory.
///
/// ```
/// use mercury_reuse::{Layout, config::Scope, repeat_lengths};
/// let layout = Layout { samples: 1, streams: 1, positions: 3 };
/// assert_eq!(repeat_lengths(layout, &[0b0101, 0b1101, 0b0101], Scope::Channel), [0, 3, 64]);
/// ```
///
/// # Panics
/// If there are not as many signatures as the layout has vectors, or 2^32 or more.
pub fn repeat_lengths(layout: Layout, signatures: &[u64], scope: Scope) -> Vec<u8> {
    check(layout, signatures);
    let peers = Peers::new(layout, scope);
    let of_group = |group| {
        let signatures = peers.of_group(group, signatures).copied();
        unlink(&Sorted::new(peers.members(), signatures, MAX_BITS))
    };
    let groups: Vec<Vec<u8>> = (0..peers.groups()).into_par_iter().map(of_group).collect();
    let mut lengths = vec![0; layout.vectors()];
    for (group, of_group) in groups.iter().enumerate() {
        for (slot, of_run) in of_group.chunks(layout.positions.max(1)).enumerate() {
            let first = peers.vector(group, slot * layout.positions);
            lengths[first..first + layout.positions].copy_from_slice(of_run);
        }
    }
    lengths
}

/// How many vectors of each run, `[samples][streams]`, repeat the low `bits` bits of a signature of
/// an earlier vector of their stream and scope: the HITs of an unlimited MCACHE at this one signature
/// length.
///
/// For many lengths at once [`repeat_lengths`] is faster. O(n) for n vectors.
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

/// How many vectors of a run have each repeat length; gives the HITs of an unlimited MCACHE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepeatHistogram {
    /// Vectors with a repeat length of 0, 1, ... 64 bits.
    pub vectors: [u64; MAX_BITS as usize + 1],
}

impl RepeatHistogram {
    /// What an unlimited MCACHE, which never misses a repeat and has room for all, comes to at
    /// signatures of `bits` bits.
    ///
    /// # Panics
    /// If `bits` is not within 1 to 64.
    pub fn counts(&self, bits: u32) -> Counts {
        assert!((1..=MAX_BITS).contains(&bits), "{bits} bits");
        let (first, repeated) = self.vectors.split_at(bits as usize);
        Counts { hit: repeated.iter().sum(), mau: first.iter().sum(), mnu: 0 }
    }
}

impl Default for RepeatHistogram {
    fn default() -> Self {
        Self { vectors: [0; MAX_BITS as usize + 1] }
    }
}

impl std::ops::AddAssign for RepeatHistogram {
    fn add_assign(&mut self, other: Self) {
        for (sum, vectors) in self.vectors.iter_mut().zip(other.vectors) {
            *sum += vectors;
        }
    }
}

/// The histogram of each run, `[samples][streams]`, from [`repeat_lengths`].
///
/// # Panics
/// If there are not as many lengths as the layout has vectors, or one is above 64.
pub fn repeat_histograms(layout: Layout, lengths: &[u8]) -> Vec<RepeatHistogram> {
    assert_eq!(lengths.len(), layout.vectors(), "lengths of the layout");
    let of_run = |run: usize| {
        let mut histogram = RepeatHistogram::default();
        for &length in &lengths[run * layout.positions..][..layout.positions] {
            histogram.vectors[usize::from(length)] += 1;
        }
        histogram
    };
    (0..layout.runs()).into_par_iter().map(of_run).collect()
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
            words.par_sort_unstable();
            let order = words.iter().map(|word| (word & numbers) as u32).collect();
            Self { order, shared: shared_bits(words.iter().map(|word| word & kept), bits) }
        } else {
            let mut pairs: Vec<(u64, u32)> = keys.collect();
            pairs.par_sort_unstable();
            let order = pairs.iter().map(|pair| pair.1).collect();
            Self { order, shared: shared_bits(pairs.iter().map(|pair| pair.0), bits) }
        }
    }
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

/// A vector among the earlier ones, in sorted order.
#[derive(Clone, Copy)]
struct Link {
    previous: u32,
    next: u32,
    /// Bits shared with the previous.
    shared: u8,
}

/// Each member's repeat length.
fn unlink(sorted: &Sorted) -> Vec<u8> {
    let members = sorted.order.len();
    let mut rank = vec![0; members];
    // One more at the end, which shares nothing; the first one's `previous` is never followed
    // further than to a link that is not read again, so it may be the first itself.
    let mut links = Vec::with_capacity(members + 1);
    for at in 0..=members as u32 {
        let shared = sorted.shared.get(at as usize).copied().unwrap_or(0);
        links.push(Link { previous: at.saturating_sub(1), next: at + 1, shared });
    }
    for (at, &member) in sorted.order.iter().enumerate() {
        rank[member as usize] = at as u32;
    }
    let mut lengths = vec![0; members];
    for (length, &at) in lengths.iter_mut().zip(&rank).rev() {
        let Link { previous, next, shared } = links[at as usize];
        let behind = links[next as usize].shared;
        *length = shared.max(behind);
        // Sorted: those that close up share what both shared with the one between them.
        links[next as usize].shared = shared.min(behind);
        links[next as usize].previous = previous;
        links[previous as usize].next = next;
    }
    lengths
}
