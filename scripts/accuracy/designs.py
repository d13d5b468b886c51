"""The runs of the calibration: tasks, designs of reuse and seeds, in the order that gives answers early."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mercury_lab as mercury

EXACT = "exact"
SEEDS = (1, 2, 3)
# The largest error of a layer and pass in designs that a search finds.
BOUNDS = {"bound-5": 0.05, "bound-10": 0.1, "bound-20": 0.2, "bound-40": 0.4}
# All layers keep reuse to the end, as the bounds' designs do.
PRESETS = {
    "mercury": {"preset": "mercury", "stop": {"window": 0}},
    "rescale": {"preset": "mercury", "stop": {"window": 0}, "rpq": {"variant": "sign+rescale"}},
}
CIFARNET = {
    "random-6": {"rpq": {"bits": 6}},
    "random-10": {"rpq": {"bits": 10}},
    "random-15": {"rpq": {"bits": 15}},
    # Its projection is trained with the weights.
    "learned-10": {"rpq": {"bits": 10}},
    "first-10": {"rpq": {"bits": 10}, "mcache": {"representative": "first"}},
    "sample-10": {"rpq": {"bits": 10}, "mcache": {"scope": "sample"}},
}
DESIGNS = {
    "resnet20": [EXACT, "mercury", "bound-10", "bound-40", "bound-20", "bound-5", "rescale"],
    "cifarnet": [EXACT, *CIFARNET],
    "transformer": [EXACT, "bound-10", "bound-40"],
}


@dataclass(frozen=True, order=True)
class Run:
    """One training: a task with a design of reuse and a seed."""

    task: str
    design: str
    seed: int

    @classmethod
    def from_name(cls, name: str) -> "Run":
        task, _, rest = name.partition("-")
        design, _, seed = rest.rpartition("-")
        if design not in DESIGNS.get(task, []) or not seed.isdecimal():
            raise SystemExit(f"{name}: is no run; runs are named TASK-DESIGN-SEED, such as resnet20-bound-10-1")
        return cls(task, design, int(seed))

    @property
    def name(self) -> str:
        return f"{self.task}-{self.design}-{self.seed}"

    @property
    def branches(self) -> bool:
        """Whether the run begins at half of the epochs of the exact one."""
        return self.task != "cifarnet" and self.design != EXACT


def list_runs() -> Iterator[Run]:
    """Yields all exact runs, then for each task and seed the designs in order."""
    for task in DESIGNS:
        yield from (Run(task, EXACT, seed) for seed in SEEDS)
    for task, designs in DESIGNS.items():
        for seed in SEEDS:
            yield from (Run(task, design, seed) for design in designs if design != EXACT)


def name_search(task: str, seed: int) -> str:
    """Names the folder with the trace of an exact run at half of its epochs, and the designs found by it."""
    return f"{task}-search-{seed}"


def find_config(run: Run, out: Path) -> Any:
    """Returns the configuration of a run with reuse."""
    if run.design in BOUNDS:
        return mercury.Config(out / name_search(run.task, run.seed) / f"{run.design}.toml")
    if run.design in PRESETS:
        return mercury.Config(**PRESETS[run.design])
    return mercury.Config(Path(__file__).with_name("cifarnet.toml"), **CIFARNET[run.design])
