#!/usr/bin/env python3
"""Fits the accuracy loss of training over the step error, and writes the curve that `mercury-analyzer search` embeds.

It reads docs/accuracy.csv, whose rows are trainings to the end: task, design, seed, metric, value, step_error_search. The
design `exact` is training without reuse. The step error is that of the search, which is also what a bound limits in new
designs. A loss is the value of exact training minus that of a design, paired by task and seed, in percentage points (`top1`
is a share, `bleu` has points).

Each design of a task is a point: the mean loss and the mean step error of its seeds.

- Loss: isotonic regression over the points of all tasks, weighted by seeds (pool adjacent violators), from 0 at no error.
- Upper limit of a point: one-sided 95 %, mean + t s / sqrt(seeds), by Student's t with seeds - 1 degrees of freedom. The
  deviation s of the paired differences is the point's own, because it grows with the loss: a pooled one would be too large
  where little is lost, which is where the limit is asked for.
- Upper limit of the curve: the highest limit of any point up to a step error. So no trained network has a higher limit
  below it. A mean over tasks would hide the network that loses most.
- Designs with one seed are left out.
- First knot: at no error a loss of 0, with t s / sqrt(seeds) of the design with the least error. The calibration does not
  resolve smaller losses.
"""

import argparse
import csv
import math
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
ROWS = REPOSITORY / "docs" / "accuracy.csv"
CURVE = REPOSITORY / "analyzer" / "calibration" / "accuracy.csv"
EXACT = "exact"
# Trained for reuse from the start, in one layer; its designs have no step error.
OTHER_TASKS = {"cifarnet"}
# What a search knows of a design. The error realised in training is larger, as errors of earlier layers and steps add.
STEP_ERROR = "step_error_search"
COLUMNS = ["task", "design", "seed", "metric", "value", STEP_ERROR]
# Percentage points of a metric's unit.
POINTS = {"top1": 100.0, "bleu": 1.0}
CONFIDENCE = 0.95
# Digits of a knot's step error. Points with the same step error become one.
DIGITS = 4


@dataclass(frozen=True)
class Point:
    """A design of a task: its step error, and the accuracy loss of each seed in percentage points."""

    task: str
    design: str
    step_error: float
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Knot:
    """A point of the fitted curve."""

    step_error: float
    loss: float
    upper: float


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(line for line in file if not line.startswith("#"))
        rows = list(reader)
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
    if missing:
        raise SystemExit(f"{path}: columns {', '.join(missing)} are missing; write the rows of a calibration")
    return rows


def read_number(row: dict[str, str], name: str) -> float:
    """Returns a number of a row. A diverged training has a value, too: that of its last network."""
    try:
        number = float(row[name])
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        place = f"{row['task']}, {row['design']}, seed {row['seed']}"
        raise SystemExit(f"{place}: {name} is {row[name]!r}; give a finite number of at least 0")
    return number


def pair_rows(rows: list[dict[str, str]]) -> list[Point]:
    """Pairs each training with the exact one of its task and seed; returns points by step error."""
    exact: dict[tuple[str, str], float] = {}
    for row in rows:
        if row["metric"] not in POINTS:
            raise SystemExit(f"metric {row['metric']!r} is unknown; give one of {', '.join(POINTS)}")
        if row["design"] == EXACT:
            exact[row["task"], row["seed"]] = read_number(row, "value")
    found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        if row["design"] == EXACT or row["task"] in OTHER_TASKS:
            continue
        if (row["task"], row["seed"]) not in exact:
            raise SystemExit(f"{row['task']}: seed {row['seed']} has no row of design {EXACT}; train it as well")
        loss = POINTS[row["metric"]] * (exact[row["task"], row["seed"]] - read_number(row, "value"))
        found[row["task"], row["design"]].append((read_number(row, STEP_ERROR), loss))
    points = []
    for (task, design), pairs in found.items():
        step_error = sum(error for error, _ in pairs) / len(pairs)
        points.append(Point(task, design, step_error, tuple(loss for _, loss in pairs)))
    return sorted(points, key=lambda point: (point.step_error, point.task, point.design))


def split_by_seeds(points: list[Point]) -> tuple[list[Point], list[Point]]:
    """Separates designs with several seeds from those with one."""
    return [point for point in points if len(point.losses) > 1], [point for point in points if len(point.losses) == 1]


def find_margin(point: Point) -> float:
    """Returns by how much the upper limit of a point's loss exceeds its mean."""
    count = len(point.losses)
    return find_t_quantile(CONFIDENCE, count - 1) * float(np.std(point.losses, ddof=1)) / math.sqrt(count)


def find_t_quantile(share: float, freedom: int) -> float:
    """Returns the quantile of Student's t, for shares above a half, by bisection of its integrated density."""
    constant = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)

    def integrate_density(limit: float) -> float:
        places = np.linspace(0.0, limit, 20_001)
        return float(np.trapezoid(constant * (1 + places**2 / freedom) ** (-(freedom + 1) / 2), places))

    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 0.5 + integrate_density(middle) < share else (low, middle)
    return high


def fit_isotonic(values: list[float], weights: list[float]) -> list[float]:
    """Returns the rising sequence that is nearest to the values in weighted squares: pools adjacent violators."""
    blocks: list[tuple[float, float, int]] = []  # Mean, weight, length.
    for value, weight in zip(values, weights, strict=True):
        blocks.append((value, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (later, later_weight, later_length), (mean, weight, length) = blocks.pop(), blocks.pop()
            whole = weight + later_weight
            blocks.append(((mean * weight + later * later_weight) / whole, whole, length + later_length))
    return [mean for mean, _, length in blocks for _ in range(length)]


def fit_curve(points: list[Point]) -> list[Knot]:
    """Fits losses and upper limits to points by step error, and returns a knot for each step error."""
    margins = [find_margin(point) for point in points]
    means = [sum(point.losses) / len(point.losses) for point in points]
    losses = fit_isotonic(means, [float(len(point.losses)) for point in points])
    knots = [Knot(0.0, 0.0, margins[0])]
    for point, loss, mean, margin in zip(points, losses, means, margins, strict=True):
        step_error = round(point.step_error, DIGITS)
        knot = Knot(step_error, max(loss, 0.0), max(mean + margin, knots[-1].upper))
        if step_error == knots[-1].step_error:
            # Without an error there is no loss, whatever the seeds say.
            knot = replace(knot, loss=knot.loss if step_error > 0 else 0.0)
            knots.pop()
        knots.append(knot)
    if len(knots) < 2:
        raise SystemExit("all designs have a step error of 0; train one with reuse that errs")
    return knots


def format_curve(knots: list[Knot], points: list[Point], commits: set[str]) -> str:
    tasks = sorted({point.task for point in points})
    counts = sorted({len(point.losses) for point in points})
    seeds = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    lines = [
        '# Accuracy loss of training with reuse, over the step error (docs/model.md, "Accuracy loss"). `search` embeds it.',
        "# source: docs/accuracy.csv, fitted by scripts/accuracy/fit.py",
        f"# commit: {', '.join(sorted(commits)) or 'unknown'}",
        f"# networks: {', '.join(tasks)}; seeds: {seeds}",
        "step_error,accuracy_loss,upper",
    ]
    lines += [f"{knot.step_error:.{DIGITS}f},{round_up(knot.loss)},{round_up(knot.upper)}" for knot in knots]
    return "\n".join(lines) + "\n"


def round_up(points: float) -> str:
    """Rounds up to hundredths of a point, so that a limit stays one."""
    return f"{math.ceil(100 * points - 1e-9) / 100:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=Path, default=ROWS, help="the rows of the calibration (docs/accuracy.csv)")
    parser.add_argument("--out", type=Path, default=CURVE, help="the curve (analyzer/calibration/accuracy.csv)")
    arguments = parser.parse_args()
    rows = read_rows(arguments.rows)
    points, single = split_by_seeds(pair_rows(rows))
    for point in single:
        print(f"{point.task}, {point.design}: left out, because one seed has no interval")
    if not points and not single:
        raise SystemExit(f"{arguments.rows}: there are no rows but those of design {EXACT}; train with reuse as well")
    if not points:
        raise SystemExit(f"{arguments.rows}: no design was trained with two seeds, so limits are unknown; train more seeds")
    knots = fit_curve(points)
    used = {(point.task, point.design) for point in points} | {(point.task, EXACT) for point in points}
    commits = {row["commit"] for row in rows if row.get("commit") and (row["task"], row["design"]) in used}
    arguments.out.write_text(format_curve(knots, points, commits), encoding="utf-8")
    print(f"{arguments.out}: {len(knots)} knots from {len(points)} points, resolving {knots[0].upper:.2f} points")


if __name__ == "__main__":
    main()
