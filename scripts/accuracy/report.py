#!/usr/bin/env python3
"""What came of the runs of train.py: a table, in Markdown, of accuracy with reuse against without.

Prints it, and writes it between the marks of docs/accuracy.md with --docs. The runs go to OUT/runs.parquet.
"""

import argparse
import json
import math
import statistics
import sys
from pathlib import Path

import polars as pl
from configs import CONFIGURATIONS, EXACT, MEANING, MODELS

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from places import REPOSITORY  # noqa: E402
from runs import put_between  # noqa: E402

# Student's t, two-sided 95 %, by degrees of freedom.
CHANCE = {"top1": 0.1, "bleu": 0.0}
QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}


def runs(out: Path) -> list[dict]:
    """Every run that is done, with its last loss and its metrics."""
    found = []
    for path in sorted(out.glob("runs/*/done.json")):
        run = json.loads(path.read_text())
        steps = pl.read_parquet(path.parent / "trace" / "steps.parquet")
        run["loss"] = steps.tail(20)["loss"].mean() if steps.height else None
        # Of a step but the first, which makes room.
        run["seconds"] = steps.slice(1)["seconds"].median()
        # Where training diverged: what chance gives.
        run["value"] = run["with_reuse"] = CHANCE[MODELS[run["model"]]["metric"]]
        if not run["diverged"]:
            evaluations = pl.read_parquet(path.parent / "trace" / "evaluations.parquet")
            values = dict(zip(evaluations["metric"], evaluations["value"], strict=True))
            metric = MODELS[run["model"]]["metric"]
            run["value"], run["with_reuse"] = values[metric], values.get(f"reuse_{metric}")
        found.append(run)
    return found


def interval(values: list[float]) -> str:
    """Mean and half the width of its 95 % interval over seeds."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    half = QUANTILES[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.1f} ± {half:.1f}"


def table(found: list[dict]) -> str:
    header = ["model", "configuration", "seeds", "metric", "trained so, computed exactly", "computed with reuse", "difference to exact training", "training loss", "time of a step"]
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for model, spec in MODELS.items():
        scale = 1 if spec["metric"] == "bleu" else 100
        exact = {run["seed"]: run for run in found if run["model"] == model and run["configuration"] == EXACT}
        for name in [EXACT, *CONFIGURATIONS]:
            of = [run for run in found if run["model"] == model and run["configuration"] == name]
            if not of:
                continue
            diverged = sum(run["diverged"] for run in of)
            values = [scale * run["value"] for run in of]
            reused = [scale * run["with_reuse"] for run in of if run["with_reuse"] is not None]
            pairs = [scale * (run["value"] - exact[run["seed"]]["value"]) for run in of if run["seed"] in exact]
            times = [run["seconds"] / exact[run["seed"]]["seconds"] for run in of if run["seed"] in exact]
            cells = [
                model,
                name,
                f"{len(of)}" + (f", {diverged} diverged" if diverged else ""),
                spec["metric"] + (" %" if scale == 100 else ""),
                interval(values) if values else "-",
                interval(reused) if reused else "-",
                interval(pairs) if pairs and name != EXACT else "-",
                f"{statistics.mean(run['loss'] for run in of if run['loss'] is not None):.3f}",
                f"{statistics.mean(times):.1f}x" if times else "-",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=REPOSITORY / "accuracy")
    parser.add_argument("--docs", type=Path, help="a Markdown file with marks")
    arguments = parser.parse_args()
    found = runs(arguments.out)
    pl.DataFrame(found).drop("what").write_parquet(arguments.out / "runs.parquet")
    commits = ", ".join(sorted({run["commit"] for run in found}))
    text = f"{table(found)}\n\nCommit: {commits}."
    print(text)
    print()
    for name, meaning in MEANING.items():
        print(f"{name}: {meaning}")
    if arguments.docs:
        put_between(arguments.docs, "<!-- accuracy: begin -->", "<!-- accuracy: end -->", text)


if __name__ == "__main__":
    main()
