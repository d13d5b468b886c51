//! An MCACHE without a limit: an open-addressing hash table of the inserting vectors.

use super::blocks::for_blocks;
use super::leaders;
use super::number::BLOCK;
use super::{Isa, KnownSignatures, LookupRun};
use crate::caching::counts::Counts;
use crate::config::SetIndex;
use std::hint::select_unpredictable;

/// Slots of a new table.
const SLOTS: usize = 1 << 12;

/// Number of slots from which on they are prefetched. Fewer stay in the CPU's first-level cache.
const FETCH_FROM: usize = 1 << 12;

/// The first vector with each signature, for one group of peers: one stream in one scope.
///
/// A slot holds a vector as its distance from the group's first vector plus one, and 0 if it is
/// empty. The bits that no distance needs hold some bits of the mixed signature. Signatures are not
/// stored: they are compared in the array of all signatures. So a slot takes four bytes, and the
/// slots alone tell nearly every new signature from the ones present.
pub(crate) struct Table {
    pub(super) isa: Isa,
    /// A power of two, at most half of them in use.
    slots: Vec<u32>,
    used: usize,
    /// The group's first vector.
    first: u32,
    /// Mask of the slot's bits that hold the distance.
    distance: u32,
}

impl Table {
    /// A table for groups whose vectors are at most `span` numbers apart.
    pub fn new(span: usize, isa: Isa) -> Self {
        let distance = u32::MAX.checked_shr((span as u32 + 1).leading_zeros()).unwrap_or(0);
        Self { isa, slots: vec![0; SLOTS], used: 0, first: 0, distance }
    }

    /// Empties the table for the group that begins with vector `first`. It keeps its size, because
    /// groups tend to be alike.
    pub fn begin(&mut self, first: usize) {
        self.slots.fill(0);
        self.used = 0;
        self.first = first as u32;
    }

    /// Looks up the vectors of a run, with the instructions that the caller is compiled for.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
    pub fn run_as_compiled(&mut self, run: LookupRun) -> Counts {
        let known = run.known;
        for_blocks(run, leaders::find, mix_block, |keys, codes, _| {
            self.reserve(known, keys.len());
            self.prefetch(keys);
            self.look_up(known, keys, codes);
        })
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
    fn look_up(&mut self, known: KnownSignatures, keys: &[u64], codes: &mut [u32]) {
        let slots = self.slots.as_mut_slice();
        let mask = slots.len() - 1;
        let (first, distance) = (self.first, self.distance);
        let mut inserted = 0;
        for (code, &key) in codes.iter_mut().zip(keys) {
            let vector = *code;
            let signature = known.get(vector);
            let new = ((key >> 32) as u32 & !distance) | (vector - first + 1);
            let mut at = key as usize & mask;
            loop {
                // Found and inserted signatures share the code, because a branch would be
                // unpredictable.
                let slot = &mut slots[at & mask];
                let here = select_unpredictable(*slot == 0, new, *slot);
                let holder = (here & distance).wrapping_sub(1).wrapping_add(first);
                // The signature bits rarely match for another signature. In an empty slot the
                // holder is the vector itself, whose signature matches.
                if (here ^ new) & !distance == 0 && known.get(holder) == signature {
                    inserted += usize::from(*slot == 0);
                    *slot = here;
                    *code = holder;
                    break;
                }
                at += 1;
            }
        }
        self.used += inserted;
    }

    /// Makes room for `more` insertions.
    #[inline]
    fn reserve(&mut self, known: KnownSignatures, more: usize) {
        if (self.used + more) * 2 <= self.slots.len() {
            return;
        }
        let slots = ((self.used + more) * 2).next_power_of_two() * 2;
        let old = std::mem::replace(&mut self.slots, vec![0; slots]);
        let mask = slots - 1;
        for slot in old.into_iter().filter(|&slot| slot != 0) {
            let holder = (slot & self.distance) - 1 + self.first;
            let mut at = SetIndex::Mixed.key(known.get(holder)) as usize & mask;
            while self.slots[at] != 0 {
                at = (at + 1) & mask;
            }
            self.slots[at] = slot;
        }
    }

    fn prefetch(&self, keys: &[u64]) {
        if self.slots.len() < FETCH_FROM {
            return;
        }
        #[cfg(target_arch = "x86_64")]
        for &key in keys {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let slot = &raw const self.slots[key as usize & (self.slots.len() - 1)];
            // SAFETY: every x86-64 CPU has the instruction, and a prefetch has no visible effect.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(slot.cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = keys;
    }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
fn mix_block(signatures: &[u64], keys: &mut [u64; BLOCK]) {
    keys.iter_mut().zip(signatures).for_each(|(key, &signature)| *key = SetIndex::Mixed.key(signature));
}
