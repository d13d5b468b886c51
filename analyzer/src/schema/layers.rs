//! `layers.parquet`. Many of its columns stand in other tables too, as sums.

use super::ColumnSpec;

table! {
    /// A row per configuration, step, layer and pass.
    "layers.parquet":

    /// Number of the configuration, from 0.
    CONFIGURATION = ColumnSpec::u64("configuration", "");
    /// Training step.
    STEP = ColumnSpec::u64("step", "");
    /// Place of the layer in execution order.
    LAYER_INDEX = ColumnSpec::u64("layer_index", "");
    /// Name of the layer.
    LAYER = ColumnSpec::text("layer");
    /// Operation of the layer: `conv2d`, `linear` or `matmul`.
    OP = ColumnSpec::text("op");
    /// Pass: `forward`, `input-grad` or `weight-grad`; the first layer has no `input-grad`.
    PASS = ColumnSpec::text("pass");
    /// Whether reuse was applied; otherwise cycles are the baseline's and nothing hits.
    REUSE = ColumnSpec::bool("reuse");
    /// Whether the layer had been switched off after earlier steps.
    SWITCHED_OFF = ColumnSpec::bool("switched_off");
    /// Whether the step belongs to the trial, before any layer can be switched off.
    TRIAL = ColumnSpec::bool("trial");
    /// Signature length in force, including the bits of a magnitude.
    SIGNATURE_BITS = ColumnSpec::u64("signature_bits", "bits");
    /// How vectors are cut (`rpq.granularity`).
    GRANULARITY = ColumnSpec::text("granularity");
    /// What a signature says (`rpq.variant`).
    VARIANT = ColumnSpec::text("variant");
    /// The projection matrix (`rpq.projection`); for a file also the hash of its content.
    PROJECTION = ColumnSpec::text("projection");
    /// Seed of a drawn projection matrix (`rpq.seed`).
    SEED = ColumnSpec::u64("seed", "");
    /// What stands for the vectors that share an entry (`mcache.representative`).
    REPRESENTATIVE = ColumnSpec::text("representative");
    /// When MCACHE is flushed in this layer (`mcache.scope`, `mcache.scope_linear`).
    SCOPE = ColumnSpec::text("scope");
    /// Captured samples.
    SAMPLES = ColumnSpec::u64("samples", "");
    /// Samples of the training step.
    BATCH = ColumnSpec::u64("batch", "");
    /// Length of the longest vector.
    VECTOR_LENGTH = ColumnSpec::u64("vector_length", "elements");
    /// Captured streams, each a set of vectors that meet the same weights.
    STREAMS_CAPTURED = ColumnSpec::u64("streams_captured", "");
    /// Streams of the layer, captured or not.
    STREAMS = ColumnSpec::u64("streams", "");

    /// Captured vectors, looked up or not.
    VECTORS = ColumnSpec::u64("vectors", "vectors");
    /// Vectors with the outcome HIT.
    HIT = ColumnSpec::u64("hit", "vectors");
    /// Vectors with the outcome MAU.
    MAU = ColumnSpec::u64("mau", "vectors");
    /// Vectors with the outcome MNU.
    MNU = ColumnSpec::u64("mnu", "vectors");
    /// HITs divided by captured vectors; null without vectors.
    HIT_RATE = ColumnSpec::f64("hit_rate", "share").nullable();

    /// Vectors that would hit in an MCACHE with room for all.
    UNLIMITED_HIT = ColumnSpec::u64("unlimited_hit", "vectors").nullable();
    /// Vectors that equal an earlier one of their scope, element for element.
    EXACT_DUPLICATE = ColumnSpec::u64("exact_duplicate", "vectors").nullable();
    /// Vectors of zeros only.
    ZERO_VECTOR = ColumnSpec::u64("zero_vector", "vectors").nullable();
    /// Elements of all vectors, padding included.
    OPERANDS = ColumnSpec::u64("operands", "elements").nullable();
    /// Elements that are zero.
    ZERO_OPERANDS = ColumnSpec::u64("zero_operands", "elements").nullable();
    /// Vectors sampled for ideal similarity.
    COSINE_SAMPLED = ColumnSpec::u64("cosine_sampled", "vectors").nullable();
    /// Sampled vectors with an earlier one at a cosine of `bounds.cosine` or more.
    COSINE_SIMILAR = ColumnSpec::u64("cosine_similar", "vectors").nullable();
    /// Similar vectors divided by sampled vectors.
    COSINE_SHARE = ColumnSpec::f64("cosine_share", "share").nullable();
    /// Lower end of the 95 % interval (Wilson's) of `cosine_share`.
    COSINE_SHARE_LOW = ColumnSpec::f64("cosine_share_low", "share").nullable();
    /// Upper end of the 95 % interval (Wilson's) of `cosine_share`.
    COSINE_SHARE_HIGH = ColumnSpec::f64("cosine_share_high", "share").nullable();
    /// Multiplications of the captured vectors by kept weights; 0 in products of two activations, which
    /// have no weights.
    MULTIPLICATIONS = ColumnSpec::u64("multiplications", "").nullable();
    /// Multiplications by weights that quantise to 0 in `bounds.weight_bits` bits.
    MULTIPLICATIONS_BY_ZERO = ColumnSpec::u64("multiplications_by_zero", "").nullable();
    /// Multiplications left if a vector is multiplied once by equal weights, and not by 0.
    MULTIPLICATIONS_DISTINCT = ColumnSpec::u64("multiplications_distinct", "").nullable();
    /// Sampled pairs of vectors, each pair of one stream and scope.
    PAIRS_SAMPLED = ColumnSpec::u64("pairs_sampled", "").nullable();
    /// Sampled pairs that share a signature.
    PAIRS_COLLIDING = ColumnSpec::u64("pairs_colliding", "").nullable();
    /// Sampled pairs expected to share a signature: the sum of (1 - angle / pi)^bits.
    PAIRS_PREDICTED = ColumnSpec::f64("pairs_predicted", "").nullable();

    /// Multiply-accumulates of the pass.
    MACS = ColumnSpec::u64("macs", "");
    /// Multiply-accumulates of the products that HITs skip.
    MACS_SKIPPED = ColumnSpec::u64("macs_skipped", "");
    /// Multiply-accumulates that reuse saves: those skipped, less the additions and multiplications of HITs and
    /// variants. Negative if these are more.
    MACS_SAVED_NET = ColumnSpec::i64("macs_saved_net", "");
    /// Cycles without reuse and without memory stalls.
    BASELINE_CYCLES = ColumnSpec::u64("baseline_cycles", "cycles");
    /// Cycles with reuse: the sum of signature, compute, stall and extra cycles.
    MERCURY_CYCLES = ColumnSpec::u64("mercury_cycles", "cycles");
    /// Cycles of computing signatures.
    SIGNATURE_CYCLES = ColumnSpec::u64("signature_cycles", "cycles");
    /// Cycles of computing the products of vectors without a HIT.
    COMPUTE_CYCLES = ColumnSpec::u64("compute_cycles", "cycles");
    /// Cycles of waiting for copies, gradient additions or buses.
    STALL_CYCLES = ColumnSpec::u64("stall_cycles", "cycles");
    /// Cycles of the centroids, norms and means of variants.
    EXTRA_CYCLES = ColumnSpec::u64("extra_cycles", "cycles");
    /// Baseline cycles divided by cycles with reuse.
    SPEED_UP = ColumnSpec::f64("speed_up", "");
    /// Lower end of the 95 % interval of the speed-up over captured samples; null for a single
    /// sample.
    SPEED_UP_LOW = ColumnSpec::f64("speed_up_low", "").nullable();
    /// Upper end of the 95 % interval of the speed-up over captured samples; null for a single
    /// sample.
    SPEED_UP_HIGH = ColumnSpec::f64("speed_up_high", "").nullable();
    /// Baseline cycles on an array that has the multiply-accumulates of a dedicated unit for signatures as more
    /// columns; `baseline_cycles` without a unit.
    BASELINE_EQUAL_MACS_CYCLES = ColumnSpec::u64("baseline_equal_macs_cycles", "cycles");
    /// `baseline_equal_macs_cycles` divided by cycles with reuse.
    SPEED_UP_EQUAL_MACS = ColumnSpec::f64("speed_up_equal_macs", "");
    /// Whether the cycles with reuse are a bound: HITs or signatures take less time than real processing elements need.
    IS_BOUND = ColumnSpec::bool("is_bound");

    /// Results that MCACHE delivers for HITs; 0 in a weight gradient.
    MCACHE_RESULTS = ColumnSpec::u64("mcache_results", "results");
    /// Results per cycle of computing and stalls.
    MCACHE_RESULTS_MEAN = ColumnSpec::f64("mcache_results_mean", "results/cycle");
    /// Most results that the array takes in a cycle; null if nothing limits them.
    MCACHE_RESULTS_PEAK = ColumnSpec::f64("mcache_results_peak", "results/cycle").nullable();
    /// Size of a bank of MCACHE, which holds entries of a tag and versions of a result; null without reuse or limit.
    MCACHE_KB = ColumnSpec::f64("mcache_kb", "KB").nullable();

    /// Cycles that the baseline waits for DRAM, in addition to `baseline_cycles`.
    BASELINE_MEMORY_STALL = ColumnSpec::u64("baseline_memory_stall", "cycles");
    /// Cycles of waiting for DRAM with reuse, in addition to `mercury_cycles`.
    MERCURY_MEMORY_STALL = ColumnSpec::u64("mercury_memory_stall", "cycles");
    /// Words from and to DRAM without reuse.
    BASELINE_DRAM_WORDS = ColumnSpec::u64("baseline_dram_words", "words");
    /// Words from and to DRAM with reuse.
    MERCURY_DRAM_WORDS = ColumnSpec::u64("mercury_dram_words", "words");
    /// Words of the global buffer without reuse, read and written.
    BASELINE_BUFFER_WORDS = ColumnSpec::u64("baseline_buffer_words", "words");
    /// Words of the global buffer with reuse, read and written.
    MERCURY_BUFFER_WORDS = ColumnSpec::u64("mercury_buffer_words", "words");
    /// Accesses of MCACHE: tags looked up and inserted, and words of results.
    MCACHE_WORDS = ColumnSpec::u64("mcache_words", "accesses");
    /// Energy without reuse by the configuration's costs, in units of one multiply-accumulate.
    BASELINE_ENERGY = ColumnSpec::f64("baseline_energy", "MACs");
    /// Energy with reuse by the configuration's costs, in units of one multiply-accumulate.
    MERCURY_ENERGY = ColumnSpec::f64("mercury_energy", "MACs");

    /// HITs whose match was measured.
    HITS_SAMPLED = ColumnSpec::u64("hits_sampled", "vectors").nullable();
    /// Cosine to the representative that half of the HITs reach.
    MATCH_COSINE_MEDIAN = ColumnSpec::f64("match_cosine_median", "").nullable();
    /// Cosine to the representative that 90 % of the HITs reach.
    MATCH_COSINE_P90 = ColumnSpec::f64("match_cosine_p90", "").nullable();
    /// Cosine to the representative that 99 % of the HITs reach.
    MATCH_COSINE_P99 = ColumnSpec::f64("match_cosine_p99", "").nullable();
    /// Relative distance to the representative, |x' - x| / |x|, that half of the HITs do not
    /// exceed.
    MATCH_DISTANCE_MEDIAN = ColumnSpec::f64("match_distance_median", "").nullable();
    /// Relative distance to the representative that 90 % of the HITs do not exceed.
    MATCH_DISTANCE_P90 = ColumnSpec::f64("match_distance_p90", "").nullable();
    /// Relative distance to the representative that 99 % of the HITs do not exceed.
    MATCH_DISTANCE_P99 = ColumnSpec::f64("match_distance_p99", "").nullable();

    /// Squared norm of the change of the kept result, |Y' - Y|².
    ERROR_SQUARE = ColumnSpec::f64("error_square", "").nullable();
    /// Squared norm of the kept exact result, |Y|².
    EXACT_SQUARE = ColumnSpec::f64("exact_square", "").nullable();
    /// Share of the layer's `error_square` in that of all layers of the step, in the same pass.
    ERROR_SHARE = ColumnSpec::f64("error_share", "share").nullable();
    /// Relative output error |Y' - Y| / |Y|; in the other passes that of dX or dW.
    OUTPUT_ERROR = ColumnSpec::f64("output_error", "").nullable();
    /// Lower end of the 95 % interval of `output_error`.
    OUTPUT_ERROR_LOW = ColumnSpec::f64("output_error_low", "").nullable();
    /// Upper end of the 95 % interval of `output_error`.
    OUTPUT_ERROR_HIGH = ColumnSpec::f64("output_error_high", "").nullable();
    /// Cosine of the angle between Y and Y'; null if a result vanishes.
    OUTPUT_COSINE = ColumnSpec::f64("output_cosine", "").nullable();
    /// Lower end of the 95 % interval of `output_cosine`.
    OUTPUT_COSINE_LOW = ColumnSpec::f64("output_cosine_low", "").nullable();
    /// Upper end of the 95 % interval of `output_cosine`.
    OUTPUT_COSINE_HIGH = ColumnSpec::f64("output_cosine_high", "").nullable();
    /// Ratio of norms |Y'| / |Y|.
    OUTPUT_NORM_RATIO = ColumnSpec::f64("output_norm_ratio", "").nullable();
    /// Lower end of the 95 % interval of `output_norm_ratio`.
    OUTPUT_NORM_RATIO_LOW = ColumnSpec::f64("output_norm_ratio_low", "").nullable();
    /// Upper end of the 95 % interval of `output_norm_ratio`.
    OUTPUT_NORM_RATIO_HIGH = ColumnSpec::f64("output_norm_ratio_high", "").nullable();
    /// First-order change of the step's mean loss by a forward pass: the sum of dY (Y' - Y).
    LOSS_CHANGE = ColumnSpec::f64("loss_change", "nats").nullable();
    /// Lower end of the 95 % interval of `loss_change`.
    LOSS_CHANGE_LOW = ColumnSpec::f64("loss_change_low", "nats").nullable();
    /// Upper end of the 95 % interval of `loss_change`.
    LOSS_CHANGE_HIGH = ColumnSpec::f64("loss_change_high", "nats").nullable();
}
