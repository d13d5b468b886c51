#!/usr/bin/env python3
"""Trains, captures, replays and sweeps the paper's twelve models: `make paper`.

Each model has a folder under OUT with its trace, replays, ladders and a sweep. Completed stages are not repeated.
Models run in parallel, each in a process of its own with one thread; if one fails, the others continue. `tables.py`
then writes tables, `report.py` a page. All stages are of one commit, and a checkout with changed files is refused, except with
--allow-dirty or --tiny.
"""

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import mercury_lab as mercury
import tables
from commits import is_clean, read_commits
from settings import EVERY_LAYER, FORMS, LARGER, MODELS

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from places import REPOSITORY, link_dataset  # noqa: E402
from runs import Failed, read_commit, run  # noqa: E402

COMMANDS = {"full": "make paper", "quick": "make paper QUICK=1", "tiny": "scripts/paper/run.py --tiny"}
# Errors are not sampled: they are compared with a bound, and those of replays, sweeps and ladders stand side by side.
ERRORS = "all"


@dataclass(frozen=True)
class Model:
    """A model and its data set."""

    name: str
    form: str
    # Whether it runs on photos rather than on the data on which all twelve models are compared.
    larger: bool

    @property
    def dataset(self) -> str:
        if self.larger:
            return "imagenet-20"
        return "multi30k" if self.name == "transformer" else FORMS[self.form]["images"]

    def list_flags(self) -> list[str]:
        """Returns the flags of training and capture, except the paths of the data."""
        size, steps, flags = (LARGER if self.larger else MODELS)[self.name]
        spec = FORMS[self.form]
        steps = max(len(spec["captured"]), round(steps * spec["steps"]))
        captured = ",".join(str(round(share * steps) - 1) for share in spec["captured"])
        flags = ["--model", self.name, "--dataset", "images" if self.larger else self.dataset, *flags, "--steps", steps]
        flags += ["--capture", f"steps={captured}", "--checkpoint-every", 0]
        # The Transformer's linear layers reuse across the batch, so all its samples are kept.
        if self.name != "transformer":
            samples = spec["samples"] // 2 if self.larger else spec["samples"]
            flags += ["--input-size", size, "--samples", samples]
        flags += ["--filters", spec["filters"], "--validation-samples", spec["validation"]]
        return list(map(str, flags))


@dataclass(frozen=True)
class Run:
    """A folder of models, and the commit of the programs that it runs."""

    out: Path
    commit: str
    # Whether stages of other commits, or of a checkout with changed files, are kept.
    any_commit: bool

    def check_commit(self) -> None:
        """Ends the script unless the run can have the figures of one clean commit."""
        if self.any_commit:
            return
        if not is_clean(self.commit):
            sys.exit(f"the checkout is {self.commit}: commit the changed files first, or give --allow-dirty")
        others = sorted(read_commits(self.out) - {self.commit})
        if others:
            sys.exit(
                f"{self.out} has stages of {', '.join(others)}, and the checkout is {self.commit}: check out the "
                "former to continue, remove the folder to begin again, or give --allow-dirty to mix"
            )

    def run_stage(self, place: Path, what: list[str], make: Callable[[], None]) -> None:
        """Calls `make` to create a file or folder, unless it is complete with the same flags.

        A folder that was begun with the same flags is kept for `make` to continue; one with other flags is removed.
        """
        record = place.with_name(f"{place.name}.json")
        known = json.loads(record.read_text()) if record.exists() else {}
        if known.get("what") == what and known["commit"]:
            return
        if known.get("what") != what:
            shutil.rmtree(place, ignore_errors=True)
        record.write_text(json.dumps({"what": what, "commit": None}) + "\n")
        began = time.monotonic()
        make()
        took = round(time.monotonic() - began, 1)
        record.write_text(json.dumps({"what": what, "commit": self.commit, "seconds": took}) + "\n")

    def capture(self, trace: Path, model: Model, data: Path) -> None:
        flags = model.list_flags()
        place = ["--train-dir", data / model.dataset] if model.larger else ["--data-dir", data]

        def make() -> None:
            shutil.rmtree(trace, ignore_errors=True)
            run("mercury-tracer", "capture", *place, "--out", trace, *flags, threads=1)

        self.run_stage(trace, flags, make)

    def analyse(self, analysis: Callable[..., object], place: Path, **options: object) -> None:
        """Replays or sweeps the trace next to the folder, or writes its ladder to a file."""
        trace = place.with_name("trace")
        trace_flags = json.loads(trace.with_suffix(".json").read_text())["what"]
        options = {"errors": ERRORS, **options}

        def make() -> None:
            analysis(trace, place, threads=1, progress=False, **options)

        self.run_stage(place, [analysis.__name__, json.dumps(options), *trace_flags], make)

    def run_model(self, model: Model, data: Path) -> None:
        """Runs the stages of a model that are not complete."""
        folder = (self.out / "larger" if model.larger else self.out) / model.name
        folder.mkdir(parents=True, exist_ok=True)
        done = folder / "done"
        done.unlink(missing_ok=True)
        self.capture(folder / "trace", model, data)
        self.analyse(mercury.replay, folder / "mercury", preset="mercury")
        self.analyse(mercury.replay, folder / EVERY_LAYER, preset="mercury", stop={"window": 0}, bounds=True)
        self.analyse(write_ladder, folder / "ladder.csv", preset="mercury")
        self.analyse(write_ladder, folder / "readings.csv", readings=True)
        if not model.larger:
            self.analyse(mercury.sweep, folder / "sweep", preset="mercury", **FORMS[model.form]["axes"])
        done.touch()

    def run_model_apart(self, model: Model, data: Path) -> None:
        """Runs a model in a process of its own, so that Ctrl-C reaches it, and the others outlive one that is killed."""
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            process.submit(self.run_model, model, data).result()


def write_ladder(trace: Path, place: Path, **options: object) -> None:
    place.write_text(mercury.ladder(trace, **options).rungs.to_csv())


def record_run(out: Path, form: str, wall: float) -> None:
    """Writes the command and the time of the run, including the interrupted runs that it continued."""
    path, used = out / "run.json", resource.getrusage(resource.RUSAGE_CHILDREN)
    before = json.loads(path.read_text()) if path.exists() else {"wall": 0, "cpu": 0}
    took = {"wall": before["wall"] + wall, "cpu": before["cpu"] + used.ru_utime + used.ru_stime}
    path.write_text(json.dumps({"command": COMMANDS[form], **took}) + "\n")
    print(f"{took['wall'] / 60:.1f} minutes, {took['cpu'] / 60:.1f} of processor time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder of the run [default: paper, paper/quick, paper/tiny]")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS), metavar="MODEL")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--quick", dest="form", action="store_const", const="quick", help="less of everything")
    forms.add_argument("--tiny", dest="form", action="store_const", const="tiny", help="seconds per model, for tests")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="number of models in parallel")
    parser.add_argument("--allow-dirty", action="store_true", help="take changed files and other commits")
    parser.set_defaults(form="full")
    arguments = parser.parse_args()
    out = arguments.out or REPOSITORY / "paper" / ("" if arguments.form == "full" else arguments.form)
    out.mkdir(parents=True, exist_ok=True)
    this = Run(out, read_commit(), arguments.allow_dirty or arguments.form == "tiny")
    this.check_commit()
    began, failures = time.monotonic(), []

    models = [Model(name, arguments.form, False) for name in arguments.models]
    larger = [name for name in FORMS[arguments.form]["larger"] if name in arguments.models]
    models += [Model(name, arguments.form, True) for name in larger]
    places = {dataset: link_dataset(dataset, out) for dataset in sorted({model.dataset for model in models})}

    def work(model: Model) -> None:
        data, began = places[model.dataset], time.monotonic()
        title = f"{model.name} on {model.dataset}:"
        if data is None:
            print(title, "SKIPPED: the data set could not be fetched", flush=True)
            return
        try:
            this.run_model_apart(model, data)
            print(title, f"{time.monotonic() - began:.0f} s", flush=True)
        except (Failed, Exception) as failure:
            print(title, "FAILED", flush=True)
            failures.append(f"{title} {failure}")

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(work, models))
    record_run(out, arguments.form, time.monotonic() - began)
    for place in (out, out / "larger"):
        tables.write(place)
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
