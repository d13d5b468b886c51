#!/usr/bin/env python3
"""Replays the second convolution of TREC's published CifarNet on a weight-stationary array, and prints where cycles go.

The trace has two batches of 100 images of CIFAR-10's test set, with the published weights and learned hash
(`examples/pre_trained_models/cifar.pt` of the TREC artifact). Shares are of the dense forward pass's cycles.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import mercury_lab as mercury
import mercury_lab.torch as mt
import polars as pl
import torch
import torch.nn.functional as F
from cifar10 import read_batches
from evaluate_trec import BATCH, load_network, write_projection

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from places import DATA, find_dataset  # noqa: E402

# Parts of a pass in layers.parquet.
PARTS = {
    "signatures": "signature_cycles",
    "products": "compute_cycles",
    "copies": "stall_cycles",
    "means": "extra_cycles",
}
# Results that MCACHE delivers are in units of an array row's width, 14.
ARRAYS = {
    "preset": {},
    "4 read ports": {"mcache": {"read_ports": 4}},
    "16 read ports": {"mcache": {"read_ports": 16}},
    "16, unit for signatures": {"mcache": {"read_ports": 16}, "rpq": {"unit": "dedicated"}},
    "16, 140 additions per cycle": {"mcache": {"read_ports": 16}, "array": {"accumulate_lanes": 140}},
    "16, unit, 140 additions": {
        "mcache": {"read_ports": 16},
        "rpq": {"unit": "dedicated"},
        "array": {"accumulate_lanes": 140},
    },
    "preset, scope sample": {"mcache": {"scope": "sample"}},
}


def capture(weights: Path, folder: Path) -> None:
    """Writes the trace and the projection."""
    network, hash_vectors = load_network(weights)
    network.train()
    images, labels = read_batches([find_dataset("cifar10") / "cifar10" / "test_batch.bin"])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    options = {"steps": [0, 1], "layers": ["conv2"], "name": "cifarnet", "on_error": "raise"}
    with mt.capture(network, folder / "trace", optimizer=optimizer, **options) as trace:
        for part, answers in zip(images.split(BATCH)[:2], labels.split(BATCH)[:2], strict=True):
            loss = F.cross_entropy(network(part.float() / 127.5 - 1), answers)
            optimizer.zero_grad()
            loss.backward()
            trace.log(loss=loss.item())
            optimizer.step()
    write_projection(folder / "R.safetensors", hash_vectors)


def describe(folder: Path, settings: dict) -> str:
    """Returns the row of an array in the table."""
    rpq = {"bits": 10, "granularity": "sub-vector(10)", "projection": f"file:{folder / 'R.safetensors'}"}
    settings = settings | {"rpq": rpq | settings.get("rpq", {})}
    results = mercury.replay(folder / "trace", preset="trec", errors="none", **settings)
    layers = pl.DataFrame(results.layers).filter(pl.col("step").is_not_null(), pl.col("pass").is_not_null())
    sums = {name: rows.select(pl.selectors.numeric().sum()) for (name,), rows in layers.group_by("pass")}
    forward, weights = sums["forward"], sums["weight-grad"]
    shares = (f"{forward[column][0] / forward['baseline_cycles'][0]:.0%}" for column in PARTS.values())
    speed_ups = (f"{rows['baseline_cycles'][0] / rows['mercury_cycles'][0]:.2f}x" for rows in (forward, weights))
    return " | ".join([*shares, *speed_ups])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=DATA[1] / "trec" / "cifarnet.pt")
    weights = parser.parse_args().weights
    if not weights.exists():
        print(f"SKIPPED: {weights} is missing; give the weights by --weights")
        return
    with tempfile.TemporaryDirectory() as scratch:
        capture(weights, Path(scratch))
        print(f"| array | {' | '.join(PARTS)} | forward | weight gradient |")
        print(f"|{' --- |' * (len(PARTS) + 3)}")
        for name, settings in ARRAYS.items():
            print(f"| {name} | {describe(Path(scratch), settings)} |")


if __name__ == "__main__":
    main()
