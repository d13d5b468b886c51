"""The stages of `make paper`: capture, ladders and searches of a model. Completed stages are not repeated."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import mercury_lab as mercury
from commits import is_clean, read_commits
from folders import list_axes
from settings import (
    ACCURACY_BOUND,
    LAYER_BOUND,
    MODELS,
    MODERN,
    PER_LAYER,
    PHOTOS,
    SENTENCES,
    TRIAL,
    Form,
    Model,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from places import find_weights  # noqa: E402
from runs import Failed, run  # noqa: E402

HERE = Path(__file__).resolve().parent
# Tasks that take longest are begun first, so that none is left alone at the end.
LONGEST = ("resnet152", "inception_v4", "resnet101", "vit_b_16", "vgg16", "resnet50", "vgg19")


@dataclass(frozen=True)
class Task:
    """A model at a size of its input; `is_own` if that is the model's own size, which has all stages."""

    model: Model
    size: int
    is_own: bool

    @property
    def title(self) -> str:
        return self.model.name if self.is_own else f"{self.model.name} at {self.size} pixels"

    @property
    def folder(self) -> str:
        return self.model.name if self.is_own else f"sizes/{self.model.name}-{self.size}"


def list_tasks(models: list[Model], form: Form, sized: list[str]) -> list[Task]:
    """Lists the tasks of a run: the models, and the sizes of the models `sized` that no model's own task has."""
    own = [Task(model, form.size or model.size, is_own=True) for model in models]
    sizes = [
        Task(MODELS[name], size, is_own=False)
        for name, sizes in form.sizes.items()
        if name in sized
        for size in sizes
    ]  # fmt: skip
    done = {(task.model.name, task.size) for task in own}
    tasks = own + [task for task in sizes if (task.model.name, task.size) not in done]
    order = {name: place for place, name in enumerate(LONGEST)}
    return sorted(tasks, key=lambda task: (not task.is_own, order.get(task.model.name, len(order))))


@dataclass(frozen=True)
class Run:
    """A folder of models, and the commit of the programs that it runs."""

    out: Path
    form: Form
    commit: str
    # Whether stages of other commits, or of a checkout with changed files, are kept.
    any_commit: bool = False
    keeps_traces: bool = False
    # A Python with PyTorch, for models that the Python package captures.
    torch: Path | None = None

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

    def run_task(self, task: Task, places: dict[str, Path]) -> None:
        """Runs the stages of a task that are not complete."""
        folder, done, plan = self.out / task.folder, self.find_done(task), self.describe_plan(task)
        if self.is_done(task):
            return
        folder.mkdir(parents=True, exist_ok=True)
        done.unlink(missing_ok=True)
        if not (folder / "trace" / "tensors").exists():
            find_record(folder / "trace").unlink(missing_ok=True)
        self.capture(folder / "trace", task, places[self.find_dataset(task.model)])
        self.analyse(write_ladder, folder / "readings.csv", readings=True, seeds=self.form.seeds, errors="rough")
        if task.is_own:
            self.search(folder, task)
        done.write_text(plan)
        if not self.keeps_traces:
            shutil.rmtree(folder / "trace" / "tensors")

    def search(self, folder: Path, task: Task) -> None:
        """Runs the stages that only a model at its own size has."""
        self.analyse(write_ladder, folder / "ladder.csv", preset="mercury", errors="rough")
        judged = {"steps": ",".join(map(str, list_captured(task, self.form)[TRIAL:])), "folds": 2}
        bounds = [ACCURACY_BOUND, LAYER_BOUND]
        seeds = self.form.seeds_of_search
        self.analyse(write_search, folder / "search", bounds=bounds, per_layer=PER_LAYER, seeds=seeds, **judged)
        if task.model.name in self.form.hardware:
            for place, axis in list_axes(folder, task.model.kind).values():
                self.analyse(write_search, place, bounds=[LAYER_BOUND], **axis.options, **judged)

    def find_done(self, task: Task) -> Path:
        """The file that is written when all stages of a task are complete."""
        return self.out / task.folder / "done"

    def describe_plan(self, task: Task) -> str:
        return json.dumps([self.list_flags(task), asdict(self.form)])

    def is_done(self, task: Task) -> bool:
        done = self.find_done(task)
        return done.exists() and done.read_text() == self.describe_plan(task)

    def find_dataset(self, model: Model) -> str:
        return self.form.data if model.is_image_model else "multi30k"

    def list_flags(self, task: Task) -> list[str]:
        """Returns the flags of training and capture, except paths."""
        model, form = task.model, self.form
        photos = self.find_dataset(model) == "imagenet-20"
        flags = ["--model", model.name, "--dataset", "images" if photos else self.find_dataset(model)]
        # The Transformer's linear layers reuse across the batch, so all its samples are kept.
        own = ["--input-size", task.size, "--samples", form.samples, *PHOTOS]
        flags += own if model.is_image_model else ["--max-length", task.size, *SENTENCES]
        captured = list_captured(task, form)
        flags += ["--steps", captured[-1] + 1, "--capture", f"steps={','.join(map(str, captured))}"]
        flags += ["--filters", form.filters, "--validation-samples", 0 if photos else form.validation]
        flags += ["--checkpoint-every", 0]
        return list(map(str, flags))

    def is_complete(self, place: Path, what: list[str]) -> bool:
        known = read_record(place)
        return place.exists() and known.get("what") == what and bool(known["commit"])

    def run_stage(self, place: Path, what: list[str], make: Callable[[], None]) -> None:
        """Calls `make` to create a file or folder, unless it is complete with the same flags.

        A folder that was begun with the same flags is kept for `make` to continue; what has other flags is removed. The
        recorded seconds include those of interrupted attempts.
        """
        if self.is_complete(place, what):
            return
        known = read_record(place)
        if known.get("what") != what:
            remove(place)
            known = {}
        began, before = time.monotonic(), known.get("seconds", 0.0)
        record = {"what": what, "commit": None, "seconds": before}
        write_record(place, record)
        try:
            make()
            record["commit"] = self.commit
        finally:
            record["seconds"] = round(before + time.monotonic() - began, 1)
            write_record(place, record)
        print(f"{place.relative_to(self.out)}: {record['seconds']:.0f} s", flush=True)

    def capture(self, trace: Path, task: Task, data: Path) -> None:
        flags, place = self.list_flags(task), ["--data-dir", data]
        if self.find_dataset(task.model) == "imagenet-20":
            place = ["--train-dir", data / "imagenet-20", *find_weight_flags(task.model)]

        def make() -> None:
            remove(trace)
            if task.model.name in MODERN:
                self.capture_modern(trace, task, data)
            else:
                run("mercury-tracer", "capture", *place, "--out", trace, *flags, threads=1)

        # The weights' file may be another one where torchvision's can be reached.
        self.run_stage(trace, [*flags, *(Path(flag).name for flag in place[2:])], make)

    def capture_modern(self, trace: Path, task: Task, data: Path) -> None:
        """Captures a model of torchvision by the Python package."""
        captured = ",".join(map(str, list_captured(task, self.form)))
        place = ["--photos", data / "imagenet-20", "--out", trace, "--captured", captured]
        kept = ["--samples", self.form.samples, "--filters", self.form.filters]
        line = [self.torch, HERE / "modern.py", task.model.name, *place, *kept]
        done = subprocess.run(list(map(str, line)), capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"{' '.join(map(str, line))}\n{done.stderr}")

    def analyse(self, analysis: Callable[..., object], place: Path, **options: object) -> None:
        """Analyses the trace next to a file or folder."""
        trace = place.with_name("trace")

        def make() -> None:
            analysis(trace, place, threads=1, progress=False, **options)

        self.run_stage(place, [analysis.__name__, json.dumps(options), *read_record(trace)["what"]], make)


def find_record(place: Path) -> Path:
    """The file with the flags, commit and time of a stage."""
    return place.with_name(f"{place.name}.json")


def read_record(place: Path) -> dict:
    path = find_record(place)
    return json.loads(path.read_text()) if path.exists() else {}


def write_record(place: Path, record: dict) -> None:
    path = find_record(place)
    new = path.with_name(f".{path.name}")
    new.write_text(json.dumps(record) + "\n")
    new.replace(path)


def remove(place: Path) -> None:
    """Removes a file or folder, if it exists."""
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def list_captured(task: Task, form: Form) -> list[int]:
    """The captured steps: the trial at a quarter of the training, the others evenly over its second half."""
    steps = form.steps or task.model.steps
    trial = [steps // 4 + number for number in range(TRIAL)]
    return trial + [steps - 1 - number * (steps // 2) // form.captured for number in reversed(range(form.captured))]


def find_weight_flags(model: Model) -> list[object]:
    if not model.is_pretrained:
        return []
    weights = find_weights(model.name)
    if weights is None:
        raise Failed(f"the weights of {model.name} could not be fetched")
    return ["--weights", weights, "--fresh", "classifier.*"]


def write_ladder(trace: Path, place: Path, **options: object) -> None:
    place.write_text(mercury.ladder(trace, **options).rungs.to_csv())


def write_search(trace: Path, place: Path, bounds: list[str], **options: object) -> None:
    """Searches within each bound; of the first of two, `accepted.parquet` and `accepted.json` are kept."""
    *first, last = bounds
    for bound in first:
        mercury.search(trace, place, bound=bound, **options)
        shutil.copy(place / "frontier.parquet", place / "accepted.parquet")
        shutil.copy(place / "run.json", place / "accepted.json")
    mercury.search(trace, place, bound=last, **options)
