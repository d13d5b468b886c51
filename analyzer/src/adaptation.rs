//! Adaptation during training: signatures grow when the loss stops improving, and layers in which
//! reuse does not save cycles are switched off.
//!
//! This is our interpretation of the scheme. The criteria are configuration values: `bits.patience`
//! and `bits.max` for signatures, `stop.window` for layers.

use crate::accuracy::ErrorSums;
use crate::config::BitsConfig;
use crate::result::{Demand, PassResult};
use crate::schema::layers;
use crate::timing::MercuryCycles;
use mercury_hardware::switch::Switch;
use mercury_reuse::{Counts, Growth};
use polars::prelude::*;
use std::collections::BTreeSet;

/// By how many bits signatures have grown at each of `steps`; see [`Growth`].
///
/// `losses` are the `(step, loss)` of all training steps. Both slices are in ascending order of
/// steps.
pub fn count_growth(bits: &BitsConfig, losses: &[(u64, f64)], steps: &[u64]) -> Vec<u32> {
    let mut growth = Growth::new(bits);
    let mut losses = losses.iter().peekable();
    let mut grown = Vec::new();
    for &step in steps {
        while let Some((_, loss)) = losses.next_if(|(at, _)| *at < step) {
            growth.step(*loss);
        }
        grown.push(growth.grown_bits());
    }
    grown
}

/// Orders results by configuration, step, layer and pass, marks the trial, and switches layers off by
/// the window (`stop.window`) of each configuration. `whole` says that no steps or passes were left out.
pub fn finish(mut results: Vec<PassResult>, windows: &[u32], whole: bool) -> Vec<PassResult> {
    results.sort_by_key(|result| (result.configuration, result.step, result.layer_index, result.pass));
    // A part of the steps or passes does not say what a layer costs.
    let window = |window: &u32| if whole { *window } else { 0 };
    let trial = longest_trial(windows.iter().map(window), count_steps(&results));
    for of_one in results.chunk_by_mut(|a, b| a.configuration == b.configuration) {
        mark_trial(of_one, trial);
        switch_off(of_one, window(&windows[of_one[0].configuration]));
    }
    results
}

/// The longest window that a captured step follows, so that all configurations are summed over the same steps; where no
/// window is so short, all steps are the trial.
fn longest_trial(windows: impl Iterator<Item = u32>, captured: usize) -> u32 {
    windows.filter(|&window| (window as usize) < captured).max().unwrap_or(captured as u32)
}

fn count_steps(results: &[PassResult]) -> usize {
    results.iter().map(|result| result.step).collect::<BTreeSet<_>>().len()
}

/// Marks the trial, the first `window` captured steps of one configuration's results. No layer can
/// be switched off before it ends. `results` are ordered by step.
pub fn mark_trial(results: &mut [PassResult], window: u32) {
    for step_results in results.chunk_by_mut(|a, b| a.step == b.step).take(window as usize) {
        for result in step_results {
            result.trial = true;
        }
    }
}

/// The results that represent the rest of the training: those after the trial, or all results if no
/// step was captured after the trial.
///
/// A training run of many thousand steps consists almost entirely of steps after the trial.
pub fn steady_state<'a>(results: impl IntoIterator<Item = &'a PassResult>) -> Vec<&'a PassResult> {
    split_trial(results).1
}

/// The results of the trial; empty if no step was captured after it, as they are the
/// [`steady_state`] then.
pub fn trial<'a>(results: impl IntoIterator<Item = &'a PassResult>) -> Vec<&'a PassResult> {
    split_trial(results).0
}

fn split_trial<'a>(results: impl IntoIterator<Item = &'a PassResult>) -> (Vec<&'a PassResult>, Vec<&'a PassResult>) {
    let (trial, steady): (Vec<_>, Vec<_>) = results.into_iter().partition(|result| result.trial);
    if steady.is_empty() { (steady, trial) } else { (trial, steady) }
}

/// The [`steady_state`] of each configuration, from the rows of `layers.parquet` or
/// `models.parquet`.
///
/// # Errors
/// If column `configuration` or `trial` is missing.
pub fn steady_rows(frame: &DataFrame) -> PolarsResult<DataFrame> {
    let configurations = layers::CONFIGURATION.read_u64s(frame)?;
    let trial: Vec<bool> = layers::TRIAL.read_bools(frame)?.into_iter().map(|trial| trial == Some(true)).collect();
    let rows = || configurations.iter().zip(&trial);
    let reached: BTreeSet<_> = rows().filter(|(_, trial)| !**trial).map(|(configuration, _)| configuration).collect();
    let is_steady = rows().map(|(configuration, trial)| !trial || !reached.contains(configuration));
    frame.filter(&is_steady.collect::<BooleanChunked>())
}

/// Switches off the layers in which reuse did not save cycles over the last `window` captured
/// steps, from the following captured step on; see [`Switch`].
///
/// `results` are those of one configuration, ordered by step.
pub fn switch_off(results: &mut [PassResult], window: u32) {
    let mut switch = Switch::new(window);
    for step_results in results.chunk_by_mut(|a, b| a.step == b.step) {
        for passes in step_results.chunk_by_mut(|a, b| a.layer_index == b.layer_index) {
            let layer = passes[0].layer_index;
            if switch.is_off(&layer) {
                passes.iter_mut().for_each(PassResult::switch_off);
                continue;
            }
            let baseline: u64 = passes.iter().map(|result| result.baseline).sum();
            let mercury: u64 = passes.iter().map(|result| result.mercury.total()).sum();
            switch.step(layer, [baseline, mercury]);
        }
    }
}

impl PassResult {
    /// Turns this into the result without reuse. Vectors and bounds stay; there are no look-ups and
    /// no error, and cycles, traffic and energy are the baseline's.
    fn switch_off(&mut self) {
        self.switched_off = true;
        self.reuse = false;
        self.counts = Counts::default();
        self.macs_skipped = 0;
        self.macs_saved_net = 0;
        self.demand = Demand::baseline(self.demand.baseline_equal_macs);
        self.error = self.error.take().map(ErrorSums::without_reuse);
        self.matches = None;
        self.mercury = MercuryCycles { compute: self.baseline, ..MercuryCycles::default() };
        self.traffic = self.baseline_traffic;
        self.energy[1] = self.energy[0];
        let baseline = self.baseline;
        self.leave_one_out.iter_mut().for_each(|cycles| *cycles = [baseline; 2]);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::{Config, StopConfig};
    use crate::result::Settings;
    use crate::timing::memory::Traffic;
    use mercury_reuse::config::{Rpq, Variant};
    use mercury_reuse::grow;
    use mercury_trace::geometry::{Geometry, Linear, Pass};
    use proptest::prelude::*;

    const LINEAR: Geometry = Geometry::Linear(Linear { rows: 1, in_features: 9, out_features: 1 });

    fn config(bits: u32, patience: u64, max: u32) -> Config {
        Config {
            rpq: Rpq { bits, ..Rpq::default() },
            bits: BitsConfig { patience, max },
            stop: StopConfig { window: 0 },
            ..Config::default()
        }
    }

    fn bits_in_force(config: &Config, losses: &[(u64, f64)], steps: &[u64]) -> Vec<u32> {
        let grown = count_growth(&config.bits, losses, steps);
        grown.into_iter().map(|grown| grow(&config.rpq, &config.bits, grown)).collect()
    }

    fn numbered(losses: &[f64]) -> Vec<(u64, f64)> {
        (0..).zip(losses.iter().copied()).collect()
    }

    #[test]
    fn signatures_grow_while_the_loss_stands_still() {
        let losses = numbered(&[3.0, 2.0, 2.0, 2.5, 1.9, 1.9, 1.9, 1.9, 1.9, 1.9, f64::NAN]);
        let bits = bits_in_force(&config(20, 2, 22), &losses, &(0..12).collect::<Vec<_>>());
        // Two steps without a fall end with steps 3, 6 and 8.
        assert_eq!(bits, [20, 20, 20, 20, 21, 21, 21, 22, 22, 22, 22, 22]);
        assert_eq!(bits_in_force(&config(20, 0, 64), &losses, &[10]), [20]);
        // Steps of unknown loss do not count.
        assert_eq!(bits_in_force(&config(20, 2, 64), &numbered(&[f64::NAN; 9]), &[9]), [20]);
        assert_eq!(bits_in_force(&config(20, 2, 64), &numbered(&[1.0, 1.0, f64::NAN, 1.0]), &[3, 4]), [20, 21]);
        // `bits.max` never shortens the initial signature.
        assert_eq!(bits_in_force(&config(20, 2, 8), &losses, &[10]), [20]);
        let mut magnitude = config(59, 1, 64);
        magnitude.rpq.variant = Variant::SignMagnitude(4);
        assert_eq!(bits_in_force(&magnitude, &losses, &[10]), [60]);
    }

    proptest! {
        /// Each step's length is computed anew from all losses before it.
        #[test]
        fn growth_is_a_function_of_the_losses_before(
            losses in prop::collection::vec(0u8..6, 0..40),
            patience in 1u64..5,
        ) {
            let losses: Vec<f64> = losses.into_iter().map(f64::from).collect();
            let config = config(20, patience, 24);
            let steps: Vec<u64> = (0..losses.len() as u64 + 3).collect();
            let found = bits_in_force(&config, &numbered(&losses), &steps);
            for (step, found) in found.iter().enumerate() {
                let before = &losses[..step.min(losses.len())];
                let (mut bits, mut quiet) = (20, 0);
                for (at, loss) in before.iter().enumerate() {
                    let fell = before[..at].iter().all(|earlier| loss < earlier);
                    quiet = if fell { 0 } else { quiet + 1 };
                    if quiet == patience {
                        bits += 1;
                        quiet = 0;
                    }
                }
                prop_assert_eq!(*found, bits.min(24));
            }
        }
    }

    /// The forward pass of a layer in a step.
    pub(crate) fn result(step: u64, layer_index: usize, baseline: u64, mercury: u64) -> PassResult {
        PassResult {
            configuration: 0,
            step,
            layer_index,
            layer: layer_index.to_string(),
            op: "conv2d".to_owned(),
            pass: Pass::Forward,
            samples: 2,
            batch: 2,
            reuse: true,
            switched_off: false,
            trial: false,
            bits: 20,
            settings: Settings::new(&Config::default(), &LINEAR),
            vector_length: 9,
            streams: [1; 2],
            vectors: 2,
            counts: Counts { hit: 1, mau: 1, mnu: 0 },
            limits: None,
            macs: 10,
            macs_skipped: 5,
            macs_saved_net: 4,
            demand: Demand::default(),
            baseline,
            mercury: MercuryCycles { compute: mercury, ..MercuryCycles::default() },
            baseline_traffic: Traffic::default(),
            traffic: Traffic::default(),
            energy: [1.0, 0.5],
            error: None,
            matches: None,
            leave_one_out: vec![[baseline, mercury]; 2],
        }
    }

    /// Configuration and step of the steady rows, where configuration 1 has only a trial.
    fn list_steady_rows(results: &[PassResult]) -> (Vec<u64>, Vec<u64>) {
        let mut results = results.to_vec();
        let copies = results.iter().map(|result| PassResult { configuration: 1, trial: true, ..result.clone() });
        results.extend(copies.collect::<Vec<_>>());
        let frame = steady_rows(&crate::results::layers_frame(&results).unwrap()).unwrap();
        let column = |name: &str| frame.column(name).unwrap().u64().unwrap().into_no_null_iter().collect::<Vec<_>>();
        (column("configuration"), column("step"))
    }

    #[test]
    fn the_trial_ends_after_the_window_of_captured_steps() {
        let mut results: Vec<PassResult> =
            [0, 60, 120].into_iter().flat_map(|step| [result(step, 0, 10, 9), result(step, 1, 10, 9)]).collect();
        let steps = |results: Vec<&PassResult>| results.iter().map(|result| result.step).collect::<Vec<_>>();
        mark_trial(&mut results, 2);
        assert_eq!(steps(steady_state(&results)), [120, 120]);
        assert_eq!(steps(trial(&results)), [0, 0, 60, 60]);
        assert_eq!(list_steady_rows(&results), (vec![0, 0, 1, 1, 1, 1, 1, 1], vec![120, 120, 0, 0, 60, 60, 120, 120]));
        // No step was captured after the trial, so the trial represents the rest.
        mark_trial(&mut results, 3);
        assert_eq!(steps(steady_state(&results)), [0, 0, 60, 60, 120, 120]);
        assert!(trial(&results).is_empty());
    }

    #[test]
    fn a_layer_that_did_not_pay_runs_without_reuse_from_then_on() {
        // Layer 0 loses more cycles in step 1 than it saves in step 0; layer 1 saves cycles in
        // every step.
        let cycles = [(10, 8), (10, 13), (10, 5), (10, 5)];
        let mut results: Vec<PassResult> = (0..)
            .zip(cycles)
            .flat_map(|(step, (baseline, mercury))| [result(step, 0, baseline, mercury), result(step, 1, 10, 9)])
            .collect();
        let before = results.clone();
        switch_off(&mut results, 0);
        assert_eq!(results, before);
        switch_off(&mut results, 2);
        let off: Vec<(u64, usize)> =
            results.iter().filter(|r| r.switched_off).map(|r| (r.step, r.layer_index)).collect();
        assert_eq!(off, [(2, 0), (3, 0)]);
        let last = &results[6];
        assert_eq!((last.reuse, last.mercury.total(), last.macs_skipped), (false, 10, 0));
        // The vectors are still counted, but none hits.
        assert_eq!((last.vectors, last.counts), (2, Counts::default()));
        assert_eq!((last.leave_one_out.as_slice(), last.energy), ([[10, 10]; 2].as_slice(), [1.0; 2]));
        // A window of one step contains only the loss in step 1; break-even does not switch a layer
        // off.
        let mut again = before;
        again[2].mercury.compute = 10;
        switch_off(&mut again, 1);
        assert!(again.iter().all(|result| !result.switched_off));
    }

    #[test]
    fn a_window_that_no_step_follows_does_not_hide_the_steady_state_of_others() {
        assert_eq!(longest_trial([0, 2, 4].into_iter(), 4), 2);
        assert_eq!(longest_trial([0, 2, 3].into_iter(), 4), 3);
        assert_eq!(longest_trial([4, 9].into_iter(), 4), 4);
        assert_eq!(longest_trial([0].into_iter(), 1), 0);
    }
}
