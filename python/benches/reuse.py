#!/usr/bin/env python3
"""Measures what reuse in the loop costs a training step, as a ratio to a plain step.

Both alternate on one model, at signatures of 20 bits in every layer. Images are the first ones of CIFAR-10, if
`data/fetch.py cifar10` got them, else random ones, whose HIT rates are lower. Run it on idle cores:

    python python/benches/reuse.py --threads 2
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import mercury_lab.torch as mt
import torch
import torch.nn.functional as F
import torchvision

REPOSITORY = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(REPOSITORY / "scripts" / "accuracy"))
from cifar10 import Cifar10  # noqa: E402
from networks import ResNet20  # noqa: E402

FORWARD_AND_WEIGHTS = ("forward", "weight-grad")
# Network, batch, passes with reuse.
CASES = [
    ("resnet20", 128, FORWARD_AND_WEIGHTS),
    ("resnet20", 128, ("forward", "input-grad", "weight-grad")),
    ("vgg13", 32, FORWARD_AND_WEIGHTS),
    ("resnet50", 16, FORWARD_AND_WEIGHTS),
    ("mobilenet_v2", 16, FORWARD_AND_WEIGHTS),
]


def build(name):
    """A network with random weights."""
    torch.manual_seed(1)
    return ResNet20() if name == "resnet20" else getattr(torchvision.models, name)(num_classes=10)


def read_images(batch):
    """Images and labels of a batch."""
    folder = REPOSITORY / "data" / "cifar10"
    if (folder / "data_batch_5.bin").exists():
        return next(Cifar10(folder).train_batches(batch, seed=1, epoch=0))
    return torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))


def compare(name, batch, passes, rounds):
    """Seconds of a step with reuse and of a plain one, medians, and the share of HITs."""
    model, (x, y) = build(name), read_images(batch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step():
        began = time.perf_counter()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - began

    reuse = mt.reuse(model, reuse={"passes": list(passes)}, check_samples=False)
    reuse.close()
    step()
    plain, ours = [], []
    for _ in range(rounds):
        plain.append(step())
        with reuse:
            ours.append(step())
    outcomes = [(row["hit"], row["hit"] + row["mau"] + row["mnu"]) for row in reuse.counts]
    share = sum(hit for hit, _ in outcomes) / sum(vectors for _, vectors in outcomes)
    return statistics.median(ours), statistics.median(plain), share


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="of PyTorch, which reuse shares")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(f"threads of PyTorch: {torch.get_num_threads()}; medians of {arguments.rounds} alternating steps")
    for name, batch, passes in CASES:
        ours, plain, share = compare(name, batch, passes, arguments.rounds)
        what = f"{name}, batch {batch}, {', '.join(passes)}"
        print(
            f"{what:60} {1e3 * ours:7.1f} ms with reuse, {1e3 * plain:7.1f} ms without: "
            f"ratio {ours / plain:.2f}, {100 * share:.0f} % HIT",
            flush=True,
        )


if __name__ == "__main__":
    main()
