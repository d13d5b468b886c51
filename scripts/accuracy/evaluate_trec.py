#!/usr/bin/env python3
"""Classifies CIFAR-10's test images with TREC's published CifarNet, with reuse in its second convolution and without.

An outside check of reuse in the loop: these weights were trained with reuse, so they classify better with it. They are
`examples/pre_trained_models/cifar.pt` of the TREC artifact; `conv2.random_vectors` is the learned hash. Images are in
the file's order, in batches of 100, with pixels scaled to -1..1.
"""

import argparse
import importlib.util
import json
import struct
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from cifar10 import read_batches
from networks import CifarNet

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from places import DATA, REPOSITORY, find_dataset  # noqa: E402

HASH = "conv2.random_vectors"
BATCH = 100
# Correct images of 10,000, by representative and scope; None: without reuse.
EXPECTED = {("centroid", "batch"): 7574, None: 6713, ("first", "batch"): 4687, ("centroid", "sample"): 6843}
# Rounding at the threshold of a bit may move a sub-vector to another bucket.
TOLERANCE = 10


def load_network(path: Path) -> tuple[CifarNet, torch.Tensor]:
    """Returns the network and its hash, `[length, bits]`."""
    state = torch.load(path, weights_only=True, map_location="cpu")
    if HASH not in state:
        raise SystemExit(f"{path}: has no {HASH}; give the weights of TREC's CifarNet")
    hash_vectors = state.pop(HASH).float()
    network = CifarNet()
    network.load_state_dict(state)
    return network.eval(), hash_vectors


def write_projection(path: Path, hash_vectors: torch.Tensor) -> None:
    """Writes R, `[length, bits]`, as safetensors."""
    rows = hash_vectors.contiguous()
    header = json.dumps({"R": {"dtype": "F32", "shape": list(rows.shape), "data_offsets": [0, 4 * rows.numel()]}})
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + rows.numpy().astype("<f4").tobytes())


@torch.no_grad()
def count_correct(network: Callable, images: torch.Tensor, labels: torch.Tensor) -> int:
    """Counts the images that a network classifies correctly."""
    correct = 0
    for part, answers in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        correct += int((network(part.float() / 127.5 - 1).argmax(1) == answers).sum())
    return correct


def open_reuse(network: CifarNet, design: tuple[str, str] | None, projection: Path):
    """Returns the context that computes conv2 with reuse."""
    if design is None:
        return nullcontext()
    import mercury_lab as mercury
    import mercury_lab.torch as mt

    representative, scope = design
    config = mercury.Config(
        Path(__file__).with_name("cifarnet.toml"),
        rpq={"bits": 10, "projection": f"file:{projection}"},
        mcache={"representative": representative, "scope": scope},
    )
    return mt.reuse(network, config=config)


def load_reference():
    """Imports the naive convolution of the package's tests."""
    path = REPOSITORY / "python" / "tests" / "torch" / "trec_reference.py"
    spec = importlib.util.spec_from_file_location("trec_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def replace_convolution(network: CifarNet, design: tuple[str, str], hash_vectors: torch.Tensor) -> list[float]:
    """Computes conv2 by the naive reference; returns the list to which it appends shares of remaining sub-vectors."""
    reference, shares = load_reference(), []
    layer = network.conv2

    def compute(x: torch.Tensor) -> torch.Tensor:
        y, share = reference.convolve(x, layer.weight, layer.bias, hash_vectors, *design)
        shares.append(share)
        return y

    layer.forward = compute
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=DATA[1] / "trec" / "cifarnet.pt")
    parser.add_argument(
        "--naive", action="store_true", help="by the naive reference of the tests instead of the package"
    )
    parser.add_argument(
        "--images", type=int, default=10_000, help="the first images; others than 10,000 are not checked"
    )
    arguments = parser.parse_args()
    folder = find_dataset("cifar10")
    if not arguments.weights.exists() or folder is None:
        print(f"SKIPPED: {arguments.weights} or CIFAR-10 is missing; give the weights by --weights")
        return
    images, labels = read_batches([folder / "cifar10" / "test_batch.bin"])
    images, labels = images[: arguments.images], labels[: arguments.images]
    misses = []
    for design, expected in EXPECTED.items():
        network, hash_vectors = load_network(arguments.weights)
        name = "without reuse" if design is None else ", ".join(design)
        with tempfile.TemporaryDirectory() as scratch:
            projection = Path(scratch) / "R.safetensors"
            write_projection(projection, hash_vectors)
            shares = replace_convolution(network, design, hash_vectors) if arguments.naive and design else []
            with nullcontext() if arguments.naive else open_reuse(network, design, projection):
                correct = count_correct(network, images, labels)
        remaining = f", {100 * sum(shares) / len(shares):.2f} % of sub-vectors remain" if shares else ""
        print(f"{name}: {correct} of {len(labels)} correct, expected {expected} of 10000{remaining}", flush=True)
        if len(labels) == 10_000 and abs(correct - expected) > TOLERANCE:
            misses.append(name)
    if misses:
        raise SystemExit(f"not as expected, by more than {TOLERANCE} images: {'; '.join(misses)}")


if __name__ == "__main__":
    main()
