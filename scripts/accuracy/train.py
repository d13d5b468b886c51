#!/usr/bin/env python3
"""Trains models with and without reuse in the loop, on the same schedules: `make accuracy`.

Each run is a folder under OUT/runs with its log. Completed runs are not repeated, so an interrupted script continues
when it is started again. Runs are parallel, with one thread each. `report.py` writes the table.
"""

import argparse
import csv
import hashlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from configs import CONFIGURATIONS, EXACT, MODELS, SEEDS, VALIDATION

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from places import BINARIES, REPOSITORY, link_dataset  # noqa: E402
from runs import format_toml, read_commit  # noqa: E402


def build_command(run: tuple, steps: int, samples: int, trace: Path, out: Path) -> list[str]:
    model, configuration, seed = run
    spec = MODELS[model]
    flags = ["train", "--model", model, "--dataset", spec["dataset"], "--data-dir", out / "data"]
    flags += ["--out", trace, "--seed", seed, "--steps", steps, "--validation-samples", samples, *spec["flags"]]
    flags += ["--checkpoint-every", 0, "--measure", "none"]
    if configuration != EXACT:
        flags += ["--reuse", out / "configs" / f"{configuration}.toml"]
    return [str(BINARIES / "mercury-tracer"), *map(str, flags)]


def list_settings(run: tuple, steps: int, samples: int) -> dict:
    """Returns everything that a run depends on, except the program."""
    return {"flags": MODELS[run[0]]["flags"], "steps": steps, "samples": samples, "keys": CONFIGURATIONS.get(run[1], {})}


def hash_settings(settings: dict) -> str:
    """Returns a short hash of a run's settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def read_known_runs(path: Path | None) -> set[tuple]:
    """Reads the runs in a table that report.py wrote."""
    if path is None:
        return set()
    with path.open() as file:
        return {(row["model"], row["configuration"], int(row["seed"]), row["what"]) for row in csv.DictReader(file)}


def train(run: tuple, steps: int, samples: int, out: Path) -> str:
    """Trains once, unless the same run is complete; returns a note on its end."""
    folder = out / "runs" / "-".join(map(str, run))
    if (folder / "done.json").exists():
        if json.loads((folder / "done.json").read_text()).get("what") == list_settings(run, steps, samples):
            return "already complete"
        shutil.rmtree(folder)
    scratch = folder.with_suffix(".partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    began = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    line = build_command(run, steps, samples, scratch / "trace", out)
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    (scratch / "log").write_text(done.stdout + done.stderr)
    diverged = "training has diverged" in done.stderr
    if done.returncode != 0 and not diverged:
        raise RuntimeError(f"{' '.join(line)}\n{done.stderr}")
    result = {"model": run[0], "configuration": run[1], "seed": run[2], "diverged": diverged}
    result |= {"what": list_settings(run, steps, samples), "commit": read_commit()}
    result["seconds"] = round(time.monotonic() - began, 1)
    (scratch / "done.json").write_text(json.dumps(result) + "\n")
    scratch.rename(folder)
    return "diverged" if diverged else f"{result['seconds']:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=REPOSITORY / "accuracy")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--quick", action="store_true", help="a fifth of the steps, one seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="number of parallel runs")
    parser.add_argument("--not-in", type=Path, help="skip the runs in this table, such as docs/accuracy.csv")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no run after this many seconds")
    arguments = parser.parse_args()
    out, seeds = arguments.out, arguments.seeds[:1] if arguments.quick else arguments.seeds
    (out / "configs").mkdir(parents=True, exist_ok=True)
    for name, configuration in CONFIGURATIONS.items():
        (out / "configs" / f"{name}.toml").write_text(format_toml(configuration))
    runs, known = queue.Queue(), read_known_runs(arguments.not_in)
    share = 5 if arguments.quick else 1
    samples = VALIDATION // share
    # All models of one seed come first, so that an interrupted script leaves complete rows of the table.
    for seed in seeds:
        for model in arguments.models:
            if link_dataset(MODELS[model]["dataset"], out) is None:
                print(f"SKIPPED {model}: data/{MODELS[model]['dataset']} could not be fetched", flush=True)
                continue
            for configuration in [EXACT, *CONFIGURATIONS]:
                run = (model, configuration, seed)
                settings = list_settings(run, MODELS[model]["steps"] // share, samples)
                if (*run, hash_settings(settings)) not in known:
                    runs.put(run)
    ends, failures = time.monotonic() + arguments.seconds, []

    def work() -> None:
        while time.monotonic() < ends:
            try:
                run = runs.get_nowait()
            except queue.Empty:
                return
            try:
                print(*run, train(run, MODELS[run[0]]["steps"] // share, samples, out), flush=True)
            except RuntimeError as error:
                failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(arguments.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        sys.exit("\n".join(map(str, failures)))


if __name__ == "__main__":
    main()
