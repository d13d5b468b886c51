"""Helpers of the tests: training loops, and a reader of traces."""

import json
from pathlib import Path

import mercury_lab.torch as mt
import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F


class Trace:
    """A trace's tables and tensors."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.manifest = json.loads((self.folder / "manifest.json").read_text())
        rows = pq.ParquetFile(self.folder / "layers.parquet").read().to_pylist()
        self.layers = {row["name"]: row for row in rows}
        self.steps = pq.ParquetFile(self.folder / "steps.parquet").read().to_pylist()

    @property
    def captured(self):
        """The captured steps."""
        return [step["step"] for step in self.manifest["captured"]]

    def files(self, step):
        """The files of a captured step, as `(layer, kind)`."""
        found = next(captured for captured in self.manifest["captured"] if captured["step"] == step)
        return {(file["layer"], file["kind"]) for file in found["tensors"]}

    def keys(self, layer, kind, step=0):
        """The keys of a tensor's rows, by column."""
        table = self._table(layer, kind, step)
        return {name: table[name].to_pylist() for name in table.column_names if name != "values"}

    def values(self, layer, kind, step=0):
        """A tensor's rows, `[rows, width]`."""
        column = self._table(layer, kind, step)["values"].combine_chunks()
        return torch.from_numpy(np.stack([np.asarray(row.as_py(), np.float32) for row in column]))

    def _table(self, layer, kind, step):
        path = self.folder / f"tensors/step={step:06}/layer={layer}/{kind}.parquet"
        return pq.ParquetFile(path).read()


def run_step(model, folder, args, *, optimizer=None, backward=None, **options):
    """Captures one step with a fixed gradient of the output; returns the trace, the output and the capture.

    `backward(y)` runs the backward pass; by default, the loss is the sum of y times fixed random numbers.
    """
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.0)
    options = {"on_error": "raise", "verify": True} | options
    with mt.capture(model, folder, optimizer=optimizer, **options) as capture:
        y = model(*args)
        (backward or sum_weighted)(y)
        capture.log(loss=1.0)
        optimizer.step()
    return Trace(folder), y, capture


def sum_weighted(y):
    """Runs a backward pass whose gradient at y is `output_gradient(y)`."""
    (y * output_gradient(y)).sum().backward()


def output_gradient(y):
    """Fixed random numbers of the shape of y."""
    generator = torch.Generator().manual_seed(7)
    return torch.randn(y.shape, generator=generator).to(y.dtype)


def train(model, batches, folder=None, *, loss_fn=F.cross_entropy, optimizer=None, **options):
    """Trains on batches, captured if a folder is given; returns the capture."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    capture = None if folder is None else mt.capture(model, folder, optimizer=optimizer, **options)
    for x, y in batches:
        loss = loss_fn(model(x), y)
        loss.backward()
        if capture is not None:
            capture.log(loss=loss.item())
        optimizer.step()
        optimizer.zero_grad()
    if capture is not None:
        capture.close()
    return capture


def image_batches(count, batch=2, size=64, classes=10, channels=3):
    """Random images and classes."""
    generator = torch.Generator().manual_seed(3)
    for _ in range(count):
        x = torch.randn(batch, channels, size, size, generator=generator)
        yield x, torch.randint(0, classes, (batch,), generator=generator)


def assert_close(actual, expected, tolerance=1e-5):
    """Compares relative to the norm."""
    expected = expected.detach().float().reshape(actual.shape)
    difference = torch.linalg.vector_norm(actual - expected)
    assert difference <= tolerance * torch.linalg.vector_norm(expected) + 1e-12, float(difference)
