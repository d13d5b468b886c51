//! Which members of a group repeat an earlier one: a hash table in order of arrival.

use rayon::prelude::*;

/// A hash table, to be used again for one group after another.
#[derive(Default)]
pub(crate) struct Table {
    /// Open addressing with linear probing, at most half full: the low word of a hash above a member's
    /// number plus one; 0 where empty.
    slots: Vec<u64>,
}

impl Table {
    /// Calls `repeats` for each member that equals an earlier one, in order. Hashes choose a place by
    /// their high bits, from below the highest `skip`.
    fn scan(&mut self, hashes: &[u64], skip: u32, equal: impl Fn(u32, u32) -> bool, mut repeats: impl FnMut(u32)) {
        let size = (2 * hashes.len()).next_power_of_two().max(2);
        self.slots.clear();
        self.slots.resize(size, 0);
        let (slots, last) = (&mut self.slots[..], size - 1);
        let shift = u64::BITS - size.trailing_zeros();
        for (&hash, member) in hashes.iter().zip(0u32..) {
            let mut at = (hash << skip >> shift) as usize;
            loop {
                let slot = slots[at];
                if slot == 0 {
                    slots[at] = hash << 32 | u64::from(member + 1);
                    break;
                }
                let earlier = slot as u32 - 1;
                if slot >> 32 == hash & u64::from(u32::MAX)
                    && hashes[earlier as usize] == hash
                    && equal(earlier, member)
                {
                    repeats(member);
                    break;
                }
                at = (at + 1) & last;
            }
        }
    }
}

/// Members up to which one table is taken: beyond, its places are too far apart for a core's cache.
const BUCKET: usize = 1 << 16;

/// How many members of each slot repeat an earlier one; slots are consecutive and of `positions`
/// members. `hashes`, in order of arrival, are well mixed, in their high bits, too; members with equal
/// ones are compared by `equal`. O(n) time; 8 bytes a place of the table, and for large groups 12 a
/// member more.
pub(crate) fn count_repeats(
    table: &mut Table,
    hashes: &[u64],
    positions: usize,
    equal: impl Fn(u32, u32) -> bool + Sync,
) -> Vec<u64> {
    assert!(u32::try_from(hashes.len()).is_ok(), "members are numbered in 32 bits");
    let mut counts = vec![0; hashes.len() / positions.max(1)];
    if hashes.len() <= BUCKET {
        table.scan(hashes, 0, equal, |member| counts[member as usize / positions] += 1);
        return counts;
    }
    // Equal hashes share a bucket. Members stay in order within it.
    let skip = (hashes.len() / BUCKET).ilog2() + 2;
    let bucket = |hash: u64| (hash >> (u64::BITS - skip)) as usize;
    let mut starts = vec![0usize; (1 << skip) + 1];
    for &hash in hashes {
        starts[bucket(hash) + 1] += 1;
    }
    for at in 1..starts.len() {
        starts[at] += starts[at - 1];
    }
    let mut next = starts.clone();
    let (mut sorted, mut members) = (vec![0; hashes.len()], vec![0; hashes.len()]);
    for (&hash, member) in hashes.iter().zip(0u32..) {
        let at = &mut next[bucket(hash)];
        (sorted[*at], members[*at]) = (hash, member);
        *at += 1;
    }
    let count_bucket = |table: &mut Table, bounds: &[usize]| {
        let (hashes, members) = (&sorted[bounds[0]..bounds[1]], &members[bounds[0]..bounds[1]]);
        let mut counts = vec![0u64; counts.len()];
        let equal = |a, b| equal(members[a as usize], members[b as usize]);
        table.scan(hashes, skip, equal, |at| counts[members[at as usize] as usize / positions] += 1);
        counts
    };
    let buckets: Vec<Vec<u64>> = starts.par_windows(2).map_init(Table::default, count_bucket).collect();
    for bucket in &buckets {
        for (count, more) in counts.iter_mut().zip(bucket) {
            *count += more;
        }
    }
    counts
}
