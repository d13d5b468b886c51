#!/usr/bin/env python3
"""Writes tables and charts of the calibration from docs/accuracy.csv: `write_page.py --docs docs/accuracy.md`.

Prints the tables. With --docs it replaces the text between the marks of the page and writes accuracy.svg and
accuracy-trained.svg next to it, if there are runs to draw.
"""

import argparse
import sys
from pathlib import Path

import altair as alt
import polars as pl
from designs import BOUNDS, CIFARNET, PRESETS
from rows import COLUMNS, KEY, read_rows

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from places import REPOSITORY  # noqa: E402
from runs import put_between  # noqa: E402

# Student's t, two-sided 95 %, by degrees of freedom.
QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}
TEXTS = {"task", "design", "metric", "schedule", "commit"}
WHOLE = {"seed", "epochs"}
# Names of the metrics, and the factor from a row's value to its unit.
UNITS = {"top1": ("top-1 accuracy, %", "points", 100.0), "bleu": ("BLEU", "BLEU", 1.0)}
SPEED_UPS = {
    "speed_up_mercury": "`mercury`",
    "speed_up_skip": "`mercury-skip`",
    "speed_up_ahead": "`mercury-ahead`",
    "speed_up_ahead_equal_macs": "the same at equal MACs",
}
BRANCHED = ["resnet20", "transformer"]
COLOUR = alt.Color("design:N", title="design", sort=[*BOUNDS, *PRESETS, *CIFARNET])
# Losses below this are what the verdict calls accepted.
ACCEPTED = 1.0


def read_frame(path: Path) -> pl.DataFrame:
    """Reads the table of runs; empty cells are null."""
    types = {name: pl.String if name in TEXTS else pl.Int64 if name in WHOLE else pl.Float64 for name in COLUMNS}
    rows = [{name: row[name] or None for name in COLUMNS} for row in read_rows(path)]
    return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String)).cast(types)


def pair_with_exact(frame: pl.DataFrame) -> pl.DataFrame:
    """Adds the accuracy that each run loses against the exact one of its seed and settings, in points or BLEU."""
    same = [name for name in KEY if name != "design"]
    exact = frame.filter(pl.col("design") == "exact").select(*same, exact="value")
    scale = pl.col("metric").replace_strict({name: unit[2] for name, unit in UNITS.items()}, return_dtype=pl.Float64)
    paired = frame.join(exact, on=same, how="left", maintain_order="left")
    return paired.with_columns(
        lost=(pl.col("exact") - pl.col("value")) * scale,
        percent=pl.col("value") * scale,
        exact_percent=pl.col("value_exact_evaluation") * scale,
    )


def find_half_width(values: pl.Series) -> float | None:
    """Returns half the width of the 95 % interval of a mean over seeds; None for less than two."""
    count = len(values)
    return None if count < 2 else QUANTILES[count - 1] * values.std() / count**0.5


def summarise_designs(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns a row per task and design: means over seeds, and intervals of the accuracy lost."""
    rows = []
    means = [
        "percent",
        "exact_percent",
        "loss",
        "step_error",
        "step_error_search",
        "hit_rate",
        "remaining_vectors",
        *SPEED_UPS,
    ]
    for (task, design), group in pair_with_exact(frame).group_by("task", "design", maintain_order=True):
        lost = group["lost"].drop_nulls()
        half = find_half_width(lost)
        row = {"task": task, "design": design, "metric": group["metric"][0], "seeds": group.height}
        row |= {name: group[name].mean() for name in means}
        row |= {"diverged": group["value"].null_count(), "lost": lost.mean(), "half": half}
        low, high = (None, None) if half is None else (lost.mean() - half, lost.mean() + half)
        rows.append(row | {"low": low, "high": high})
    return pl.DataFrame(rows, infer_schema_length=None)


def format_number(value: float | None, digits: int, scale: float = 1.0) -> str:
    # Adding 0 avoids a negative zero.
    return "-" if value is None else f"{round(value * scale, digits) + 0.0:.{digits}f}"


def format_lost(row: dict) -> str:
    if row["design"] == "exact" or row["lost"] is None:
        return "-"
    mean = format_number(row["lost"], 2)
    return mean if row["half"] is None else f"{mean} ± {format_number(row['half'], 2)}"


def format_seeds(row: dict) -> str:
    return f"{row['seeds']}" + (f", {row['diverged']} diverged" if row["diverged"] else "")


def format_lines(header: list[str], lines: list[list[str]]) -> str:
    texts = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in texts)


def format_branches(designs: pl.DataFrame, task: str) -> str:
    """Returns the table of a task whose runs branch at half of the exact one."""
    rows = designs.filter(pl.col("task") == task).sort("step_error", nulls_last=False).rows(named=True)
    if not rows:
        return "No run is finished."
    name, unit, _ = UNITS[rows[0]["metric"]]
    header = [
        "design",
        "seeds",
        name,
        f"{unit} lost",
        "evaluated exactly",
        "realised step error, %",
        "search's, %",
        "hit rate, %",
    ]
    header += [f"speed-up under {reading}" for reading in SPEED_UPS.values()]
    lines = []
    for row in rows:
        cells = [f"`{row['design']}`", format_seeds(row), format_number(row["percent"], 2), format_lost(row)]
        cells += [format_number(row["exact_percent"], 2), format_number(row["step_error"], 1, 100)]
        cells += [format_number(row["step_error_search"], 1, 100), format_number(row["hit_rate"], 1, 100)]
        cells += [format_number(row[column], 2) + ("x" if row[column] is not None else "") for column in SPEED_UPS]
        lines.append(cells)
    return format_lines(header, lines)


def format_trained(designs: pl.DataFrame) -> str:
    """Returns the table of CifarNet, whose runs train with reuse from the start."""
    rows = designs.filter(pl.col("task") == "cifarnet").sort("remaining_vectors", nulls_last=False).rows(named=True)
    if not rows:
        return "No run is finished."
    header = ["design", "seeds", "top-1 accuracy, %", "points lost", "evaluated exactly", "remaining vectors, %"]
    lines = []
    for row in rows:
        cells = [f"`{row['design']}`", format_seeds(row), format_number(row["percent"], 2), format_lost(row)]
        lines.append([*cells, format_number(row["exact_percent"], 2), format_number(row["remaining_vectors"], 2, 100)])
    return format_lines(header, lines)


def format_verdict(designs: pl.DataFrame, task: str) -> str:
    """Says which realised error a task accepts, as far as the intervals show."""
    rows = designs.filter((pl.col("task") == task) & (pl.col("design") != "exact") & pl.col("high").is_not_null())
    if rows.is_empty():
        return f"{task}: no design has two seeds yet."
    unit = UNITS[rows["metric"][0]][1]
    shown = rows.filter(pl.col("high") <= ACCEPTED).sort("step_error")
    if shown.is_empty():
        return (
            f"{task}: no design is shown to lose at most {ACCEPTED:g} {unit}: losses are larger, or intervals too wide."
        )
    best = shown.row(-1, named=True)
    speed = format_number(best["speed_up_skip"], 2)
    return (
        f"{task}: the largest realised step error that is shown to lose at most {ACCEPTED:g} {unit} is "
        f"{format_number(best['step_error'], 1, 100)} % "
        f"(`{best['design']}`: {format_lost(best)} {unit} lost, {speed}x under `mercury-skip`)."
    )


def draw_lost(frame: pl.DataFrame, designs: pl.DataFrame) -> alt.FacetChart:
    """Draws the accuracy lost by realised error: a point per seed, mean and interval per design."""
    tasks = pl.col("task").is_in(BRANCHED) & (pl.col("design") != "exact")
    means = designs.filter(tasks & pl.col("lost").is_not_null()).select(
        "task", "design", "step_error", "lost", "low", "high"
    )
    seeds = (
        pair_with_exact(frame)
        .filter(tasks & pl.col("lost").is_not_null())
        .select("task", "design", "step_error", seed_lost="lost")
    )
    data = pl.concat([means, seeds], how="diagonal")
    x = alt.X("step_error:Q", title="realised step error").axis(format="%")
    title = "lost: points of top-1 accuracy, or BLEU"
    base = alt.Chart(data)
    line = (
        base.transform_filter("isValid(datum.lost)").mark_line(color="#bbb").encode(x=x, y=alt.Y("lost:Q", title=title))
    )
    bars = (
        base.transform_filter("isValid(datum.low)")
        .mark_rule()
        .encode(x=x, y=alt.Y("low:Q", title=title), y2="high:Q", color=COLOUR)
    )
    dots = base.transform_filter("isValid(datum.lost)").mark_point(filled=True, size=70).encode(
        x=x, y=alt.Y("lost:Q", title=title), color=COLOUR
    )  # fmt: skip
    ticks = base.transform_filter("isValid(datum.seed_lost)").mark_point(size=20).encode(
        x=x, y=alt.Y("seed_lost:Q", title=title), color=COLOUR
    )  # fmt: skip
    return (
        alt.layer(line, bars, ticks, dots)
        .properties(width=330, height=240)
        .facet(facet=alt.Facet("task:N", title=None), columns=2)
        .resolve_scale(x="independent", y="independent")
        .configure(background="white")
    )


def draw_trained(designs: pl.DataFrame) -> alt.LayerChart:
    """Draws CifarNet's accuracy by remaining vectors; the rule is exact training."""
    rows = designs.filter((pl.col("task") == "cifarnet") & pl.col("percent").is_not_null())
    exact = rows.filter(pl.col("design") == "exact").select("percent")
    reuse = rows.filter(pl.col("design") != "exact").select(
        "design", "percent", remaining=pl.col("remaining_vectors"),
        low=pl.col("percent") - pl.col("half"), high=pl.col("percent") + pl.col("half"),
    )  # fmt: skip
    scale = alt.Scale(type="log")
    x = alt.X("remaining:Q", title="remaining vectors of the second convolution", scale=scale).axis(format="%")
    y = alt.Y("percent:Q", title="top-1 accuracy, %").scale(zero=False)
    rule = alt.Chart(exact).mark_rule(strokeDash=[4, 4]).encode(y=y)
    bars = alt.Chart(reuse).mark_rule().encode(x=x, y=alt.Y("low:Q").scale(zero=False), y2="high:Q", color=COLOUR)
    dots = alt.Chart(reuse).mark_point(filled=True, size=70).encode(x=x, y=y, color=COLOUR)
    return alt.layer(rule, bars, dots).properties(width=420, height=260).configure(background="white")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=REPOSITORY / "docs" / "accuracy.csv")
    parser.add_argument("--docs", type=Path, help="a Markdown file with marks")
    arguments = parser.parse_args()
    frame = read_frame(arguments.table)
    if frame.is_empty():
        print(f"{arguments.table} has no finished runs; `make accuracy` trains them")
        return
    designs = summarise_designs(frame)
    commits = ", ".join(frame["commit"].unique().sort())
    tables = {
        "verdict": "\n".join(f"- {format_verdict(designs, task)}" for task in BRANCHED),
        **{task: format_branches(designs, task) for task in BRANCHED},
        "cifarnet": format_trained(designs),
        "commits": f"Trained at commits {commits}; {frame['hours'].sum():.1f} core hours.",
    }
    print("\n\n".join(tables.values()))
    if arguments.docs:
        write_page(arguments.docs, frame, designs, tables)


def write_page(docs: Path, frame: pl.DataFrame, designs: pl.DataFrame, tables: dict[str, str]) -> None:
    """Writes the charts for which there are runs, and the text between the page's marks."""
    reuse = designs.filter((pl.col("design") != "exact") & pl.col("lost").is_not_null())
    if not reuse.filter(pl.col("task").is_in(BRANCHED)).is_empty():
        draw_lost(frame, designs).save(docs.with_suffix(".svg"))
        tables["transformer"] += f"\n\n![Accuracy lost by realised step error, with 95 % intervals]({docs.stem}.svg)"
    if not reuse.filter(pl.col("task") == "cifarnet").is_empty():
        draw_trained(designs).save(docs.with_name(f"{docs.stem}-trained.svg"))
        text = "CifarNet's accuracy by remaining vectors; intervals are those of the difference from exact training"
        tables["cifarnet"] += f"\n\n![{text}]({docs.stem}-trained.svg)"
    for name, text in tables.items():
        put_between(docs, f"<!-- {name}: begin -->", f"<!-- {name}: end -->", text)


if __name__ == "__main__":
    main()
