"""Charts for the notebooks: those of `mercury-analyzer report`, from the same files, and those of `make paper`."""

import json
from pathlib import Path

import altair as alt
import numpy as np
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
EQUAL_MACS, BOUND = "mercury-ahead, equal MACs", "the bound"
# Readings of the hardware in the order of tables and charts, with their colours.
HUES = {"mercury": "#3b82c4", "mercury-skip": "#c77700", "mercury-ahead": RED, EQUAL_MACS: "#9b6dc6", BOUND: GREY}
COSTS = {
    "mercury": "a HIT takes a cycle of its PE set",
    "mercury-skip": "a HIT takes one operation of a PE",
    "mercury-ahead": "the same, and a unit signs ahead",
}
KIND_HUES = ["#3b82c4", "#c77700", "#54a24b"]
ACCEPTED = "accepted error"


def in_order(frame: pl.DataFrame, column: str) -> list[str]:
    return frame[column].unique(maintain_order=True).to_list()


def average_models(speed_ups: pl.Series) -> tuple[float, float, float]:
    """Returns the geometric mean over models and its 95 % bootstrap interval.

    Series of equal length draw the same models, so curves over several limits have one choice of models.
    """
    logs = np.log(speed_ups.to_numpy())
    drawn = np.random.default_rng(1).choice(logs, (10_000, len(logs))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return tuple(float(np.exp(value)) for value in (logs.mean(), low, high))


def average_by(frame: pl.DataFrame, *columns: str, of: str = "speed_up") -> pl.DataFrame:
    """Averages speed-ups over models for each group of columns: `speed_up`, `low`, `high`."""
    rows = [
        [*key, *average_models(group[of])]
        for key, group in frame.drop_nulls(of).group_by(*columns, maintain_order=True)
    ]
    types = {name: frame.schema[name] for name in columns} | dict.fromkeys(["speed_up", "low", "high"], pl.Float64)
    return pl.DataFrame(rows, schema=types, orient="row")


def place_accepted(frontier: pl.DataFrame, speed_ups: pl.DataFrame, step_error: float) -> pl.DataFrame:
    """Places the designs of the accepted step error among the bounds on each layer's error, by reading.

    `limit` is the bound whose mean step error over models is the accepted one, interpolated; at most the largest bound.
    """
    rows = []
    for reading in in_order(frontier, "reading"):
        found = speed_ups.filter(design=ACCEPTED, reading=reading)
        if found.is_empty():
            continue
        errors = frontier.filter(reading=reading).group_by("limit").agg(pl.col("step_error").mean()).sort("limit")
        steps = np.maximum.accumulate([0.0, *errors["step_error"].fill_null(0.0)])
        limit = float(np.interp(step_error, steps, [0.0, *errors["limit"]]))
        rows.append({"reading": reading, "limit": limit, "speed_up": average_models(found["speed_up"])[0]})
    return pl.DataFrame(rows, schema={"reading": pl.String, "limit": pl.Float64, "speed_up": pl.Float64})


def rule(x: float, dash: list[int]) -> alt.Chart:
    return alt.Chart().mark_rule(color=GREY, strokeDash=dash).encode(x=alt.datum(x))


def level(y: float, dash: list[int]) -> alt.Chart:
    return alt.Chart().mark_rule(color=GREY, strokeDash=dash).encode(y=alt.datum(y))


def encode_speed_up(column: str, low: float, high: float, titled: bool) -> alt.Y:
    """Encodes speed-ups on a logarithmic axis, whose labels belong to the first of several panels."""
    ticks = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1, 1.2, 1.4, 1.7, 2, 2.5, 3, 4, 5, 6, 8]
    axis = alt.Axis(values=[tick for tick in ticks if low <= tick <= high], format="~f", labels=titled)
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    return alt.Y(column, title="speed-up of a training step" if titled else None, axis=axis, scale=scale)


def paper_frontier(frontier: pl.DataFrame, accepted: pl.DataFrame | None = None) -> alt.TopLevelMixin:
    """Draws the speed-up against the bound on each layer's error: a panel for each reading, models of the paper only.

    `accepted` are rows of `place_accepted`.
    """
    frontier = frontier.filter(group="paper")
    marks = [] if accepted is None else accepted["limit"].to_list()
    limits = frontier["limit"].unique().sort().to_list()
    edges = [0.94 * min([*limits, *marks]), 1.06 * limits[-1]]
    x = alt.X(
        "limit",
        title="bound on each layer's error",
        axis=alt.Axis(format="%", values=limits),
        scale=alt.Scale(type="log", domain=edges, nice=False),
    )
    speed_ups = pl.concat([frontier["speed_up"], frontier["speed_up_equal_macs"].drop_nulls()])
    heights = [0.96 * min(speed_ups.min(), 1), 1.04 * max(speed_ups.max(), PAPER)]
    readings = [name for name in in_order(frontier, "reading") if name != BOUND]
    panels = [draw_frontier(frontier, name, x, heights, name == readings[0], accepted) for name in readings]
    title = alt.TitleParams(
        f"Speed-up within a bound on each layer's error, {frontier['model'].n_unique()} models at their own input size",
        subtitle=[
            "Bold: geometric mean. Band: 95 % interval over models. Thin: one model. Dotted: the bound, which no "
            "hardware reaches.",
            "Dashed: the baseline gets the unit's MACs, too. Diamond: the step error that small networks accepted.",
        ],
        anchor="start",
    )
    return alt.hconcat(*panels, spacing=12, title=title)


def draw_frontier(
    frontier: pl.DataFrame,
    reading: str,
    x: alt.X,
    heights: list[float],
    titled: bool,
    accepted: pl.DataFrame | None,
) -> alt.LayerChart:
    """Draws the panel of a reading."""
    hue, rows = HUES[reading], frontier.filter(reading=reading)
    y = encode_speed_up("speed_up", *heights, titled)
    mean = alt.Chart(average_by(rows, "limit")).encode(x)
    models = alt.Chart(rows).mark_line(color=hue, strokeWidth=0.8, opacity=0.45).encode(x, y, detail="model")
    band = mean.mark_area(color=hue, opacity=0.18).encode(encode_speed_up("low", *heights, titled), alt.Y2("high"))
    line = mean.mark_line(color=hue, strokeWidth=3, point={"color": hue, "size": 45}).encode(y)
    bound = alt.Chart(average_by(frontier.filter(reading=BOUND), "limit"))
    layers = [level(1, [1, 0]), level(PAPER, [4, 3]), band, models]
    layers += [bound.mark_line(color="#30343b", strokeDash=[1, 3], strokeWidth=2).encode(x, y), line]
    equal = average_by(rows, "limit", of="speed_up_equal_macs")
    if reading == "mercury-ahead" and equal.height:
        layers.append(alt.Chart(equal).mark_line(color=hue, strokeWidth=2, strokeDash=[6, 3]).encode(x, y))
    if accepted is not None:
        mark = alt.Chart(accepted.filter(reading=reading))
        layers.append(mark.mark_point(shape="diamond", size=130, filled=True, color="#30343b", opacity=1).encode(x, y))
    if titled:
        note = alt.Chart().mark_text(text=f"the paper's mean, {PAPER}x", align="left", dx=4, dy=-7, color="#5b616b")
        layers.append(note.encode(x=alt.value(0), y=alt.datum(PAPER)))
    title = alt.TitleParams(reading, subtitle=COSTS.get(reading, ""), color=hue)
    return alt.layer(*layers).properties(width=215, height=260, title=title)


def paper_speed_ups(speed_ups: pl.DataFrame) -> alt.TopLevelMixin:
    """Draws the speed-ups of one design by model and reading of the hardware, with 95 % intervals over steps and
    projections.

    The dashed line is the paper's mean.
    """
    readings = in_order(speed_ups, "reading")
    y = alt.Y("model", title=None, sort=in_order(speed_ups, "model"))
    offset = alt.YOffset("reading", sort=readings)
    legend = alt.Legend(orient="top", columns=2, labelLimit=220)
    scale = alt.Scale(domain=readings, range=[HUES.get(name, GREY) for name in readings])
    base = alt.Chart(speed_ups).encode(y, offset, alt.Color("reading", title=None, scale=scale, legend=legend))
    x = alt.X("speed_up", title="speed-up of a training step", scale=alt.Scale(type="log", nice=False))
    points = base.mark_point(filled=True, opacity=1, size=40).encode(x)
    intervals = base.mark_rule().encode(alt.X("speed_up_low", title=""), alt.X2("speed_up_high"))
    return (rule(1, [1, 0]) + rule(PAPER, [4, 3]) + intervals + points).properties(width=330, height=alt.Step(9))


def paper_chain(chain: pl.DataFrame) -> alt.TopLevelMixin:
    """Draws the ladder: a tick for each model, and the geometric mean in red, hollow for a bound.

    The dashed line is the paper's mean.
    """
    means = average_by(chain, "assumption").with_columns(
        chain.group_by("assumption", maintain_order=True).agg(pl.col("is_bound").any())["is_bound"]
    )
    x = alt.X("speed_up", title="speed-up of a training step", scale=alt.Scale(type="log", nice=False))
    y = alt.Y("assumption", title=None, sort=in_order(chain, "assumption"), axis=alt.Axis(labelLimit=320))
    models = alt.Chart(chain).mark_tick(color=GREY, thickness=2, height=14).encode(x, y, tooltip=["model", "speed_up"])
    fill = alt.condition("datum.is_bound", alt.value("white"), alt.value(RED))
    mean = alt.Chart(means).mark_point(color=RED, opacity=1, size=90).encode(x, y, fill=fill)
    label = alt.Text("speed_up", format=".2f")
    number = alt.Chart(means).mark_text(color=RED, dy=-12, fontWeight="bold").encode(x, y, label)
    layers = rule(1, [1, 0]) + rule(PAPER, [4, 3]) + models + mean + number
    return layers.properties(width=380, height=alt.Step(30))


def find_edges(frame: pl.DataFrame, *more: float) -> list[float]:
    """Finds the range of a speed-up's axis that shows intervals, no reuse, and more values."""
    lows = frame["speed_up_low"].fill_null(frame["speed_up"])
    highs = frame["speed_up_high"].fill_null(frame["speed_up"])
    return [0.96 * min(lows.min(), 1, *more), 1.04 * max(highs.max(), 1, *more)]


def paper_sizes(sizes: pl.DataFrame) -> alt.TopLevelMixin:
    """Draws the speed-up of the preset's settings by the side of the images, one panel per model."""
    readings, models, heights = in_order(sizes, "reading"), in_order(sizes, "model"), find_edges(sizes)
    scale = alt.Scale(domain=readings, range=[HUES.get(name, GREY) for name in readings])
    colour = alt.Color("reading", title=None, scale=scale, legend=alt.Legend(orient="top"))
    sides = sizes["size"].unique().sort().to_list()
    x = alt.X(
        "size",
        title="side of the images (pixels)",
        axis=alt.Axis(values=sides, format="d"),
        scale=alt.Scale(type="log", domain=[0.9 * sides[0], 1.1 * sides[-1]], nice=False),
    )
    panels = []
    for model in models:
        base = alt.Chart(sizes.filter(model=model)).encode(x, colour)
        y = encode_speed_up("speed_up", *heights, model == models[0])
        interval = encode_speed_up("speed_up_low", *heights, model == models[0])
        layers = [level(1, [1, 0]), base.mark_rule().encode(interval, alt.Y2("speed_up_high"))]
        layers.append(base.mark_line(point=True).encode(y))
        panels.append(alt.layer(*layers).properties(width=200, height=220, title=model))
    return alt.hconcat(*panels, spacing=12)


def paper_hardware(hardware: pl.DataFrame) -> alt.TopLevelMixin:
    """Draws the speed-up of the best design within 10 % by the hardware, one panel per axis and one colour per class.

    Dashed: at equal MACs, where that differs.
    """
    kinds, axes = in_order(hardware, "kind"), in_order(hardware, "axis")
    equal = hardware["speed_up_equal_macs"].drop_nulls()
    heights = find_edges(hardware, *([equal.min(), equal.max()] if len(equal) else []))
    names = {row["kind"]: f"{row['kind']} ({row['model']})" for row in hardware.to_dicts()}
    frame = hardware.with_columns(name=pl.col("kind").replace_strict(names))
    scale = alt.Scale(domain=[names[kind] for kind in kinds], range=KIND_HUES[: len(kinds)])
    colour = alt.Color("name", title=None, scale=scale, legend=alt.Legend(orient="top"))
    panels = [draw_axis(frame.filter(axis=axis), axis, colour, heights, axis == axes[0]) for axis in axes]
    return alt.hconcat(*panels, spacing=12)


def draw_axis(rows: pl.DataFrame, axis: str, colour: alt.Color, heights: list[float], titled: bool) -> alt.LayerChart:
    """Draws the panel of one axis of the hardware."""
    base = alt.Chart(rows).encode(
        alt.X("value:O", title=axis, sort=in_order(rows.sort("place"), "value"), axis=alt.Axis(labelAngle=0)), colour
    )
    interval = encode_speed_up("speed_up_low", *heights, titled)
    layers = [level(1, [1, 0]), base.mark_rule().encode(interval, alt.Y2("speed_up_high"))]
    layers.append(base.mark_line(point=True).encode(encode_speed_up("speed_up", *heights, titled)))
    differences = (rows["speed_up_equal_macs"] - rows["speed_up"]).abs()
    if (differences.max() or 0) > 0.005:
        dashed = base.mark_line(strokeDash=[6, 3], point={"filled": False, "fill": "white"})
        layers.append(dashed.encode(encode_speed_up("speed_up_equal_macs", *heights, titled)))
    # Wide enough for the title below.
    return alt.layer(*layers).properties(width=max(120, 42 * rows["value"].n_unique()), height=220)
