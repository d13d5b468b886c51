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
# # Are hits similar, and do signatures agree as often as predicted?
#
# A signature's bits are signs of random projections. Two vectors at an angle a agree in one bit with probability
# 1 - a / 180°, and in b independent bits with this probability to the power of b. This notebook compares this prediction
# with the replay. It also shows the distance between hits and the vectors they reuse. `make demo` creates trace and results.
# For others, set `MERCURY_TRACE` and `MERCURY_RESULTS` to their folders; the results need `replay --with bounds`.

# %%
import os
from pathlib import Path

import altair as alt
import mercury_lab as mercury
import numpy as np
import polars as pl
from charts import chart, steady_state

# Static images show without a network and in every viewer.
alt.renderers.enable("png", scale_factor=2)
alt.data_transformers.disable_max_rows()

TRACE = Path(os.environ.get("MERCURY_TRACE", "../demo/trace"))
RESULTS = mercury.Results(os.environ.get("MERCURY_RESULTS", "../demo/results"))

# %%
trace, configuration = RESULTS.run["trace"], RESULTS.run["configurations"][0]
bits = configuration["rpq"]["bits"]
layers = steady_state(pl.DataFrame(RESULTS.layers).filter(configuration=0))
print(f"{trace['model']['name']} on {trace['dataset']['name']}, signatures of {bits} bits")

# %% [markdown]
# ## Similarity in an image
# For each patch of the first convolution, in one sample and channel: the number of earlier patches with the same
# signature. Flat parts of an image are similar to each other; edges are not.

# %%
first = pl.read_parquet(TRACE / "layers.parquet").filter(op="conv2d").sort("index").row(0, named=True)
columns, kernel = first["output_width"], (first["kernel_height"], first["kernel_width"])
centre = kernel[0] // 2 * kernel[1] + kernel[1] // 2
# The first vectors are those of one sample and channel, in the order of their positions.
vectors = mercury.vectors(
    TRACE,
    first["name"],
    step=trace["captured_steps"][-1],
    limit=first["output_height"] * columns,
    rpq=configuration["rpq"] | {"granularity": "channel-patch"},
    bits=configuration["bits"],
)
pixels = pl.DataFrame(vectors).select(
    row=pl.col("position") // columns,
    column=pl.col("position") % columns,
    value=pl.col("values").list.get(centre),
    earlier=pl.int_range(pl.len()).over("signature"),
)


def picture(field: str, title: str, scale: alt.Scale) -> alt.Chart:
    every = 8 * (1 + columns // 64)  # Few labels, so that they do not overlap.
    axis = alt.Axis(labelExpr=f"datum.value % {every} == 0 ? datum.label : ''", labelAngle=0, ticks=False)
    return (
        alt.Chart(pixels, title=title)
        .mark_rect()
        .encode(
            alt.X("column:O", title="column (element)", axis=axis),
            alt.Y("row:O", title="row (element)", axis=axis),
            alt.Color(field, title=field, scale=scale),
        )
        .properties(width=alt.Step(max(1, 200 // columns)), height=alt.Step(max(1, 200 // columns)))
    )


alt.hconcat(
    picture("value", f"Centres of the patches of {first['name']}", alt.Scale(scheme="greys", reverse=True)),
    picture("earlier", "Earlier patches of the same signature", alt.Scale(scheme="blues", type="symlog")),
).resolve_scale(color="independent")

# %% [markdown]
# ## Do signatures agree as often as angles predict?
# The replay sampled pairs of vectors. Dots show the share of pairs with the same signature, by angle; the line is the
# prediction. The colour gives the number of pairs.

# %%
angles = (
    pl.DataFrame(RESULTS.angles)
    .filter(configuration=0)
    .group_by("degrees_from", "degrees_to")
    .agg(
        pl.col("pairs", "colliding", "predicted").sum(),
        mean=(pl.col("degrees_mean") * pl.col("pairs")).sum() / pl.col("pairs").sum(),
    )
    .sort("degrees_from")
    .with_columns(measured=pl.col("colliding") / pl.col("pairs"), expected=pl.col("predicted") / pl.col("pairs"))
)
curve = pl.DataFrame({"angle": np.linspace(0, 180, 181)}).with_columns(share=(1 - pl.col("angle") / 180) ** bits)
x = alt.X("angle", title="angle between two vectors (degrees)", scale=alt.Scale(domain=[0, 180]))
line = (
    alt.Chart(curve)
    .mark_line(color="#858b94")
    .encode(x, alt.Y("share", title="share a signature (% of pairs)", axis=alt.Axis(format="%")))
)
points = (
    alt.Chart(angles.rename({"mean": "angle", "measured": "share"}))
    .mark_point(filled=True, size=70, opacity=1)
    .encode(x, alt.Y("share"), alt.Color("pairs", title="pairs", scale=alt.Scale(type="log", scheme="viridis")))
)
(line + points).properties(width=480, height=240, title=f"{bits} bits: theory (line) and replay (dots)")

# %% [markdown]
# ## How close are hits to the vectors they reuse?
# The cosine that 90 % of a layer's hits reach, and the relative distance |x' - x| / |x| that 90 % of them do not
# exceed (cut at 200 %). Signs depend on direction only. If the cosine is near 1 and the distance is large, the vectors
# have the same direction and different lengths, and the reused result is wrong by the ratio of the lengths.

# %%
matches = (
    layers.filter(pl.col("pass") == "forward", pl.col("hits_sampled") > 0)
    .drop_nulls("match_cosine_p90")
    .filter(pl.col("step") == pl.col("step").max())
)
shown = matches.with_columns(distance=pl.min_horizontal("match_distance_p90", pl.lit(2.0)))
(
    alt.Chart(shown)
    .mark_point(filled=True, opacity=1)
    .encode(
        alt.X(
            "match_cosine_p90",
            title="cosine that 90 % of hits reach (1: same direction)",
            scale=alt.Scale(zero=False, padding=20),
        ),
        alt.Y("distance", title="distance of 90 % of hits, at most (% of |x|)", axis=alt.Axis(format="%")),
        alt.Size("hit", title="hits (vectors)", scale=alt.Scale(range=[30, 500])),
        alt.Color("layer", title="layer", sort=shown["layer"].to_list(), scale=alt.Scale(scheme="turbo")),
    )
    .properties(width=480, height=260)
)

# %% [markdown]
# ## Hits without similarity
# Exact duplicates, including zero vectors, would be found by comparing, without any error.

# %%
chart("bounds", layers, "Hits (bars) and bounds, forward pass", passes="forward")

# %% [markdown]
# ## Conclusion: are hits similar?

# %%
pairs, colliding, predicted = (angles[name].sum() for name in ("pairs", "colliding", "predicted"))
agreement = (
    f"Signatures agree for {colliding / pairs:.2%} of {pairs} sampled pairs, where their angles predict "
    f"{predicted / pairs:.2%}."
    if pairs
    else "No pairs were sampled."
)
print(agreement)
forward = layers.filter(pl.col("pass") == "forward")
hits, duplicates = forward["hit"].sum(), forward["exact_duplicate"].sum()
if hits and matches.height:
    cosine = np.average(matches["match_cosine_p90"].to_numpy(), weights=matches["hit"].to_numpy())
    far = matches.filter(pl.col("match_distance_p90") > 0.2)
    print(
        f"90 % of a layer's hits have a cosine of {cosine:.3f} or more to the vectors they reuse (mean of layers by hits). "
        f"In {far.height} of {matches.height} layers, one hit in ten is off by more than 20 % of its vector's length. "
        f"There are {duplicates / hits:.0%} as many exact duplicates as hits; the other hits need similarity."
    )
else:
    print("No vector hit.")
