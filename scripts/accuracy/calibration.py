"""Tables and sentences of the calibration, from the rows of docs/accuracy.csv."""

from pathlib import Path

import polars as pl
from designs import BOUNDS, EXACT
from rows import COLUMNS, KEY, read_rows

# Student's t, two-sided 95 %, by degrees of freedom.
QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}
TEXTS = {"task", "design", "metric", "schedule", "commit"}
WHOLE = {"seed", "epochs"}
# Names of the metrics, the factor from a row's value to its unit, and a value with its unit.
UNITS = {"top1": ("top-1 accuracy, %", "points", 100.0, "{} %"), "bleu": ("BLEU", "BLEU", 1.0, "BLEU {}")}
SPEED_UPS = {
    "speed_up_mercury": "`mercury`",
    "speed_up_skip": "`mercury-skip`",
    "speed_up_ahead": "`mercury-ahead`",
    "speed_up_ahead_equal_macs": "`mercury-ahead` at equal MACs",
}
NETWORKS = {"resnet20": "ResNet-20", "transformer": "Transformer", "cifarnet": "CifarNet"}
# Tasks whose designs branch from exact training.
BRANCHED = ["resnet20", "transformer"]
# Losses up to this are what the verdict calls accepted.
ACCEPTED = 1.0
# Below this share, the verdict on CifarNet calls the remaining vectors few.
FEW_VECTORS = 0.05
DESIGN_TEXTS = {
    **{design: f"{100 * bound:g} % bound" for design, bound in BOUNDS.items()},
    "mercury": "preset in all layers",
    "rescale": "preset with `sign+rescale` in all layers",
}


def read_frame(path: Path) -> pl.DataFrame:
    """Reads the table of runs; empty cells are null."""
    types = {name: pl.String if name in TEXTS else pl.Int64 if name in WHOLE else pl.Float64 for name in COLUMNS}
    rows = [{name: row[name] or None for name in COLUMNS} for row in read_rows(path)]
    return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String)).cast(types)


def pair_with_exact(frame: pl.DataFrame) -> pl.DataFrame:
    """Adds the accuracy that each run loses against the exact one of its seed and settings, in points or BLEU."""
    same = [name for name in KEY if name != "design"]
    exact = frame.filter(pl.col("design") == EXACT).select(*same, exact="value")
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


def format_lost(row: dict, digits: int = 2) -> str:
    if row["design"] == EXACT or row["lost"] is None:
        return "-"
    mean = format_number(row["lost"], digits)
    return mean if row["half"] is None else f"{mean} ± {format_number(row['half'], digits)}"


def format_speed_up(value: float | None) -> str:
    return format_number(value, 2) + ("" if value is None else "x")


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
    name, unit, *_ = UNITS[rows[0]["metric"]]
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
        cells += [format_speed_up(row[column]) for column in SPEED_UPS]
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
    """Says which realised error a task accepts, as far as the intervals show, and what that allows."""
    rows = designs.filter((pl.col("task") == task) & (pl.col("design") != EXACT) & pl.col("high").is_not_null())
    name = NETWORKS[task]
    if rows.is_empty():
        return f"{name}: no design has two seeds yet."
    unit = UNITS[rows["metric"][0]][1]
    shown = rows.filter(pl.col("high") <= ACCEPTED).sort("step_error")
    limit = f"{ACCEPTED:g} {unit.removesuffix('s')}"
    if shown.is_empty():
        return f"{name}: no design is shown to lose at most {limit}: losses are larger, or intervals too wide."
    best = shown.row(-1, named=True)
    speed_ups = [f"{format_speed_up(best[column])} under {reading}" for column, reading in SPEED_UPS.items()]
    return (
        f"{name}: the largest realised step error that is shown to lose at most {limit} is "
        f"{format_number(best['step_error'], 1, 100)} % (`{best['design']}`: {format_lost(best)} {unit} lost). While reuse "
        f"is on, this design trains at {', '.join(speed_ups[:-1])}, and at {speed_ups[-1]}.{format_rejected(rows, limit)}"
    )


def format_rejected(rows: pl.DataFrame, limit: str) -> str:
    """Says from which realised error on each design is shown to lose more than the limit."""
    undecided = rows.filter(pl.col("low") <= ACCEPTED)["step_error"].max() or 0.0
    rejected = rows.filter((pl.col("low") > ACCEPTED) & (pl.col("step_error") > undecided)).sort("step_error")
    if rejected.is_empty():
        return ""
    first = rejected.row(0, named=True)
    return f" From {format_number(first['step_error'], 0, 100)} % on (`{first['design']}`), all lose more than {limit}."


def format_trained_verdict(designs: pl.DataFrame) -> str:
    """Says what CifarNet loses where few vectors remain, and what the design that loses least keeps."""
    rows = designs.filter((pl.col("task") == "cifarnet") & (pl.col("design") != EXACT)).drop_nulls("lost").sort("lost")
    few = rows.filter(pl.col("remaining_vectors") < FEW_VECTORS)
    if few.is_empty():
        return f"CifarNet: no design that keeps less than {FEW_VECTORS:.0%} of the vectors is trained yet."
    best = {row["design"]: row for row in (few.row(0, named=True), rows.row(0, named=True))}
    texts = [
        f"{format_lost(row)} points with {format_number(row['remaining_vectors'], 1, 100)} % of that layer's vectors "
        f"(`{design}`, seeds: {format_seeds(row)})"
        for design, row in best.items()
    ]
    return f"CifarNet, trained with reuse in one layer from the start, loses {', and '.join(texts)}."


def format_verdicts(designs: pl.DataFrame) -> str:
    verdicts = [format_verdict(designs, task) for task in BRANCHED] + [format_trained_verdict(designs)]
    return "\n".join(f"- {verdict}" for verdict in verdicts)


def format_summary(designs: pl.DataFrame) -> str:
    """Returns the README's table of the designs that branch, and the verdicts."""
    readings = list(SPEED_UPS.values())
    header = ["network", "design", "seeds", "realised error of a step", "accuracy lost", *readings[:2]]
    header.append(f"{readings[2]} (at equal MACs)")
    lines = []
    exact = dict(designs.filter(pl.col("design") == EXACT).select("task", "percent").iter_rows())
    rows = designs.filter(pl.col("task").is_in(BRANCHED) & (pl.col("design") != EXACT))
    for row in rows.sort("task", "step_error", nulls_last=True).rows(named=True):
        baseline = UNITS[row["metric"]][3].format(format_number(exact.get(row["task"]), 1))
        cells = [f"{NETWORKS[row['task']]} ({baseline})", DESIGN_TEXTS[row["design"]], format_seeds(row)]
        cells.append(f"{format_number(row['step_error'], 0, 100)} %")
        cells.append(f"{format_lost(row, 1)} {UNITS[row['metric']][1]}")
        *speed_ups, equal = [format_speed_up(row[column]) for column in SPEED_UPS]
        lines.append([*cells, *speed_ups[:2], f"{speed_ups[2]} ({equal})"])
    return f"{format_lines(header, lines)}\n\n{format_verdicts(designs)}"
