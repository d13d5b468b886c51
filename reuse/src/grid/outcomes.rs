//! What became of each vector of a run in the caches of a grid.

/// What the caches of a grid make of a run's vectors, for signatures of one length; see
/// [`outcomes_grid`](super::outcomes_grid).
///
/// A vector hits in a cache that holds the first of its signature, unless it is that itself, which is MAU. In a cache
/// that does not hold it, both are MNU.
pub struct RunOutcomes<'a> {
    /// Place of the length in the caller's list.
    pub length: usize,
    /// Number of the run.
    pub run: usize,
    /// Of each vector the place in the run of the first with its signature.
    pub firsts: &'a [u32],
    /// Of each that is a first, by its place in the run, which caches hold it: a bit each, from the lowest up, for
    /// [`RunOutcomes::CACHES`] caches in each slice. Of others anything.
    pub held_by: &'a [Vec<u32>],
}

impl RunOutcomes<'_> {
    /// Caches that have a bit in one slice.
    pub const CACHES: usize = u32::BITS as usize;

    /// Whether a cache, by its number, holds the signature of the vector at a place.
    pub fn holds(&self, cache: usize, place: usize) -> bool {
        let held_by = self.held_by[cache / Self::CACHES][self.firsts[place] as usize];
        held_by >> (cache % Self::CACHES) & 1 == 1
    }
}
