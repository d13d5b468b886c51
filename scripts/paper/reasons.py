"""Explains the speed-up of a step: parts of its cycles, and speed-ups under other assumptions."""

from pathlib import Path

import polars as pl
from folders import SPEED_UP, Results, read_what_if
from settings import AMPLE, AS_IS

# PEs in a column of the array, over which the elements of a matrix product's vectors are spread.
ROWS = 12
# Parts of MERCURY's cycles. `products` are the baseline's cycles minus the share of computations that hits save; `HITs`
# are one cycle per HIT; `waiting` is the rest: unequal shares of PE sets, and work that reuse does not shorten;
# `variants` are norms and means.
PARTS = ["layers without reuse", "products", "signatures", "HITs", "waiting", "variants"]
BASELINE, WORK = pl.col("baseline_cycles"), pl.col("compute_cycles") + pl.col("stall_cycles")
PRODUCTS = BASELINE * (1 - pl.col("macs_skipped") / pl.col("macs"))
HITS = BASELINE * pl.col("hit") / pl.col("vectors") / pl.col("position")
COMPUTED = ["cycles proportional to computations", "signatures take cycles", "each HIT takes a cycle"]
EVERY, ZEROS = "every vector hits, signatures free", "zero operands skipped"
# Shares of vectors or operands that each bound could save.
FOUND = {
    "unlimited MCACHE": pl.col("unlimited_hit") / pl.col("vectors"),
    "cosine of 0.95 or more": pl.col("cosine_similar") / pl.col("cosine_sampled"),
    "exact duplicates": pl.col("exact_duplicate") / pl.col("vectors"),
    "zero vectors": pl.col("zero_vector") / pl.col("vectors"),
    ZEROS: pl.col("zero_operands") / pl.col("operands"),
}


def add_positions(layers: pl.DataFrame, trace: Path) -> pl.DataFrame:
    """Adds `position`: the approximate cycles of a PE set per computed position, of which a HIT takes one.

    They are the kernel's width and a share of the vertical accumulation. The kernels of a strided input gradient have
    fewer taps.
    """
    convolution = pl.col("op") == "conv2d"
    height, width, stride = pl.col("kernel_height"), pl.col("kernel_width"), pl.col("stride_width")
    backward = width / stride + (height / stride - 1).clip(0) / pl.col("input_width") * stride
    position = (
        pl.when(~convolution)
        .then(pl.col("vector_length") / ROWS)
        .when(pl.col("pass") == "forward")
        .then(width + (height - 1) / pl.col("output_width"))
        .when(pl.col("pass") == "input-grad")
        .then(backward)
        .otherwise(width)
    )
    shapes = pl.read_parquet(trace / "layers.parquet").drop("op", "macs")
    return layers.join(shapes, left_on="layer", right_on="name").with_columns(position=position.clip(1))


def split_cycles(results: Results, trace: Path) -> pl.DataFrame:
    """Splits the cycles of each pass into `PARTS`, as shares of the baseline's step."""
    with_reuse = [pl.lit(0), PRODUCTS, pl.col("signature_cycles"), HITS, WORK - PRODUCTS - HITS, pl.col("extra_cycles")]
    without_reuse = [pl.col("mercury_cycles"), *[pl.lit(0)] * 5]
    layers = add_positions(results.layers, trace)
    step = layers["baseline_cycles"].sum()
    pairs = zip(with_reuse, without_reuse, strict=True)
    columns = [pl.when("reuse").then(on).otherwise(off).sum() / step for on, off in pairs]
    shares = dict(zip(PARTS, columns, strict=True))
    by_pass = layers.group_by("pass").agg(baseline=BASELINE.sum() / step, **shares).sort("pass")
    return by_pass.unpivot(PARTS, index=["pass", "baseline"], variable_name="part", value_name="share")


def chain_assumptions(folder: Path) -> dict[str, float]:
    """Returns the speed-up of a step under assumptions that favour reuse less and less.

    All layers reuse, except under the last assumption.
    """
    every, ample = (read_what_if(folder, 0, *room) for room in (AS_IS, AMPLE))
    layers = add_positions(every.layers, folder / "trace")
    signatures = pl.col("signature_cycles")
    cycles = zip(COMPUTED, [PRODUCTS, PRODUCTS + signatures, PRODUCTS + signatures + HITS], strict=True)
    return {
        **layers.select(**{name: BASELINE.sum() / mercury.sum() for name, mercury in cycles}).row(0, named=True),
        f"PE sets wait, {AMPLE[0]} versions, {AMPLE[1]} banks": ample.layers.select(SPEED_UP).item(),
        f"PE sets wait, {AS_IS[0]} versions, {AS_IS[1]} banks": every.layers.select(SPEED_UP).item(),
        "layers switched off": read_what_if(folder, 2, *AS_IS).layers.select(SPEED_UP).item(),
    }


def bound_savings(mercury: Results, trace: Path) -> pl.DataFrame:
    """Returns the share of a step's computations that each bound saves, and the speed-up if cycles followed.

    The last row is the bound of the array: every vector hits, and signatures take no time.
    """
    layers = add_positions(mercury.layers, trace)
    # The weight gradient uses the hits of the forward pass.
    source = pl.when(pl.col("pass") == "weight-grad").then(pl.lit("forward")).otherwise("pass")
    found = layers.select("step", "layer", source="pass", **FOUND).fill_nan(0)
    layers = layers.with_columns(source=source).join(found, on=["step", "layer", "source"])
    rows = [
        layers.select(
            bound=pl.lit(name),
            saved=(pl.col("macs") * pl.col(name)).sum() / pl.col("macs").sum(),
            speed_up=BASELINE.sum() / (BASELINE * (1 - pl.col(name))).sum(),
        )
        for name in FOUND
    ]
    ceiling = layers.select(
        bound=pl.lit(EVERY), saved=pl.lit(1.0), speed_up=BASELINE.sum() / (BASELINE / pl.col("position")).sum()
    )
    return pl.concat([*rows, ceiling])
