#!/usr/bin/env python3
"""Trains every model for ten steps on real data, captures the first and the last step, and replays them: `make models`.

Prints a table of times, sizes and hit rates. Arguments limit the run to some models. Images are from CIFAR-10, enlarged
if a model needs it; sentences are from Multi30K. `places.py` finds or fetches both.
"""

import sys
import tempfile
import time
from pathlib import Path

import mercury_lab as mercury
import polars as pl
from places import find_dataset
from runs import run

STEPS = 10
BATCH = 8

# Height and width of the images, pixels; `None` for sentences.
MODELS = {
    "alexnet": 64,
    "googlenet": 32,
    "vgg13": 32,
    "vgg16": 32,
    "vgg19": 32,
    "resnet50": 32,
    "resnet101": 32,
    "resnet152": 32,
    "inception_v4": 80,
    "mobilenet_v2": 32,
    "squeezenet1_0": 32,
    "transformer": None,
}


def run_model(name: str, scratch: Path) -> str:
    """Trains, captures and replays a model, and returns its row of the table."""
    size = MODELS[name]
    dataset = "cifar10" if size else "multi30k"
    folder = find_dataset(dataset)
    if folder is None:
        return f"{name:<14} SKIPPED: {dataset} could not be fetched"
    trace = scratch / name
    flags = ["--model", name, "--dataset", dataset, "--data-dir", folder, "--out", trace, "--steps", STEPS]
    flags += ["--batch-size", BATCH, "--capture", f"steps=0,{STEPS - 1}", "--samples", 2, "--filters", 16]
    flags += ["--validation-samples", 40]
    flags += ["--input-size", size] if size else ["--optimizer", "adam", "--max-length", 24, "--bleu-samples", 8]
    start = time.monotonic()
    run("mercury-tracer", "capture", *flags)
    trained = time.monotonic()
    results = pl.DataFrame(mercury.replay(trace).layers)
    replayed = time.monotonic()
    size_mb = sum(path.stat().st_size for path in trace.rglob("*.parquet")) / 1e6
    forward = results.filter(pl.col("pass") == "forward")
    hit_rate = forward["hit"].sum() / max(1, forward["vectors"].sum())
    layers = results["layer"].n_unique()
    shape = f"{size} x {size}" if size else "24 tokens"
    return (
        f"{name:<14} {shape:>9} {layers:>6} {trained - start:>9.1f} {size_mb:>9.1f} {replayed - trained:>9.1f}"
        f" {100 * hit_rate:>7.1f}"
    )


def main() -> None:
    names = sys.argv[1:] or list(MODELS)
    if unknown := set(names) - set(MODELS):
        sys.exit(f"no such model: {', '.join(sorted(unknown))}")
    print(f"{STEPS} steps of {BATCH} samples, 2 captured (2 samples, 16 filters each), replayed with the default preset")
    print(f"{'model':<14} {'input':>9} {'layers':>6} {'train s':>9} {'trace MB':>9} {'replay s':>9} {'HIT %':>7}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            print(run_model(name, Path(scratch)), flush=True)


if __name__ == "__main__":
    main()
