# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Does reuse pay on this model, and at what error?
#
# This notebook shows a trace and the results of its replay. `make demo` creates both. For others, set
# `MERCURY_TRACE` and `MERCURY_RESULTS` to their folders.

# %%
import os
from pathlib import Path

import altair as alt
import mercury_lab as mercury
import polars as pl

# Static images show without a network and in every viewer.
alt.renderers.enable("png", scale_factor=2)
alt.data_transformers.disable_max_rows()

TRACE = Path(os.environ.get("MERCURY_TRACE", "../demo/trace"))
RESULTS = mercury.Results(os.environ.get("MERCURY_RESULTS", "../demo/results"))

# %%
trace = RESULTS.run["trace"]
model, data, step = trace["model"]["name"], trace["dataset"]["name"], trace["captured_steps"][-1]
print(f"{model} on {data}; captured steps {trace['captured_steps']}, here {step}")
RESULTS.run["configurations"][0]

# %% [markdown]
# ## Training
# Activations and gradients change during training. All results below depend on the position of the
# captured steps (dots) on this curve.

# %%
steps = pl.read_parquet(TRACE / "steps.parquet")
curve = alt.Chart(steps).encode(
    alt.X("step", title="training step"), alt.Y("loss", title="training loss (nats)", scale=alt.Scale(zero=False))
)
captured = curve.mark_point(filled=True, size=70, color="black", opacity=1).transform_filter("datum.captured")
(curve.mark_line(strokeWidth=1) + captured).properties(width=560, height=220)

# %% [markdown]
# ## Operands of a layer
# Reuse needs similar patches within one plane. These are planes of the first convolution's input, and
# of the gradient of its output.

# %%
first = pl.read_parquet(TRACE / "layers.parquet").filter(op="conv2d").sort("index").row(0, named=True)


def planes(kind: str, width: int, count: int = 5) -> pl.DataFrame:
    """Elements of a few planes of one sample, or of several samples if one has too few planes."""
    path = TRACE / f"tensors/step={step:06}/layer={first['name']}/{kind}.parquet"
    table = pl.read_parquet(path, hive_partitioning=False)
    key = "sample" if table["channel"].n_unique() < count else "channel"
    other = "channel" if key == "sample" else "sample"
    index = pl.int_range(pl.len()).over(key)
    skip = max(1, width // 64)  # More elements are invisible at this size.
    return (
        table.filter(pl.col(other) == pl.col(other).first())
        .head(count)
        .explode("values")
        .with_columns(row=index // width, column=index % width, plane=pl.format(key + " {}", key))
        .filter(pl.col("row") % skip == 0, pl.col("column") % skip == 0)
    )


def pictures(elements: pl.DataFrame, title: str, color: alt.Color) -> alt.Chart:
    # Few labels, so that they do not overlap.
    every = 8 * (1 + elements["column"].max() // 64)
    axis = alt.Axis(labelExpr=f"datum.value % {every} == 0 ? datum.label : ''", labelAngle=0, ticks=False)
    # A whole number of pixels per element; otherwise seams appear.
    size = alt.Step(max(1, 128 // elements["column"].n_unique()))
    order = elements["plane"].unique(maintain_order=True).to_list()
    return (
        alt.Chart(elements, title=title)
        .mark_rect()
        .encode(
            alt.X("column:O", title="column (element)", axis=axis),
            alt.Y("row:O", title="row (element)", axis=axis),
            color,
            alt.Facet("plane:N", title=None, columns=5, sort=order),
        )
        .properties(width=size, height=size)
    )


# %%
diverging = alt.Scale(scheme="redblue", domainMid=0)
alt.vconcat(
    pictures(
        planes("input", first["input_width"]),
        f"Input of {first['name']}",
        alt.Color("values", title="value", scale=alt.Scale(scheme="greys", reverse=True)),
    ),
    pictures(
        planes("grad_output", first["output_width"]),
        f"Gradient of the output of {first['name']}",
        alt.Color("values", title="gradient", scale=diverging, legend=alt.Legend(format=".0e")),
    ),
).resolve_scale(color="independent")

# %% [markdown]
# ## How many vectors hit, and at which error?
# The hit rate is the share of vectors with a reused result. It means nothing without the output error,
# the distance of the layer's result from the exact result, |Y' - Y| / |Y|.

# %%
results = pl.DataFrame(RESULTS.layers).filter(configuration=0, step=step).sort("layer_index")
order = results["layer"].unique(maintain_order=True).to_list()
PASSES = ["forward", "input-grad", "weight-grad"]


def share(column: str, unit: str, **y) -> alt.Chart:
    return (
        alt.Chart(results)
        .mark_bar()
        .encode(
            alt.X(column, title=unit, axis=alt.Axis(format="%")),
            alt.Y("layer", sort=order, **y),
            alt.YOffset("pass", sort=PASSES),
            alt.Color("pass", sort=PASSES, scale=alt.Scale(range=["#4c78a8", "#f58518", "#54a24b"])),
        )
        .properties(width=270, height=26 * len(order))
    )


share("hit_rate", "hit rate (% of vectors)", title="layer") | share(
    "output_error", "output error (% of the exact result's norm)", title=None, axis=alt.Axis(labels=False)
)

# %% [markdown]
# ## Cycles
# Cycles of the whole batch. Signatures are work that the baseline does not have. In stalls, the array
# waits for copies of results or additions of gradients. Each kind of layer has its own scale.

# %%
PARTS = {
    "baseline_cycles": "baseline",
    "signature_cycles": "signature",
    "compute_cycles": "compute",
    "stall_cycles": "stall",
}
HUES = ["#bab0ac", "#f58518", "#4c78a8", "#e45756"]
cycles = (
    results.select("op", "layer", "pass", *PARTS)
    .rename(PARTS)
    .unpivot(index=["op", "layer", "pass"], variable_name="part", value_name="cycles")
    .with_columns(
        array=pl.when(part="baseline").then(pl.lit("baseline")).otherwise(pl.lit("MERCURY")),
        place=pl.col("part").replace_strict(list(PARTS.values()), range(4)),
        millions=pl.col("cycles") / 1e6,
    )
)


def stacked(op: str) -> alt.Chart:
    of_op = cycles.filter(op=op)
    return (
        alt.Chart(of_op, title=op)
        .mark_bar()
        .encode(
            alt.X("millions", title="array cycles (millions)"),
            alt.Y("layer", title="layer", sort=order),
            alt.YOffset("array", sort=["baseline", "MERCURY"]),
            alt.Color("part", sort=list(PARTS.values()), scale=alt.Scale(domain=list(PARTS.values()), range=HUES)),
            alt.Order("place"),
            alt.Column("pass", title=None, sort=PASSES),
        )
        .properties(width=190, height=26 * of_op["layer"].n_unique())
    )


alt.vconcat(*[stacked(op) for op in results["op"].unique(maintain_order=True)])

# %% [markdown]
# ## Conclusion: does it pay?

# %%
total = pl.DataFrame(RESULTS.models).row(
    by_predicate=(pl.col("configuration") == 0) & (pl.col("step") == step), named=True
)
# A single captured sample gives no interval.
low, high = (total["speed_up"] if total[name] is None else total[name] for name in ("speed_up_low", "speed_up_high"))
answer = "pays" if low > 1 else "does not pay" if high < 1 else "may or may not pay"
forward = results.filter(pl.col("pass") == "forward").drop_nulls("output_error").sort("output_error")
worst = forward.row(-1, named=True)
bound = ", a bound, no hardware" if total["is_bound"] else ""
print(
    f"On {model} with {data} at step {step}, reuse {answer}: {total['speed_up']:.2f} times the baseline's speed{bound} "
    f"(95 % interval {low:.2f} to {high:.2f}) at a hit rate of {total['hit_rate']:.0%} in the forward pass, whose "
    f"results are off by {forward['output_error'].median():.0%} at the median layer "
    f"and by {worst['output_error']:.0%} at {worst['layer']}. Over all passes it saves "
    f"{total['macs_saved_net'] / total['macs']:.0%} of the multiply-accumulates, net of those of HITs and variants."
)
