//! An MCACHE without a limit: an open-addressing hash table of the vectors that inserted something.

use super::blocks::for_blocks;
use super::leaders;
use super::number::BLOCK;
use super::{Isa, KnownSignatures, LookupRun};
use crate::config::SetIndex;
use crate::counts::Counts;
use std::hint::select_unpredictable;

/// Slots of a new table.
const SLOTS: usize = 1 << 12;

/// Slots from which on they are fetched ahead: fewer stay in the first level by themselves.
const FETCH_FROM: usize = 1 << 12;

/// The first vector of every signature, of one stream in one scope: a group of peers.
///
/// A slot holds a vector, as its distance from the group's first plus one, and in the bits that no
/// distance needs some of the mixed signature. Signatures are not kept but compared where they lie:
/// so a slot takes four bytes, and nearly every signature that is new is known to be from the slots
/// alone.
pub(crate) struct Table {
    pub(super) isa: Isa,
    /// A power of two, at most half of them in use.
    slots: Vec<u32>,
    used: usize,
    /// The group's first vector.
    first: u32,
    /// Bits of a slot that hold the vector.
    distance: u32,
}

impl Table {
    /// A table for groups whose vectors lie no more than `span` numbers apart.
    pub fn new(span: usize, isa: Isa) -> Self {
        let distance = u32::MAX.checked_shr((span as u32 + 1).leading_zeros()).unwrap_or(0);
        Self { isa, slots: vec![0; SLOTS], used: 0, first: 0, distance }
    }

    /// Empties the table for the group that begins with vector `first`. It keeps its size: this
    /// group will be much like the last.
    pub fn begin(&mut self, first: usize) {
        self.slots.fill(0);
        (self.used, self.first) = (0, first as u32);
    }

    /// The look-ups themselves, for whatever instructions the caller is compiled for.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
    pub fn run_as_compiled(&mut self, run: LookupRun) -> Counts {
        let known = run.known;
        for_blocks(run, leaders::find, mix_block, |keys, codes, _| {
            self.reserve(known, keys.len());
            self.fetch(keys);
            self.access(known, keys, codes);
        })
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the caller's target features apply only to what is inlined into it")]
    fn access(&mut self, known: KnownSignatures, keys: &[u64], codes: &mut [u32]) {
        let slots = self.slots.as_mut_slice();
        let mask = slots.len() - 1;
        let (first, distance) = (self.first, self.distance);
        let mut inserted = 0;
        for (code, &key) in codes.iter_mut().zip(keys) {
            let vector = *code;
            let signature = known.of(vector);
            let new = ((key >> 32) as u32 & !distance) | (vector - first + 1);
            let mut at = key as usize & mask;
            loop {
                // One code for found and for inserted, as which it will be cannot be guessed.
                let slot = &mut slots[at & mask];
                let here = select_unpredictable(*slot == 0, new, *slot);
                let holder = (here & distance).wrapping_sub(1).wrapping_add(first);
                // What is elsewhere is seldom here; a vector's own signature is its own.
                if (here ^ new) & !distance == 0 && known.of(holder) == signature {
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

    /// Makes room for so many more.
    #[inline]
    fn reserve(&mut self, known: KnownSignatures, more: usize) {
        if (self.used + more) * 2 <= self.slots.len() {
            return;
        }
        let slots = ((self.used + more) * 2).next_power_of_two() * 2;
        let old = std::mem::replace(&mut self.slots, vec![0; slots]);
        let mask = slots - 1;
        for slot in old.into_iter().filter(|&slot| slot != 0) {
            let mut at = SetIndex::Mixed.key(known.of((slot & self.distance) - 1 + self.first)) as usize & mask;
            while self.slots[at] != 0 {
                at = (at + 1) & mask;
            }
            self.slots[at] = slot;
        }
    }

    fn fetch(&self, keys: &[u64]) {
        if self.slots.len() < FETCH_FROM {
            return;
        }
        #[cfg(target_arch = "x86_64")]
        for &key in keys {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let slot = &raw const self.slots[key as usize & (self.slots.len() - 1)];
            // SAFETY: x86-64 has the instruction, and a prefetch reads nothing that the program sees.
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
