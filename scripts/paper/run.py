#!/usr/bin/env python3
"""Trains, captures, replays and sweeps the paper's twelve models: `make paper`.

Each model has a folder under OUT with its trace, replays and sweeps. Completed stages are not repeated. Models run in
parallel, with one thread each; if one fails, the others continue. `tables.py` then writes tables, `report.py` a page.
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
from folders import choose_settings, name_replay
from settings import FORMS, LARGER, MODELS, WHAT_IF

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from places import REPOSITORY, link_dataset  # noqa: E402
from runs import Failed, read_commit, run  # noqa: E402

COMMANDS = {"full": "make paper", "quick": "make paper QUICK=1", "tiny": "scripts/paper/run.py --tiny"}
PRESET = ["--preset", "mercury", "--array.schedule", "asynchronous"]
# A replay that measures everything.
ALL_MEASURES = ["--errors", "all", "--with", "bounds"]


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


def run_stage(place: Path, what: list[str], make: Callable[[], None]) -> None:
    """Calls `make` to create a folder, unless it is complete with the same flags.

    A folder that was begun with the same flags is kept for `make` to continue; one with other flags is removed.
    """
    record = place.with_name(f"{place.name}.json")
    known = json.loads(record.read_text()) if record.exists() else {}
    if known.get("what") == what and known["commit"]:
        return
    if known.get("what") != what:
        shutil.rmtree(place, ignore_errors=True)
    record.write_text(json.dumps({"what": what, "commit": None}) + "\n")
    make()
    record.write_text(json.dumps({"what": what, "commit": read_commit()}) + "\n")


def capture(trace: Path, model: Model, data: Path) -> None:
    flags = model.list_flags()
    place = ["--train-dir", data / model.dataset] if model.larger else ["--data-dir", data]

    def make() -> None:
        shutil.rmtree(trace, ignore_errors=True)
        run("mercury-tracer", "capture", *place, "--out", trace, *flags, threads=1)

    run_stage(trace, flags, make)


def analyse(command: str, place: Path, *flags: str) -> None:
    """Replays or sweeps the trace next to the folder."""
    trace = place.with_name("trace")
    line = [command, trace, "--out", place, "--format", "csv", *PRESET, *flags]
    trace_flags = json.loads(trace.with_suffix(".json").read_text())["what"]
    run_stage(place, [*PRESET, *flags, *trace_flags], lambda: run("mercury-analyzer", *line, threads=1))


def list_sweep_flags(swept: dict[str, str]) -> list[str]:
    """Returns the flags of a sweep.

    Errors are not sampled: they are compared with a bound, and stand next to those of replays.
    """
    return ["--errors", "all", *(flag for key, values in swept.items() for flag in ("--set", f"{key}={values}"))]


def run_model(model: Model, out: Path, data: Path) -> None:
    """Runs the stages of a model that are not complete."""
    folder = out / model.name
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "done"
    done.unlink(missing_ok=True)
    capture(folder / "trace", model, data)
    analyse("replay", folder / "mercury", *ALL_MEASURES)
    analyse("sweep", folder / "what-if", *list_sweep_flags(WHAT_IF))
    if not model.larger:
        analyse("sweep", folder / "sweep", *list_sweep_flags(FORMS[model.form]["axes"]))
        for choice in choose_settings(folder / "sweep").values():
            keys = [flag for key, value in choice.items() if "." in key for flag in (f"--{key}", str(value))]
            analyse("replay", folder / name_replay(choice), *ALL_MEASURES, *keys)
    done.touch()


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
    forms.add_argument("--quick", dest="form", action="store_const", const="quick", help="half an hour on two cores")
    forms.add_argument("--tiny", dest="form", action="store_const", const="tiny", help="seconds per model, for tests")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="number of models in parallel")
    parser.set_defaults(form="full")
    arguments = parser.parse_args()
    out = arguments.out or REPOSITORY / "paper" / ("" if arguments.form == "full" else arguments.form)
    out.mkdir(parents=True, exist_ok=True)
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
            run_model(model, out / "larger" if model.larger else out, data)
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
