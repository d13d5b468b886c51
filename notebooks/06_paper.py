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
# baseline. `make paper` trains twelve models at the input size that they were made for. It replays their traces under three
# readings of the hardware (presets `mercury`, `mercury-skip` and `mercury-ahead`) and a bound, and searches for the best
# design within an error. `make paper QUICK=1` runs one model of each class of networks, in `paper/quick`. For another run,
# set `MERCURY_PAPER` to its folder, and `MERCURY_ACCURACY` to a table of `make accuracy`.

# %%
import json
import os
from pathlib import Path

import altair as alt
import polars as pl
from charts import (
    PAPER,
    average_by,
    paper_chain,
    paper_frontier,
    paper_hardware,
    paper_sizes,
    paper_speed_ups,
    place_accepted,
)
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
# A small run lacks some tables.
NAMES = ("training", "speed_ups", "frontier", "chain", "sizes", "hardware", "stages")
tables = {name: pl.read_parquet(RUN / f"{name}.parquet") for name in NAMES if (RUN / f"{name}.parquet").exists()}
speed_ups, paper = tables["speed_ups"], pl.col("group") == "paper"
print(json.loads((RUN / "run.json").read_text())["command"])
tables["training"].drop("commits")

# %% [markdown]
# ## Speed-up and accepted error
# Speed-up of a training step by the bound on each layer's error, a panel for each reading. Designs are chosen on some
# captured steps and judged on others. The diamond is the design within the step error that small networks accept
# (`make accuracy`), at the bound whose mean step error equals it. The band covers the choice of models.

# %%
accepted = RUN / "accepted.json"
if "frontier" in tables:
    frontier, marks = tables["frontier"].filter(paper), None
    if accepted.exists():
        step_error = json.loads(accepted.read_text())["step_error"]
        marks = place_accepted(frontier, speed_ups.filter(paper), step_error)
    display(paper_frontier(frontier, marks))

# %% [markdown]
# Each model with the preset's settings. Bars are 95 % intervals over training steps and projections. The solid line is no
# reuse, the dashed line the paper's mean.

# %%
paper_speed_ups(speed_ups.filter(design="preset"))

# %% [markdown]
# Each model within 10 %.

# %%
within = speed_ups.filter(design="within 10 %")
display(paper_speed_ups(within) if within.height else "This run has no searches.")

# %% [markdown]
# Each speed-up has an output error. Each reading needs an MCACHE of some KB that delivers some results per cycle.

# %%
figures = ["speed_up", "output_error", "computations_saved", "mcache_kb", "mcache_results_mean", "mcache_results_peak"]
speed_ups.filter(design="preset").select("model", "reading", *figures)

# %% [markdown]
# ## Means
# Geometric means over the paper's models with 95 % bootstrap intervals over models, for each design and reading.

# %%
means = average_by(speed_ups.filter(paper), "design", "reading")
means.with_columns(contains_the_papers_mean=pl.lit(PAPER).is_between("low", "high"))

# %% [markdown]
# ## Hits and errors
# Preset `mercury-ahead`: hit rate and output error of the forward pass.

# %%
points = alt.Chart(speed_ups.filter(design="preset", reading="mercury-ahead")).encode(
    alt.X("hit_rate", title="hit rate (% of vectors)", axis=alt.Axis(format="%")),
    alt.Y("output_error", title="output error (% of the exact result's norm)", axis=alt.Axis(format="%")),
)
names = points.mark_text(align="left", dx=7, fontSize=9).encode(text="model")
(points.mark_point(filled=True, opacity=1, size=60) + names).properties(width=480, height=260)

# %% [markdown]
# ## From the preset to the bound
# The ladder of `mercury-analyzer ladder`: each rung makes one assumption more than the rung above it. Some rungs equal a
# preset. A tick is a model. The geometric mean is red, hollow for a bound, which no hardware reaches.

# %%
paper_chain(tables["chain"].filter(group="paper"))

# %% [markdown]
# ## Larger inputs
# The preset's settings by the side of the images.

# %%
display(paper_sizes(tables["sizes"]) if "sizes" in tables else "This run has one size.")

# %% [markdown]
# ## Hardware
# The best design within 10 % for each value of one property of the hardware, for a model of each class of networks.
# Dashed: at equal MACs.

# %%
display(paper_hardware(tables["hardware"]) if "hardware" in tables else "This run has one hardware.")

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
for design, reading, speed_up, low, high in means.iter_rows():
    side = "contains" if low <= PAPER <= high else "excludes"
    print(f"{design}, {reading}: {speed_up:.2f}x ({low:.2f} to {high:.2f}), {side} the paper's {PAPER}x")
