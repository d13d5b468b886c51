"""Formulas of the models' weights, inputs and projections, for `models.py` and `tests/models.rs`.

Integers are modulo 2^64; reals are float64, rounded to float32 where that is said.

    key(name)  = FNV-1a, 64 bits, of the name's bytes
    h(name, i) = splitmix64's finaliser of z = key(name) + (i + 1) * 0x9E3779B97F4A7C15:
                 z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9
                 z = (z ^ z >> 27) * 0x94D049BB133111EB
                 z =  z ^ z >> 31
    u(name, i) = (h(name, i) >> 40) * 2^-23 - 1, in [-1, 1)

Element i, in row-major order, of the state dict's entry `name`:

    two or more dimensions           float32(sqrt(6 / fan_in) * u), fan_in = product of shape[1:]
    one, name ends in running_var    float32(1 + 0.5 u)
    one, name ends in running_mean   float32(0.1 u)
    one, name ends in weight         float32(1 + 0.1 u)
    one, any other name              float32(0.1 u)
    none                             0

    image element i           float32(u("input", i)) of [4, 3, height, width]
    image label i             h("labels", i) % 10
    projection j, element i   u("projection.{j}." + name, i)

    source token (row, column)   4 + h("source", row * 12 + column) % 96, lengths 12, 9, 5, 11
    target token (row, column)   4 + h("target", row * 11 + column) % 96, lengths 11, 7, 4, 10

Tokens past a row's length are 0, the padding.
"""

import math
from collections.abc import Iterator

import numpy
import torch
from torch import Tensor

SAMPLES = 4
PROJECTIONS = 4
CHUNK = 1 << 16
PAD = 0


def key(name: str) -> int:
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    return state


def hashes(name: str, start: int, stop: int) -> numpy.ndarray:
    """h(name, i) for i in start..stop."""
    z = numpy.arange(start + 1, stop + 1, dtype=numpy.uint64)
    z *= numpy.uint64(0x9E3779B97F4A7C15)
    z += numpy.uint64(key(name))
    z = (z ^ z >> numpy.uint64(30)) * numpy.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> numpy.uint64(27)) * numpy.uint64(0x94D049BB133111EB)
    return z ^ z >> numpy.uint64(31)


def uniform(name: str, start: int, stop: int) -> numpy.ndarray:
    """u(name, i) for i in start..stop."""
    return (hashes(name, start, stop) >> numpy.uint64(40)).astype(numpy.float64) * 2.0**-23 - 1


def chunks(count: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, CHUNK):
        yield start, min(start + CHUNK, count)


def values(name: str, shape: list[int], offset: float, scale: float) -> Tensor:
    """float32(offset + scale * u)."""
    flat = numpy.empty(math.prod(shape), numpy.float32)
    for start, stop in chunks(flat.size):
        flat[start:stop] = offset + scale * uniform(name, start, stop)
    return torch.from_numpy(flat).reshape(shape)


def initial(name: str, shape: list[int]) -> Tensor:
    if len(shape) >= 2:
        return values(name, shape, 0, math.sqrt(6 / math.prod(shape[1:])))
    if not shape:
        return torch.zeros([])
    if name.endswith("running_var"):
        return values(name, shape, 1, 0.5)
    if name.endswith("weight"):
        return values(name, shape, 1, 0.1)
    return values(name, shape, 0, 0.1)


def summary(name: str, tensor: Tensor) -> list[float]:
    """The norm and the projections."""
    flat = tensor.detach().flatten().numpy()
    squares, products = 0.0, [0.0] * PROJECTIONS
    for start, stop in chunks(flat.size):
        part = flat[start:stop].astype(numpy.float64)  # From int64, if it counts batches.
        squares += (part * part).sum()
        for j in range(PROJECTIONS):
            products[j] += (part * uniform(f"projection.{j}.{name}", start, stop)).sum()
    return [math.sqrt(squares), *products]


def tokens(name: str, lengths: list[int]) -> Tensor:
    width = max(lengths)
    drawn = (4 + hashes(name, 0, SAMPLES * width) % numpy.uint64(96)).astype(numpy.int64)
    drawn = torch.from_numpy(drawn).reshape(SAMPLES, width)
    return drawn.masked_fill(torch.arange(width) >= torch.tensor(lengths)[:, None], PAD)
