"""Writes the tables of a run of `run.py`, for a report and a notebook.

- `training.parquet`, one row per model: data, steps, losses and accuracy of the training.
- `models.parquet`, one row per model and setting: hit rates, errors, speed-ups.
- `readings.parquet`, one row per model and reading of the hardware: errors, speed-ups, demand on MCACHE.
- `cycles.parquet`, one row per model, setting, pass and part of the cycles: share of the baseline's step.
- `chain.parquet`, one row per model and rung of the ladder; `bounds.parquet`, one row per model and bound.
"""

import json
from pathlib import Path

import polars as pl
from commits import read_model_commits
from folders import ALL_ON, ERROR, SETTINGS, SPEED_UP, Results, read_ladder, read_readings, read_settings
from reasons import bound_speed_ups, split_cycles
from settings import MODELS

BACKWARD = ["input-grad", "weight-grad"]
PASSES = {"forward": ["forward"], "backward": BACKWARD, "step": ["forward", *BACKWARD]}
NAMES = {'["forward"]': "forward pass alone", '["forward","weight-grad"]': "no input gradient"}
METRICS = {"top1": "top-1", "token_accuracy": "tokens"}


def summarise_training(folder: Path) -> dict:
    """Returns data, steps, losses and accuracy of a model's training."""
    manifest = json.loads((folder / "trace" / "manifest.json").read_text())
    steps = pl.read_parquet(folder / "trace" / "steps.parquet")
    evaluations = pl.read_parquet(folder / "trace" / "evaluations.parquet")
    metric, value = next(row for row in evaluations.select("metric", "value").iter_rows() if row[0] in METRICS)
    shape, data = manifest["model"]["input"], manifest["dataset"]["name"]
    return {
        "data": "20 photos" if data == "images" else data,
        "input": f"{shape[0]} tokens" if manifest["model"]["name"] == "transformer" else " x ".join(map(str, shape)),
        "batch": manifest["training"]["batch_size"],
        "steps": steps.height,
        "captured": [captured["step"] for captured in manifest["captured"]],
        "first_loss": steps.head(5)["loss"].mean(),
        "last_loss": steps.tail(5)["loss"].mean(),
        "metric": METRICS[metric],
        "value": value,
        "commits": sorted(read_model_commits(folder)),
    }


def describe_keys(keys: dict) -> str | None:
    """Describes a choice of the sweep in words, without keys that have one value in the sweep."""
    if not keys:
        return None
    words = [keys["rpq.variant"], f"{keys['rpq.bits']} bits", NAMES.get(keys["reuse.passes"])]
    words += ["centroids" if keys.get("mcache.representative") == "centroid" else None]
    words += [f"{keys['mcache.entries']} entries" if "mcache.entries" in keys else None]
    return ", ".join(word for word in words if word)


def combine_intervals(models: pl.DataFrame) -> list[float]:
    """Returns the 95 % interval of the speed-up over several steps, if the steps' intervals are independent."""
    baseline, low, high = pl.col("baseline_cycles"), pl.col("speed_up_low"), pl.col("speed_up_high")
    half = ((baseline / low - baseline / high) / 2).pow(2).sum().sqrt()
    cycles = pl.col("mercury_cycles").sum()
    return list(models.select(low=baseline.sum() / (cycles + half), high=baseline.sum() / (cycles - half)).row(0))


def summarise_setting(results: Results | None) -> dict:
    """Returns hit rates, errors and speed-ups after the trial; `None` stands for a run without reuse."""
    if results is None:
        zeros = ["hit_rate", "output_error", "worst_layer_error", "gradient_error", "saved"]
        ones = [*PASSES, "step_low", "step_high", "with_trial"]
        return dict.fromkeys(zeros, 0.0) | dict.fromkeys(ones, 1.0) | {"layers_off": None}
    by_pass = {name: results.layers.filter(pl.col("pass").is_in(passes)) for name, passes in PASSES.items()}
    forward = by_pass["forward"]
    low, high = combine_intervals(results.models)
    last = results.layers.filter(pl.col("step") == pl.col("step").max())
    return {
        "hit_rate": forward["hit"].sum() / forward["vectors"].sum(),
        "output_error": forward.select(ERROR).item(),
        "worst_layer_error": forward.group_by("layer").agg(error=ERROR)["error"].max(),
        "gradient_error": results.layers.filter(pl.col("pass") == "weight-grad").select(ERROR).item(),
        "saved": results.layers["macs_saved_net"].sum() / results.layers["macs"].sum(),
        **{name: rows.select(SPEED_UP).item() for name, rows in by_pass.items()},
        "step_low": low,
        "step_high": high,
        "with_trial": results.all_steps.select(SPEED_UP).item(),
        "layers_off": last.filter("switched_off")["layer"].n_unique(),
    }


def tabulate_model(folder: Path) -> dict[str, list[dict]]:
    """Returns the rows of a model in each table."""
    found = read_settings(folder)
    _, every = found[ALL_ON]
    layers = every.layers["layer"].n_unique()
    models, cycles = [], []
    for name in SETTINGS if (folder / "sweep").exists() else found:
        keys, results = found.get(name, ({}, None))
        models.append({"setting": name, "keys": describe_keys(keys), "layers": layers, **summarise_setting(results)})
        if results:
            cycles += [{"setting": name, **row} for row in split_cycles(results).to_dicts()]
    return {
        "training": [summarise_training(folder)],
        "models": models,
        "cycles": cycles,
        "readings": read_readings(folder).to_dicts(),
        "chain": read_ladder(folder).to_dicts(),
        "bounds": bound_speed_ups(every).to_dicts(),
    }


def write(out: Path) -> None:
    """Writes the tables of all complete models."""
    tables: dict[str, list[dict]] = {}
    for model in MODELS:
        if (out / model / "done").exists():
            for name, rows in tabulate_model(out / model).items():
                tables.setdefault(name, []).extend({"model": model, **row} for row in rows)
    for name, rows in tables.items():
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(out / f"{name}.parquet")
