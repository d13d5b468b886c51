#!/usr/bin/env python3
"""Models the time of a replay of a 100 TB trace on 1,000 workers, and its efficiency.

    scripts/scale.py [--docs docs/scale.md]

The inputs are measured (docs/scale.json, written by scripts/scale_measure.py) or assumed (`Case`). Workers take
partitions, are lost, and resume as in `mercury-distributed`. A heap orders the events by time. With --docs the tables
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

# Input channels, output channels and plane height of VGG-13's convolutions at 224 x 224; its linear layers are small.
LAYERS = [(3, 64, 224), (64, 64, 224), (64, 128, 112), (128, 128, 112), (128, 256, 56), (256, 256, 56)]
LAYERS += [(256, 512, 28), (512, 512, 28), (512, 512, 14), (512, 512, 14)]
# Tensor files of a unit: input, output gradient, weights.
FILES_OF_UNIT = 3
# Bytes per value in a file: in docs/performance.md, 2.3 GB of files hold 4.9 GB of values.
BYTES_OF_VALUE = 4 * 2.3 / 4.9
# Bytes per captured sample in the manifest: two indented numbers.
BYTES_OF_SAMPLE = 30
# Largest manifest that the program reads, bytes.
MOST_MANIFEST = 1 << 30
# Seconds between the client's checks of the workers.
LOOK_S = 1.0


@dataclass(frozen=True)
class Case:
    """The assumptions, which vary between the rows of the table."""

    name: str
    trace_bytes: float = 100e12
    # Kept samples per captured step: they determine the size and so the number of units.
    samples: int = 64
    # Whether all errors and bounds are computed (--errors all --with bounds); otherwise --errors none.
    errors: bool = True
    workers: int = 1000
    threads: int = 8
    # Parallel efficiency of 8 threads. Two threads reach 0.945 (docs/performance.md).
    threads_share: float = 0.9
    partitions_per_worker: int = 4
    # Bandwidth of the storage, and of one worker's network, bytes per second.
    storage: float = 100e9
    network: float = 1.25e9
    # Seconds to open a file on shared storage, or to create and rename one.
    file_s: float = 1e-3
    # Maximum relative deviation of the workers' speeds, and of the estimates of a unit's work; uniformly distributed.
    spread: float = 0.1
    estimates: float = 0.2
    # Mean seconds until a worker is lost permanently.
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
    """The results of a case, in seconds and bytes."""

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


def compute_slope(points: list[dict], x: str, y: str) -> float:
    """Returns the growth of y per x, between the first and the last measurement."""
    return (points[-1][y] - points[0][y]) / (points[-1][x] - points[0][x])


OPENED, MERGED = MEASURED["open"], MEASURED["merge"]
# Measurements in which only the units, only the partitions, or only the listed captured steps grow.
BY_UNITS, BY_PARTITIONS, BY_LIST = MERGED[0:3], MERGED[2:4], MERGED[4:6]
# Kept samples in the measured merges.
MEASURED_SAMPLES = 8
BYTES_OF_RESULTS = compute_slope(BY_UNITS, "units", "unit_bytes")
BYTES_OF_SAMPLE_IN_RESULTS = compute_slope(MEASURED["unit"], "samples", "bytes")
BYTES_OF_FILE = compute_slope(OPENED, "files", "manifest_bytes")
BYTES_OF_STEP = compute_slope(OPENED, "steps", "identity_bytes")


def compute_figures(case: Case) -> Figures:
    sizes = [(into + out) * rows * rows * case.samples * BYTES_OF_VALUE for into, out, rows in LAYERS]
    steps = round(case.trace_bytes / sum(sizes))
    units = steps * len(sizes)
    partitions = min(units, case.workers * case.partitions_per_worker)
    manifest = steps * case.samples * BYTES_OF_SAMPLE + units * FILES_OF_UNIT * BYTES_OF_FILE
    # Each partition lists the captured steps of the trace.
    listed = partitions * steps * BYTES_OF_STEP

    rate = MEASURED["replay"][0 if case.errors else 1]["bytes_per_s"] * case.threads * case.threads_share
    link = min(case.network, case.storage / case.workers)
    opening = MEASURED["start"]["cpu_s"] + manifest * compute_slope(OPENED, "manifest_bytes", "cpu_s") + manifest / link
    shares = split_units([size for size in sizes for _ in range(steps)], partitions)
    replayed = simulate(case, shares, opening, lambda size: size / min(rate, link) + FILES_OF_UNIT * case.file_s)
    return Figures(
        units=units,
        manifest=manifest,
        worker_memory=manifest * compute_slope(OPENED, "manifest_bytes", "memory_mb") * 1e6,
        merge_memory=estimate_merge(units, case.samples, partitions, listed, "memory_mb") * 1e6,
        floor_s=case.trace_bytes / case.workers / min(rate, link),
        largest_s=max(sizes) / min(rate, link),
        opening_s=opening,
        replayed_s=replayed,
        # The merge opens the files of units, and two more per partition, in parallel; its computing is on one thread.
        merge_s=estimate_merge(units, case.samples, partitions, listed, "cpu_s")
        + (units + 2 * partitions) * case.file_s / case.threads,
    )


def estimate_merge(units: int, samples: int, partitions: int, listed: float, what: str) -> float:
    """Returns the processor seconds (`what` is cpu_s) or the memory (memory_mb) of a merge."""
    # Costs grow in proportion to the size of a unit's results.
    size = 1 + (samples - MEASURED_SAMPLES) * BYTES_OF_SAMPLE_IN_RESULTS / BYTES_OF_RESULTS
    return (
        units * size * compute_slope(BY_UNITS, "units", what)
        + partitions * compute_slope(BY_PARTITIONS, "partitions", what)
        + listed * compute_slope(BY_LIST, "identity_bytes", what)
    )


def split_units(sizes: list[float], partitions: int) -> list[list[float]]:
    """Assigns units as analyzer/src/partition/split.rs does: largest first, each to the smallest partition."""
    shares: list[list[float]] = [[] for _ in range(partitions)]
    loads = [(0.0, number) for number in range(partitions)]
    for size in sorted(sizes, reverse=True):
        load, number = heappop(loads)
        shares[number].append(size)
        heappush(loads, (load + size, number))
    return shares


def simulate(case: Case, shares: list[list[float]], opening: float, seconds: Callable[[float], float]) -> float:
    """Returns the time at which the last partition is complete; `seconds` maps a unit's bytes to its time."""
    random = Random(1)

    def draw_factor(by: float) -> float:
        return random.uniform(1 - by, 1 + by)

    work = [[seconds(size) * draw_factor(case.estimates) for size in share] for share in shares]
    speeds = [draw_factor(case.spread) for _ in range(case.workers)]
    lost_at = [random.expovariate(1 / case.lost_after_s) for _ in range(case.workers)]

    waiting, idle = deque(work), []
    # Time, order, worker that becomes idle (`None` if it is lost), remaining units of its partition.
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
            # The client handles one event at a time.
            client = max(client, now) + MEASURED["dispatch"]["cpu_s_each"]
            order += 1
            done = client + opening + sum(units) / speeds[worker]
            if done <= lost_at[worker]:
                end = max(end, done)
                heappush(events, (done, order, worker, None))
            else:
                rest = list_remaining(units, (lost_at[worker] - client - opening) * speeds[worker])
                heappush(events, (max(lost_at[worker], client) + LOOK_S, order, None, rest))
    return end


def list_remaining(units: list[float], seconds: float) -> list[float]:
    """Returns the units that are not complete after some time; an interrupted unit begins anew."""
    for place, unit in enumerate(units):
        seconds -= unit
        if seconds < 0:
            return units[place:]
    return []


def format_gb(value: float) -> str:
    return f"{value / 1e9:.1f}"


def format_row(case: Case) -> list[str]:
    found = compute_figures(case)
    refused = found.manifest > MOST_MANIFEST
    return [
        case.name,
        f"{found.units:,}",
        format_gb(found.manifest) + (" (refused)" if refused else ""),
        f"{format_gb(found.worker_memory)}, {format_gb(found.merge_memory)}",
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


def format_model() -> str:
    return format_table([HEAD, *map(format_row, CASES)])


def format_measured() -> str:
    dispatched, replays = MEASURED["dispatch"], MEASURED["replay"]
    each = dispatched["cpu_s_each"]
    memory = compute_slope(OPENED, "manifest_bytes", "memory_mb") * 1e6
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
            f"{1e9 * compute_slope(OPENED, 'manifest_bytes', 'cpu_s'):.1f} s, {memory:.1f} GB of memory",
            f"manifests of {format_list(OPENED, 'files')} files",
        ],
        ["one file in the manifest", f"{BYTES_OF_FILE:.0f} bytes", "the same"],
        ["one captured step in each partition's `partition.json`", f"{BYTES_OF_STEP:.1f} bytes", "the same"],
        [
            "one unit in a merge",
            f"{1e3 * compute_slope(BY_UNITS, 'units', 'cpu_s'):.2f} ms, "
            f"{1e3 * compute_slope(BY_UNITS, 'units', 'memory_mb'):.0f} kB of memory, "
            f"{compute_slope(BY_UNITS, 'units', 'unit_bytes') / 1e3:.1f} kB of results",
            f"{format_list(BY_UNITS, 'units')} units",
        ],
        [
            "one kept sample in a unit's results",
            f"{BYTES_OF_SAMPLE_IN_RESULTS:.0f} bytes",
            f"units of {format_list(MEASURED['unit'], 'samples')} samples, by `docs/examples/write_trace.py`",
        ],
        [
            "one partition in a merge",
            f"{1e3 * compute_slope(BY_PARTITIONS, 'partitions', 'cpu_s'):.2f} ms",
            f"{format_list(BY_PARTITIONS, 'partitions')} partitions",
        ],
        [
            "one GB of `partition.json` in a merge",
            f"{1e9 * compute_slope(BY_LIST, 'identity_bytes', 'cpu_s'):.1f} s, "
            f"{1e6 * compute_slope(BY_LIST, 'identity_bytes', 'memory_mb'):.1f} GB of memory",
            "lists of 0 and 20,000 captured steps",
        ],
        [
            "replaying tensor files with all errors and bounds, per thread",
            f"{replays[0]['bytes_per_s'] / 1e6:.1f} MB/s",
            "a trace of VGG-13 on Fashion-MNIST",
        ],
        ["the same with `--errors none`", f"{replays[1]['bytes_per_s'] / 1e6:.1f} MB/s", "the same"],
    ]
    return format_table(rows)


def format_list(points: list[dict], key: str) -> str:
    *most, last = [f"{point[key]:,}" for point in points]
    return f"{', '.join(most)} and {last}"


def format_table(rows: list[list[str]]) -> str:
    head, *rest = rows
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [head, ["---"] * len(head), *rest])


def replace_table(page: str, name: str, table: str) -> str:
    """Replaces a table of the page."""
    begin, end = BEGIN.format(name), END.format(name)
    before, rest = page.split(begin)
    return before + begin + table + end + rest.split(end)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, help="page to write the tables into")
    docs = parser.parse_args().docs
    tables = {"measured": format_measured(), "model": format_model()}
    if docs is None:
        print("\n".join(tables.values()), end="")
        return
    page = docs.read_text()
    for name, table in tables.items():
        page = replace_table(page, name, table)
    docs.write_text(page)


if __name__ == "__main__":
    main()
