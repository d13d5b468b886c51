//! `configurations.parquet`: totals over the captured steps after the trial, and some of the trial.
//! A sweep's table also has a column for each swept key, after `configuration`.

use super::{ColumnSpec, layers, models};

table! {
    /// A row per configuration.
    "configurations.parquet":

    /// Number of the configuration, from 0.
    CONFIGURATION = layers::CONFIGURATION;
    /// Captured steps that the totals are over.
    STEPS = ColumnSpec::u64("steps", "");
    /// Captured vectors of all forward passes, looked up or not.
    VECTORS = layers::VECTORS;
    /// Vectors of all forward passes with the outcome HIT.
    HIT = layers::HIT;
    /// Vectors of all forward passes with the outcome MAU.
    MAU = layers::MAU;
    /// Vectors of all forward passes with the outcome MNU.
    MNU = layers::MNU;
    /// HITs divided by captured vectors; null without vectors.
    HIT_RATE = layers::HIT_RATE;

    /// Relative output error of all forward outputs together.
    OUTPUT_ERROR = layers::OUTPUT_ERROR;
    /// Lower end of the 95 % interval of `output_error`.
    OUTPUT_ERROR_LOW = layers::OUTPUT_ERROR_LOW;
    /// Upper end of the 95 % interval of `output_error`.
    OUTPUT_ERROR_HIGH = layers::OUTPUT_ERROR_HIGH;
    /// First-order change of the loss by all layers together, mean over the steps.
    LOSS_CHANGE = layers::LOSS_CHANGE;
    /// Lower end of the 95 % interval of `loss_change`.
    LOSS_CHANGE_LOW = layers::LOSS_CHANGE_LOW;
    /// Upper end of the 95 % interval of `loss_change`.
    LOSS_CHANGE_HIGH = layers::LOSS_CHANGE_HIGH;

    /// Relative error of all weight gradients together.
    GRADIENT_ERROR = models::GRADIENT_ERROR;

    /// Multiply-accumulates of all passes.
    MACS = layers::MACS;
    /// Multiply-accumulates of all passes that HITs skip.
    MACS_SKIPPED = layers::MACS_SKIPPED;
    /// Multiply-accumulates that reuse saves in all passes.
    MACS_SAVED_NET = layers::MACS_SAVED_NET;
    /// `macs_saved_net` divided by `macs`.
    COMPUTATIONS_SAVED = ColumnSpec::f64("computations_saved", "share").nullable();
    /// Cycles of all passes without reuse and without memory stalls.
    BASELINE_CYCLES = layers::BASELINE_CYCLES;
    /// Cycles of all passes with reuse.
    MERCURY_CYCLES = layers::MERCURY_CYCLES;
    /// Cycles of all passes for waiting for DRAM without reuse.
    BASELINE_MEMORY_STALL = layers::BASELINE_MEMORY_STALL;
    /// Cycles of all passes for waiting for DRAM with reuse.
    MERCURY_MEMORY_STALL = layers::MERCURY_MEMORY_STALL;
    /// Energy of all passes without reuse, in units of one multiply-accumulate.
    BASELINE_ENERGY = layers::BASELINE_ENERGY;
    /// Energy of all passes with reuse, in units of one multiply-accumulate.
    MERCURY_ENERGY = layers::MERCURY_ENERGY;
    /// Baseline cycles divided by cycles with reuse; null without steps.
    SPEED_UP = layers::SPEED_UP.nullable();
    /// Lower end of the 95 % interval of the speed-up, steps as strata.
    SPEED_UP_LOW = layers::SPEED_UP_LOW;
    /// Upper end of the 95 % interval of the speed-up, steps as strata.
    SPEED_UP_HIGH = layers::SPEED_UP_HIGH;
    /// Speed-up with the cycles of waiting for DRAM added to both sides.
    SPEED_UP_WITH_STALLS = ColumnSpec::f64("speed_up_with_stalls", "");
    /// Speed-up over a baseline with the multiply-accumulates of a unit for signatures as more columns.
    SPEED_UP_EQUAL_MACS = models::SPEED_UP_EQUAL_MACS;
    /// Whether cycles with reuse are a bound: HITs or signatures take less time than real processing elements need.
    IS_BOUND = layers::IS_BOUND;
    /// Results per cycle of computing and stalls that MCACHE delivers, over all layers with reuse.
    MCACHE_RESULTS_MEAN = layers::MCACHE_RESULTS_MEAN;
    /// Most results that any layer takes in a cycle; null if nothing limits them.
    MCACHE_RESULTS_PEAK = layers::MCACHE_RESULTS_PEAK;
    /// Size of a bank of MCACHE, for the longest signature; null without reuse, or if MCACHE has no limit.
    MCACHE_KB = layers::MCACHE_KB;
    /// Energy with reuse divided by the baseline's; null if the baseline has none.
    ENERGY = ColumnSpec::f64("energy", "").nullable();

    /// Captured steps of the trial; 0 without a trial, or without a step after it.
    TRIAL_STEPS = ColumnSpec::u64("trial_steps", "");
    /// Hit rate of the trial's steps.
    TRIAL_HIT_RATE = ColumnSpec::f64("trial_hit_rate", "").nullable();
    /// Relative output error of the trial's steps.
    TRIAL_OUTPUT_ERROR = ColumnSpec::f64("trial_output_error", "").nullable();
    /// Speed-up of the trial's steps.
    TRIAL_SPEED_UP = ColumnSpec::f64("trial_speed_up", "").nullable();
}
