"""Tables of a run of `run.py`, for a report and a notebook.

- `training.parquet`: a row a model: on what it was trained, and how far.
- `models.parquet`: a row a model and setting: hits, errors, speed-ups.
- `cycles.parquet`: a row a model, setting, pass and part of the cycles, as a share of the baseline's step.
- `chain.parquet`: a row a model and assumption; `bounds.parquet`: a row a model and bound.
"""

import json
from pathlib import Path

import polars as pl
from folders import ERROR, SETTINGS, SPEED_UP, Results, by_setting
from reasons import bounds, chain, parts
from settings import MODELS

BACKWARD = ["input-grad", "weight-grad"]
PASSES = {"forward": ["forward"], "backward": BACKWARD, "step": ["forward", *BACKWARD]}
NAMES = {'["forward"]': "forward pass alone", '["forward","weight-grad"]': "no input gradient"}
METRICS = {"top1": "top-1", "token_accuracy": "tokens"}


def training(folder: Path) -> dict:
    """What a model was trained on, and how far."""
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
        "commits": sorted({json.loads(path.read_text())["commit"] for path in folder.glob("*.json")}),
    }


def named(keys: dict) -> str | None:
    """A choice of the sweep in words; keys that were not swept over several values are left out."""
    if not keys:
        return None
    words = [keys["rpq.variant"], f"{keys['rpq.bits']} bits", NAMES.get(keys["reuse.passes"])]
    words += ["centroids" if keys.get("mcache.representative") == "centroid" else None]
    words += [f"{keys['mcache.entries']} entries" if "mcache.entries" in keys else None]
    return ", ".join(word for word in words if word)


def step_interval(models: pl.DataFrame) -> list[float]:
    """The 95 % interval of the speed-up over steps, whose own intervals are taken to be independent."""
    baseline, low, high = pl.col("baseline_cycles"), pl.col("speed_up_low"), pl.col("speed_up_high")
    half = ((baseline / low - baseline / high) / 2).pow(2).sum().sqrt()
    cycles = pl.col("mercury_cycles").sum()
    return list(models.select(low=baseline.sum() / (cycles + half), high=baseline.sum() / (cycles - half)).row(0))


def setting(results: Results | None) -> dict:
    """Hits, errors and speed-ups after the trial; those of no reuse where no setting was found."""
    if results is None:
        zeros = ["hit_rate", "output_error", "worst_layer_error", "gradient_error", "saved"]
        ones = [*PASSES, "step_low", "step_high", "with_trial"]
        return dict.fromkeys(zeros, 0.0) | dict.fromkeys(ones, 1.0) | {"layers_off": None}
    of_pass = {name: results.layers.filter(pl.col("pass").is_in(passes)) for name, passes in PASSES.items()}
    forward = of_pass["forward"]
    low, high = step_interval(results.models)
    last = results.layers.filter(pl.col("step") == pl.col("step").max())
    return {
        "hit_rate": forward["hit"].sum() / forward["vectors"].sum(),
        "output_error": forward.select(ERROR).item(),
        "worst_layer_error": forward.group_by("layer").agg(error=ERROR)["error"].max(),
        "gradient_error": results.layers.filter(pl.col("pass") == "weight-grad").select(ERROR).item(),
        "saved": results.layers["macs_skipped"].sum() / results.layers["macs"].sum(),
        **{name: rows.select(SPEED_UP).item() for name, rows in of_pass.items()},
        "step_low": low,
        "step_high": high,
        "with_trial": results.all_steps.select(SPEED_UP).item(),
        "layers_off": last.filter("switched_off")["layer"].n_unique(),
    }


def of_model(folder: Path) -> dict[str, list[dict]]:
    """The rows of each table."""
    trace, found = folder / "trace", by_setting(folder)
    _, mercury = found["mercury"]
    layers, models, cycles = mercury.layers["layer"].n_unique(), [], []
    for name in SETTINGS if (folder / "sweep").exists() else found:
        keys, results = found.get(name, ({}, None))
        models.append({"setting": name, "keys": named(keys), "layers": layers, **setting(results)})
        if results:
            cycles += [{"setting": name, **row} for row in parts(results, trace).to_dicts()]
    return {
        "training": [training(folder)],
        "models": models,
        "cycles": cycles,
        "chain": [{"assumption": name, "speed_up": value} for name, value in chain(folder).items()],
        "bounds": bounds(mercury, trace).to_dicts(),
    }


def write(out: Path) -> None:
    """The tables of all models that are done."""
    tables: dict[str, list[dict]] = {}
    for model in MODELS:
        if (out / model / "done").exists():
            for name, rows in of_model(out / model).items():
                tables.setdefault(name, []).extend({"model": model, **row} for row in rows)
    for name, rows in tables.items():
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(out / f"{name}.parquet")
