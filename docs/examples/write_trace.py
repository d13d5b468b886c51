"""Trains a small network in numpy and writes what its layers compute on as a trace for mercury-analyzer.

    python3 docs/examples/write_trace.py trace-numpy
    mercury-analyzer verify trace-numpy
    mercury-analyzer replay trace-numpy --out results-numpy

`TraceWriter` is the part to take along: it wants X, W and dY of each layer as arrays, whatever framework they come
from. docs/formats.md describes the files. It takes convolutions and linear layers, and keeps all channels and filters.

Needs numpy and pyarrow.
"""

import hashlib
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib.stride_tricks import sliding_window_view


@dataclass(frozen=True)
class Conv2d:
    """X is [samples, channels, height, width], W is [filters, channels / groups, kernel height, kernel width]."""

    in_channels: int
    out_channels: int
    input: tuple
    kernel: tuple
    stride: tuple = (1, 1)
    padding: tuple = (0, 0)
    dilation: tuple = (1, 1)
    groups: int = 1
    key = "channel"

    @property
    def output(self):
        axes = zip(self.input, self.kernel, self.stride, self.padding, self.dilation)
        return tuple((size + 2 * pad - step * (taps - 1) - 1) // stride + 1 for size, taps, stride, pad, step in axes)

    def columns(self):
        macs = np.prod(self.output) * self.out_channels * self.in_channels // self.groups * np.prod(self.kernel)
        pairs = {name: getattr(self, name) for name in ("input", "output", "kernel", "stride", "padding", "dilation")}
        return "conv2d", self.in_channels, self.out_channels, 1, self.groups, pairs, int(macs)


@dataclass(frozen=True)
class Linear:
    """X is [samples, rows, in_features], W is [out_features, in_features]; rows is 1, or the tokens of a sequence."""

    in_features: int
    out_features: int
    rows: int = 1
    key = "row"

    def columns(self):
        ones = {name: (1, 1) for name in ("input", "output", "kernel", "stride", "dilation")}
        macs = self.rows * self.in_features * self.out_features
        return "linear", self.in_features, self.out_features, self.rows, 1, ones | {"padding": (0, 0)}, macs


class TraceWriter:
    """Writes a trace, a captured step after the other."""

    def __init__(self, folder, layers, *, model, dataset, training, seed=0, without_input_grad=()):
        """`layers` are those of the model in execution order, by name; `model`, `dataset` and `training` are what the
        manifest says. Layers in `without_input_grad` are those whose input is the data itself."""
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        self.layers = layers
        self.steps = []
        self.manifest = {
            "schema_version": 2,
            "created_by": "write_trace.py",
            "model": model,
            "dataset": dataset,
            "seed": seed,
            "training": training,
            "versions": {"numpy": np.__version__, "pyarrow": pa.__version__},
            "device": "cpu",
            # Nothing is left out of a layer. How many samples are kept may differ from step to step.
            "sampling": {"samples": None, "channels": {}, "grad_channels": {}, "filters": {}},
            "captured": [],
            "complete": False,
        }
        self._layers_table(set(without_input_grad))
        self._tables()

    def capture(self, step, samples, dataset_indices, tensors):
        """Writes a step. `tensors` has (X, W, dY) by layer, X and dY of the kept samples alone: `samples`, their
        places in the batch, ascending. W are the weights that the step computed with, dY is the gradient of the
        batch's mean loss."""
        files = []
        for name, (x, w, dy) in tensors.items():
            key = self.layers[name].key
            for kind, values in (("input", x), ("weight", w), ("grad_output", dy)):
                if kind == "weight":
                    keys, values = {"filter": np.arange(len(values))}, values.reshape(len(values), -1)
                else:
                    inner = values.shape[1]
                    keys = {"sample": np.repeat(samples, inner), key: np.tile(np.arange(inner), len(samples))}
                    values = values.reshape(len(samples) * inner, -1)
                path = self.folder / f"tensors/step={step:06}/layer={name}/{kind}.parquet"
                write_tensor(path, keys, values)
                files.append({
                    "layer": name,
                    "kind": kind,
                    "rows": values.shape[0],
                    "width": values.shape[1],
                    "bytes": path.stat().st_size,
                    "sha256": sha256(path),
                })
        indices = [int(index) for index in dataset_indices]
        captured = {"step": step, "samples": [int(s) for s in samples], "dataset_indices": indices, "tensors": files}
        self.manifest["captured"].append(captured)
        self._manifest()

    def step(self, step, epoch, loss, accuracy, learning_rate, seconds):
        """Notes a training step, captured or not: signatures grow by the losses of all."""
        captured = any(known["step"] == step for known in self.manifest["captured"])
        self.steps.append((step, epoch, loss, accuracy, learning_rate, seconds, captured))

    def close(self):
        self._tables()
        self.manifest["complete"] = True
        self._manifest()
        names = ["evaluations.parquet", "layers.parquet", "manifest.json", "steps.parquet"]
        text = "".join(f"{sha256(self.folder / name)}  {name}\n" for name in names)
        (self.folder / "SHA256SUMS").write_text(text)

    def _layers_table(self, without_input_grad):
        table = {}
        for index, (name, layer) in enumerate(self.layers.items()):
            op, inputs, outputs, rows, groups, pairs, macs = layer.columns()
            row = {"index": index, "name": name, "op": op, "in_channels": inputs, "out_channels": outputs}
            row |= {"rows": rows, "groups": groups}
            for pair, (height, width) in pairs.items():
                row |= {f"{pair}_height": height, f"{pair}_width": width}
            row |= {"input_grad": name not in without_input_grad, "macs": macs}
            for column, value in row.items():
                table.setdefault(column, []).append(value)
        types = {"name": pa.string(), "op": pa.string(), "input_grad": pa.bool_(), "macs": pa.uint64()}
        columns = {name: pa.array(values, types.get(name, pa.uint32())) for name, values in table.items()}
        pq.write_table(pa.table(columns), self.folder / "layers.parquet", compression="zstd")

    def _tables(self):
        names = ("step", "epoch", "loss", "accuracy", "learning_rate", "seconds", "captured")
        types = (pa.uint64(), pa.uint64(), pa.float64(), pa.float64(), pa.float64(), pa.float64(), pa.bool_())
        steps = {n: pa.array([row[i] for row in self.steps], t) for i, (n, t) in enumerate(zip(names, types))}
        pq.write_table(pa.table(steps), self.folder / "steps.parquet", compression="zstd")
        schema = {"steps_done": pa.uint64(), "metric": pa.string(), "value": pa.float64(), "samples": pa.uint64()}
        evaluations = pa.table({name: pa.array([], of) for name, of in schema.items()})
        pq.write_table(evaluations, self.folder / "evaluations.parquet", compression="zstd")

    def _manifest(self):
        text = json.dumps(self.manifest, indent=2, allow_nan=False) + "\n"
        new = self.folder / ".manifest.json"
        new.write_text(text)
        # Replaced after the step's files are there: whoever reads meanwhile sees whole steps.
        os.replace(new, self.folder / "manifest.json")


def write_tensor(path, keys, values):
    """A tensor file: key columns of u32 in ascending order, then the values. No column may hold nulls; declaring that
    is not needed, but such files are read fastest."""
    values = np.ascontiguousarray(values, np.float32)
    element = pa.field("element", pa.float32(), nullable=False)
    row = pa.list_(element, values.shape[1])
    columns = [pa.array(key, pa.uint32()) for key in keys.values()]
    columns.append(pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), type=row))
    fields = [pa.field(key, pa.uint32(), nullable=False) for key in keys] + [pa.field("values", row, nullable=False)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.Table.from_arrays(columns, schema=pa.schema(fields)),
        path,
        compression="zstd",
        # Not needed, but floats compress better by byte.
        use_dictionary=list(keys),
        use_byte_stream_split=["values.list.element"],
        row_group_size=max(1, (128 << 20) // (4 * values.shape[1])),
    )


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# A network: two convolutions, ReLU after each, a mean over positions, a linear layer, softmax.


def windows(layer, x):
    """[samples, channels, output height, output width, kernel height, kernel width]"""
    (py, px), (sy, sx) = layer.padding, layer.stride
    padded = np.pad(x, ((0, 0), (0, 0), (py, py), (px, px)))
    return sliding_window_view(padded, layer.kernel, axis=(2, 3))[:, :, ::sy, ::sx]


def convolve(layer, x, w):
    return np.einsum("ncyxij,fcij->nfyx", windows(layer, x), w, optimize=True)


def convolve_backward(layer, x, w, dy):
    """dX and dW."""
    dw = np.einsum("ncyxij,nfyx->fcij", windows(layer, x), dy, optimize=True)
    taps = np.einsum("nfyx,fcij->ncyxij", dy, w, optimize=True)
    (py, px), (sy, sx), (height, width) = layer.padding, layer.stride, layer.output
    dx = np.zeros((len(x), layer.in_channels, layer.input[0] + 2 * py, layer.input[1] + 2 * px), np.float32)
    for i in range(layer.kernel[0]):
        for j in range(layer.kernel[1]):
            dx[:, :, i : i + sy * height : sy, j : j + sx * width : sx] += taps[..., i, j]
    return dx[:, :, py : py + layer.input[0], px : px + layer.input[1]], dw


def gratings(count, size, classes, random):
    """Images of stripes, a class an angle, and their classes."""
    labels = random.integers(classes, size=count)
    angle = np.pi * labels / classes
    y, x = np.mgrid[:size, :size]
    along = x * np.cos(angle)[:, None, None] + y * np.sin(angle)[:, None, None]
    phase = random.uniform(0, 2 * np.pi, size=(count, 1, 1))
    images = np.sin(0.9 * along + phase) + 0.1 * random.standard_normal((count, size, size))
    return images[:, None].astype(np.float32), labels


def train(folder, steps=41, every=20, batch=32, kept=4, rate=0.2, seed=1):
    random = np.random.default_rng(seed)
    layers = {
        "conv1": Conv2d(1, 16, input=(16, 16), kernel=(3, 3), padding=(1, 1)),
        "conv2": Conv2d(16, 32, input=(16, 16), kernel=(3, 3), stride=(2, 2), padding=(1, 1)),
        "fc": Linear(32, 8),
    }
    shapes = {"conv1": (16, 1, 3, 3), "conv2": (32, 16, 3, 3), "fc": (8, 32)}
    scale = {name: np.sqrt(2 / np.prod(shape[1:])) for name, shape in shapes.items()}
    weights = {n: (scale[n] * random.standard_normal(shape)).astype(np.float32) for n, shape in shapes.items()}
    images, labels = gratings(512, 16, 8, random)
    trace = TraceWriter(
        folder,
        layers,
        model={"name": "tiny", "parameters": sum(w.size for w in weights.values()), "input": [1, 16, 16], "classes": 8},
        dataset={"name": "gratings", "train_samples": len(images), "validation_samples": 0},
        training={
            "steps": steps,
            "batch_size": batch,
            "learning_rate": rate,
            "momentum": 0.0,
            "weight_decay": 0.0,
            "validation_accuracy": None,
        },
        seed=seed,
        without_input_grad=["conv1"],
    )
    for step in range(steps):
        begun = time.perf_counter()
        chosen = random.choice(len(images), batch, replace=False)
        x1, label = images[chosen], labels[chosen]
        w = {name: weight.copy() for name, weight in weights.items()}
        y1 = convolve(layers["conv1"], x1, w["conv1"])
        x2 = np.maximum(y1, 0)
        y2 = convolve(layers["conv2"], x2, w["conv2"])
        features = np.maximum(y2, 0)
        x3 = features.mean(axis=(2, 3))[:, None]
        y3 = x3 @ w["fc"].T

        scores = y3[:, 0] - y3[:, 0].max(axis=1, keepdims=True)
        share = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        loss = -np.log(share[np.arange(batch), label]).mean()
        accuracy = (share.argmax(axis=1) == label).mean()

        dy3 = share.copy()
        dy3[np.arange(batch), label] -= 1
        dy3 = (dy3 / batch)[:, None]
        dx3 = dy3 @ w["fc"]
        area = np.prod(layers["conv2"].output)
        dy2 = np.where(y2 > 0, dx3[:, 0, :, None, None] / area, 0).astype(np.float32)
        dx2, dw2 = convolve_backward(layers["conv2"], x2, w["conv2"], dy2)
        dy1 = np.where(y1 > 0, dx2, 0)
        _, dw1 = convolve_backward(layers["conv1"], x1, w["conv1"], dy1)
        dw3 = np.einsum("nrf,nri->fi", dy3, x3)
        for name, gradient in (("conv1", dw1), ("conv2", dw2), ("fc", dw3)):
            weights[name] -= rate * gradient.astype(np.float32)

        if step % every == 0:
            samples = np.sort(random.choice(batch, kept, replace=False))
            tensors = {
                "conv1": (x1[samples], w["conv1"], dy1[samples]),
                "conv2": (x2[samples], w["conv2"], dy2[samples]),
                "fc": (x3[samples], w["fc"], dy3[samples]),
            }
            trace.capture(step, samples, chosen[samples], tensors)
        seconds = time.perf_counter() - begun
        trace.step(step, step * batch // len(images), float(loss), float(accuracy), rate, seconds)
    trace.close()
    print(f"{folder}: loss {trace.steps[0][2]:.3f} at step 0, {loss:.3f} at step {step}, accuracy {accuracy:.0%}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: write_trace.py FOLDER (which must not exist)")
    train(sys.argv[1])
