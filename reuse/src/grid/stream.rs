//! Equal signatures of one stream, and how they fall together as signatures get shorter.

use crate::peers::Peers;
use crate::repeats::Sorted;
use crate::widest::simd_dispatch;

/// Equal signatures of one stream.
struct Group {
    /// The member that comes first.
    first: u32,
    /// Bits shared with the group before.
    shared: u8,
    /// Where its parts end; they begin where those of the group before end.
    end: u32,
}

/// A group's vectors in one sample.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub slot: u32,
    pub vectors: u32,
}

/// No group begins with this member.
const NONE: u32 = u32::MAX;

/// The groups of one stream in one scope, sorted by signature.
pub(super) struct Stream {
    /// Number of the stream's group of peers.
    pub peers: usize,
    groups: Vec<Group>,
    parts: Vec<Part>,
    /// The group that each member is the first of, or [`NONE`].
    pub group_of: Vec<u32>,
    /// First members, in order of arrival.
    pub arrivals: Vec<u32>,
    /// Of each member the first of its group, if that is asked for.
    pub firsts: Vec<u32>,
    /// Of each that was the first of a group, the first of the group that it joined, or itself.
    joined: Vec<u32>,
    /// A zero for each sample, except while parts are added up.
    sums: Vec<u32>,
}

impl Stream {
    /// Groups the signatures of group `number` of the peers by their low `bits` bits; `keeps_firsts` says whether
    /// [`Stream::firsts`] are asked for.
    pub fn new(peers: Peers, number: usize, signatures: &[u64], bits: u32, keeps_firsts: bool) -> Self {
        let members = peers.members();
        let sorted = Sorted::new(members, peers.of_group(number, signatures).copied(), bits);
        let (mut groups, mut parts) = (Vec::<Group>::new(), Vec::<Part>::new());
        for (&member, &shared) in sorted.order.iter().zip(&sorted.shared) {
            let slot = if peers.samples == 1 { 0 } else { peers.slot(member as usize) as u32 };
            if groups.is_empty() || u32::from(shared) < bits {
                groups.push(Group { first: member, shared, end: 0 });
                parts.push(Part { slot, vectors: 0 });
            } else if parts.last().is_some_and(|part| part.slot != slot) {
                // Equal ones are in order of arrival, so a sample's vectors are together.
                parts.push(Part { slot, vectors: 0 });
            }
            parts.last_mut().expect("pushed with the first group").vectors += 1;
            groups.last_mut().expect("pushed above").end = parts.len() as u32;
        }
        let mut stream = Self {
            peers: number,
            groups,
            parts,
            group_of: vec![NONE; members],
            arrivals: Vec::new(),
            firsts: Vec::new(),
            joined: Vec::new(),
            sums: vec![0; peers.samples],
        };
        if keeps_firsts {
            stream.joined = (0..members as u32).collect();
            stream.firsts = vec![NONE; members];
            let mut first = NONE;
            for (&member, &shared) in sorted.order.iter().zip(&sorted.shared) {
                // Equal ones are in order of arrival.
                first = if first == NONE || u32::from(shared) < bits { member } else { first };
                stream.firsts[member as usize] = first;
            }
        }
        for (number, group) in stream.groups.iter().enumerate() {
            stream.group_of[group.first as usize] = number as u32;
        }
        stream.arrivals = (0..members as u32).filter(|&member| stream.group_of[member as usize] != NONE).collect();
        stream
    }

    /// A group's vectors, by sample.
    pub fn parts(&self, group: u32) -> &[Part] {
        let start = group.checked_sub(1).map_or(0, |before| self.groups[before as usize].end);
        &self.parts[start as usize..self.groups[group as usize].end as usize]
    }

    /// Joins the groups whose signatures are equal in the low `bits` bits.
    pub fn shorten(&mut self, bits: u32) {
        let (mut groups, mut parts, mut from) = (0, 0, 0);
        let mut at = 0;
        while at < self.groups.len() {
            let next = (at + 1..self.groups.len()).find(|&next| u32::from(self.groups[next].shared) < bits);
            let next = next.unwrap_or(self.groups.len());
            let end = self.groups[next - 1].end as usize;
            let mut first = self.groups[at].first;
            let shared = self.groups[at].shared;
            if next == at + 1 {
                self.parts.copy_within(from..end, parts);
                parts += end - from;
            } else {
                for group in &self.groups[at..next] {
                    self.group_of[group.first as usize] = NONE;
                    first = first.min(group.first);
                }
                if !self.joined.is_empty() {
                    for group in &self.groups[at..next] {
                        self.joined[group.first as usize] = first;
                    }
                }
                let start = parts;
                for part in from..end {
                    let Part { slot, vectors } = self.parts[part];
                    let sum = &mut self.sums[slot as usize];
                    if *sum == 0 {
                        // Behind the part that is read, or it itself.
                        self.parts[parts] = Part { slot, vectors: 0 };
                        parts += 1;
                    }
                    *sum += vectors;
                }
                for part in &mut self.parts[start..parts] {
                    part.vectors = std::mem::take(&mut self.sums[part.slot as usize]);
                }
            }
            self.group_of[first as usize] = groups as u32;
            self.groups[groups] = Group { first, shared, end: parts as u32 };
            groups += 1;
            (at, from) = (next, end);
        }
        if groups < self.groups.len() {
            let (firsts, joined) = (&mut self.firsts, self.joined.as_slice());
            simd_dispatch(|| follow(firsts, joined));
        }
        self.groups.truncate(groups);
        self.parts.truncate(parts);
        let group_of = &self.group_of;
        self.arrivals.retain(|&member| group_of[member as usize] != NONE);
    }
}

/// Replaces each place by what it holds.
#[inline(always)]
#[expect(clippy::inline_always, reason = "registers are those of the function that it is inlined into")]
fn follow(places: &mut [u32], held: &[u32]) {
    let Some(last) = held.len().checked_sub(1) else { return };
    // Never beyond; said so that no check breaks the loop up.
    for place in places {
        *place = held[(*place as usize).min(last)];
    }
}
