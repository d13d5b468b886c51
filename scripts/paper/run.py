#!/usr/bin/env python3
"""Trains, captures, replays and sweeps the paper's twelve models: `make paper`.

Each model is a folder of OUT with its trace, its replays and its sweeps; what is there is not done again. Models run
side by side, on a thread each; where one fails the others go on. `tables.py` makes tables of them, `report.py` a page.
"""

import argparse
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tables
from folders import best, choices
from settings import FORMS, LARGER, MODELS, WHAT_IF

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from places import REPOSITORY, same_data  # noqa: E402
from runs import Failed, commit, run  # noqa: E402

COMMANDS = {"full": "make paper", "quick": "make paper QUICK=1", "tiny": "scripts/paper/run.py --tiny"}
PRESET = ["--preset", "mercury", "--array.schedule", "asynchronous"]


@dataclass(frozen=True)
class Model:
    """A model on its data."""

    name: str
    form: str
    # On photos, or on what all twelve models are compared on.
    larger: bool

    @property
    def dataset(self) -> str:
        if self.larger:
            return "imagenet-20"
        return "multi30k" if self.name == "transformer" else FORMS[self.form]["images"]

    def training(self) -> list[str]:
        """Flags of training and capture, but for where the data is."""
        size, steps, flags = (LARGER if self.larger else MODELS)[self.name]
        spec = FORMS[self.form]
        steps = max(len(spec["captured"]), round(steps * spec["steps"]))
        captured = ",".join(str(round(share * steps) - 1) for share in spec["captured"])
        flags = ["--model", self.name, "--dataset", "images" if self.larger else self.dataset, *flags, "--steps", steps]
        flags += ["--capture", f"steps={captured}", "--checkpoint-every", 0]
        # The Transformer's linear layers reuse across the batch, so that all samples are kept of it.
        if self.name != "transformer":
            samples = spec["samples"] // 2 if self.larger else spec["samples"]
            flags += ["--input-size", size, "--samples", samples]
        flags += ["--filters", spec["filters"], "--validation-samples", spec["validation"]]
        return list(map(str, flags))


def stage(place: Path, what: list[str], make: Callable[[], None]) -> None:
    """Makes a folder, unless it is there and of the same flags; goes on with one that was begun with them."""
    record = place.with_name(f"{place.name}.json")
    known = json.loads(record.read_text()) if record.exists() else {}
    if known.get("what") == what and known["commit"]:
        return
    if known.get("what") != what:
        shutil.rmtree(place, ignore_errors=True)
    record.write_text(json.dumps({"what": what, "commit": None}) + "\n")
    make()
    record.write_text(json.dumps({"what": what, "commit": commit()}) + "\n")


def capture(trace: Path, model: Model, data: Path) -> None:
    flags = model.training()
    place = ["--train-dir", data / model.dataset] if model.larger else ["--data-dir", data]

    def make() -> None:
        shutil.rmtree(trace, ignore_errors=True)
        run("mercury-tracer", "capture", *place, "--out", trace, *flags, threads=1)

    stage(trace, flags, make)


def analyse(command: str, place: Path, *flags: str) -> None:
    """Replays or sweeps the trace beside the folder."""
    trace = place.with_name("trace")
    line = [command, trace, "--out", place, "--format", "csv", *PRESET, *flags]
    of_trace = json.loads(trace.with_suffix(".json").read_text())["what"]
    stage(place, [*PRESET, *flags, *of_trace], lambda: run("mercury-analyzer", *line, threads=1))


def axes(swept: dict[str, str]) -> list[str]:
    return ["--errors", "all", *(flag for key, values in swept.items() for flag in ("--set", f"{key}={values}"))]


def replays(model: Model, out: Path, data: Path) -> None:
    """Does what is not there yet of a model."""
    folder = out / model.name
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "done"
    done.unlink(missing_ok=True)
    capture(folder / "trace", model, data)
    analyse("replay", folder / "mercury")
    analyse("sweep", folder / "what-if", *axes(WHAT_IF))
    if not model.larger:
        analyse("sweep", folder / "sweep", *axes(FORMS[model.form]["axes"]))
        for choice in choices(folder / "sweep").values():
            keys = [flag for key, value in choice.items() if "." in key for flag in (f"--{key}", str(value))]
            analyse("replay", folder / best(choice), *keys)
    done.touch()


def record(out: Path, form: str, wall: float) -> None:
    """Writes down the run, and what it took with those before that it went on from."""
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
    forms.add_argument("--quick", dest="form", action="store_const", const="quick", help="half an hour on two cores")
    forms.add_argument("--tiny", dest="form", action="store_const", const="tiny", help="seconds a model, for tests")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="models at a time")
    parser.set_defaults(form="full")
    arguments = parser.parse_args()
    out = arguments.out or REPOSITORY / "paper" / ("" if arguments.form == "full" else arguments.form)
    out.mkdir(parents=True, exist_ok=True)
    began, failures = time.monotonic(), []

    models = [Model(name, arguments.form, False) for name in arguments.models]
    larger = [name for name in FORMS[arguments.form]["larger"] if name in arguments.models]
    models += [Model(name, arguments.form, True) for name in larger]
    places = {dataset: same_data(dataset, out) for dataset in sorted({model.dataset for model in models})}

    def work(model: Model) -> None:
        data, began = places[model.dataset], time.monotonic()
        title = f"{model.name} on {model.dataset}:"
        if data is None:
            print(title, "SKIPPED, as it could not be fetched", flush=True)
            return
        try:
            replays(model, out / "larger" if model.larger else out, data)
            print(title, f"{time.monotonic() - began:.0f} s", flush=True)
        except (Failed, Exception) as failure:
            print(title, "FAILED", flush=True)
            failures.append(f"{title} {failure}")

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(work, models))
    record(out, arguments.form, time.monotonic() - began)
    for place in (out, out / "larger"):
        tables.write(place)
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
