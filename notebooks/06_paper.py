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
# # Does reuse speed up twelve models by 1.97x, and at what error?
#
# The paper's abstract reports a mean training speed-up of 1.97x over twelve models, at an accuracy similar to the
# baseline. `make paper` trains twelve models and replays their traces under three readings of the hardware (presets
# `mercury`, `mercury-skip` and `mercury-ahead`) and a bound. It also sweeps for the fastest setting with an output error of
# at most 1 %. `make paper QUICK=1` is a smaller form, in `paper/quick`. For another run, set `MERCURY_PAPER` to its folder,
# and `MERCURY_ACCURACY` to a table of `make accuracy`.

# %%
import json
import os
from pathlib import Path

import altair as alt
import polars as pl
from charts import PAPER, paper_chain, paper_cycles, paper_readings, paper_speed_ups
from IPython.display import display

# Static images show without a network and in every viewer.
alt.renderers.enable("png", scale_factor=2)
alt.data_transformers.disable_max_rows()
pl.Config.set_tbl_rows(60)

# The full run if there is one, else the quick one.
RUNS = [Path("../paper"), Path("../paper/quick")]
RUN = Path(os.environ.get("MERCURY_PAPER") or next((run for run in RUNS if (run / "run.json").exists()), RUNS[0]))
ACCURACY = Path(os.environ.get("MERCURY_ACCURACY", "../docs/accuracy.csv"))

# %%
TABLES = ("training", "models", "readings", "cycles", "chain", "bounds")
training, models, readings, cycles, chain, bounds = (pl.read_parquet(RUN / f"{table}.parquet") for table in TABLES)
MERCURY, ALL_ON, BY_MODEL, BY_LAYER = models["setting"].unique(maintain_order=True)
print(json.loads((RUN / "run.json").read_text())["command"])
training.drop("commits")

# %% [markdown]
# ## Speed-up and error
# Speed-up of a training step for each reading, over the captured steps after the trial. The trial is the first two captured
# steps; a layer that costs cycles in it is switched off. The solid line is no reuse, the dashed line the paper's mean. In
# the first chart a tick is a model, and the geometric mean is red, hollow for a bound, which no hardware reaches.

# %%
paper_readings(readings)

# %% [markdown]
# Each model. Bars are 95 % intervals over the captured samples; the draw of the projection is not covered
# (`mercury-analyzer ladder --seeds 6` covers both).

# %%
paper_speed_ups(readings)

# %% [markdown]
# Each speed-up has an output error. Each reading needs an MCACHE of some KB that delivers some results per cycle.

# %%
figures = ["speed_up", "output_error", "computations_saved", "mcache_kb", "mcache_results_mean", "mcache_results_peak"]
readings.select("model", "setting", *figures)

# %% [markdown]
# ## Best settings
# The best settings, if one is faster than no reuse. The model's error sums the squares of all layers, so layers with large
# outputs dominate it. The second bound applies to each layer separately.

# %%
models.filter(pl.col("setting").is_in([BY_MODEL, BY_LAYER])).select(
    "model", "setting", "keys", "output_error", "worst_layer_error", "gradient_error", "step"
)

# %% [markdown]
# ## Hits and errors
# Preset `mercury` with reuse in every layer: hit rate and output error of the forward pass.

# %%
every = models.filter(setting=ALL_ON)
points = alt.Chart(every).encode(
    alt.X("hit_rate", title="hit rate (% of vectors)", axis=alt.Axis(format="%")),
    alt.Y("output_error", title="output error (% of the exact result's norm)", axis=alt.Axis(format="%")),
)
names = points.mark_text(align="left", dx=7, fontSize=9).encode(text="model")
(points.mark_point(filled=True, opacity=1, size=60) + names).properties(width=480, height=260)

# %% [markdown]
# ## Cycles by part
# The preset `mercury`. Computing includes HITs and waiting PE sets. The first chart has reuse in every layer. In the second,
# layers that cost cycles in the trial are switched off. The dashed line marks the paper's mean.

# %%
display(paper_cycles(cycles.filter(setting=ALL_ON)).properties(title="every layer on"))
display(paper_cycles(cycles.filter(setting=MERCURY)).properties(title="as the preset is"))

# %% [markdown]
# ## From the preset to the bound
# The ladder of `mercury-analyzer ladder`: each rung makes one assumption more than the rung above it. Some rungs equal a
# preset. Hollow points are bounds.

# %%
paper_chain(chain)

# %% [markdown]
# ## Larger inputs
# The same for models on photos of ImageNet's size, after a few training steps.

# %%
photos = RUN / "larger" / "chain.parquet"
display(paper_chain(pl.read_parquet(photos)) if photos.exists() else "This run has no photos.")

# %% [markdown]
# ## Bounds
# Speed-up of a step if its cycles were proportional to the computations that each bound leaves. No hardware reaches these.

# %%
bounds.pivot("bound", index="model", values="speed_up").with_columns(pl.selectors.numeric().round(2))

# %% [markdown]
# ## Accuracy
# `make accuracy` trains three smaller networks to the end with reuse in the loop. The table shows the final metric with
# reuse minus that without reuse, as a mean over seeds: a share of images, or BLEU.

# %%
runs = pl.read_csv(ACCURACY, schema_overrides={"seed": pl.Int64, "value": pl.Float64, "step_error": pl.Float64})
exact = runs.filter(design="exact").select("task", "seed", exact="value")
(
    runs.filter(pl.col("design") != "exact")
    .join(exact, on=["task", "seed"])
    .group_by("task", "design", maintain_order=True)
    .agg(
        seeds=pl.len(),
        step_error=pl.col("step_error").mean().round(3),
        exact=pl.col("exact").mean().round(3),
        change=(pl.col("value") - pl.col("exact")).mean().round(3),
    )
)

# %% [markdown]
# ## Conclusion

# %%
means = models.group_by("setting", maintain_order=True).agg(pl.col("step").log().mean().exp())
mean = dict(zip(means["setting"], means["step"], strict=True))
speed_ups = readings.group_by("setting", maintain_order=True).agg(
    pl.col("speed_up").log().mean().exp(), low=pl.col("output_error").min(), high=pl.col("output_error").max()
)
texts = [
    f"{name} {speed_up:.2f}x at output errors of {low:.0%} to {high:.0%}"
    for name, speed_up, low, high in speed_ups.iter_rows()
]
print(
    f"Over {training.height} models (geometric means): {'; '.join(texts)}. The paper reports {PAPER}x. On the array of the "
    f"preset mercury the best settings give {mean[BY_MODEL]:.2f}x if the model's error is at most 1 %, and "
    f"{mean[BY_LAYER]:.2f}x if each layer's error is."
)
