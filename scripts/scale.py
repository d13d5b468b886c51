#!/usr/bin/env python3
"""Models a replay of a 100 TB trace on 1,000 workers: its time, and the share of it spent on other work than replaying.

    scripts/scale.py [--docs docs/scale.md]

Its inputs are measured (docs/scale.json, written by scripts/scale_measure.py) or assumed (`Case`, below). Workers take
partitions, are lost, and resume as in `mercury-distributed`; a heap orders the events by time. With --docs the tables
are written into the page, else they are printed.
"""

import argparse
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from pathlib import Path
from random import Random

REPOSITORY = Path(__file__).resolve().parent.parent
MEASURED = json.loads((REPOSITORY / "docs" / "scale.json").read_text())
BEGIN, END = "<!-- {}: scripts/scale.py -->\n", "<!-- end of {} -->\n"

# Channels in and out, and rows of a plane, of VGG-13's convolutions at 224 x 224; its linear layers are small.
LAYERS = [(3, 64, 224), (64, 64, 224), (64, 128, 112), (128, 128, 112), (128, 256, 56), (256, 256, 56)]
LAYERS += [(256, 512, 28), (512, 512, 28), (512, 512, 14), (512, 512, 14)]
# Input, gradient of the output, weights.
FILES_OF_UNIT = 3
# Bytes of a value in a file: 2.3 GB hold 4.9 GB of values in docs/performance.md.
BYTES_OF_VALUE = 4 * 2.3 / 4.9
# Of a captured sample in the manifest: two numbers, indented.
BYTES_OF_SAMPLE = 30
# The most that the program reads as a manifest.
MOST_MANIFEST = 1 << 30
# Between looks of the client at which workers there are.
LOOK_S = 1.0


@dataclass(frozen=True)
class Case:
    """What is assumed, and varied from row to row."""

    name: str
    trace_bytes: float = 100e12
    # Samples kept of a captured step: they say how large a unit is, and so how many there are.
    samples: int = 64
    # With all errors and bounds (--errors all --with bounds); `False`: --errors none.
    errors: bool = True
    workers: int = 1000
    threads: int = 8
    # Parallel efficiency of 8 threads. Two threads reach 0.945 (docs/performance.md).
    threads_share: float = 0.9
    partitions_per_worker: int = 4
    # Of all storage, and of one worker's network, in bytes a second.
    storage: float = 100e9
    network: float = 1.25e9
    # To open a file on shared storage, or to make one and rename it.
    file_s: float = 1e-3
    # Workers are this much faster or slower, evenly spread; estimates of a unit's work are off by as much.
    spread: float = 0.1
    estimates: float = 0.2
    # Mean time until a worker is lost, for good.
    lost_after_s: float = 1000 * 3600


CASES = [
    base := Case("as assumed"),
    fast := replace(base, name="without errors and bounds", errors=False),
    replace(fast, name="the same, storage of 500 GB/s", storage=500e9),
    replace(base, name="files opened in 0.1 ms", file_s=1e-4),
    replace(base, name="1 partition per worker", partitions_per_worker=1),
    replace(base, name="16 partitions per worker", partitions_per_worker=16),
    replace(base, name="speeds and estimates off by 50 %", spread=0.5, estimates=0.5),
    replace(base, name="a worker lost every 36 s", lost_after_s=10 * 3600),
    replace(base, name="256 samples per step", samples=256),
    replace(base, name="4,096 samples per step", samples=4096),
    replace(base, name="8 samples per step", samples=8),
]


@dataclass(frozen=True)
class Figures:
    """What follows from a case, in seconds and bytes."""

    units: int
    manifest: float
    worker_memory: float
    merge_memory: float
    floor_s: float
    largest_s: float
    opening_s: float
    replayed_s: float
    merge_s: float

    @property
    def total_s(self) -> float:
        return self.replayed_s + self.merge_s


def slope(points: list[dict], x: str, y: str) -> float:
    """By how much y grows with x, from the first to the last of these measurements."""
    return (points[-1][y] - points[0][y]) / (points[-1][x] - points[0][x])


OPENED, MERGED = MEASURED["open"], MEASURED["merge"]
# More units, then more partitions, then a longer list of captured steps in each of them.
BY_UNITS, BY_PARTITIONS, BY_LIST = MERGED[0:3], MERGED[2:4], MERGED[4:6]
# A unit's results: those that merges were measured with had 8 samples.
MEASURED_SAMPLES = 8
BYTES_OF_RESULTS = slope(BY_UNITS, "units", "unit_bytes")
BYTES_OF_SAMPLE_IN_RESULTS = slope(MEASURED["unit"], "samples", "bytes")
BYTES_OF_FILE = slope(OPENED, "files", "manifest_bytes")
BYTES_OF_STEP = slope(OPENED, "steps", "identity_bytes")


def figures(case: Case) -> Figures:
    sizes = [(into + out) * rows * rows * case.samples * BYTES_OF_VALUE for into, out, rows in LAYERS]
    steps = round(case.trace_bytes / sum(sizes))
    units = steps * len(sizes)
    partitions = min(units, case.workers * case.partitions_per_worker)
    manifest = steps * case.samples * BYTES_OF_SAMPLE + units * FILES_OF_UNIT * BYTES_OF_FILE
    # Each partition says which steps the trace has.
    listed = partitions * steps * BYTES_OF_STEP

    rate = MEASURED["replay"][0 if case.errors else 1]["bytes_per_s"] * case.threads * case.threads_share
    link = min(case.network, case.storage / case.workers)
    opening = MEASURED["start"]["cpu_s"] + manifest * slope(OPENED, "manifest_bytes", "cpu_s") + manifest / link
    shares = split([size for size in sizes for _ in range(steps)], partitions)
    replayed = simulate(case, shares, opening, lambda size: size / min(rate, link) + FILES_OF_UNIT * case.file_s)
    return Figures(
        units=units,
        manifest=manifest,
        worker_memory=manifest * slope(OPENED, "manifest_bytes", "memory_mb") * 1e6,
        merge_memory=merging(units, case.samples, partitions, listed, "memory_mb") * 1e6,
        floor_s=case.trace_bytes / case.workers / min(rate, link),
        largest_s=max(sizes) / min(rate, link),
        opening_s=opening,
        replayed_s=replayed,
        # It opens units, and two more files of each partition, some at a time; computing counts as on one thread.
        merge_s=merging(units, case.samples, partitions, listed, "cpu_s")
        + (units + 2 * partitions) * case.file_s / case.threads,
    )


def merging(units: int, samples: int, partitions: int, listed: float, what: str) -> float:
    """Seconds of the processor, or memory, of a merge."""
    # As a unit's results grow, so does what they take.
    size = 1 + (samples - MEASURED_SAMPLES) * BYTES_OF_SAMPLE_IN_RESULTS / BYTES_OF_RESULTS
    return (
        units * size * slope(BY_UNITS, "units", what)
        + partitions * slope(BY_PARTITIONS, "partitions", what)
        + listed * slope(BY_LIST, "identity_bytes", what)
    )


def split(sizes: list[float], partitions: int) -> list[list[float]]:
    """As analyzer/src/partition/split.rs: the largest first, each to the partition that has least."""
    shares: list[list[float]] = [[] for _ in range(partitions)]
    loads = [(0.0, number) for number in range(partitions)]
    for size in sorted(sizes, reverse=True):
        load, number = heappop(loads)
        shares[number].append(size)
        heappush(loads, (load + size, number))
    return shares


def simulate(case: Case, shares: list[list[float]], opening: float, seconds: Callable[[float], float]) -> float:
    """When the last partition is done, where a unit of so many bytes takes so many seconds."""
    random = Random(1)

    def spread(by: float) -> float:
        return random.uniform(1 - by, 1 + by)

    work = [[seconds(size) * spread(case.estimates) for size in share] for share in shares]
    speeds = [spread(case.spread) for _ in range(case.workers)]
    lost_at = [random.expovariate(1 / case.lost_after_s) for _ in range(case.workers)]

    waiting, idle = deque(work), []
    # When, which worker becomes idle (`None`: it is lost), and what comes back of its partition.
    events = [(0.0, worker, worker, None) for worker in range(case.workers)]
    heapify(events)
    client, end, order = 0.0, 0.0, case.workers
    while events:
        now, _, worker, back = heappop(events)
        if back is not None:
            waiting.appendleft(back)
        if worker is not None:
            idle.append(worker)
        while waiting and idle:
            worker, units = idle.pop(), waiting.popleft()
            # The client does one thing after another.
            client = max(client, now) + MEASURED["dispatch"]["cpu_s_each"]
            order += 1
            done = client + opening + sum(units) / speeds[worker]
            if done <= lost_at[worker]:
                end = max(end, done)
                heappush(events, (done, order, worker, None))
            else:
                rest = after(units, (lost_at[worker] - client - opening) * speeds[worker])
                heappush(events, (max(lost_at[worker], client) + LOOK_S, order, None, rest))
    return end


def after(units: list[float], seconds: float) -> list[float]:
    """The units that are not done after so long; the one in between begins anew."""
    for place, unit in enumerate(units):
        seconds -= unit
        if seconds < 0:
            return units[place:]
    return []


def gb(value: float) -> str:
    return f"{value / 1e9:.1f}"


def row(case: Case) -> list[str]:
    found = figures(case)
    refused = found.manifest > MOST_MANIFEST
    return [
        case.name,
        f"{found.units:,}",
        gb(found.manifest) + (" (refused)" if refused else ""),
        f"{gb(found.worker_memory)}, {gb(found.merge_memory)}",
        f"{found.floor_s:,.0f}",
        f"{found.largest_s:,.0f}",
        f"{found.opening_s:.0f}",
        f"{found.replayed_s:,.0f}",
        f"{found.merge_s:,.0f}",
        f"{found.total_s:,.0f}",
        f"{100 * found.floor_s / found.total_s:.0f} %",
    ]


HEAD = ["case", "units", "manifest, GB", "memory, GB: worker, merge", "floor, s", "largest unit, s", "opening, s"]
HEAD += ["replay, s", "merge, s", "total, s", "efficiency"]


def model() -> str:
    return markdown([HEAD, *map(row, CASES)])


def measured() -> str:
    dispatched, replays = MEASURED["dispatch"], MEASURED["replay"]
    each = dispatched["cpu_s_each"]
    memory = slope(OPENED, "manifest_bytes", "memory_mb") * 1e6
    rows = [
        ["cost of", "figure", "measured with"],
        [
            "one partition, in client, scheduler and workers",
            f"{1e3 * each:.1f} ms: {1 / each:.0f} partitions per second",
            f"{dispatched['partitions']:,} empty partitions on {dispatched['workers']} workers, all in one process",
        ],
        ["starting the program on a worker", f"{1e3 * MEASURED['start']['cpu_s']:.0f} ms", "an empty partition"],
        [
            "opening a trace, per GB of its manifest",
            f"{1e9 * slope(OPENED, 'manifest_bytes', 'cpu_s'):.1f} s, {memory:.1f} GB of memory",
            f"manifests of {listing(OPENED, 'files')} files",
        ],
        ["one file in the manifest", f"{BYTES_OF_FILE:.0f} bytes", "the same"],
        ["one captured step in each partition's `partition.json`", f"{BYTES_OF_STEP:.1f} bytes", "the same"],
        [
            "one unit in a merge",
            f"{1e3 * slope(BY_UNITS, 'units', 'cpu_s'):.2f} ms, "
            f"{1e3 * slope(BY_UNITS, 'units', 'memory_mb'):.0f} kB of memory, "
            f"{slope(BY_UNITS, 'units', 'unit_bytes') / 1e3:.1f} kB of results",
            f"{listing(BY_UNITS, 'units')} units",
        ],
        [
            "one kept sample in a unit's results",
            f"{BYTES_OF_SAMPLE_IN_RESULTS:.0f} bytes",
            f"units of {listing(MEASURED['unit'], 'samples')} samples, by `docs/examples/write_trace.py`",
        ],
        [
            "one partition in a merge",
            f"{1e3 * slope(BY_PARTITIONS, 'partitions', 'cpu_s'):.2f} ms",
            f"{listing(BY_PARTITIONS, 'partitions')} partitions",
        ],
        [
            "one GB of `partition.json` in a merge",
            f"{1e9 * slope(BY_LIST, 'identity_bytes', 'cpu_s'):.1f} s, "
            f"{1e6 * slope(BY_LIST, 'identity_bytes', 'memory_mb'):.1f} GB of memory",
            "lists of 0 and 20,000 captured steps",
        ],
        [
            "replaying tensor files with all errors and bounds, per thread",
            f"{replays[0]['bytes_per_s'] / 1e6:.1f} MB/s",
            "the demo's trace",
        ],
        ["the same with `--errors none`", f"{replays[1]['bytes_per_s'] / 1e6:.1f} MB/s", "the same"],
    ]
    return markdown(rows)


def listing(points: list[dict], key: str) -> str:
    *most, last = [f"{point[key]:,}" for point in points]
    return f"{', '.join(most)} and {last}"


def markdown(rows: list[list[str]]) -> str:
    head, *rest = rows
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [head, ["---"] * len(head), *rest])


def put(page: str, name: str, table: str) -> str:
    """The page with this table in its place."""
    begin, end = BEGIN.format(name), END.format(name)
    before, rest = page.split(begin)
    return before + begin + table + end + rest.split(end)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, help="the page to write the tables into")
    docs = parser.parse_args().docs
    tables = {"measured": measured(), "model": model()}
    if docs is None:
        print("\n".join(tables.values()), end="")
        return
    page = docs.read_text()
    for name, table in tables.items():
        page = put(page, name, table)
    docs.write_text(page)


if __name__ == "__main__":
    main()
