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
# # Does reuse speed up twelve models by 1.97 times, and at what error?
#
# The paper's abstract reports a mean training speed-up of 1.97x over twelve models, at unchanged accuracy. `make paper`
# trains these models, replays their traces with the preset `mercury`, and sweeps for the fastest setting whose outputs
# are off by 1 % at most; `make paper QUICK=1` is a smaller form, in `paper/quick`. To look at another run, set
# `MERCURY_PAPER` to its folder, and `MERCURY_ACCURACY` to one of `make accuracy`.

# %%
import json
import os
from pathlib import Path

import altair as alt
import polars as pl
from charts import PAPER, paper_chain, paper_cycles, paper_speed_ups
from IPython.display import display

# Pictures, not scripts: they show without a network, and wherever the notebook is opened.
alt.renderers.enable("png", scale_factor=2)
alt.data_transformers.disable_max_rows()
pl.Config.set_tbl_rows(60)

# The full run, or else the quick one.
RUNS = [Path("../paper"), Path("../paper/quick")]
RUN = Path(os.environ.get("MERCURY_PAPER") or next((run for run in RUNS if (run / "run.json").exists()), RUNS[0]))
ACCURACY = Path(os.environ.get("MERCURY_ACCURACY", "../accuracy"))

# %%
training, models, cycles, chain, bounds = (
    pl.read_parquet(RUN / f"{table}.parquet") for table in ("training", "models", "cycles", "chain", "bounds")
)
MERCURY, ALL_ON, BY_MODEL, BY_LAYER = models["setting"].unique(maintain_order=True)
print(json.loads((RUN / "run.json").read_text())["command"])
training.drop("commits")

# %% [markdown]
# ## Speed-up
# Each setting's speed-up of a training step on the captured steps after the first two, in which a layer that does not
# gain is found out and switched off. The solid line is no reuse, the dashed one the paper's mean; bars are 95 %
# intervals over the captured samples.

# %%
paper_speed_ups(models)

# %%
models.pivot("setting", index="model", values="step")

# %% [markdown]
# ## What was found
# The best settings, where one is faster than no reuse. The model's error pools the squares of all layers, so that
# layers of large outputs decide; the second bound holds for each layer by itself.

# %%
models.filter(pl.col("setting").is_in([BY_MODEL, BY_LAYER])).select(
    "model", "setting", "keys", "output_error", "worst_layer_error", "gradient_error", "step"
)

# %% [markdown]
# ## Hits and what they cost
# Every layer with reuse, preset `mercury`: hits of the forward pass and how far its outputs are off.

# %%
every = models.filter(setting=ALL_ON)
points = alt.Chart(every).encode(
    alt.X("hit_rate", title="hit rate (% of vectors)", axis=alt.Axis(format="%")),
    alt.Y("output_error", title="output error (% of the exact result's norm)", axis=alt.Axis(format="%")),
)
names = points.mark_text(align="left", dx=7, fontSize=9).encode(text="model")
(points.mark_point(filled=True, opacity=1, size=60) + names).properties(width=480, height=260)

# %% [markdown]
# ## Where the cycles go
# With every layer on: products that no hit saves, signatures, a cycle for each HIT, and PE sets that wait for others;
# then after layers that do not gain were switched off. The dashed line is where the paper's mean would be.

# %%
display(paper_cycles(cycles.filter(setting=ALL_ON)).properties(title="every layer on"))
display(paper_cycles(cycles.filter(setting=MERCURY)).properties(title="as the preset is"))

# %% [markdown]
# ## From hits to speed-up
# The speed-up if cycles followed the computations that hits save, and what is left of it under each further assumption.

# %%
paper_chain(chain)

# %% [markdown]
# ## Larger inputs
# The same for models on photos of the size of ImageNet's, after a few training steps.

# %%
photos = RUN / "larger" / "chain.parquet"
display(paper_chain(pl.read_parquet(photos)) if photos.exists() else "This run has no photos.")

# %% [markdown]
# ## What other ways to find what is alike would save
# As if cycles followed; last the bound of the array, on which a HIT takes a cycle.

# %%
bounds.pivot("bound", index="model", values="speed_up").with_columns(pl.selectors.numeric().round(2))

# %% [markdown]
# ## What becomes of accuracy
# Measured by training with reuse in the loop (`make accuracy`), for the models that it trains: the last metric of such
# a training less that of one without reuse, by seed.

# %%
runs = pl.read_parquet(ACCURACY / "runs.parquet") if (ACCURACY / "runs.parquet").exists() else None
if runs is None:
    print(f"Not measured: {ACCURACY} has no runs.parquet; make accuracy writes it.")
else:
    exact = runs.filter(configuration="exact").select("model", "seed", exact="value")
    accuracy = (
        runs.filter(pl.col("configuration") != "exact")
        .join(exact, on=["model", "seed"])
        .group_by("model", "configuration", maintain_order=True)
        .agg(seeds=pl.len(), exact=pl.col("exact").mean(), change=(pl.col("value") - pl.col("exact")).mean())
    )
    display(accuracy)

# %% [markdown]
# ## So, does it?

# %%
means = models.group_by("setting", maintain_order=True).agg(
    pl.col("step").log().mean().exp(), gaining=(pl.col("step") > 1.005).sum()
)
mean, gaining = (dict(zip(means["setting"], means[column], strict=True)) for column in ("step", "gaining"))
ideal = chain.filter(assumption=chain["assumption"][0]).select(pl.col("speed_up").log().mean().exp()).item()
print(
    f"{'Yes' if mean[MERCURY] >= PAPER else 'No'}: over {training.height} models the preset gives {mean[MERCURY]:.2f}x "
    f"(geometric mean; {gaining[MERCURY]} gain), where the paper reports {PAPER}x. If cycles followed the computations "
    f"that hits save it were {ideal:.2f}x, with outputs off by {every['output_error'].min():.0%} to "
    f"{every['output_error'].max():.0%}. The best settings give {mean[BY_MODEL]:.2f}x where the model's error is at "
    f"most 1 %, and {mean[BY_LAYER]:.2f}x where each layer's is."
)
