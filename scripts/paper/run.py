#!/usr/bin/env python3
"""Trains, captures, replays and searches the paper's twelve models at their own size: `make paper`.

Each model has a folder under OUT with its trace, ladders and searches. Completed stages are not repeated, and the
time of each is printed. Models run in parallel, each in a process of its own with one thread; if one fails, the
others continue. The tensors of a trace are removed once all its stages are complete, except with --keep-traces.
`tables.py` then writes tables, `report.py` a page. All stages are of one commit, and a checkout with changed files
is refused, except with --allow-dirty or --tiny.
"""

import argparse
import json
import multiprocessing
import os
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import tables
from settings import FORMS, MODELS, MODERN, Form, Model
from stages import Failed, Run, Task, list_tasks

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from places import REPOSITORY, find_weights, link_dataset  # noqa: E402
from runs import read_commit  # noqa: E402


def run_apart(run: Run, task: Task, places: dict[str, Path]) -> None:
    """Runs a task in a process of its own, so that Ctrl-C reaches it, and the others outlive one that is killed."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        process.submit(run.run_task, task, places).result()


def record_run(out: Path, command: str, wall: float) -> None:
    """Writes the command and the time of the run, including the interrupted runs that it continued."""
    path, used = out / "run.json", resource.getrusage(resource.RUSAGE_CHILDREN)
    before = json.loads(path.read_text()) if path.exists() else {"wall": 0, "cpu": 0}
    sums = {"wall": before["wall"] + wall, "cpu": before["cpu"] + used.ru_utime + used.ru_stime}
    path.write_text(json.dumps({"command": command, **sums}) + "\n")
    print(f"{sums['wall'] / 60:.1f} minutes, {sums['cpu'] / 60:.1f} of processor time")


def find_models(names: list[str], form: Form) -> list[Model]:
    found = MODELS | MODERN
    return [found[name] for name in names or [*form.models, *form.modern]]


def count_jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of models; give 1 or more")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder of the run [default: paper, paper/quick, paper/tiny]")
    parser.add_argument(
        "--models", nargs="*", default=[], choices=[*MODELS, *MODERN], metavar="MODEL", help="only these"
    )
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument(
        "--quick", dest="form", action="store_const", const="quick", help="one model of each kind of network"
    )
    forms.add_argument("--tiny", dest="form", action="store_const", const="tiny", help="seconds per model, for tests")
    parser.add_argument("--jobs", type=count_jobs, default=os.cpu_count(), help="number of models in parallel")
    parser.add_argument("--torch", type=Path, help="a Python with PyTorch and mercury-lab, for the modern models")
    parser.add_argument("--keep-traces", action="store_true", help="keep the tensors of all traces")
    parser.add_argument("--allow-dirty", action="store_true", help="take changed files and other commits")
    parser.set_defaults(form="full")
    arguments = parser.parse_args()
    form = FORMS[arguments.form]
    out = arguments.out or REPOSITORY / "paper" / ("" if arguments.form == "full" else arguments.form)
    out.mkdir(parents=True, exist_ok=True)
    any_commit = arguments.allow_dirty or arguments.form == "tiny"
    this = Run(out.resolve(), form, read_commit(), any_commit, arguments.keep_traces, arguments.torch)
    this.check_commit()
    began = time.monotonic()

    models = find_models(arguments.models, form)
    if arguments.torch is None and any(model.name in MODERN for model in models):
        print("SKIPPED: vit_b_16 and convnext_tiny; --torch names a Python with PyTorch")
        models = [model for model in models if model.name not in MODERN]
    tasks = list_tasks(models, form, arguments.models or list(form.sizes))
    datasets = sorted({this.find_dataset(task.model) for task in tasks})
    places = {dataset: link_dataset(dataset, out) for dataset in datasets}
    if "imagenet-20" in datasets:
        # Before the tasks, of which several start from the same weights.
        for name in sorted({task.model.name for task in tasks if task.model.is_pretrained}):
            find_weights(name)
    try:
        failures = run_tasks(this, tasks, places, arguments.jobs)
    finally:
        named = f" --models {' '.join(arguments.models)}" if arguments.models else ""
        record_run(out, form.command + named, time.monotonic() - began)
    tables.write(this, tasks)
    if failures:
        sys.exit("\n".join(failures))


def run_tasks(run: Run, tasks: list[Task], places: dict[str, Path | None], jobs: int) -> list[str]:
    """Runs tasks, some at a time; returns a message for each that failed."""
    failures = []

    def work(task: Task) -> None:
        began = time.monotonic()
        if places[run.find_dataset(task.model)] is None:
            failures.append(f"{task.title}: the data set could not be fetched")
            return
        try:
            run_apart(run, task, places)
            print(f"{task.title}: {time.monotonic() - began:.0f} s in all", flush=True)
        except (Failed, Exception) as failure:  # `Failed` is a SystemExit, which is no Exception.
            print(f"{task.title}: FAILED", flush=True)
            failures.append(f"{task.title}: {failure}")

    with ThreadPoolExecutor(jobs) as pool:
        try:
            list(pool.map(work, tasks))
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    return failures


if __name__ == "__main__":
    main()
