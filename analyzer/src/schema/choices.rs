//! `choices.parquet`: the settings that a search chose for each layer, by reading of the hardware.

use super::{ColumnSpec, layers};

table! {
    /// A row per reading, layer and pass, over all captured steps. Of several projections, cycles are means.
    "choices.parquet":

    /// Name of the reading: a preset, or the values of shared keys.
    READING = ColumnSpec::text("reading");
    /// Place of the layer in execution order.
    LAYER_INDEX = layers::LAYER_INDEX;
    /// Name of the layer.
    LAYER = layers::LAYER;
    /// Pass: `forward`, `input-grad` or `weight-grad`; the first layer has no `input-grad`.
    PASS = layers::PASS;
    /// Whether the pass reuses.
    REUSE = layers::REUSE;
    /// Signature length, including the bits of a magnitude; null without reuse.
    SIGNATURE_BITS = ColumnSpec::u64("signature_bits", "bits").nullable();
    /// How vectors are cut (`rpq.granularity`); null without reuse.
    GRANULARITY = ColumnSpec::text("granularity").nullable();
    /// What a signature says (`rpq.variant`); null without reuse.
    VARIANT = ColumnSpec::text("variant").nullable();
    /// The projection matrix (`rpq.projection`); for a file also the hash of its content; null without reuse.
    PROJECTION = ColumnSpec::text("projection").nullable();
    /// Seed of a drawn projection matrix (`rpq.seed`); null without reuse.
    SEED = ColumnSpec::u64("seed", "").nullable();
    /// What stands for the vectors that share an entry (`mcache.representative`); null without reuse.
    REPRESENTATIVE = ColumnSpec::text("representative").nullable();
    /// When MCACHE is flushed in a convolution (`mcache.scope`); null without reuse.
    SCOPE = ColumnSpec::text("scope").nullable();
    /// HITs divided by captured vectors; null without vectors.
    HIT_RATE = layers::HIT_RATE;
    /// Relative error of the pass's result; 0 without reuse.
    OUTPUT_ERROR = ColumnSpec::f64("output_error", "");
    /// Share of the pass's squared error in that of the same pass of all layers; null if there is none.
    ERROR_SHARE = layers::ERROR_SHARE;
    /// Cycles without reuse and without memory stalls.
    BASELINE_CYCLES = layers::BASELINE_CYCLES;
    /// Cycles with reuse.
    MERCURY_CYCLES = layers::MERCURY_CYCLES;
    /// Baseline cycles divided by cycles with reuse.
    SPEED_UP = layers::SPEED_UP;
    /// Folds in which the choice for the pass reuses.
    FOLDS = ColumnSpec::u64("folds", "");
    /// Those of them in which its judged error exceeds the bound on layers; null without such a bound.
    FOLDS_EXCEEDING = ColumnSpec::u64("folds_exceeding", "").nullable();
}
