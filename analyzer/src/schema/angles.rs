//! `angles.parquet`: pairs of vectors of one stream and scope, in bins of their angle.

use super::{ColumnSpec, layers};

table! {
    /// A row per configuration, step, layer, pass and bin of angles; bins without pairs are
    /// left out.
    "angles.parquet":

    /// Number of the configuration, from 0.
    CONFIGURATION = layers::CONFIGURATION;
    /// Training step.
    STEP = layers::STEP;
    /// Place of the layer in execution order.
    LAYER_INDEX = layers::LAYER_INDEX;
    /// Name of the layer.
    LAYER = layers::LAYER;
    /// Pass: `forward`, `input-grad` or `weight-grad`.
    PASS = layers::PASS;
    /// Signature length in force, including the bits of a magnitude.
    SIGNATURE_BITS = layers::SIGNATURE_BITS;
    /// Angle at which the bin begins.
    DEGREES_FROM = ColumnSpec::f64("degrees_from", "degrees");
    /// Angle at which the bin ends.
    DEGREES_TO = ColumnSpec::f64("degrees_to", "degrees");
    /// Mean angle of the bin's pairs.
    DEGREES_MEAN = ColumnSpec::f64("degrees_mean", "degrees");
    /// Pairs in the bin.
    PAIRS = ColumnSpec::u64("pairs", "");
    /// Pairs that share a signature.
    COLLIDING = ColumnSpec::u64("colliding", "");
    /// Pairs expected to share a signature, by their angles.
    PREDICTED = ColumnSpec::f64("predicted", "");
}
