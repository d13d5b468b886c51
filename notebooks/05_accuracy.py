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
# # What does reuse cost in accuracy, layer by layer?
#
# These are predictions from the captured operands: the relative error of each pass's result, |Y' - Y| / |Y|, for exact
# inputs, and the first-order change of the loss. They do not show how errors accumulate over training. `make demo` creates
# the results. For others, set `MERCURY_RESULTS` and `MERCURY_SWEEP` to their folders.

# %%
import os

import altair as alt
import mercury_lab as mercury
import polars as pl
from charts import chart, steady_state
from IPython.display import display

# Static images show without a network and in every viewer.
alt.renderers.enable("png", scale_factor=2)
alt.data_transformers.disable_max_rows()

RESULTS = mercury.Results(os.environ.get("MERCURY_RESULTS", "../demo/results"))
SWEEP = mercury.Results(os.environ.get("MERCURY_SWEEP", "../demo/sweep"))

# %%
layers = steady_state(pl.DataFrame(RESULTS.layers).filter(configuration=0))
models = pl.DataFrame(RESULTS.models).filter(configuration=0).sort("step")
if layers["error_square"].null_count() == layers.height:
    raise ValueError(f"{RESULTS.folder} has no output errors; replay with --errors sampled or all")

# %% [markdown]
# ## By layer and pass
# The weight gradient reuses the hits of the forward pass. It is a sum over vectors, in which errors partly cancel.

# %%
chart("errors", layers, "Output error", width=560)

# %% [markdown]
# ## Whose error is it?
# Shares of the squared error of all layers, by pass; those of the weight gradient are shares of the gradient error. One
# layer often causes most of it.
#
# These errors are local: each layer is computed with exact inputs. They do not contain how errors add up through the
# network, or what they do to the norm of gradients. `mercury-tracer train --probe CONFIG.toml --measure WHEN`, with the
# other flags of the capture, measures both in `loss_changes.parquet`. The report prints the whole command.

# %%
by_pass = (
    layers.drop_nulls("error_square")
    .group_by("pass", "layer_index", "layer")
    .agg(pl.col("error_square").sum())
    .with_columns(error_share=pl.col("error_square") / pl.col("error_square").sum().over("pass"))
    .sort("pass", "error_share", descending=[False, True])
)
by_pass.group_by("pass", maintain_order=True).head(3).select("pass", "layer", "error_share")

# %% [markdown]
# ## Error per hit
# Layers by hit rate and error of the forward pass. Layers at the upper left have large errors for few hits, layers at the
# lower right small errors for many hits.

# %%
by_layer = (
    layers.filter(pl.col("pass") == "forward")
    .group_by("layer_index", "layer")
    .agg(pl.col("hit", "vectors", "error_square", "exact_square", "baseline_cycles", "mercury_cycles").sum())
    .filter(pl.col("exact_square") > 0)
    .sort("layer_index")
    .with_columns(
        hit_rate=pl.col("hit") / pl.col("vectors"),
        output_error=(pl.col("error_square") / pl.col("exact_square")).sqrt(),
        speed_up=pl.col("baseline_cycles") / pl.col("mercury_cycles"),
    )
)
(
    alt.Chart(by_layer)
    .mark_point(filled=True, size=90, opacity=1)
    .encode(
        alt.X("hit_rate", title="hit rate (% of vectors)", axis=alt.Axis(format="%")),
        alt.Y("output_error", title="output error (% of the exact result's norm)", axis=alt.Axis(format="%")),
        alt.Color("layer", title="layer", sort=by_layer["layer"].to_list(), scale=alt.Scale(scheme="turbo")),
    )
    .properties(width=480, height=260)
)

# %% [markdown]
# ## Over training

# %%
first, last = models["step"].min(), models["step"].max()
chart("training_similarity", models, "By captured step", width=560, first=first, last=max(last, first + 1))

# %% [markdown]
# ## By signature length
# Longer signatures distinguish more vectors, with fewer hits and smaller errors.

# %%
configurations = pl.DataFrame(SWEEP.configurations)
swept = [name for name in configurations.columns if "." in name]
others = [axis for axis in swept if axis != "rpq.bits"]
configurations = configurations.with_columns(
    setting=pl.concat_str([pl.format(axis + " {}", pl.col(axis)) for axis in others], separator=", ")
    if others
    else pl.lit("")
)
# The frontier: no other configuration has at most the same error and at most the same cycles. Cycles, because speed-ups of
# different arrays have different baselines.
known = configurations.drop_nulls("output_error")
beaten = known.join(known, how="cross", suffix="_other").filter(
    pl.col("output_error_other") <= pl.col("output_error"),
    pl.col("mercury_cycles_other") <= pl.col("mercury_cycles"),
    (pl.col("output_error_other") < pl.col("output_error"))
    | (pl.col("mercury_cycles_other") < pl.col("mercury_cycles")),
)
known = known.with_columns(pareto=~pl.col("configuration").is_in(beaten["configuration"].unique().to_list()))
if "rpq.bits" not in swept:
    known = known.with_columns(pl.lit(RESULTS.run["configurations"][0]["rpq"]["bits"]).alias("rpq.bits"))
display(chart("lengths", known, "Hit rate beside output error"))
if known["baseline_cycles"].n_unique() > 1:
    display(chart("frontier_cycles", known, "MERCURY cycles over output error"))
else:
    display(chart("frontier", known, "Speed-up over output error"))

# %% [markdown]
# ## Conclusion: what does reuse cost?

# %%
worst, best = (by_layer.sort("output_error", descending=down).row(0, named=True) for down in (True, False))
model = (by_layer["error_square"].sum() / by_layer["exact_square"].sum()) ** 0.5
fast = known.filter(pl.col("pareto"), pl.col("speed_up") > 1).sort("output_error")
cause = by_pass.filter(pl.col("pass") == "forward").row(0, named=True)
print(
    f"Predicted output error of the forward pass: {model:.1%} over the model, from {best['output_error']:.1%} at "
    f"{best['layer']} (hit rate {best['hit_rate']:.0%}) to {worst['output_error']:.1%} at {worst['layer']} "
    f"(hit rate {worst['hit_rate']:.0%}). {cause['layer']} causes {cause['error_share']:.0%} of the squared error."
)
if fast.height:
    row = fast.row(0, named=True)
    print(
        f"Of the swept configurations that are faster than the baseline, the one with the smallest error has "
        f"{row['rpq.bits']} bits: {row['speed_up']:.2f}x{' (a bound, no hardware)' if row['is_bound'] else ''} "
        f"at an error of {row['output_error']:.1%}."
    )
else:
    print("None of the swept configurations is faster than the baseline.")
if "loss_change" in models.columns and models["loss_change"].null_count() < models.height:
    step = models.drop_nulls("loss_change").row(-1, named=True)
    print(
        f"Reuse in all layers' forward pass changes the loss of step {step['step']} by {step['loss_change']:+.4f} nats to "
        f"first order (95 % interval {step['loss_change_low']:+.4f} to {step['loss_change_high']:+.4f})."
    )
