"""The reasons for a step's speed-up: the parts of its cycles, and the speed-up under other assumptions."""

from pathlib import Path

import polars as pl
from folders import SPEED_UP, Results, what_if
from settings import AMPLE, AS_IS

# PEs of a column, over which a matrix product's vectors are spread.
ROWS = 12
# Parts of MERCURY's cycles: layers without reuse; the baseline's cycles minus the share of computations that hits save;
# signatures; one cycle per HIT; waiting of PE sets with unequal shares, and loading, which reuse does not shorten; norms
# and means of variants.
PARTS = ["layers without reuse", "products", "signatures", "HITs", "waiting", "variants"]
BASELINE, WORK = pl.col("baseline_cycles"), pl.col("compute_cycles") + pl.col("stall_cycles")
PRODUCTS = BASELINE * (1 - pl.col("macs_skipped") / pl.col("macs"))
HITS = BASELINE * pl.col("hit") / pl.col("vectors") / pl.col("position")
COMPUTED = ["cycles proportional to computations", "signatures take cycles", "each HIT takes a cycle"]
EVERY, ZEROS = "every vector hits, signatures free", "zero operands skipped"
# Shares of the vectors, or operands, that each bound skips.
FOUND = {
    "unlimited MCACHE": pl.col("unlimited_hit") / pl.col("vectors"),
    "cosine of 0.95 or more": pl.col("cosine_similar") / pl.col("cosine_sampled"),
    "exact duplicates": pl.col("exact_duplicate") / pl.col("vectors"),
    "zero vectors": pl.col("zero_vector") / pl.col("vectors"),
    ZEROS: pl.col("zero_operands") / pl.col("operands"),
}


def with_positions(layers: pl.DataFrame, trace: Path) -> pl.DataFrame:
    """Adds `position`: about the cycles of a PE set for a computed position, compared with one cycle for a HIT. This is
    the kernel's width plus a share of the vertical accumulation. A strided input gradient has smaller kernels."""
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


def parts(results: Results, trace: Path) -> pl.DataFrame:
    """Cycles by pass and by `PARTS`, as shares of the baseline's step."""
    of = [pl.lit(0), PRODUCTS, pl.col("signature_cycles"), HITS, WORK - PRODUCTS - HITS, pl.col("extra_cycles")]
    without = [pl.col("mercury_cycles"), *[pl.lit(0)] * 5]
    layers = with_positions(results.layers, trace)
    step = layers["baseline_cycles"].sum()
    columns = [pl.when("reuse").then(on).otherwise(off).sum() / step for on, off in zip(of, without, strict=True)]
    shares = dict(zip(PARTS, columns, strict=True))
    by_pass = layers.group_by("pass").agg(baseline=BASELINE.sum() / step, **shares).sort("pass")
    return by_pass.unpivot(PARTS, index=["pass", "baseline"], variable_name="part", value_name="share")


def chain(folder: Path) -> dict[str, float]:
    """The step's speed-up, with fewer assumptions in favour of reuse each time. Only the last switches layers off."""
    every, ample = (what_if(folder, 0, *room) for room in (AS_IS, AMPLE))
    layers = with_positions(every.layers, folder / "trace")
    signatures = pl.col("signature_cycles")
    cycles = zip(COMPUTED, [PRODUCTS, PRODUCTS + signatures, PRODUCTS + signatures + HITS], strict=True)
    return {
        **layers.select(**{name: BASELINE.sum() / of.sum() for name, of in cycles}).row(0, named=True),
        f"PE sets wait, {AMPLE[0]} versions, {AMPLE[1]} banks": ample.layers.select(SPEED_UP).item(),
        f"PE sets wait, {AS_IS[0]} versions, {AS_IS[1]} banks": every.layers.select(SPEED_UP).item(),
        "layers switched off": what_if(folder, 2, *AS_IS).layers.select(SPEED_UP).item(),
    }


def bounds(mercury: Results, trace: Path) -> pl.DataFrame:
    """The share of a step's computations that each bound saves, and the step's speed-up if its cycles were proportional
    to the rest. The last row is the bound of the array: every vector hits, and signatures cost nothing."""
    layers = with_positions(mercury.layers, trace)
    # The weight gradient uses the signatures and hits of the forward pass.
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
