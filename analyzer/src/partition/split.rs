//! Assigns units to partitions.

use super::Share;
use crate::request::{Measures, Unit};
use mercury_trace::Trace;
use mercury_trace::geometry::Pass;
use mercury_trace::tensor::TensorKind;

/// Selects the units of one partition, in the order of the replay.
///
/// The split balances the estimated work. It depends only on the trace, the measures, and the
/// number of partitions.
pub fn select_share<'a>(share: Share, trace: &Trace, measures: &Measures, units: Vec<Unit<'a>>) -> Vec<Unit<'a>> {
    let work: Vec<u64> = units.iter().map(|unit| estimate_work(trace, measures, unit)).collect();
    let owners = assign_items(&work, share.of as usize);
    let own = units.into_iter().zip(owners).filter(|(_, owner)| *owner + 1 == share.number as usize);
    own.map(|(unit, _)| unit).collect()
}

/// Assigns items to partitions, given the work of each; returns the partition of each item, from 0.
///
/// Items are assigned from the largest to the smallest, each to the partition with the least work
/// so far. The largest load is at most 4/3 of the optimum (Graham 1969).
pub fn assign_items(work: &[u64], partitions: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..work.len()).collect();
    order.sort_by_key(|&item| std::cmp::Reverse(work[item]));
    let mut loads: std::collections::BTreeSet<(u64, usize)> = (0..partitions).map(|partition| (0, partition)).collect();
    let mut owners = vec![0; work.len()];
    for item in order {
        let (load, owner) = loads.pop_first().expect("there is at least one partition");
        owners[item] = owner;
        loads.insert((load.saturating_add(work[item]), owner));
    }
    owners
}

/// Estimates the work of a unit in multiply-accumulates: for signatures, and for errors if they are
/// computed.
fn estimate_work(trace: &Trace, measures: &Measures, unit: &Unit) -> u64 {
    /// Work on a vector's signature, as a number of dot products; includes the cache look-ups.
    const SIGNATURE: u64 = 32;
    let layer = unit.layer;
    let samples = unit.step.samples.len() as u32;
    let share = |kind, all: u32| (trace.kept(layer, kind).len() as u64, u64::from(all).max(1));
    let elements = |pass, (kept, all): (u64, u64)| -> u64 {
        let products = layer.geometry.gemms(pass, samples);
        products.iter().map(|gemm| (gemm.m * gemm.k).saturating_mul(gemm.count) / all * kept).sum()
    };
    let inputs = share(TensorKind::Input, layer.geometry.inputs());
    let outputs = share(TensorKind::GradOutput, layer.geometry.filters());
    let per_element = |products: u64| SIGNATURE + if measures.errors.is_none() { 0 } else { products };
    let forward = elements(Pass::Forward, inputs).saturating_mul(per_element(outputs.0));
    let backward = if layer.input_grad && measures.selection.pass(Pass::InputGrad) {
        elements(Pass::InputGrad, outputs).saturating_mul(per_element(inputs.0))
    } else {
        0
    };
    forward.saturating_add(backward).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Each item has one owner, and no load exceeds the average by more than the largest item.
        #[test]
        fn work_is_balanced(work in prop::collection::vec(1u64..1000, 0..60), partitions in 1usize..9) {
            let owners = assign_items(&work, partitions);
            prop_assert_eq!(owners.len(), work.len());
            let load = |partition| -> u64 {
                owners.iter().zip(&work).filter(|(owner, _)| **owner == partition).map(|(_, work)| work).sum()
            };
            let most = (0..partitions).map(load).max().unwrap_or(0);
            let average = work.iter().sum::<u64>().div_ceil(partitions as u64);
            prop_assert!(most <= average + work.iter().max().unwrap_or(&0));
            prop_assert!(owners.iter().all(|&owner| owner < partitions));
            prop_assert_eq!(owners, assign_items(&work, partitions));
        }
    }
}
