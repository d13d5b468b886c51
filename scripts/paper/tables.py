"""Writes the tables of a run of `run.py`, for a report and a notebook.

- `training.parquet`, one row per model: data, steps, start and losses of the training.
- `speed_ups.parquet`, one row per model, design and reading of the hardware: errors, hits, speed-ups.
- `frontier.parquet`, one row per model, reading and bound on the errors of layers: the best design within it.
- `chain.parquet`, one row per model and rung of the ladder of assumptions.
- `sizes.parquet`, one row per model, size of the input and reading: the preset's settings.
- `hardware.parquet`, one row per model, axis of the hardware and value: the best design within 10 %.
- `stages.parquet`, one row per stage: its time.
- `accepted.json`: the step error that the calibration accepts.
"""

import json
from pathlib import Path

import polars as pl
from commits import read_model_commits
from folders import read_frontier, read_hardware, read_ladder, read_readings, read_speed_ups
from settings import ACCURACY_BOUND, MODELS, MODERN, TRIAL
from stages import Run, Task

METRICS = {"top1": "top-1", "bleu": "BLEU"}


def summarise_training(folder: Path, own: dict) -> dict:
    """Returns data, steps, losses and accuracy of a model's training."""
    manifest = json.loads((folder / "trace" / "manifest.json").read_text())
    steps = pl.read_parquet(folder / "trace" / "steps.parquet")
    training, dataset = manifest["training"], manifest["dataset"]["name"]
    shape = manifest["model"]["input"]
    metric, value = read_metric(folder / "trace" / "evaluations.parquet")
    return own | {
        # The package does not know the data set.
        "data": "20 photos" if dataset == "images" or own["group"] == "modern" else dataset,
        "input": f"{shape[0]} tokens" if own["model"] == "transformer" else " x ".join(map(str, shape)),
        "batch": training["batch_size"],
        "steps": steps.height,
        "captured": [captured["step"] for captured in manifest["captured"]],
        "samples": len(manifest["captured"][-1]["samples"]),
        # Different images or sentences among those of the steps after the trial.
        "different": len({index for step in manifest["captured"][TRIAL:] for index in step["dataset_indices"]}),
        "weights": Path(training["settings"].get("weights") or "none").name,
        "first_loss": steps.head(5)["loss"].mean(),
        "last_loss": steps.tail(5)["loss"].mean(),
        "metric": metric,
        "value": value,
        "commits": sorted(read_model_commits(folder)),
        "seconds": sum(stage["seconds"] for stage in list_stages(folder)),
    }


def read_metric(path: Path) -> tuple[str | None, float | None]:
    """Returns the last evaluation: BLEU if there is one, else the accuracy."""
    if not path.exists():
        return None, None
    found = dict(pl.read_parquet(path).select("metric", "value").iter_rows())
    return next(((METRICS[name], found[name]) for name in reversed(METRICS) if name in found), (None, None))


def list_stages(folder: Path) -> list[dict]:
    """Lists the complete stages of a model with their seconds."""
    stages = []
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text())
        if record.get("commit"):
            stages.append({"stage": path.with_suffix("").name, "seconds": record["seconds"]})
    return stages


def tabulate_model(folder: Path, own: dict, has_hardware: bool) -> dict[str, list[dict]]:
    """Returns the rows of a model in each table."""
    found = {
        "speed_ups": read_speed_ups(folder),
        "frontier": read_frontier(folder),
        "chain": read_ladder(folder),
    }
    if has_hardware:
        found["hardware"] = read_hardware(folder, own["kind"])
    rows = {name: [own | row for row in frame.to_dicts()] for name, frame in found.items()}
    return {"training": [summarise_training(folder, own)], **rows}


def write(run: Run, tasks: list[Task]) -> None:
    """Writes the tables of all complete models, in the order of the settings."""
    tables: dict[str, list[dict]] = {}
    out, form = run.out, run.form
    order = [*MODELS, *MODERN]
    for task in sorted(filter(run.is_done, tasks), key=lambda task: order.index(task.model.name)):
        folder, model = out / task.folder, task.model
        own = {"model": model.name, "group": "modern" if model.name in MODERN else "paper", "kind": model.kind}
        rows = tabulate_model(folder, own, model.name in form.hardware) if task.is_own else {}
        if task.size in form.sizes.get(model.name, ()):
            rows["sizes"] = [
                {"model": model.name, "size": task.size, **row} for row in read_readings(folder).to_dicts()
            ]
        rows["stages"] = [{"model": task.title, **stage} for stage in list_stages(folder)]
        for name, listed in rows.items():
            tables.setdefault(name, []).extend(listed)
    tables.get("sizes", []).sort(key=lambda row: (list(form.sizes).index(row["model"]), row["size"]))
    for name, rows in tables.items():
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(out / f"{name}.parquet")
    write_accepted(out)


def write_accepted(out: Path) -> None:
    """Writes the step error to which the calibration limits the designs of the accuracy bound."""
    for path in sorted(out.glob("*/search/accepted.json")):
        curve = json.loads(path.read_text())["search"]["accuracy_curve"]
        text = {"bound": ACCURACY_BOUND, "step_error": curve["allowed_step_error"], "networks": curve["networks"]}
        (out / "accepted.json").write_text(json.dumps(text) + "\n")
        return
