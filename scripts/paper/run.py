#!/usr/bin/env python3
"""Trains, captures, replays and searches the paper's twelve models at their own size: `make paper`.

Each model has a folder under OUT with its trace, ladders and searches. Completed stages are not repeated, and each one's
time is printed. Models run in parallel, each in a process of its own with one thread; if one fails, the others continue.
The tensors of a trace are removed once all its stages are complete, except with --keep-traces. `tables.py` then writes
tables, `report.py` a page. All stages are of one commit, and a checkout with changed files is refused, except with
--allow-dirty or --tiny.
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
from places import REPOSITORY, link_dataset  # noqa: E402
from runs import read_commit  # noqa: E402


def run_apart(run: Run, task: Task, places: dict[str, Path]) -> None:
    """Runs a task in a process of its own, so that Ctrl-C reaches it, and the others outlive one that is killed."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        process.submit(run.run_task, task, places).result()


def record_run(out: Path, form: Form, wall: float) -> None:
    """Writes the command and the time of the run, including the interrupted runs that it continued."""
    path, used = out / "run.json", resource.getrusage(resource.RUSAGE_CHILDREN)
    before = json.loads(path.read_text()) if path.exists() else {"wall": 0, "cpu": 0}
    took = {"wall": before["wall"] + wall, "cpu": before["cpu"] + used.ru_utime + used.ru_stime}
    path.write_text(json.dumps({"command": form.command, **took}) + "\n")
    print(f"{took['wall'] / 60:.1f} minutes, {took['cpu'] / 60:.1f} of processor time")


def find_models(names: list[str], form: Form) -> list[Model]:
    found = MODELS | MODERN
    return [found[name] for name in names or [*form.models, *form.modern]]


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
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="number of models in parallel")
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
    began, failures = time.monotonic(), []

    tasks = list_tasks(find_models(arguments.models, form), form)
    if arguments.torch is None and any(task.model.name in MODERN for task in tasks):
        print("SKIPPED: vit_b_16 and convnext_tiny; --torch names a Python with PyTorch")
        tasks = [task for task in tasks if task.model.name not in MODERN]
    datasets = sorted({this.find_dataset(task.model) for task in tasks})
    places = {dataset: link_dataset(dataset, out) for dataset in datasets}

    def work(task: Task) -> None:
        began = time.monotonic()
        if places[this.find_dataset(task.model)] is None:
            failures.append(f"{task.title}: the data set could not be fetched")
            return
        try:
            run_apart(this, task, places)
            print(f"{task.title}: {time.monotonic() - began:.0f} s in all", flush=True)
        except (Failed, Exception) as failure:
            print(f"{task.title}: FAILED", flush=True)
            failures.append(f"{task.title}: {failure}")

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(work, tasks))
    record_run(out, form, time.monotonic() - began)
    tables.write(out, form)
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
