"""Explains the speed-up of a step: the parts of its cycles, and bounds on what reuse could save."""

import polars as pl
from folders import Results

# Parts of MERCURY's cycles, as results have them. `computing` is the work on products and HITs, with the waiting of PE
# sets; `stalls` wait for results of MCACHE; `variants` are norms and means.
PARTS = {
    "computing": "compute_cycles",
    "signatures": "signature_cycles",
    "stalls": "stall_cycles",
    "variants": "extra_cycles",
}
BASELINE = pl.col("baseline_cycles")
ZEROS = "zero operands skipped"
# Shares of vectors or operands that each bound could save.
FOUND = {
    "unlimited MCACHE": pl.col("unlimited_hit") / pl.col("vectors"),
    "cosine of 0.95 or more": pl.col("cosine_similar") / pl.col("cosine_sampled"),
    "exact duplicates": pl.col("exact_duplicate") / pl.col("vectors"),
    "zero vectors": pl.col("zero_vector") / pl.col("vectors"),
    ZEROS: pl.col("zero_operands") / pl.col("operands"),
}


def split_cycles(results: Results) -> pl.DataFrame:
    """Splits the cycles of each pass into `PARTS` and layers without reuse, as shares of the baseline's step."""
    layers = results.layers
    step = layers["baseline_cycles"].sum()
    off = pl.when("reuse").then(0).otherwise("mercury_cycles").sum() / step
    on = {part: pl.when("reuse").then(column).otherwise(0).sum() / step for part, column in PARTS.items()}
    shares = {"layers without reuse": off, **on}
    by_pass = layers.group_by("pass").agg(baseline=BASELINE.sum() / step, **shares).sort("pass")
    return by_pass.unpivot(list(shares), index=["pass", "baseline"], variable_name="part", value_name="share")


def bound_speed_ups(results: Results) -> pl.DataFrame:
    """Returns the speed-up of a step if its cycles were proportional to the computations that each bound leaves."""
    layers = results.layers
    # The weight gradient uses the hits of the forward pass.
    source = pl.when(pl.col("pass") == "weight-grad").then(pl.lit("forward")).otherwise("pass")
    found = layers.select("step", "layer", source="pass", **FOUND).fill_nan(0)
    layers = layers.with_columns(source=source).join(found, on=["step", "layer", "source"])
    rows = [
        layers.select(bound=pl.lit(name), speed_up=BASELINE.sum() / (BASELINE * (1 - pl.col(name))).sum())
        for name in FOUND
    ]
    return pl.concat(rows)
