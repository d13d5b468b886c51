//! Adaptation during training: signatures grow while the loss stands still, and layers for which reuse
//! does not pay are switched off.
//!
//! Our reading of the scheme: what counts as standing still, and over which steps a layer has to pay,
//! are configuration values.

use crate::config::Config;
use crate::replay::PassResult;
use crate::timing::MercuryCycles;
use mercury_reuse::Counts;
use mercury_reuse::config::MAX_BITS;
use std::collections::BTreeMap;

/// The signature length in force at each of `steps`, ascending, from the losses of all training
/// steps `(step, loss)`, ascending too.
///
/// Signatures begin with `rpq.bits` bits and grow by one each time the loss has not fallen below its
/// least value so far for `bits.patience` steps since it last did or since they last grew, up to
/// `bits.max`. A step's own loss counts from the next step on. A loss that is not a number is no fall.
pub fn bits_in_force(config: &Config, losses: &[(u64, f64)], steps: &[u64]) -> Vec<u32> {
    let patience = config.bits.patience;
    let longest = MAX_BITS - config.rpq.variant.magnitude_bits();
    let most = config.bits.max.min(longest).max(config.rpq.bits);
    let (mut bits, mut least, mut waited) = (config.rpq.bits, f64::INFINITY, 0);
    let mut losses = losses.iter().peekable();
    let mut in_force = Vec::with_capacity(steps.len());
    for &step in steps {
        while let Some((_, loss)) = losses.next_if(|(at, _)| *at < step) {
            waited += 1;
            if *loss < least {
                (least, waited) = (*loss, 0);
            } else if patience > 0 && waited >= patience {
                (bits, waited) = ((bits + 1).min(most), 0);
            }
        }
        in_force.push(bits);
    }
    in_force
}

/// Switches layers off in the results of one configuration, ordered by step: a layer whose passes
/// together took more cycles with reuse than without over the last `window` captured steps runs
/// without reuse from the next captured step on. Nothing is switched off if `window` is 0.
pub fn switch_off(results: &mut [PassResult], window: u32) {
    if window == 0 {
        return;
    }
    // Of each layer, baseline and MERCURY cycles of its captured steps while it was on.
    let mut spent: BTreeMap<usize, Vec<[u64; 2]>> = BTreeMap::new();
    for of_step in results.chunk_by_mut(|a, b| a.step == b.step) {
        for of_layer in of_step.chunk_by_mut(|a, b| a.layer_index == b.layer_index) {
            let steps = spent.entry(of_layer[0].layer_index).or_default();
            let recent = &steps[steps.len().saturating_sub(window as usize)..];
            let sum = |which: usize| recent.iter().map(|cycles| cycles[which]).sum::<u64>();
            if recent.len() == window as usize && sum(1) > sum(0) {
                of_layer.iter_mut().for_each(PassResult::switch_off);
                continue;
            }
            let sum = |of: fn(&PassResult) -> u64| of_layer.iter().map(of).sum::<u64>();
            steps.push([sum(|result| result.baseline), sum(|result| result.mercury.total())]);
        }
    }
}

impl PassResult {
    /// The result without reuse: no look-ups, no error, the baseline's cycles.
    fn switch_off(&mut self) {
        self.switched_off = true;
        self.reuse = false;
        self.counts = Counts::default();
        self.limits = None;
        self.macs_skipped = 0;
        self.error = None;
        self.mercury = MercuryCycles { compute: self.baseline, ..MercuryCycles::default() };
        let baseline = self.baseline;
        self.leave_one_out.iter_mut().for_each(|cycles| *cycles = [baseline; 2]);
    }
}
