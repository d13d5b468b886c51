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
from settings import (
    ACCURACY_BOUND,
    HARDWARE,
    HARDWARE_BASE,
    HARDWARE_PER_LAYER,
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


def list_tasks(models: list[Model], form: Form) -> list[Task]:
    """Lists the tasks of a run: the models, and those of `form.sizes` at the sizes that are not the model's own task."""
    own = [Task(model, form.size or model.size, is_own=True) for model in models]
    sizes = [Task(MODELS[name], size, is_own=False) for name, sizes in form.sizes.items() for size in sizes]
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
        folder = self.out / task.folder
        folder.mkdir(parents=True, exist_ok=True)
        done, plan = folder / "done", json.dumps([self.list_flags(task), asdict(self.form)])
        if done.exists() and done.read_text() == plan:
            return
        if not (folder / "trace" / "tensors").exists():
            find_record(folder / "trace").unlink(missing_ok=True)
        self.capture(folder / "trace", task, places[self.find_dataset(task.model)])
        steady = list_captured(task, self.form)[TRIAL:]
        self.analyse(write_ladder, folder / "readings.csv", readings=True, seeds=self.form.seeds)
        if task.is_own:
            self.analyse(write_ladder, folder / "ladder.csv", preset="mercury", errors="rough")
            search = {"steps": ",".join(map(str, steady)), "folds": 2, "seeds": self.form.seeds_of_search}
            self.analyse(write_search, folder / "search", per_layer=PER_LAYER, **search)
            if task.model.name in self.form.hardware:
                for number, axis in enumerate(HARDWARE):
                    self.analyse(write_hardware, folder / f"hardware-{number}", axis=axis, steps=search["steps"])
        if not self.keeps_traces:
            shutil.rmtree(folder / "trace" / "tensors")
        done.write_text(plan)

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
        flags += ["--filters", form.filters, "--validation-samples", form.validation, "--checkpoint-every", 0]
        return list(map(str, flags))

    def is_complete(self, place: Path, what: list[str]) -> bool:
        known = read_record(place)
        return known.get("what") == what and bool(known["commit"])

    def run_stage(self, place: Path, what: list[str], make: Callable[[], None]) -> None:
        """Calls `make` to create a file or folder, unless it is complete with the same flags.

        A folder that was begun with the same flags is kept for `make` to continue; one with other flags is removed.
        """
        if self.is_complete(place, what):
            return
        if read_record(place).get("what") != what:
            shutil.rmtree(place, ignore_errors=True)
        record = find_record(place)
        record.write_text(json.dumps({"what": what, "commit": None}) + "\n")
        began = time.monotonic()
        make()
        took = round(time.monotonic() - began, 1)
        record.write_text(json.dumps({"what": what, "commit": self.commit, "seconds": took}) + "\n")
        print(f"{place.relative_to(self.out)}: {took:.0f} s", flush=True)

    def capture(self, trace: Path, task: Task, data: Path) -> None:
        flags = self.list_flags(task)

        def make() -> None:
            shutil.rmtree(trace, ignore_errors=True)
            if task.model.name in MODERN:
                self.capture_modern(trace, task, data)
                return
            place = ["--data-dir", data]
            if self.find_dataset(task.model) == "imagenet-20":
                place = ["--train-dir", data / "imagenet-20", *find_weight_flags(task.model)]
            run("mercury-tracer", "capture", *place, "--out", trace, *flags, threads=1)

        self.run_stage(trace, flags, make)

    def capture_modern(self, trace: Path, task: Task, data: Path) -> None:
        """Captures a model of torchvision by the Python package."""
        captured = ",".join(map(str, list_captured(task, self.form)))
        place = ["--photos", data / "imagenet-20", "--out", trace, "--captured", captured]
        line = [self.torch, HERE / "modern.py", task.model.name, *place, "--filters", self.form.filters]
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


def write_search(trace: Path, place: Path, **options: object) -> None:
    """Searches within both bounds. `frontier.parquet` is of the errors of layers, `accepted.parquet` of the accuracy."""
    mercury.search(trace, place, bound=ACCURACY_BOUND, **options)
    shutil.copy(place / "frontier.parquet", place / "accepted.parquet")
    shutil.copy(place / "run.json", place / "accepted.json")
    mercury.search(trace, place, bound=LAYER_BOUND, **options)


def write_hardware(trace: Path, place: Path, axis: str, **options: object) -> None:
    """Searches the best design for each value of an axis of the hardware."""
    key, values, more = HARDWARE[axis]
    design = {"per_layer": {name: values for name, values in HARDWARE_PER_LAYER.items() if name != key}}
    keys = {**HARDWARE_BASE, **more}
    search = {"bound": LAYER_BOUND, "shared": {key: values}, "preset": "mercury-skip", "folds": 2}
    mercury.search(trace, place, **search, **design, **keys, **options)
