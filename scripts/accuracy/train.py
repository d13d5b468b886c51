#!/usr/bin/env python3
"""Trains one run of the calibration: `train.py resnet20-bound-10-1 --out accuracy/runs`.

Its folder OUT/NAME keeps the last checkpoint, from which a killed run continues, the measurements of each epoch and,
at the end, row.json. Exact runs also keep half.pt, from which the others branch.
"""

import argparse
import fcntl
import json
import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import mercury_lab.torch as mt
import polars as pl
import torch
from designs import EXACT, Run, find_config, name_search
from rows import COLUMNS
from tasks import make_task
from torch import nn
from training import Diverged, Task, Training

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from runs import read_commit  # noqa: E402

# Steps between two measurements of errors in the loop.
MEASURE_EVERY = 100


def open_reuse(run: Run, model: nn.Module, out: Path, quick: bool) -> AbstractContextManager:
    """Returns the context in which a model trains, which yields None without reuse."""
    if run.design == EXACT:
        return nullcontext()
    learn = {"learn": True} if run.design.startswith("learned") else {}
    every = 1 if quick else MEASURE_EVERY
    # The name is that of the captured model, for which the design was searched.
    return mt.reuse(model, config=find_config(run, out), measure_every=every, name=run.task, **learn)


def train_run(run: Run, out: Path, epochs: int | None = None, quick: bool = False) -> dict:
    """Trains from the last checkpoint to the end; returns the run's row without figures of other programs."""
    folder = out / run.name
    folder.mkdir(parents=True, exist_ok=True)
    commit = find_commit(folder)
    task = make_task(run.task, run.seed, epochs, quick)
    row = {"task": run.task, "design": run.design, "seed": run.seed, "metric": task.metric}
    row |= {"epochs": task.schedule.epochs, "schedule": task.settings, "commit": commit}
    with open_reuse(run, task.model, out, quick) as reuse:
        training = Training(task, folder / "last.pt", reuse)
        if not training.resume() and run.branches:
            training.branch(out / Run(run.task, EXACT, run.seed).name / "half.pt")
        try:
            train_epochs(training, folder, keep_half=run.design == EXACT)
        except Diverged:
            return row | {"loss": float("nan"), "hours": training.seconds / 3600}
        row |= evaluate_run(task, reuse)
        if reuse is not None and getattr(reuse, "projections", None):
            reuse.save_projections(folder / "projections.safetensors")
    return row | {"loss": training.losses[-1], "hours": training.seconds / 3600}


def find_half(epochs: int) -> int:
    """Returns the epochs after which designs branch."""
    return (epochs + 1) // 2


def train_epochs(training: Training, folder: Path, keep_half: bool) -> None:
    epochs = training.task.schedule.epochs
    measured = 0 if training.reuse is None else pl.DataFrame(training.reuse.measurements).height
    while training.epoch < epochs:
        training.run_epoch()
        if training.reuse is not None:
            table = pl.DataFrame(training.reuse.measurements)
            # Before the checkpoint: an epoch that is trained again writes its measurements again.
            table.slice(measured).write_parquet(folder / f"measurements-{training.epoch:02}.parquet")
            measured = table.height
        if keep_half and training.epoch == find_half(epochs):
            training.save(folder / "half.pt")
        training.save(training.checkpoint)
        print(f"{time.strftime('%H:%M:%S')} epoch {training.epoch} loss {training.losses[-1]:.4f}", flush=True)


def evaluate_run(task: Task, reuse: Any) -> dict[str, float]:
    """Evaluates the trained weights with the design's reuse and without."""
    value = task.evaluate(task.model)
    with reuse.paused() if reuse is not None else nullcontext():
        exact = task.evaluate(task.model) if reuse is not None else value
    return {"value": value, "value_exact_evaluation": exact}


def summarise_measurements(folder: Path, passes: int) -> dict[str, float]:
    """Returns realised error and hits of a run with reuse. Passes without reuse have no error."""
    paths = sorted(folder.glob("measurements-*.parquet"))
    if not paths:
        return {}
    frames = [pl.read_parquet(path).with_columns(epoch=pl.lit(path.stem)) for path in paths]
    table = pl.concat(frames)
    # An error relative to a result of zeros is infinite.
    errors = table.filter(pl.col("output_error").is_finite())
    steps = errors.group_by("epoch", "step").agg(square=(pl.col("output_error") ** 2).sum() / passes)
    last = table.filter((pl.col("epoch") == paths[-1].stem) & (pl.col("pass") == "forward"))
    return {
        "step_error": steps["square"].mean() ** 0.5,
        "hit_rate": share_hits(table),
        "remaining_vectors": 1 - share_hits(last),
    }


def share_hits(table: pl.DataFrame) -> float:
    vectors = table["hit"].sum() + table["mau"].sum() + table["mnu"].sum()
    return table["hit"].sum() / vectors if vectors else 0.0


def find_figures(run: Run, out: Path) -> tuple[dict, int]:
    """Returns a design's figures from the search, and the number of layers' passes in a step."""
    if not run.branches:
        # CifarNet: five layers; the first has no input gradient.
        return {}, 3 * 5 - 1
    found = json.loads((out / name_search(run.task, run.seed) / "designs.json").read_text())
    return found["designs"][run.design], found["passes"]


def find_commit(folder: Path) -> str:
    """Returns the commit at which a run began; earlier versions kept it in result.json."""
    kept = [path for path in (folder / "began.json", folder / "result.json") if path.exists()]
    if kept:
        return json.loads(kept[0].read_text())["commit"]
    commit = read_commit()
    (folder / "began.json").write_text(json.dumps({"commit": commit}) + "\n")
    return commit


def lock_folder(folder: Path) -> Any:
    """Keeps other processes from training the same run; the lock ends with this process."""
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"{folder}: another process trains this run; wait for it, or stop it") from None
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="TASK-DESIGN-SEED, such as resnet20-bound-10-1")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--quick", action="store_true", help="two epochs of two steps, to try the script")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = Run.from_name(arguments.name)
    folder = arguments.out / run.name
    lock = lock_folder(folder)
    row = train_run(run, arguments.out, arguments.epochs, arguments.quick)
    if run.design != EXACT:
        figures, passes = find_figures(run, arguments.out)
        row |= figures | summarise_measurements(folder, passes)
    row = {name: row[name] for name in COLUMNS if name in row}
    (folder / "row.partial").write_text(json.dumps(row, indent=2) + "\n")
    os.replace(folder / "row.partial", folder / "row.json")
    lock.close()


if __name__ == "__main__":
    main()
