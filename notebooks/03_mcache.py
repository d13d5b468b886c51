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
# # Which MCACHE is large enough?
#
# A vector misses for one of two reasons. Either it is the first of its signature, and no cache could help, or its
# signature was not inserted because its set was full. The shares depend on entries, ways and scope. A replay computes them
# for one cache, a sweep for many. `make demo` creates both. For others, set `MERCURY_RESULTS` and `MERCURY_SWEEP` to their
# folders; the results need `replay --with bounds`.

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
run = RESULTS.run
mcache = run["configurations"][0]["mcache"]
layers = steady_state(pl.DataFrame(RESULTS.layers).filter(configuration=0))
forward = layers.filter(pl.col("pass") == "forward")
print(
    f"{run['trace']['model']['name']}: {mcache['entries']} entries, {mcache['ways']} ways, flushed after each "
    f"{mcache['scope']}"
)

# %% [markdown]
# ## Outcomes
# HIT, MAU (missed and inserted) and MNU (missed, and the set was full), by layer.

# %%
display(chart("outcomes", layers, "Forward pass", passes="forward"))
display(chart("outcomes", layers, "Input gradient", passes="input-grad"))

# %% [markdown]
# ## Misses by cause
# First of its signature: no cache would hit. Set was full: a larger or more associative cache would hit. Layers that
# were switched off are left out, because their vectors are not looked up.

# %%
CAUSES = ["first of its signature", "set was full"]
causes = (
    forward.filter(pl.col("hit") + pl.col("mau") + pl.col("mnu") == pl.col("vectors"))
    .drop_nulls("unlimited_hit")
    .group_by("layer_index", "layer")
    .agg(pl.col("vectors", "hit", "unlimited_hit").sum())
    .sort("layer_index")
    .with_columns(
        (1 - pl.col("unlimited_hit") / pl.col("vectors")).alias(CAUSES[0]),
        ((pl.col("unlimited_hit") - pl.col("hit")) / pl.col("vectors")).alias(CAUSES[1]),
    )
)
(
    alt.Chart(causes.unpivot(CAUSES, index=["layer"], variable_name="cause", value_name="share"))
    .mark_bar()
    .encode(
        alt.X("share", title="misses (% of vectors)", axis=alt.Axis(format="%")),
        alt.Y("layer", title="layer", sort=causes["layer"].to_list()),
        alt.Color("cause", title=None, sort=CAUSES, scale=alt.Scale(domain=CAUSES, range=["#858b94", "#d6455d"])),
    )
    .properties(width=480, height=alt.Step(18))
)

# %% [markdown]
# ## Entries, ways and scope
# The sweep's hit rate of the forward pass. 0 entries mean an unlimited MCACHE. The difference between a cache and the
# unlimited one is lost for lack of space. With scope `sample`, a cache of the same size sees more vectors than with scope
# `channel`.

# %%
configurations = pl.DataFrame(SWEEP.configurations)
swept = [name for name in configurations.columns if "." in name]
keys = [axis for axis in swept if axis.startswith("mcache.")]
assert {"mcache.entries", "mcache.ways"} <= set(keys), (
    f"{SWEEP.folder} varies {', '.join(swept)}; this notebook is about caches: sweep with "
    "--set mcache.entries=0,64,1024 --set mcache.ways=4,16 as well"
)
# Other keys, such as those of the array, change hits only by switching layers off, so one of their values is enough.
if "rpq.bits" not in swept:
    configurations = configurations.with_columns(pl.lit(run["configurations"][0]["rpq"]["bits"]).alias("rpq.bits"))
configurations = configurations.unique(["rpq.bits", *keys], keep="first", maintain_order=True)
longest = configurations["rpq.bits"].max()
# Vega reads a dot in a field's name as a path.
caches = configurations.filter(pl.col("rpq.bits") == longest).rename({key: key.removeprefix("mcache.") for key in keys})
caches = caches.with_columns(room=pl.col("entries").cast(pl.String).replace({"0": "no limit"}))
order = [str(entries) for entries in sorted(set(caches["entries"]) - {0})] + ["no limit"]
facet = [alt.Column("scope:N", title="scope")] if "scope" in caches.columns else []
(
    alt.Chart(caches, title=f"Signatures of {longest} bits")
    .mark_line(point=True)
    .encode(
        alt.X("room:N", title="MCACHE (entries)", sort=order, axis=alt.Axis(labelAngle=0)),
        alt.Y("hit_rate", title="hit rate (% of vectors)", axis=alt.Axis(format="%"), scale=alt.Scale(zero=False)),
        alt.Color("ways:N", title="ways"),
        *facet,
    )
    .properties(width=240, height=220)
)

# %% [markdown]
# ## Hit rate by signature length

# %%
named = [pl.format(key + " {}", pl.col(key)) for key in keys]
chart(
    "lengths", configurations.with_columns(setting=pl.concat_str(named, separator=", ")), "Hit rate beside output error"
)

# %% [markdown]
# ## Conclusion: which MCACHE is large enough?

# %%
best = caches["hit_rate"].max()
enough = caches.filter(pl.col("entries") > 0, pl.col("hit_rate") >= 0.99 * best).sort("entries", "ways")
lost = (causes["unlimited_hit"].sum() - causes["hit"].sum()) / max(1, causes["vectors"].sum())
print(
    f"With {mcache['entries']} entries and {mcache['ways']} ways, {lost:.2%} of the forward pass's vectors miss "
    "for lack of space. "
    + (
        f"The smallest swept cache within 1 % of the best hit rate ({best:.1%}) has "
        f"{enough['entries'][0]} entries and {enough['ways'][0]} ways."
        if enough.height
        else f"No limited cache of the sweep is within 1 % of the best hit rate ({best:.1%})."
    )
)
