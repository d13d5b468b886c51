//! The samples of each training step.

use mercury_capture::sampling::{self, Purpose};
use std::ops::Range;

/// Counts the steps of an epoch; batches are whole.
pub fn steps_per_epoch(samples: usize, batch_size: usize) -> u64 {
    (samples / batch_size) as u64
}

/// Plans the epoch and the samples of each step; each epoch has its own permutation.
pub fn plan_steps(
    samples: usize,
    batch_size: usize,
    seed: u64,
    steps: Range<u64>,
) -> impl Iterator<Item = (u64, Vec<u32>)> {
    let per_epoch = steps_per_epoch(samples, batch_size);
    let mut order = Vec::new();
    let mut ordered_epoch = None;
    steps.map(move |step| {
        let (epoch, position) = (step / per_epoch, (step % per_epoch) as usize);
        if ordered_epoch != Some(epoch) {
            order = sampling::permutation(seed, Purpose::Epoch(epoch), samples);
            ordered_epoch = Some(epoch);
        }
        (epoch, order[position * batch_size..][..batch_size].to_vec())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_start_continues_the_same_plan() {
        let whole: Vec<_> = plan_steps(10, 3, 7, 0..20).collect();
        assert_eq!(plan_steps(10, 3, 7, 8..20).collect::<Vec<_>>(), whole[8..]);
        for epoch in whole.chunks(3) {
            let mut seen: Vec<u32> = epoch.iter().flat_map(|(_, batch)| batch.clone()).collect();
            let count = seen.len();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), count, "no sample twice in an epoch");
        }
        assert_ne!(whole[0].1, whole[3].1, "each epoch has an order of its own");
    }
}
