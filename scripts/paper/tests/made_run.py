"""Makes the tables of a run with plausible numbers, for tests of the report and its charts.

`python made_run.py OUT` writes a run of all models.
"""

import json
import sys
from pathlib import Path

import polars as pl

KINDS = {
    "alexnet": "3 x 3",
    "googlenet": "1 x 1",
    "vgg13": "3 x 3",
    "vgg16": "3 x 3",
    "vgg19": "3 x 3",
    "resnet50": "1 x 1",
    "resnet101": "1 x 1",
    "resnet152": "1 x 1",
    "inception_v4": "1 x 1",
    "mobilenet_v2": "1 x 1",
    "squeezenet1_0": "1 x 1",
    "transformer": "attention",
    "vit_b_16": "attention",
    "convnext_tiny": "1 x 1",
}
MODERN = ["vit_b_16", "convnext_tiny"]
QUICK = ["vgg16", "mobilenet_v2", "transformer"]
# Readings with their gain relative to the best of the model.
GAINS = {"mercury": 0.4, "mercury-skip": 0.65, "mercury-ahead": 0.85, "mercury-ahead, equal MACs": 0.85, "the bound": 1}
# Designs with their share of the gain and their error.
DESIGNS = {"preset": (1.0, 0.4), "within 10 %": (0.5, 0.08), "accepted error": (0.3, 0.04)}
BEST = {"3 x 3": 1.7, "1 x 1": 1.25, "attention": 1.4}
AXES = {
    "MCACHE entries": ["256", "1024", "4096"],
    "cycles of a HIT": ["1", "1/3", "0"],
    "MACs of the signature unit": ["on the array", "42", "168"],
    "channels of a vector": ["1", "4"],
}
RUNGS = {
    "as configured": ("mercury", 0.4, False),
    "no layer is switched off": ("mercury", 0.3, False),
    "a HIT takes one operation of a PE": (None, 0.5, False),
    "MCACHE delivers a result per PE and cycle": ("mercury-skip", 0.5, False),
    "a unit of 14 MACs per cycle signs ahead": (None, 0.1, False),
    "a unit of 168 MACs per cycle signs ahead": ("mercury-ahead", 0.7, False),
    "HITs are free": (None, 1.0, True),
}


def raise_gain(model: str, gain: float, strength: float = 1.0) -> float:
    """Returns a model's speed-up for a share of its largest gain."""
    spread = 1 + 0.04 * (sum(map(ord, model)) % 9)
    return float(BEST[KINDS[model]] ** (gain * strength * spread))


def make_speed_up(model: str, reading: str, strength: float, width: float = 0.02) -> dict:
    speed_up = raise_gain(model, GAINS[reading], strength)
    speed_up *= 0.6 if "equal" in reading else 1
    return {"speed_up": speed_up, "speed_up_low": speed_up * (1 - width), "speed_up_high": speed_up * (1 + width)}


def name_model(model: str) -> dict:
    return {"model": model, "group": "modern" if model in MODERN else "paper", "kind": KINDS[model]}


def make_errors(error: float, hit_rate: float = 0.8) -> dict:
    return {
        "hit_rate": hit_rate,
        "output_error": error,
        "gradient_error": 0.4 * error,
        "computations_saved": 0.8 * hit_rate,
    }


def make_training(models: list[str], commit: str) -> list[dict]:
    side = {"inception_v4": 299}
    return [
        name_model(model)
        | {
            "data": "multi30k" if model == "transformer" else "20 photos",
            "input": "32 tokens" if model == "transformer" else " x ".join(map(str, [3] + [side.get(model, 224)] * 2)),
            "batch": 8,
            "steps": 12,
            "captured": [3, 7, 11],
            "samples": 4,
            "different": 6,
            "weights": "ImageNet, convolutions" if model in ("vgg16", "mobilenet_v2") else "none",
            "first_loss": 3.0,
            "last_loss": 2.0,
            "metric": None if model in MODERN else "BLEU" if model == "transformer" else "top-1",
            "value": None if model in MODERN else 19.9 if model == "transformer" else 0.4,
            "commits": [commit],
            "seconds": 300.0,
        }
        for model in models
    ]


def make_speed_ups(models: list[str]) -> list[dict]:
    rows = []
    for model in models:
        for design, (strength, error) in DESIGNS.items():
            for reading in GAINS:
                wide = model == "squeezenet1_0" and design == "preset"
                row = name_model(model) | {"design": design, "reading": reading, **make_errors(error)}
                searched = {"largest_error": 1.2 * error, "step_error": 0.5 * error, "passes": 60, "exceeding": 3}
                memory = {"mcache_results_mean": 20.0, "mcache_results_peak": 168.0, "mcache_kb": 10.5}
                losses = {"accuracy_loss": 0.3, "accuracy_loss_upper": 0.9}
                row |= dict.fromkeys(searched) if design == "preset" else searched
                row |= losses if design == "accepted error" else dict.fromkeys(losses)
                row |= make_speed_up(model, reading, strength, 0.09 if wide else 0.02)
                row |= {"is_bound": reading == "the bound"}
                rows.append(row | (memory if design == "preset" else dict.fromkeys(memory)))
    return rows


def make_frontier(models: list[str]) -> list[dict]:
    rows = []
    for model in models:
        for reading in GAINS:
            for place, limit in enumerate((0.05, 0.1, 0.2, 0.4)):
                if "equal" not in reading:
                    row = name_model(model) | {"reading": reading, "limit": limit}
                    row |= make_speed_up(model, reading, (0.3, 0.5, 0.8, 1.2)[place])
                    row["speed_up_equal_macs"] = row["speed_up"] * (0.6 if reading == "mercury-ahead" else 1)
                    row |= {"output_error": 0.8 * limit, "step_error": 0.5 * limit, "exceeding": 3, "passes": 60}
                    rows.append(row | {"is_bound": reading == "the bound"})
    return rows


def make_chain(models: list[str]) -> list[dict]:
    return [
        name_model(model)
        | {"assumption": name, "flags": "--x", "preset": preset, **make_errors(0.4)}
        | {"speed_up": raise_gain(model, gain), "is_bound": is_bound}
        | {"mcache_results_mean": 20.0, "mcache_results_peak": None if is_bound else 168.0, "mcache_kb": 10.5}
        for model in models
        for name, (preset, gain, is_bound) in RUNGS.items()
    ]


def make_sizes(models: list[str]) -> list[dict]:
    return [
        {"model": model, "size": size, "reading": reading, "hit_rate": strength * 0.8, "output_error": 0.4}
        | make_speed_up(model, reading, strength)
        for model in models
        for size, strength in ((32, 0.2), (64, 0.4), (128, 0.7), (224, 1.0))
        for reading in GAINS
    ]


def make_hardware(models: list[str]) -> list[dict]:
    rows = []
    for model in models:
        for axis, values in AXES.items():
            for place, value in enumerate(values):
                row = {"model": model, "kind": KINDS[model], "axis": axis, "value": value, "place": place}
                row |= make_speed_up(model, "mercury-skip", 0.5 if axis == "MCACHE entries" else 0.3 + 0.3 * place)
                factor = 1 - 0.15 * place if axis == "MACs of the signature unit" else 1
                is_bound = value in ("0", "unlimited")
                rows.append(row | {"speed_up_equal_macs": row["speed_up"] * factor, "is_bound": is_bound})
    return rows


def make_tables(models: list[str], commit: str = "abc1234") -> dict[str, pl.DataFrame]:
    """Makes the tables of a run of these models."""
    stages = [{"model": model, "stage": stage, "seconds": 60.0} for model in models for stage in ("capture", "search")]
    rows = {
        "training": make_training(models, commit),
        "speed_ups": make_speed_ups(models),
        "frontier": make_frontier(models),
        "chain": make_chain(models),
        "sizes": make_sizes([model for model in ("vgg16", "resnet50", "mobilenet_v2") if model in models]),
        "hardware": make_hardware([model for model in QUICK if model in models]),
        "stages": stages,
    }
    return {name: pl.DataFrame(found, infer_schema_length=None) for name, found in rows.items()}


def write_run(out: Path, models: list[str] = list(KINDS), commit: str = "abc1234", command: str = "make paper") -> Path:
    """Writes a run's folder."""
    out.mkdir(parents=True, exist_ok=True)
    for name, frame in make_tables(models, commit).items():
        frame.write_parquet(out / f"{name}.parquet")
    (out / "accepted.json").write_text(json.dumps({"bound": "accuracy-loss<=1", "step_error": 0.043}))
    (out / "run.json").write_text(json.dumps({"command": command, "wall": 3600, "cpu": 7000}))
    return out




if __name__ == "__main__":
    write_run(Path(sys.argv[1]))
