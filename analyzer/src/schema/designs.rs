//! `designs.parquet`: configurations that differ in the seed of the projection alone are one design.
//! A sweep's table also has a column for each swept key but the seed, after `design`.

use super::{ColumnSpec, configurations, layers, models};

table! {
    /// A row per design.
    "designs.parquet":

    /// Number of the design, from 0.
    DESIGN = ColumnSpec::u64("design", "");
    /// Its first configuration.
    CONFIGURATION = layers::CONFIGURATION;
    /// Projections, each with a configuration of its own.
    PROJECTIONS = ColumnSpec::u64("projections", "");
    /// Captured steps that the means are over.
    STEPS = configurations::STEPS;
    /// Mean hit rate of the forward passes.
    HIT_RATE = layers::HIT_RATE;
    /// Mean relative output error of all forward outputs together.
    OUTPUT_ERROR = layers::OUTPUT_ERROR;
    /// Lower end of the 95 % interval of `output_error` over samples and, with several, projections.
    OUTPUT_ERROR_LOW = layers::OUTPUT_ERROR_LOW;
    /// Upper end of the 95 % interval of `output_error` over samples and, with several, projections.
    OUTPUT_ERROR_HIGH = layers::OUTPUT_ERROR_HIGH;
    /// Mean relative error of all weight gradients together.
    GRADIENT_ERROR = models::GRADIENT_ERROR;
    /// Mean share of the multiply-accumulates that reuse saves, net.
    COMPUTATIONS_SAVED = configurations::COMPUTATIONS_SAVED;
    /// Cycles of all passes without reuse and without memory stalls.
    BASELINE_CYCLES = layers::BASELINE_CYCLES;
    /// Mean cycles of all passes with reuse.
    MERCURY_CYCLES = ColumnSpec::f64("mercury_cycles", "cycles");
    /// Cycles of all passes for waiting for DRAM without reuse.
    BASELINE_MEMORY_STALL = layers::BASELINE_MEMORY_STALL;
    /// Mean cycles of all passes for waiting for DRAM with reuse.
    MERCURY_MEMORY_STALL = ColumnSpec::f64("mercury_memory_stall", "cycles");
    /// Energy of all passes without reuse, in units of one multiply-accumulate.
    BASELINE_ENERGY = layers::BASELINE_ENERGY;
    /// Mean energy of all passes with reuse, in units of one multiply-accumulate.
    MERCURY_ENERGY = layers::MERCURY_ENERGY;
    /// Mean speed-up.
    SPEED_UP = layers::SPEED_UP.nullable();
    /// Lower end of the 95 % interval of the speed-up over samples; with several projections it holds that of a further
    /// projection.
    SPEED_UP_LOW = layers::SPEED_UP_LOW;
    /// Upper end of the 95 % interval of the speed-up over samples; with several projections it holds that of a further
    /// projection.
    SPEED_UP_HIGH = layers::SPEED_UP_HIGH;
    /// Lower end of the 95 % interval of the mean speed-up over training steps and projections; null for a single step.
    SPEED_UP_STEPS_LOW = ColumnSpec::f64("speed_up_steps_low", "").nullable();
    /// Upper end of the 95 % interval of the mean speed-up over training steps and projections; null for a single step.
    SPEED_UP_STEPS_HIGH = ColumnSpec::f64("speed_up_steps_high", "").nullable();
    /// Smallest speed-up of a projection.
    SPEED_UP_MIN = ColumnSpec::f64("speed_up_min", "").nullable();
    /// Largest speed-up of a projection.
    SPEED_UP_MAX = ColumnSpec::f64("speed_up_max", "").nullable();
    /// Mean speed-up with the cycles of waiting for DRAM added to both sides.
    SPEED_UP_WITH_STALLS = configurations::SPEED_UP_WITH_STALLS;
    /// Mean speed-up over a baseline with the multiply-accumulates of a unit for signatures as more columns.
    SPEED_UP_EQUAL_MACS = models::SPEED_UP_EQUAL_MACS;
    /// Whether cycles with reuse are a bound: HITs or signatures take less time than real processing elements need.
    IS_BOUND = layers::IS_BOUND;
    /// Mean results per cycle of computing and stalls that MCACHE delivers, over all layers with reuse.
    MCACHE_RESULTS_MEAN = layers::MCACHE_RESULTS_MEAN;
    /// Most results that any layer takes in a cycle; null if nothing limits them.
    MCACHE_RESULTS_PEAK = layers::MCACHE_RESULTS_PEAK;
    /// Size of a bank of MCACHE, for the longest signature; null without reuse, or if MCACHE has no limit.
    MCACHE_KB = layers::MCACHE_KB;
    /// Mean energy with reuse divided by the baseline's; null if the baseline has none.
    ENERGY = configurations::ENERGY;
}
