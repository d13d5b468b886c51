#!/usr/bin/env python3
"""Trains all runs of the calibration, or those named by --only: `make accuracy`.

Runs are parallel processes with one thread each. A finished run appends its row to docs/accuracy.csv at once; runs that
have a row with the same settings are not trained again. A run that was stopped continues from its last epoch.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from designs import DESIGNS, EXACT, SEEDS, Run, list_runs, name_search
from rows import append_row, identify, read_rows
from tasks import SETTINGS, make_task

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from places import REPOSITORY  # noqa: E402

HERE = Path(__file__).resolve().parent
ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}


@dataclass
class Job:
    """A process that writes a file; it starts when the files that it needs are there."""

    name: str
    command: list[str]
    writes: Path
    needs: list[Path] = field(default_factory=list)
    is_training: bool = True


@dataclass
class Options:
    out: Path
    epochs: dict[str, int]
    quick: bool

    def make_flags(self, task: str) -> list[str]:
        flags = ["--out", str(self.out)]
        if task in self.epochs:
            flags += ["--epochs", str(self.epochs[task])]
        return flags + (["--quick"] if self.quick else [])


def make_training(run: Run, options: Options) -> Job:
    search = options.out / name_search(run.task, run.seed) / "designs.json"
    return Job(
        run.name,
        [sys.executable, str(HERE / "train.py"), run.name, *options.make_flags(run.task)],
        options.out / run.name / "row.json",
        [search] if run.branches else [],
    )


def make_search(task: str, seed: int, options: Options) -> Job:
    name = name_search(task, seed)
    return Job(
        name,
        [sys.executable, str(HERE / "choose.py"), task, "--seed", str(seed), *options.make_flags(task)],
        options.out / name / "designs.json",
        [options.out / Run(task, EXACT, seed).name / "half.pt"],
        is_training=False,
    )


def plan_jobs(runs: list[Run], options: Options) -> list[Job]:
    """Lists the jobs of runs in order, each after those whose files it needs and that are not there yet."""
    jobs: dict[str, Job] = {}
    for run in runs:
        if run.branches:
            search = make_search(run.task, run.seed, options)
            exact = make_training(Run(run.task, EXACT, run.seed), options)
            if not search.writes.exists():
                if not search.needs[0].exists():
                    jobs.setdefault(exact.name, exact)
                jobs.setdefault(search.name, search)
        jobs.setdefault(run.name, make_training(run, options))
    return list(jobs.values())


def select_runs(only: list[str]) -> list[Run]:
    runs = list(list_runs())
    chosen = [run for run in runs if not only or any(f"{run.name}-".startswith(f"{name}-") for name in only)]
    for name in only:
        if not any(f"{run.name}-".startswith(f"{name}-") for run in runs):
            listed = "; ".join(f"{task}: {', '.join(designs)}" for task, designs in DESIGNS.items())
            fail(f"--only {name}: is no TASK[-DESIGN[-SEED]]; there are {listed}; seeds {SEEDS[0]} to {SEEDS[-1]}")
    return chosen


def fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


class Scheduler:
    """Runs jobs, at most `slots` at a time, in order as far as their files are there."""

    def __init__(self, jobs: list[Job], slots: int, out: Path, finish) -> None:
        self.pending, self.slots, self.out, self.finish = jobs, slots, out, finish
        self.running: list[tuple[Job, subprocess.Popen, float]] = []
        self.failed: list[str] = []

    def run(self) -> list[str]:
        """Returns messages on jobs that failed, or whose files a failed one did not write."""
        try:
            while self.pending or self.running:
                self.start_ready()
                if not self.running:
                    self.failed += [
                        f"{job.name}: not started, because {job.needs[0]} is missing" for job in self.pending
                    ]
                    break
                time.sleep(0.2)
                self.collect()
        finally:
            for _, process, _ in self.running:
                process.terminate()
        return self.failed

    def start_ready(self) -> None:
        for job in list(self.pending):
            if len(self.running) == self.slots:
                return
            if job.writes.exists():
                self.pending.remove(job)
                self.finish(job)
            elif all(path.exists() for path in job.needs):
                self.pending.remove(job)
                self.start(job)

    def start(self, job: Job) -> None:
        log = self.find_log(job)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            process = subprocess.Popen(job.command, env=os.environ | ONE_THREAD, stdout=file, stderr=subprocess.STDOUT)
        self.running.append((job, process, time.monotonic()))
        print(f"{time.strftime('%H:%M')} {job.name}: started, log {log}", flush=True)

    def find_log(self, job: Job) -> Path:
        return self.out / f"{job.name}.log"

    def collect(self) -> None:
        for entry in list(self.running):
            job, process, began = entry
            code = process.poll()
            if code is None:
                continue
            self.running.remove(entry)
            if code == 0 and job.writes.exists():
                print(f"{time.strftime('%H:%M')} {job.name}: {time.monotonic() - began:.0f} s", flush=True)
                self.finish(job)
            else:
                tail = "\n".join(self.find_log(job).read_text().splitlines()[-15:])
                self.failed.append(f"{job.name}: exit code {code}\n{tail}")
                print(self.failed[-1], flush=True)


def parse_epochs(texts: list[str]) -> dict[str, int]:
    epochs = {}
    for text in texts:
        task, _, number = text.partition("=")
        if task not in SETTINGS or not number.isdecimal() or int(number) < 2:
            fail(f"--epochs {text}: give TASK=N with N of at least 2; tasks are {', '.join(SETTINGS)}")
        epochs[task] = int(number)
    return epochs


def find_known(table: Path, options: Options) -> set[str]:
    """Returns the names of the runs that have a row with the settings of now."""
    rows = {identify(row) for row in read_rows(table)}
    settings = {}
    for task in {row[0] for row in rows}:
        made = make_task(task, 1, options.epochs.get(task))
        settings[task] = (str(made.schedule.epochs), made.settings)
    return {
        run.name for run in list_runs() if (run.task, run.design, str(run.seed), *settings.get(run.task, ())) in rows
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], metavar="TASK[-DESIGN[-SEED]]")
    parser.add_argument("--jobs", type=int, default=2, help="parallel processes")
    parser.add_argument("--epochs", nargs="*", default=[], metavar="TASK=N")
    parser.add_argument("--quick", action="store_true", help="a few steps of seed 1, whose rows are printed only")
    parser.add_argument("--out", type=Path, help="checkpoints and logs; accuracy/runs by default")
    parser.add_argument("--table", type=Path, default=REPOSITORY / "docs" / "accuracy.csv")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    out = arguments.out or REPOSITORY / "accuracy" / ("quick" if arguments.quick else "runs")
    options = Options(out.resolve(), parse_epochs(arguments.epochs), arguments.quick)
    runs = select_runs(arguments.only)
    if arguments.quick:
        runs = [run for run in runs if run.seed == SEEDS[0]]
    else:
        known = find_known(arguments.table, options)
        runs = [run for run in runs if run.name not in known]

    def finish(job: Job) -> None:
        if not job.is_training:
            return
        row = json.loads(job.writes.read_text())
        if arguments.quick:
            print(row, flush=True)
        elif append_row(arguments.table, row):
            print(f"{job.name}: {row['metric']} {row.get('value')}, row in {arguments.table}", flush=True)

    failed = Scheduler(plan_jobs(runs, options), arguments.jobs, options.out, finish).run()
    if failed:
        sys.exit("failed:\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
