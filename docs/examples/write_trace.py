#!/usr/bin/env python3
"""Writes a trace from a training that is neither mercury-tracer's nor PyTorch's: a small network in numpy.

`mercury_lab.TraceWriter` writes the files. For each layer of a captured step it takes X, W and dY of the kept samples, as
arrays of any library. The rest of this file is the training.
"""

import sys
import time

import numpy as np
from mercury_lab import Conv2d, Linear, TraceWriter
from numpy.lib.stride_tricks import sliding_window_view

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
        batch_size=batch,
        dataset={"name": "gratings", "train_samples": len(images)},
        training={"steps": steps, "learning_rate": rate},
        framework=("numpy", np.__version__),
        seed=seed,
        without_input_grad=["conv1"],
    )
    losses = []
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
            operands = {"conv1": (x1, w["conv1"], dy1), "conv2": (x2, w["conv2"], dy2), "fc": (x3, w["fc"], dy3)}
            kept_parts = {name: (as_f32(x[samples]), as_f32(w), as_f32(dy[samples])) for name, (x, w, dy) in operands.items()}
            trace.capture(step, kept_parts, samples=samples.tolist(), dataset_indices=chosen[samples].tolist())
        losses.append(float(loss))
        seconds = time.perf_counter() - begun
        epoch = step * batch // len(images)
        trace.log(step, loss=losses[-1], epoch=epoch, accuracy=float(accuracy), learning_rate=rate, seconds=seconds)
    trace.close()
    print(f"{folder}: loss {losses[0]:.3f} at step 0, {losses[-1]:.3f} at step {step}, accuracy {accuracy:.0%}")


def as_f32(values):
    """A contiguous array of f32, as a trace holds them."""
    return np.ascontiguousarray(values, np.float32)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: write_trace.py FOLDER (which must not exist)")
    train(sys.argv[1])
