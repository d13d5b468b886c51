"""Types of the arguments that several functions share. docs/python.md explains them."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypedDict

StrPath = str | os.PathLike[str]

#: Keys of a configuration's section and their values, such as `{"bits": 32}`.
Section = Mapping[str, object]

#: Called with the activity, the kind of things, the number done or begun, the number in all, and the latest.
ProgressFunction = Callable[[str, str, int, int, str], object]

#: None shows a bar on a terminal and in Jupyter, True always, False never.
ProgressOption = bool | ProgressFunction | None


class Sections(TypedDict, total=False):
    """Sections of a configuration; docs/configuration.md lists their keys."""

    rpq: Section
    mcache: Section
    array: Section
    reuse: Section
    bits: Section
    stop: Section
    memory: Section
    energy: Section


class AllSections(Sections, total=False):
    """All sections of a configuration. Only `replay` measures bounds, so others have no use for theirs."""

    bounds: Section


class WorkOptions(Sections, total=False):
    """What to evaluate of a trace, and with which means."""

    #: Only these layers, by name or pattern, such as `["features.*"]`.
    layers: str | Iterable[str]
    #: Only these captured steps, by number or range, such as `[0, "100..=500"]`.
    steps: int | str | Iterable[int | str]
    #: Only these passes: "forward", "input-grad", "weight-grad".
    passes: str | Iterable[str]
    #: How exactly output errors are computed. "all" evaluates all outputs, the others some.
    errors: Literal["sampled", "rough", "all", "none"]
    #: The number of projections, with the seeds `rpq.seed`, `rpq.seed + 1` and so on.
    seeds: int
    #: A name for the results in reports and comparisons.
    label: str
    #: Worker threads; one per core by default.
    threads: int
    #: Such as "500MB" or "2GiB".
    memory_limit: str


#: The names in `AllSections`.
SECTIONS = ("rpq", "mcache", "array", "reuse", "bits", "stop", "bounds", "memory", "energy")

#: The names in `WorkOptions` that are no sections. Their flags have hyphens for underscores.
WORK_OPTIONS = ("layers", "steps", "passes", "errors", "seeds", "label", "threads", "memory_limit")
