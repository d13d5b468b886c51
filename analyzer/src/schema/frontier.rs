//! `frontier.parquet`: what each way to choose settings gives within an error, by reading of the hardware.

use super::{ColumnSpec, configurations, designs, layers, models};

table! {
    /// A row per reading, method and limit of the first bound. The other bounds are as they were asked for. Figures of
    /// rows that are judged are of steps or samples by which the settings were not chosen.
    "frontier.parquet":

    /// Name of the reading: a preset, or the values of shared keys.
    READING = ColumnSpec::text("reading");
    /// How settings are chosen: `configured`, `one setting` for all layers, or `per layer`.
    METHOD = ColumnSpec::text("method");
    /// What the first bound limits; null for `configured`, which has no bound.
    BOUND = ColumnSpec::text("bound").nullable();
    /// The limit: a share, nats of the loss, or percentage points of accuracy; null for `configured`.
    LIMIT = ColumnSpec::f64("limit", "").nullable();
    /// Whether the figures are judged; if not, settings were chosen by the same data.
    IS_JUDGED = ColumnSpec::bool("is_judged");
    /// Baseline cycles divided by cycles with reuse.
    SPEED_UP = layers::SPEED_UP;
    /// Lower end of the 95 % interval of the speed-up over captured samples and, with several, projections.
    SPEED_UP_LOW = layers::SPEED_UP_LOW;
    /// Upper end of the 95 % interval of the speed-up over captured samples and, with several, projections.
    SPEED_UP_HIGH = layers::SPEED_UP_HIGH;
    /// Lower end of the 95 % interval of the mean speed-up over training steps and projections; null for a single step.
    SPEED_UP_STEPS_LOW = designs::SPEED_UP_STEPS_LOW;
    /// Upper end of the 95 % interval of the mean speed-up over training steps and projections; null for a single step.
    SPEED_UP_STEPS_HIGH = designs::SPEED_UP_STEPS_HIGH;
    /// Speed-up of the settings that were chosen by all data, on the same data.
    SPEED_UP_CHOSEN = ColumnSpec::f64("speed_up_chosen", "");
    /// Speed-up with the cycles of waiting for DRAM.
    SPEED_UP_WITH_STALLS = configurations::SPEED_UP_WITH_STALLS;
    /// Speed-up over a baseline that has the multiply-accumulates of a unit for signatures as more columns.
    SPEED_UP_EQUAL_MACS = layers::SPEED_UP_EQUAL_MACS;
    /// Energy with reuse divided by that of the baseline.
    ENERGY = configurations::ENERGY;
    /// Hit rate of all forward passes; those without reuse have no hits.
    HIT_RATE = layers::HIT_RATE;
    /// Share of the multiply-accumulates of all passes that reuse saves, net.
    COMPUTATIONS_SAVED = configurations::COMPUTATIONS_SAVED;
    /// Relative output error of the forward passes with reuse together.
    OUTPUT_ERROR = layers::OUTPUT_ERROR;
    /// Relative error of the weight gradients with reuse together.
    GRADIENT_ERROR = models::GRADIENT_ERROR;
    /// Largest error of a layer's pass.
    LARGEST_ERROR = ColumnSpec::f64("largest_error", "");
    /// Passes with reuse, in each fold.
    PASSES = ColumnSpec::u64("passes", "");
    /// Passes with reuse whose error exceeds the bound on layers, in the fold by which they are judged; null without one.
    EXCEEDING = ColumnSpec::u64("exceeding", "").nullable();
    /// What the first bound limits, the largest of all folds; null for `configured`, and beyond the calibration.
    BOUND_VALUE = ColumnSpec::f64("bound_value", "").nullable();
    /// Root mean square of the errors of all passes, the largest of all folds; passes without reuse count with 0.
    STEP_ERROR = ColumnSpec::f64("step_error", "");
    /// Accuracy that training loses, as the calibration predicts from `step_error`; null beyond its largest step error.
    ACCURACY_LOSS = ColumnSpec::f64("accuracy_loss", "points").nullable();
    /// Upper confidence limit of `accuracy_loss`; null beyond the largest step error of the calibration.
    ACCURACY_LOSS_UPPER = ColumnSpec::f64("accuracy_loss_upper", "points").nullable();
    /// Whether the cycles with reuse are a bound: HITs or signatures take less time than real processing elements need.
    IS_BOUND = layers::IS_BOUND;
    /// How far the objective of settings that were chosen by all data may be above the least, as a share of it.
    GAP = ColumnSpec::f64("gap", "share");
}
