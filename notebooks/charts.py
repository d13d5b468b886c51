"""Charts for the notebooks: those of `mercury-analyzer report`, from the same files, and those of `make paper`."""

import json
from pathlib import Path

import altair as alt
import polars as pl

FOLDER = Path(__file__).parent.parent / "analyzer" / "assets" / "charts"


def steady_state(frame: pl.DataFrame) -> pl.DataFrame:
    """Selects the captured steps after the trial; all steps if there are none after it."""
    steady = frame.filter(~pl.col("trial"))
    return steady if steady.height else frame


def chart(name: str, frame: pl.DataFrame, title: str = "", width: int = 420, **parameters) -> alt.TopLevelMixin:
    """Loads the chart of a name. Its file describes the columns that it reads and its parameters."""
    specification = json.loads((FOLDER / f"{name}.vl.json").read_text())
    specification["datasets"] = {specification["data"]["name"]: frame.to_dicts()}
    # Notebooks have no container whose width the chart could fill.
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


def paper_speed_ups(readings: pl.DataFrame) -> alt.TopLevelMixin:
    """Draws the speed-up of a step by model and reading of the hardware, with 95 % intervals over samples.

    The dashed line is the paper's mean.
    """
    hues = ["#3b82c4", "#c77700", RED, "#9b6dc6", GREY]
    settings = in_order(readings, "setting")
    y = alt.Y("model", title=None, sort=in_order(readings, "model"))
    offset = alt.YOffset("setting", sort=settings)
    legend = alt.Legend(orient="top", columns=2, labelLimit=220)
    colour = alt.Color("setting", title=None, scale=alt.Scale(domain=settings, range=hues), legend=legend)
    base = alt.Chart(readings).encode(y, offset, colour)
    x = alt.X("speed_up", title="speed-up of a training step", scale=alt.Scale(type="log", nice=False))
    points = base.mark_point(filled=True, opacity=1, size=40).encode(x)
    intervals = base.mark_rule().encode(alt.X("speed_up_low", title=""), alt.X2("speed_up_high"))
    return (rule(1, [1, 0]) + rule(PAPER, [4, 3]) + intervals + points).properties(width=330, height=alt.Step(9))


def paper_cycles(cycles: pl.DataFrame) -> alt.TopLevelMixin:
    """Draws the parts of a setting's cycles by model. The dashed line corresponds to the paper's mean."""
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
    """Draws the ladder: the speed-up of a step under successive assumptions, by model, with the mean in red."""
    return draw_means(chain, "assumption", 30)


def paper_readings(readings: pl.DataFrame) -> alt.TopLevelMixin:
    """Draws the speed-up of a step by reading of the hardware, for each model, with the mean in red.

    The right side has the output errors.
    """
    percent = lambda column: (100 * column).round(0).cast(pl.Int64).cast(pl.String)  # noqa: E731
    low, high = percent(pl.col("output_error").min()), percent(pl.col("output_error").max())
    errors = readings.group_by("setting", maintain_order=True).agg(text=low + " to " + high + " %")
    y = alt.Y("setting", title=None, sort=in_order(readings, "setting"), axis=None)
    title = alt.TitleParams("output error", anchor="start", fontSize=11)
    column = alt.Chart(errors).mark_text(align="left", x=0).encode(y, text="text")
    right = column.properties(width=70, height=alt.Step(36), title=title, view=alt.ViewConfig(stroke=None))
    return alt.hconcat(draw_means(readings, "setting", 36), right, spacing=8)


def draw_means(frame: pl.DataFrame, column: str, height: int) -> alt.TopLevelMixin:
    """Draws speed-ups by a column: a tick for each model, and the geometric mean in red, hollow for a bound.

    The dashed line is the paper's mean.
    """
    groups = frame.group_by(column, maintain_order=True)
    means = groups.agg(pl.col("speed_up").log().mean().exp(), bound=pl.col("is_bound").any())
    x = alt.X("speed_up", title="speed-up of a training step", scale=alt.Scale(type="log", nice=False))
    y = alt.Y(column, title=None, sort=in_order(frame, column), axis=alt.Axis(labelLimit=300))
    models = alt.Chart(frame).mark_tick(color=GREY, thickness=2, height=14).encode(x, y, tooltip=["model", "speed_up"])
    fill = alt.condition("datum.bound", alt.value("white"), alt.value(RED))
    mean = alt.Chart(means).mark_point(color=RED, opacity=1, size=90).encode(x, y, fill=fill)
    label = alt.Text("speed_up", format=".2f")
    number = alt.Chart(means).mark_text(color=RED, dy=-12, fontWeight="bold").encode(x, y, label)
    layers = rule(1, [1, 0]) + rule(PAPER, [4, 3]) + models + mean + number
    return layers.properties(width=330, height=alt.Step(height))
