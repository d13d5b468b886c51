#!/usr/bin/env python3
"""Measures the inputs of the model in docs/scale.md, and writes them to docs/scale.json.

    scripts/scale_measure.py TRACE [PART...]

TRACE is a real trace, such as that of `make demo`. Its manifest and results are multiplied to traces and partitions
with many steps. Times are processor times, which other load on the machine affects less. PART is one of dispatch,
start, open, merge, unit, replay. The script needs the package `mercury-lab[dask]`.
"""

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from places import BINARIES, REPOSITORY

RESULT = REPOSITORY / "docs" / "scale.json"
ANALYZER = Path(os.environ.get("MERCURY_ANALYZER") or BINARIES / "mercury-analyzer")
EMPTY = "1048576/1048576"
# A replay that measures everything.
ALL_MEASURES = ["--errors", "all", "--with", "bounds"]
# Run in a separate small process: the kernel counts the memory of the starting process as the program's, too.
MEASURING = """
import os, subprocess, sys
command = [str(os.getpid()) if argument == "PARENT" else argument for argument in sys.argv[1:]]
process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""


@dataclass
class Cost:
    """Processor time and peak memory of a process."""

    cpu_s: float
    memory_mb: float


def measure_cost(*command: object) -> Cost:
    """Runs a program once; PARENT among its arguments stands for the id of the process that starts it."""
    line = [sys.executable, "-I", "-S", "-c", MEASURING, *map(str, command)]
    status, cpu, memory = subprocess.run(line, check=True, capture_output=True, text=True).stdout.split()
    if int(status) != 0:
        sys.exit(f"{' '.join(map(str, command))} failed")
    return Cost(float(cpu), float(memory) / 1e3)


def measure_least(times: int, *command: object) -> Cost:
    """Runs a program several times and returns the cost of the fastest run."""
    return min((measure_cost(*command) for _ in range(times)), key=lambda cost: cost.cpu_s)


# --- dispatch: empty partitions on 100 workers; scheduler, client and workers are one process


def measure_dispatch(_: Path, scratch: Path) -> dict:
    import logging

    import dask
    from distributed import Client, LocalCluster
    from mercury_lab.distributed import dispatch
    from mercury_lab.distributed.progress import Progress
    from mercury_lab.distributed.worker import Ending, Outcome, Replay

    workers, partitions = 100, 2000
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    # Disable background work of workers, which would otherwise be that of 100 machines on this one.
    dask.config.set({"distributed.worker.profile.enabled": False, "distributed.admin.system-monitor.interval": "1h"})
    dispatch.replay_partition = lambda replay, number: Outcome(Ending.DONE)
    replay = Replay("partition-empty", "trace", (), "mercury-analyzer", "", scratch, partitions, "")
    flags = {"processes": False, "threads_per_worker": 1, "memory_limit": 0, "dashboard_address": None}
    with LocalCluster(n_workers=workers, **flags) as cluster, Client(cluster) as client:
        client.wait_for_workers(workers)
        idle, seconds = measure_time(lambda: time.sleep(5))
        at_rest = idle / seconds
        cpu, seconds = measure_time(dispatch.Dispatch(client, replay, 0, Progress(quiet=True)).run)
        look, _ = measure_time(client.nthreads)
    each = (cpu - at_rest * seconds) / partitions
    return {"workers": workers, "partitions": partitions, "cpu_s_each": each, "look_cpu_s": look}


def measure_time(action: Callable[[], object]) -> tuple[float, float]:
    """Returns the processor seconds and the elapsed seconds of an action."""
    cpu, clock = time.process_time(), time.monotonic()
    action()
    return time.process_time() - cpu, time.monotonic() - clock


# --- start: the fixed cost of a partition, without trace and units


def measure_start(trace: Path, scratch: Path) -> dict:
    from mercury_lab.distributed.watch import TETHER

    replay = [ANALYZER, "replay", trace, "--partition", EMPTY, "--out", scratch / "empty"]
    tethered = measure_least(5, sys.executable, "-I", "-S", TETHER, "PARENT", *replay)
    return {"cpu_s": tethered.cpu_s + measure_least(5, ANALYZER, "--version").cpu_s}


# --- open: manifests with many steps


def measure_open(trace: Path, scratch: Path) -> list[dict]:
    return [measure_opening(trace, scratch / f"trace-{steps}", steps) for steps in (1_000, 5_000, 20_000)]


def measure_opening(trace: Path, made: Path, steps: int) -> dict:
    files = write_steps(trace, made, steps)
    out = made / "empty"
    cost = measure_least(3, ANALYZER, "replay", made, "--partition", EMPTY, "--out", out)
    identity = (out / "partition.json").stat().st_size
    size = (made / "manifest.json").stat().st_size
    shutil.rmtree(made)
    sizes = {"manifest_bytes": size, "identity_bytes": identity}
    return {"steps": steps, "files": files, **sizes, "cpu_s": cost.cpu_s, "memory_mb": cost.memory_mb}


def write_steps(trace: Path, made: Path, steps: int) -> int:
    """Writes a trace whose manifest repeats the first captured step, and returns the number of tensor files in it.

    The tensor files do not exist; opening a trace does not read them.
    """
    made.mkdir()
    manifest = json.loads((trace / "manifest.json").read_text())
    first = manifest["captured"][0]
    manifest["captured"] = [first | {"step": step} for step in range(steps)]
    manifest["training"]["steps"] = steps
    (made / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    shutil.copy(trace / "layers.parquet", made)
    shutil.copy(trace / "steps.parquet", made)
    return steps * len(first["tensors"])


# --- merge: many units, in few and in many partitions


def measure_merge(trace: Path, scratch: Path) -> list[dict]:
    real = scratch / "real"
    measure_cost(ANALYZER, "replay", trace, "--partition", "1/1", "--out", real, *ALL_MEASURES)
    # Steps, partitions, listed captured steps. First the units grow, then the partitions, then the list.
    cases = [(100, 13, 0), (500, 13, 0), (1_000, 13, 0), (1_000, 13_000, 0), (1_000, 1_300, 0), (1_000, 1_300, 20_000)]
    return [measure_merging(real, scratch / "parts", *case) for case in cases]


def measure_merging(real: Path, made: Path, steps: int, partitions: int, listed: int) -> dict:
    units = write_parts(real, made, steps, partitions, listed)
    size = sum(path.stat().st_size for path in made.glob("*/parts/*"))
    identities = sum(path.stat().st_size for path in made.glob("*/partition.json"))
    cost = measure_cost(ANALYZER, "merge", *made.iterdir(), "--out", made.with_name("out"), "--quiet")
    shutil.rmtree(made)
    shutil.rmtree(made.with_name("out"))
    sizes = {"units": units, "partitions": partitions, "unit_bytes": size, "identity_bytes": identities}
    return {**sizes, "cpu_s": cost.cpu_s, "memory_mb": cost.memory_mb}


def write_parts(real: Path, made: Path, steps: int, partitions: int, listed: int) -> int:
    """Writes complete partitions that repeat the results of the first step, and returns their number of units."""
    identity = json.loads((real / "partition.json").read_text())
    first = identity["units"][0][0]
    texts = [read_unit(real, first, layer) for layer in range(identity["layers"])]
    units = [(step, layer) for step in range(steps) for layer in range(identity["layers"])]
    identity |= {"run": list_steps(identity["run"], listed), "units_in_all": len(units)}
    for number in range(1, partitions + 1):
        own = units[number - 1 :: partitions]
        changed = identity | {"share": {"number": number, "of": partitions}, "units": own}
        files = {"partition.json": json.dumps(changed, indent=2) + "\n"}
        for step, layer in own:
            files[f"parts/step-{step:06}-layer-{layer:04}.json"] = renumber_unit(texts[layer], first, step)
        write_partition(made / str(number), files)
    return len(units)


def list_steps(run: str, steps: int) -> str:
    """Replaces the captured steps in the description of a run."""
    changed = json.loads(run)
    changed["trace"]["captured_steps"] = list(range(steps))
    return json.dumps(changed, indent=2) + "\n"


def write_partition(folder: Path, files: dict[str, str]) -> None:
    (folder / "parts").mkdir(parents=True)
    sums = ""
    for name, text in files.items():
        (folder / name).write_text(text)
        sums += f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n"
    (folder / "SHA256SUMS").write_text(sums)


def read_unit(real: Path, step: int, layer: int) -> str:
    """Reads the results of a unit, without their checksum."""
    text = (real / f"parts/step-{step:06}-layer-{layer:04}.json").read_text()
    return text.split('"results":', 1)[1].removesuffix("}\n")


def renumber_unit(results: str, first: int, step: int) -> str:
    """Returns the text of a unit's file for another step."""
    results = results.replace(f'"step":{first},', f'"step":{step},')
    return f'{{"sha256":"{hashlib.sha256(results.encode()).hexdigest()}","results":{results}}}\n'


# --- unit, replay: bytes of results, and bytes of tensor files per second on one thread


def measure_unit(_: Path, scratch: Path) -> list[dict]:
    """Measures the bytes of a unit's results by kept samples, on traces of docs/examples/write_trace.py."""
    sys.path.insert(0, str(REPOSITORY / "docs" / "examples"))
    import write_trace

    found = []
    for samples in (8, 100, 400):
        trace, out = scratch / f"trace-{samples}", scratch / f"part-{samples}"
        write_trace.train(str(trace), steps=1, every=1, batch=400, kept=samples)
        measure_cost(ANALYZER, "replay", trace, "--partition", "1/1", "--out", out, *ALL_MEASURES)
        files = list((out / "parts").glob("*.json"))
        found.append({"samples": samples, "bytes": sum(path.stat().st_size for path in files) / len(files)})
    return found


def measure_replay(trace: Path, scratch: Path) -> list[dict]:
    size = sum(path.stat().st_size for path in (trace / "tensors").rglob("*.parquet"))
    ways = ALL_MEASURES, ["--errors", "none"]
    return [measure_replaying(trace, scratch / f"out-{number}", size, flags) for number, flags in enumerate(ways)]


def measure_replaying(trace: Path, out: Path, size: int, flags: list[str]) -> dict:
    cost = measure_cost(ANALYZER, "replay", trace, "--out", out, "--threads", 1, *flags)
    return {"flags": flags, "bytes": size, "cpu_s": cost.cpu_s, "bytes_per_s": size / cost.cpu_s}


PARTS = {
    "dispatch": measure_dispatch,
    "start": measure_start,
    "open": measure_open,
    "merge": measure_merge,
    "unit": measure_unit,
    "replay": measure_replay,
}


def round_numbers(value):
    """Rounds each number to four digits; further digits are noise."""
    if isinstance(value, dict):
        return {key: round_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [round_numbers(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    trace, chosen = Path(sys.argv[1]), sys.argv[2:] or list(PARTS)
    # Many workers need many open connections.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for part in chosen:
        with tempfile.TemporaryDirectory() as scratch:
            known[part] = round_numbers(PARTS[part](trace, Path(scratch)))
        print(f"{part}: {json.dumps(known[part])}", flush=True)
        RESULT.write_text(json.dumps(known, indent=2) + "\n")


if __name__ == "__main__":
    main()
