//! `models.parquet`: outcomes and errors of the forward passes, cycles and the rest of all passes.

use super::{ColumnSpec, layers};

table! {
    /// A row per configuration and step.
    "models.parquet":

    /// Number of the configuration, from 0.
    CONFIGURATION = layers::CONFIGURATION;
    /// Training step.
    STEP = layers::STEP;
    /// Whether the step belongs to the trial, before any layer can be switched off.
    TRIAL = layers::TRIAL;
    /// Captured samples.
    SAMPLES = layers::SAMPLES;
    /// Samples of the training step.
    BATCH = layers::BATCH;

    /// Captured vectors of all layers, looked up or not.
    VECTORS = layers::VECTORS;
    /// Vectors of all layers with the outcome HIT.
    HIT = layers::HIT;
    /// Vectors of all layers with the outcome MAU.
    MAU = layers::MAU;
    /// Vectors of all layers with the outcome MNU.
    MNU = layers::MNU;
    /// Multiply-accumulates of all layers.
    MACS = layers::MACS;
    /// Multiply-accumulates of all layers that HITs skip.
    MACS_SKIPPED = layers::MACS_SKIPPED;
    /// Multiply-accumulates that reuse saves in all layers.
    MACS_SAVED_NET = layers::MACS_SAVED_NET;
    /// Cycles of all layers without reuse and without memory stalls.
    BASELINE_CYCLES = layers::BASELINE_CYCLES;
    /// Cycles of all layers with reuse.
    MERCURY_CYCLES = layers::MERCURY_CYCLES;
    /// Cycles of all layers for computing signatures.
    SIGNATURE_CYCLES = layers::SIGNATURE_CYCLES;
    /// Cycles of all layers for computing products.
    COMPUTE_CYCLES = layers::COMPUTE_CYCLES;
    /// Cycles of all layers for waiting for copies, gradient additions or buses.
    STALL_CYCLES = layers::STALL_CYCLES;
    /// Cycles of all layers for the centroids, norms and means of variants.
    EXTRA_CYCLES = layers::EXTRA_CYCLES;
    /// Cycles of all layers for waiting for DRAM without reuse.
    BASELINE_MEMORY_STALL = layers::BASELINE_MEMORY_STALL;
    /// Cycles of all layers for waiting for DRAM with reuse.
    MERCURY_MEMORY_STALL = layers::MERCURY_MEMORY_STALL;
    /// Words of all layers from and to DRAM without reuse.
    BASELINE_DRAM_WORDS = layers::BASELINE_DRAM_WORDS;
    /// Words of all layers from and to DRAM with reuse.
    MERCURY_DRAM_WORDS = layers::MERCURY_DRAM_WORDS;
    /// Energy of all layers without reuse, in units of one multiply-accumulate.
    BASELINE_ENERGY = layers::BASELINE_ENERGY;
    /// Energy of all layers with reuse, in units of one multiply-accumulate.
    MERCURY_ENERGY = layers::MERCURY_ENERGY;
    /// HITs divided by captured vectors; null without vectors.
    HIT_RATE = layers::HIT_RATE;
    /// Baseline cycles divided by cycles with reuse; null without cycles.
    SPEED_UP = layers::SPEED_UP.nullable();
    /// Lower end of the 95 % interval of the speed-up over captured samples; null for a single
    /// sample.
    SPEED_UP_LOW = layers::SPEED_UP_LOW;
    /// Upper end of the 95 % interval of the speed-up over captured samples; null for a single
    /// sample.
    SPEED_UP_HIGH = layers::SPEED_UP_HIGH;
    /// Baseline cycles of all layers with the multiply-accumulates of a unit for signatures as more columns.
    BASELINE_EQUAL_MACS_CYCLES = layers::BASELINE_EQUAL_MACS_CYCLES;
    /// `baseline_equal_macs_cycles` divided by cycles with reuse; null without cycles.
    SPEED_UP_EQUAL_MACS = layers::SPEED_UP_EQUAL_MACS.nullable();
    /// Whether the cycles with reuse of any layer are a bound.
    IS_BOUND = layers::IS_BOUND;
    /// Results that MCACHE delivers in all layers.
    MCACHE_RESULTS = layers::MCACHE_RESULTS;
    /// Results per cycle of computing and stalls, over all layers with reuse.
    MCACHE_RESULTS_MEAN = layers::MCACHE_RESULTS_MEAN;
    /// Most results that any layer takes in a cycle; null if nothing limits them.
    MCACHE_RESULTS_PEAK = layers::MCACHE_RESULTS_PEAK;
    /// Size of a bank of MCACHE, for the longest signature; null without reuse, or if MCACHE has no limit.
    MCACHE_KB = layers::MCACHE_KB;

    /// Squared norm of the change of all outputs, |Y' - Y|².
    ERROR_SQUARE = layers::ERROR_SQUARE;
    /// Squared norm of all exact outputs, |Y|².
    EXACT_SQUARE = layers::EXACT_SQUARE;
    /// Relative output error of all layers' outputs together.
    OUTPUT_ERROR = layers::OUTPUT_ERROR;
    /// Lower end of the 95 % interval of `output_error`.
    OUTPUT_ERROR_LOW = layers::OUTPUT_ERROR_LOW;
    /// Upper end of the 95 % interval of `output_error`.
    OUTPUT_ERROR_HIGH = layers::OUTPUT_ERROR_HIGH;
    /// Cosine of the angle between exact and reused outputs of all layers together.
    OUTPUT_COSINE = layers::OUTPUT_COSINE;
    /// Lower end of the 95 % interval of `output_cosine`.
    OUTPUT_COSINE_LOW = layers::OUTPUT_COSINE_LOW;
    /// Upper end of the 95 % interval of `output_cosine`.
    OUTPUT_COSINE_HIGH = layers::OUTPUT_COSINE_HIGH;
    /// Ratio of the norms of reused and exact outputs of all layers together.
    OUTPUT_NORM_RATIO = layers::OUTPUT_NORM_RATIO;
    /// Lower end of the 95 % interval of `output_norm_ratio`.
    OUTPUT_NORM_RATIO_LOW = layers::OUTPUT_NORM_RATIO_LOW;
    /// Upper end of the 95 % interval of `output_norm_ratio`.
    OUTPUT_NORM_RATIO_HIGH = layers::OUTPUT_NORM_RATIO_HIGH;
    /// First-order change of the loss by all layers together; null if trace or selection lacks
    /// a layer.
    LOSS_CHANGE = layers::LOSS_CHANGE;
    /// Lower end of the 95 % interval of `loss_change`.
    LOSS_CHANGE_LOW = layers::LOSS_CHANGE_LOW;
    /// Upper end of the 95 % interval of `loss_change`.
    LOSS_CHANGE_HIGH = layers::LOSS_CHANGE_HIGH;
    /// Relative error of all weight gradients together.
    GRADIENT_ERROR = ColumnSpec::f64("gradient_error", "").nullable();
}
