#!/usr/bin/env python3
"""Captures a trace at half of an exact run and searches it for designs: `choose.py resnet20 --seed 1 --out FOLDER`.

Writes the design of each bound to FOLDER/TASK-search-SEED, and speed-ups by reading of the hardware to designs.json
there.
"""

import argparse
import json
import os
import shutil
from itertools import islice
from pathlib import Path

import mercury_lab as mercury
import mercury_lab.torch as mt
import polars as pl
import torch
from designs import BOUNDS, DESIGNS, EXACT, PRESETS, Run, name_search
from tasks import make_task
from training import Training

READINGS = {"speed_up_mercury": "mercury", "speed_up_skip": "mercury-skip", "speed_up_ahead": "mercury-ahead"}
# The keys in which the presets of the readings differ.
READING_KEYS = ["rpq.unit", "mcache.read_ports", "mcache.results_per_cycle", "array.hit_cycles", "array.dealing"]
# Designs are chosen on three of these steps after the half and judged by the fourth.
STEPS = [0, 1, 2, 3]
SAMPLES = 8
QUICK_SETTINGS = {"rpq.bits": [20, 44], "rpq.variant": ["sign+rescale"]}
# Limits nothing, but the first bound is the one whose error the frontier states.
STEP_ERROR = "step-error<=1"


def capture_trace(task_name: str, seed: int, epochs: int | None, half: Path, folder: Path, quick: bool) -> None:
    """Captures the first steps of the second half; their new weights are thrown away."""
    task = make_task(task_name, seed, epochs, quick)
    training = Training(task, folder / "unused")
    training.branch(half)
    steps, samples = (STEPS[:2], 4) if quick else (STEPS, SAMPLES)
    shutil.rmtree(folder, ignore_errors=True)
    with mt.capture(
        task.model, folder, optimizer=training.optimizer, steps=steps, samples=samples, seed=seed, name=task_name,
        label=f"{task_name}, seed {seed}, epoch {training.epoch}", on_error="raise",
    ) as capture:  # fmt: skip
        for batch in islice(task.batches(training.epoch), len(steps)):
            training.run_step(batch, lambda loss: capture.log(loss=loss))


def measure_speed_ups(trace: Path, config: mercury.Config) -> dict[str, float]:
    """Replays a design under each reading of the hardware."""
    found = {}
    for column, preset in READINGS.items():
        reading = mercury.Config(preset=preset)
        keys: dict[str, dict] = {}
        for key in READING_KEYS:
            section, name = key.split(".")
            keys.setdefault(section, {})[name] = reading[key]
        results = mercury.replay(trace, config=config, errors="none", threads=1, progress=False, **keys)
        row = pl.DataFrame(results.configurations).row(0, named=True)
        found[column] = row["speed_up"]
        if preset == "mercury-ahead":
            found["speed_up_ahead_equal_macs"] = row["speed_up_equal_macs"]
    return found


def compute_step_error(layers: pl.DataFrame) -> float:
    """Returns the root mean square of the errors of all layers and passes; those without reuse have none."""
    squares = layers.group_by("layer", "pass").agg(pl.col("error_square").sum() / pl.col("exact_square").sum())
    return squares["error_square"].fill_nan(0).fill_null(0).mean() ** 0.5


def search_design(trace: Path, folder: Path, design: str, quick: bool) -> dict[str, float]:
    """Searches for the design of a bound and keeps it; the search of another bound replays nothing anew."""
    results = mercury.search(
        trace, folder / "search", bound=[STEP_ERROR, f"layer-error<={BOUNDS[design]}"], preset="mercury-skip",
        per_layer=QUICK_SETTINGS if quick else None, threads=1, progress=False,
    )  # fmt: skip
    shutil.copyfile(results.folder / "best.toml", folder / f"{design}.toml")
    (folder / f"{design}.txt").write_text(results.text)
    frontier = pl.DataFrame(results.frontier).filter((pl.col("method") == "per layer") & (pl.col("limit") == 1.0))
    return {"step_error_search": frontier["bound_value"].item()}


def choose_designs(task: str, seed: int, epochs: int | None, out: Path, quick: bool) -> dict:
    """Returns figures by design; a choice that was stopped continues."""
    folder = out / name_search(task, seed)
    trace, partial = folder / "trace", folder / "trace.partial"
    folder.mkdir(parents=True, exist_ok=True)
    if not trace.exists():
        capture_trace(task, seed, epochs, out / Run(task, EXACT, seed).name / "half.pt", partial, quick)
        partial.rename(trace)
    designs: dict[str, dict] = {}
    for design in DESIGNS[task]:
        if design in BOUNDS:
            figures = search_design(trace, folder, design, quick)
            config = mercury.Config(folder / f"{design}.toml")
        elif design in PRESETS:
            config = mercury.Config(**PRESETS[design])
            results = mercury.replay(trace, config=config, errors="rough", threads=1, progress=False)
            figures = {"step_error_search": compute_step_error(pl.DataFrame(results.layers))}
        else:
            continue
        designs[design] = figures | measure_speed_ups(trace, config)
        print(design, designs[design], flush=True)
    layers = pl.DataFrame(mercury.SearchResults(folder / "search").layers)
    found = {"passes": layers.select("layer", "pass").unique().height, "designs": designs}
    (folder / "designs.partial").write_text(json.dumps(found, indent=2) + "\n")
    os.replace(folder / "designs.partial", folder / "designs.json")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=[task for task in DESIGNS if task != "cifarnet"])
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    choose_designs(arguments.task, arguments.seed, arguments.epochs, arguments.out, arguments.quick)


if __name__ == "__main__":
    main()
