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
# # Which parts take the cycles, and on which array does reuse pay?
#
# The same hits save more cycles on one array than on another: signatures and copies take the array's time, and PE sets
# wait for each other. `make demo` replays one trace on three arrays and sweeps over schedules. For others, set
# `MERCURY_RESULTS` and `MERCURY_SWEEP` to their folders. Folders next to `MERCURY_RESULTS` with results of the same trace
# are compared with it.

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
DATAFLOWS = {"rs": "row stationary", "ws": "weight stationary", "os": "output stationary", "is": "input stationary"}
run = RESULTS.run
layers = steady_state(pl.DataFrame(RESULTS.layers).filter(configuration=0))


def replays() -> dict[str, mercury.Results]:
    """Replays of this trace, by array."""
    found = {}
    for path in sorted(RESULTS.folder.parent.glob("*/run.json")):
        other = mercury.Results(path.parent)
        is_replay = len(other.run.get("configurations", [])) == 1
        if is_replay and other.run["trace"]["manifest_sha256"] == run["trace"]["manifest_sha256"]:
            configuration = other.run["configurations"][0]
            found[
                f"{DATAFLOWS[configuration['array']['dataflow']]}, {configuration['rpq']['granularity']} "
                f"({path.parent.name})"
            ] = other
    return found


arrays = replays()
print(*arrays, sep="\n")

# %% [markdown]
# ## By layer
# Cycles of each layer without and with reuse, over the captured steps after the trial. Then cycles by pass, as a share of
# the baseline's.

# %%
chart("cycles", layers, "All passes", width=560)

# %%
for name in layers["pass"].unique(maintain_order=True).sort():
    display(chart("cycles_share", layers, name, passes=name, width=560))

# %%
chart("speed_up", layers, "Speed-up by layer and pass", width=560)

# %% [markdown]
# ## By array
# Whole model, all passes. Reuse adds signatures and copies. The gain is the distance of a bar from 100 %.

# %%
PARTS = {
    "signature_cycles": "signatures",
    "compute_cycles": "products",
    "stall_cycles": "waiting",
    "extra_cycles": "variants",
}
by_array = pl.concat(
    [
        steady_state(pl.DataFrame(replay.layers).filter(configuration=0))
        .select(pl.lit(name).alias("array"), "pass", "baseline_cycles", "mercury_cycles", "is_bound", *PARTS)
        for name, replay in arrays.items()
    ]
)
totals = by_array.group_by("array", maintain_order=True).agg(
    pl.col("baseline_cycles", "mercury_cycles", *PARTS).sum(), pl.col("is_bound").any()
)
shares = (
    totals.with_columns(pl.col(*PARTS) / pl.col("baseline_cycles"))
    .rename(PARTS)
    .unpivot(list(PARTS.values()), index=["array"], variable_name="part", value_name="share")
)
COLORS = alt.Scale(domain=list(PARTS.values()), range=["#c77700", "#3b82c4", "#d6455d", "#9b6dc6"])
bars = (
    alt.Chart(shares)
    .mark_bar()
    .encode(
        alt.X("share", title="cycles (% of the array's baseline)", axis=alt.Axis(format="%")),
        alt.Y("array", title="array", axis=alt.Axis(labelLimit=320)),
        alt.Color("part", title=None, scale=COLORS),
    )
)
(bars + alt.Chart().mark_rule(strokeDash=[4, 3]).encode(x=alt.datum(1))).properties(width=480, height=alt.Step(30))

# %% [markdown]
# ## Synchronous or asynchronous
# PE sets of a row-stationary array either wait for each other after each filter, or may run ahead. The table compares
# both, from the sweep.

# %%
configurations = pl.DataFrame(SWEEP.configurations)
swept = [name for name in configurations.columns if "." in name]
schedules = None
if "array.schedule" in swept:
    others = [axis for axis in swept if axis != "array.schedule"]
    schedules = configurations.pivot("array.schedule", index=others, values="speed_up").with_columns(
        gain=pl.col("asynchronous") / pl.col("synchronous") - 1
    )
schedules

# %% [markdown]
# ## Memory and utilisation
# Utilisation is the number of multiply-accumulates that the array performs, divided by processing elements times
# cycles. With reuse, these are all multiply-accumulates less those saved, net: what HITs and variants compute counts as
# work.

# %%
array = run["configurations"][0]["array"]
display(chart("utilisation", layers, "Utilisation", elements=array["rows"] * array["columns"]))
display(chart("energy", layers, "Energy"))

# %% [markdown]
# ## Conclusion: which parts take the cycles, and where does reuse pay?

# %%
# A speed-up is relative to the baseline of its own array, so arrays are ordered by cycles.
with_speed = totals.with_columns(speed_up=pl.col("baseline_cycles") / pl.col("mercury_cycles")).sort("mercury_cycles")
total = {name: layers[name].sum() for name in ("mercury_cycles", *PARTS)}
print(
    f"Of MERCURY's cycles in {RESULTS.folder.name}, "
    f"{total['signature_cycles'] / total['mercury_cycles']:.1%} are signatures, "
    f"{total['compute_cycles'] / total['mercury_cycles']:.1%} products, "
    f"{total['stall_cycles'] / total['mercury_cycles']:.1%} waiting. By array: "
    + "; ".join(
        f"{row['array']} {row['mercury_cycles'] / 1e6:,.1f} million, {row['speed_up']:.2f}x its own baseline"
        + (" (a bound, no hardware)" if row["is_bound"] else "")
        for row in with_speed.iter_rows(named=True)
    )
    + "."
)
if schedules is not None:
    gain = schedules["gain"]
    print(f"PE sets that may run ahead gain {gain.min():.1%} to {gain.max():.1%} over sets that wait for each other.")
