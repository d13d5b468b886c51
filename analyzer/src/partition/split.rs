//! Which partition does which units.

use super::Share;
use crate::request::{Measures, Unit};
use mercury_trace::Trace;
use mercury_trace::geometry::Pass;
use mercury_trace::tensor::TensorKind;

/// The units of one partition, in the order of the replay.
///
/// The split depends on trace, selection and number of partitions alone, and balances estimated work.
pub fn share_of<'a>(share: Share, trace: &Trace, measures: &Measures, units: Vec<Unit<'a>>) -> Vec<Unit<'a>> {
    let work: Vec<u64> = units.iter().map(|unit| work(trace, measures, unit)).collect();
    let owners = split(&work, share.of as usize);
    let own = units.into_iter().zip(owners).filter(|(_, owner)| *owner + 1 == share.number as usize);
    own.map(|(unit, _)| unit).collect()
}

/// The partition of each item of so much work: the largest first, each to the one that has least so far
/// (Graham 1969; no partition gets more than 4/3 of what the best split would give the fullest).
pub fn split(work: &[u64], partitions: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..work.len()).collect();
    order.sort_by_key(|&item| std::cmp::Reverse(work[item]));
    let mut loads: std::collections::BTreeSet<(u64, usize)> = (0..partitions).map(|partition| (0, partition)).collect();
    let mut owners = vec![0; work.len()];
    for item in order {
        let (load, owner) = loads.pop_first().expect("there is one partition at least");
        owners[item] = owner;
        loads.insert((load.saturating_add(work[item]), owner));
    }
    owners
}

/// Multiply-accumulates that a unit takes, roughly: those of signatures, and of errors where they are computed.
fn work(trace: &Trace, measures: &Measures, unit: &Unit) -> u64 {
    /// Dot products that signing a vector is worth, with all that is done to signatures.
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
        /// Each item has one owner, and no partition more than the average and one item.
        #[test]
        fn work_is_balanced(work in prop::collection::vec(1u64..1000, 0..60), partitions in 1usize..9) {
            let owners = split(&work, partitions);
            prop_assert_eq!(owners.len(), work.len());
            let load = |partition| -> u64 {
                owners.iter().zip(&work).filter(|(owner, _)| **owner == partition).map(|(_, work)| work).sum()
            };
            let most = (0..partitions).map(load).max().unwrap_or(0);
            let average = work.iter().sum::<u64>().div_ceil(partitions as u64);
            prop_assert!(most <= average + work.iter().max().unwrap_or(&0));
            prop_assert!(owners.iter().all(|&owner| owner < partitions));
            prop_assert_eq!(owners, split(&work, partitions));
        }
    }
}
