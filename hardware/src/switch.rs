//! Layers for which reuse does not pay are switched off.
//!
//! Our reading of the scheme: over which steps a layer has to pay is a configuration value.

use std::collections::BTreeMap;

/// Baseline and MERCURY cycles of layers, step by step, and what follows from them: a layer that took more
/// cycles with reuse than without over its last `window` steps runs without reuse from then on.
#[derive(Debug, Clone)]
pub struct Switch<K> {
    window: usize,
    /// Of each layer, cycles of its last steps with reuse.
    spent: BTreeMap<K, Vec<[u64; 2]>>,
}

impl<K: Ord> Switch<K> {
    /// Nothing is switched off if `window` is 0.
    pub fn new(window: u32) -> Self {
        Self { window: window as usize, spent: BTreeMap::new() }
    }

    /// Whether a layer runs without reuse from now on.
    pub fn is_off<Q: Ord + ?Sized>(&self, layer: &Q) -> bool
    where
        K: std::borrow::Borrow<Q>,
    {
        let Some(recent) = self.spent.get(layer).filter(|_| self.window > 0) else { return false };
        let sum = |which: usize| recent.iter().map(|cycles| cycles[which]).sum::<u64>();
        recent.len() == self.window && sum(1) > sum(0)
    }

    /// Hears what a layer's passes together took in a step: baseline cycles, and those with reuse. Those of a
    /// layer that is off change nothing.
    pub fn step(&mut self, layer: K, cycles: [u64; 2]) {
        if self.window == 0 || self.is_off(&layer) {
            return;
        }
        let recent = self.spent.entry(layer).or_default();
        if recent.len() == self.window {
            recent.remove(0);
        }
        recent.push(cycles);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_has_to_pay_over_its_window() {
        let mut switch = Switch::new(2);
        for (cycles, off) in [([10, 8], false), ([10, 13], true), ([10, 1], true)] {
            switch.step("a", cycles);
            switch.step("b", [10, 10]);
            assert_eq!((switch.is_off("a"), switch.is_off("b")), (off, false), "{cycles:?}");
        }
        let mut never = Switch::new(0);
        never.step("a", [1, 2]);
        assert!(!never.is_off("a"));
    }

    #[test]
    fn old_steps_are_forgotten() {
        let mut switch = Switch::new(2);
        for cycles in [[10, 0], [10, 9], [10, 11]] {
            switch.step(0, cycles);
        }
        assert!(!switch.is_off(&0), "break-even over the last two");
        switch.step(0, [10, 11]);
        assert!(switch.is_off(&0));
    }
}
