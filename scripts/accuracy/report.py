#!/usr/bin/env python3
"""Writes a Markdown table that compares accuracy with and without reuse, from the runs of train.py.

Prints the table. With --docs it replaces the text between the marks of docs/accuracy.md, and writes a chart and
accuracy.csv next to the page. The CSV has one row per run and keeps the rows of runs that were not repeated.
"""

import argparse
import json
import sys
from pathlib import Path

import altair as alt
import polars as pl
from configs import CONFIGURATIONS, EXACT, MEANING, MODELS, VALIDATION
from train import hash_settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from places import REPOSITORY  # noqa: E402
from runs import put_between  # noqa: E402

NAMES = [EXACT, *CONFIGURATIONS]
# Student's t, two-sided 95 %, by degrees of freedom.
QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}
KEY = ["model", "configuration", "seed"]
SCHEMA = {
    "model": pl.String,
    "configuration": pl.String,
    "seed": pl.Int64,
    "diverged": pl.Boolean,
    "metric": pl.String,
    # Metrics and losses of the trained weights, evaluated without and with reuse.
    "value": pl.Float64,
    "value_with_reuse": pl.Float64,
    "loss": pl.Float64,
    "loss_with_reuse": pl.Float64,
    # Mean of the last 20 steps.
    "training_loss": pl.Float64,
    "step_seconds": pl.Float64,
    "commit": pl.String,
    # Hash of flags, steps, samples and configuration.
    "what": pl.String,
}


def summarise_run(folder: Path, done: dict) -> dict:
    """Returns the row of a run in the table of runs."""
    steps = pl.read_parquet(folder / "trace" / "steps.parquet")
    metric = MODELS[done["model"]]["metric"]
    row = {name: done[name] for name in [*KEY, "diverged", "commit"]} | {"metric": metric, "what": hash_settings(done["what"])}
    if steps.height:
        row["training_loss"] = steps.tail(20)["loss"].mean()
        # Without the first step, which allocates memory.
        row["step_seconds"] = steps.slice(1)["seconds"].median()
    if not done["diverged"]:
        table = pl.read_parquet(folder / "trace" / "evaluations.parquet")
        values = dict(zip(table["metric"], table["value"], strict=True))
        row |= {"value": values[metric], "value_with_reuse": values.get(f"reuse_{metric}")}
        row |= {"loss": values["loss"], "loss_with_reuse": values.get("reuse_loss")}
    return row


def read_runs(out: Path) -> pl.DataFrame:
    """Reads all completed runs."""
    found = [(path.parent, json.loads(path.read_text())) for path in sorted(out.glob("runs/*/done.json"))]
    return pl.DataFrame([summarise_run(*run) for run in found], schema=SCHEMA)


def sort_runs(frame: pl.DataFrame) -> pl.DataFrame:
    place = lambda name, names: pl.col(name).replace_strict({key: index for index, key in enumerate(names)}, default=99)
    return frame.sort(place("model", MODELS), place("configuration", NAMES), "seed")


def compare_with_exact(frame: pl.DataFrame) -> pl.DataFrame:
    """Adds the differences from exact training with the same seed."""
    exact = frame.filter(pl.col("configuration") == EXACT).select(
        "model", "seed", exact_value="value", exact_loss="training_loss", exact_seconds="step_seconds", exact_commit="commit"
    )
    return frame.join(exact, on=["model", "seed"], how="left", maintain_order="left").with_columns(
        value_change=pl.col("value") - pl.col("exact_value"),
        loss_change=pl.col("training_loss") - pl.col("exact_loss"),
        # Step times are compared only within a commit: other commits may have run on another machine.
        times=pl.when(pl.col("commit") == pl.col("exact_commit")).then(pl.col("step_seconds") / pl.col("exact_seconds")),
    )


def format_interval(values: pl.Series, digits: int, scale: float = 1.0) -> str:
    """Formats the mean and half the width of its 95 % interval over seeds."""
    values = values.drop_nulls() * scale
    if values.is_empty():
        return "-"
    # Adding 0 avoids a negative zero.
    mean = f"{round(values.mean(), digits) + 0.0:.{digits}f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {QUANTILES[len(values) - 1] * values.std() / len(values) ** 0.5:.{digits}f}"


def format_table(frame: pl.DataFrame) -> str:
    header = ["model", "configuration", "seeds", "metric", "computed exactly", "computed with reuse"]
    header += ["difference from exact training", "training loss", "loss difference from exact training", "step time"]
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for (model, name), rows in compare_with_exact(frame).group_by("model", "configuration", maintain_order=True):
        metric = MODELS[model]["metric"]
        scale = 1 if metric == "bleu" else 100
        diverged = rows["diverged"].sum()
        cells = [
            model,
            name,
            f"{rows.height}" + (f", {diverged} diverged" if diverged else ""),
            "BLEU" if metric == "bleu" else f"{metric} %",
            format_interval(rows["value"], 1, scale),
            format_interval(rows["value_with_reuse"], 1, scale),
            format_interval(rows["value_change"], 1, scale) if name != EXACT else "-",
            format_interval(rows["training_loss"], 3),
            format_interval(rows["loss_change"], 3) if name != EXACT else "-",
            "-" if (times := rows["times"].mean()) is None else f"{times:.1f}x",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw_chart(frame: pl.DataFrame) -> alt.FacetChart:
    """Draws the change of the metric by reuse in training, one point per seed."""
    changes = compare_with_exact(frame).filter((pl.col("configuration") != EXACT) & pl.col("value_change").is_not_null())
    scale = pl.when(pl.col("metric") == "bleu").then(1.0).otherwise(100.0)
    points = alt.Chart(changes.select(*KEY, change=pl.col("value_change") * scale)).mark_point(filled=True, size=50, opacity=0.7)
    return (
        points.encode(
            x=alt.X("change:Q", title="top-1 accuracy (points) or BLEU, difference from exact training"),
            y=alt.Y("configuration:N", title=None, sort=list(CONFIGURATIONS)),
            color=alt.Color("seed:N", title="seed"),
        )
        .properties(width=300, height=150)
        .facet(facet=alt.Facet("model:N", title=None, sort=list(MODELS)), columns=2)
        .resolve_scale(x="independent")
        .configure(background="white")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=REPOSITORY / "accuracy")
    parser.add_argument("--docs", type=Path, help="a Markdown file with marks")
    arguments = parser.parse_args()
    found = read_runs(arguments.out)
    if arguments.docs and (kept := arguments.docs.with_suffix(".csv")).exists():
        before = pl.read_csv(kept, schema=SCHEMA)
        # Keep rows only of settings that are still compared.
        now = [hash_settings({"flags": spec["flags"], "steps": spec["steps"], "samples": VALIDATION, "keys": CONFIGURATIONS.get(name, {})})
               for spec in MODELS.values() for name in NAMES]  # fmt: skip
        found = pl.concat([found, before.filter(pl.col("what").is_in(now)).join(found, on=KEY, how="anti")])
    found = sort_runs(found)
    meanings = "\n".join(f"- `{name}`: {meaning}" for name, meaning in MEANING.items())
    text = f"{format_table(found)}\n\nConfigurations:\n\n{meanings}\n\nMeasured at commits {', '.join(found['commit'].unique().sort())}."
    print(text)
    if arguments.docs:
        found.write_csv(arguments.docs.with_suffix(".csv"), float_precision=5)
        draw_chart(found).save(arguments.docs.with_name("accuracy-runs.svg"))
        put_between(arguments.docs, "<!-- accuracy: begin -->", "<!-- accuracy: end -->", text)


if __name__ == "__main__":
    main()
