"""Charts for notebooks: those of `mercury-analyzer report`, from the same chart files, and those of `make paper`."""

import json
from pathlib import Path

import altair as alt
import polars as pl

FOLDER = Path(__file__).parent.parent / "analyzer" / "assets" / "charts"


def steady_state(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of the captured steps after the trial, or all rows if no step was captured after it."""
    steady = frame.filter(~pl.col("trial"))
    return steady if steady.height else frame


def chart(name: str, frame: pl.DataFrame, title: str = "", width: int = 420, **parameters) -> alt.TopLevelMixin:
    """The named chart on these rows. Its file describes its columns and parameters."""
    specification = json.loads((FOLDER / f"{name}.vl.json").read_text())
    specification["datasets"] = {specification["data"]["name"]: frame.to_dicts()}
    # A static image has no container to fill.
    specification["width"] = width
    specification.pop("autosize", None)
    specification["title"] = title
    for parameter in specification.get("params", []):
        parameter["value"] = parameters.pop(parameter["name"], parameter["value"])
    if parameters:
        raise TypeError(f"{name} has no parameters {', '.join(parameters)}")
    return alt.Chart.from_dict(specification)


# The paper's mean speed-up of training over twelve models, from its abstract.
PAPER = 1.97
GREY, RED = "#858b94", "#d6455d"


def in_order(frame: pl.DataFrame, column: str) -> list[str]:
    return frame[column].unique(maintain_order=True).to_list()


def rule(x: float, dash: list[int]) -> alt.Chart:
    return alt.Chart().mark_rule(color=GREY, strokeDash=dash).encode(x=alt.datum(x))


def paper_speed_ups(models: pl.DataFrame) -> alt.TopLevelMixin:
    """`make paper`: speed-up of a step by model and setting, with 95 % intervals over samples. The dashed line is the
    paper's mean."""
    y = alt.Y("model", title=None, sort=in_order(models, "model"))
    offset = alt.YOffset("setting", sort=in_order(models, "setting"))
    colour = alt.Color("setting", title=None, sort=None, legend=alt.Legend(orient="top", columns=2, labelLimit=220))
    base = alt.Chart(models).encode(y, offset, colour)
    x = alt.X("step", title="speed-up of a training step", scale=alt.Scale(zero=False))
    points = base.mark_point(filled=True, opacity=1, size=40).encode(x)
    intervals = base.mark_rule().encode(alt.X("step_low", title=""), alt.X2("step_high"))
    return (rule(1, [1, 0]) + rule(PAPER, [4, 3]) + intervals + points).properties(width=330, height=alt.Step(8))


def paper_cycles(cycles: pl.DataFrame) -> alt.TopLevelMixin:
    """`make paper`: a setting's cycles by model and part. The dashed line marks the paper's mean."""
    parts = in_order(cycles, "part")
    hues = [GREY, "#3b82c4", "#c77700", "#54a24b", RED, "#9b6dc6"][: len(parts)]
    scale = alt.Scale(domain=parts, range=hues)
    places = pl.DataFrame({"part": parts, "place": range(len(parts))})
    shares = cycles.group_by("model", "part", maintain_order=True).agg(pl.col("share").sum()).join(places, on="part")
    bars = alt.Chart(shares).mark_bar().encode(
        alt.X("share", title="cycles of a training step (% of the baseline's)", axis=alt.Axis(format="%")),
        alt.Y("model", title=None, sort=in_order(cycles, "model")),
        alt.Color("part", title=None, scale=scale, legend=alt.Legend(orient="top", columns=3)),
        alt.Order("place"),
    )  # fmt: skip
    return (bars + rule(1, [1, 0]) + rule(1 / PAPER, [4, 3])).properties(width=330, height=alt.Step(20))


def paper_chain(chain: pl.DataFrame) -> alt.TopLevelMixin:
    """`make paper`: speed-up of a step after each assumption, by model, and the geometric mean in red. The dashed line is
    the paper's mean."""
    order = in_order(chain, "assumption")
    means = chain.group_by("assumption", maintain_order=True).agg(pl.col("speed_up").log().mean().exp())
    x = alt.X("speed_up", title="speed-up of a training step", scale=alt.Scale(type="log", nice=False))
    y = alt.Y("assumption", title=None, sort=order, axis=alt.Axis(labelLimit=300))
    models = alt.Chart(chain).mark_tick(color=GREY, thickness=2, height=14).encode(x, y, tooltip=["model", "speed_up"])
    mean = alt.Chart(means).mark_point(color=RED, filled=True, opacity=1, size=90).encode(x, y)
    label = alt.Text("speed_up", format=".2f")
    number = alt.Chart(means).mark_text(color=RED, dy=-14, fontWeight="bold").encode(x, y, label)
    return (rule(1, [1, 0]) + rule(PAPER, [4, 3]) + models + mean + number).properties(width=330, height=alt.Step(36))
