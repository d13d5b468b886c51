#!/usr/bin/env python3
"""Writes tables and charts of the calibration from docs/accuracy.csv to docs/accuracy.md and README.md.

Prints the tables. With --docs it replaces the text between the marks of the page and writes accuracy.svg and
accuracy-trained.svg next to it, if there are runs to draw. With --readme it replaces the summary in the README.
"""

import argparse
import sys
from pathlib import Path

import altair as alt
import polars as pl
from calibration import (
    BRANCHED,
    format_branches,
    format_summary,
    format_trained,
    format_verdicts,
    pair_with_exact,
    read_frame,
    summarise_designs,
)
from designs import BOUNDS, CIFARNET, EXACT, PRESETS

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from places import REPOSITORY  # noqa: E402
from runs import put_between  # noqa: E402

README_MARKS = ("<!-- calibration -->", "<!-- /calibration -->")
COLOUR = alt.Color("design:N", title="design", sort=[*BOUNDS, *PRESETS, *CIFARNET])


def draw_lost(frame: pl.DataFrame, designs: pl.DataFrame) -> alt.FacetChart:
    """Draws the accuracy lost by realised error: a point per seed, mean and interval per design."""
    tasks = pl.col("task").is_in(BRANCHED) & (pl.col("design") != EXACT)
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
    exact = rows.filter(pl.col("design") == EXACT).select("percent")
    reuse = rows.filter(pl.col("design") != EXACT).select(
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
    parser.add_argument("--docs", type=Path, help="a Markdown file with marks for tables and charts")
    parser.add_argument("--readme", type=Path, help="a Markdown file with marks for the summary")
    arguments = parser.parse_args()
    frame = read_frame(arguments.table)
    if frame.is_empty():
        print(f"{arguments.table} has no finished runs; `make accuracy` trains them")
        return
    designs = summarise_designs(frame)
    commits = ", ".join(frame["commit"].unique().sort())
    tables = {
        "verdict": format_verdicts(designs),
        **{task: format_branches(designs, task) for task in BRANCHED},
        "cifarnet": format_trained(designs),
        "commits": f"Trained at commits {commits}; {frame['hours'].sum():.1f} core hours.",
    }
    print("\n\n".join(tables.values()))
    if arguments.docs:
        write_page(arguments.docs, frame, designs, tables)
    if arguments.readme:
        put_between(arguments.readme, *README_MARKS, format_summary(designs))


def write_page(docs: Path, frame: pl.DataFrame, designs: pl.DataFrame, tables: dict[str, str]) -> None:
    """Writes the charts for which there are runs, and the text between the page's marks."""
    reuse = designs.filter((pl.col("design") != EXACT) & pl.col("lost").is_not_null())
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
