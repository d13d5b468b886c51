#!/usr/bin/env python3
"""Measures what a capture costs a training: steps that are not captured, steps that are, and memory.

Each step of ours alternates with a plain one of the same model. The captured steps are those of `tracer/benches/cost.rs`:
ResNet-50, batch 8, 64 x 64, so that both tracers can be compared on one machine. Run it on idle cores:

    python python/benches/capture.py
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import mercury_lab.torch as mt
import torch
import torch.nn.functional as F
import torchvision

BATCH, SIZE, CLASSES = 8, 64, 1000


def build(name="resnet50"):
    torch.manual_seed(1)
    return getattr(torchvision.models, name)(weights=None, num_classes=CLASSES)


class Training:
    """A training whose steps are timed; `model` is what the loop calls."""

    def __init__(self, model, compiled=False):
        self.model = model
        self.call = torch.compile(model) if compiled else model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
        self.x, self.y = torch.randn(BATCH, 3, SIZE, SIZE), torch.randint(CLASSES, (BATCH,))

    def step(self):
        """Runs a step; returns its seconds."""
        began = time.perf_counter()
        F.cross_entropy(self.call(self.x), self.y).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.perf_counter() - began


def compare_uncaptured(rounds, compiled):
    """Seconds of a step that is not captured, and of one without the package; medians of alternating steps."""
    plain, ours = Training(build(), compiled), Training(build(), compiled)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Only step 0 is captured, before the measurement.
        capture = mt.capture(ours.model, f"{folder}/trace", optimizer=ours.optimizer, steps=[0], samples=1, filters=1)
        for training in (plain, ours, plain, ours, plain, ours):
            training.step()
        capture.flush()
        pairs = [(ours.step(), plain.step()) for _ in range(rounds)]
        capture.close()
    return statistics.median(our for our, _ in pairs), statistics.median(other for _, other in pairs)


def compare_captured(rounds, limits):
    """Seconds of a captured step and of a plain one, and the step's values in bytes before compression."""
    plain, ours = Training(build()), Training(build())
    with tempfile.TemporaryDirectory() as folder:
        with mt.capture(ours.model, f"{folder}/trace", optimizer=ours.optimizer, every=1, **limits) as capture:
            times = []
            for _ in range(rounds):
                other = plain.step()
                began = time.perf_counter()
                ours.step()
                # Unfinished writing would slow down the next step without capture.
                capture.flush()
                times.append((time.perf_counter() - began, other))
        import pyarrow.parquet as pq

        files = list(Path(folder).glob("trace/tensors/step=000000/**/*.parquet"))
        size = sum(4 * pq.read_metadata(file).num_rows * pq.read_schema(file).field("values").type.list_size for file in files)
    return statistics.median(our for our, _ in times), statistics.median(other for _, other in times), size


def measure_memory(limits):
    """Peaks of the resident memory over three plain steps and over three captured ones, in a process of their own."""
    code = [sys.executable, __file__, "--memory", repr(limits)]
    words = subprocess.run(code, check=True, capture_output=True, text=True).stdout.split()
    return int(words[-2]), int(words[-1])


def train_for_memory(limits):
    """Prints both peaks. A small capture comes first, so code that the first capture loads counts for both."""
    training = Training(build())

    def run():
        for _ in range(3):
            training.step()

    with tempfile.TemporaryDirectory() as folder:
        with mt.capture(training.model, f"{folder}/small", optimizer=training.optimizer, every=1, samples=1, filters=1):
            run()
        run()
        plain = measure_peak(run)
        with mt.capture(training.model, f"{folder}/trace", optimizer=training.optimizer, every=1, **limits):
            captured = measure_peak(run)
    print(plain, captured)


def measure_peak(work):
    """The peak of this process's resident memory during some work, in bytes.

    `ru_maxrss` does not do: a child begins with that of its parent.
    """
    # 5 resets the peak (Linux).
    Path("/proc/self/clear_refs").write_text("5")
    work()
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        train_for_memory(eval(arguments.memory))  # noqa: S307: our own argument
        return
    rounds = arguments.rounds
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; medians of {rounds} alternating steps")
    for compiled in (False, True):
        ours, plain = compare_uncaptured(rounds, compiled)
        kind = "compiled" if compiled else "eager"
        print(f"step without capture, {kind}: {1e3 * ours:.1f} ms, without the package {1e3 * plain:.1f} ms: {ours / plain:.3f}")
    for limits in ({}, {"samples": 2, "filters": 32}):
        ours, plain, size = compare_captured(max(rounds // 4, 3), limits)
        rate = size / (ours - plain) / 1e6
        print(
            f"captured step, {limits or 'all'}: {1e3 * ours:.1f} ms ({size / 1e6:.1f} MB), without capture {1e3 * plain:.1f} ms: "
            f"{ours / plain:.2f}; {rate:.0f} MB/s"
        )
        without, memory = measure_memory(limits)
        more = memory - without
        print(f"  peak memory {memory / 1e6:.0f} MB, {more / 1e6:.0f} MB more than without capture: {more / size:.2f} of the step")


if __name__ == "__main__":
    main()
