//! Switches off layers for which reuse costs more cycles than it saves.
//!
//! The window of steps for this decision is a configuration value; this is our reading of the
//! scheme.

use std::collections::BTreeMap;

/// Decides from the cycles of each step which layers run with reuse. If a layer took more cycles
/// with reuse than the baseline over its last `window` steps, it runs without reuse from then on.
#[derive(Debug, Clone)]
pub struct Switch<K> {
    window: usize,
    /// For each layer, the cycles of its last steps with reuse: baseline, MERCURY.
    recent: BTreeMap<K, Vec<[u64; 2]>>,
}

impl<K: Ord> Switch<K> {
    /// All layers on. With a `window` of 0 no layer is ever switched off.
    pub fn new(window: u32) -> Self {
        Self { window: window as usize, recent: BTreeMap::new() }
    }

    /// Whether a layer runs without reuse from now on.
    pub fn is_off<Q: Ord + ?Sized>(&self, layer: &Q) -> bool
    where
        K: std::borrow::Borrow<Q>,
    {
        let Some(recent) = self.recent.get(layer).filter(|_| self.window > 0) else { return false };
        let sum = |which: usize| recent.iter().map(|cycles| cycles[which]).sum::<u64>();
        recent.len() == self.window && sum(1) > sum(0)
    }

    /// Records the cycles of all passes of a layer in a step: baseline, MERCURY. A layer that is
    /// off ignores them.
    pub fn step(&mut self, layer: K, cycles: [u64; 2]) {
        if self.window == 0 || self.is_off(&layer) {
            return;
        }
        let recent = self.recent.entry(layer).or_default();
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
    fn a_layer_that_costs_more_over_its_window_is_switched_off() {
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
    fn only_the_last_steps_count() {
        let mut switch = Switch::new(2);
        for cycles in [[10, 0], [10, 9], [10, 11]] {
            switch.step(0, cycles);
        }
        assert!(!switch.is_off(&0), "break-even over the last two");
        switch.step(0, [10, 11]);
        assert!(switch.is_off(&0));
    }
}
