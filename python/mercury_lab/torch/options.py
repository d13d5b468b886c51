"""Options of a capture, and their checks."""

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mercury_lab import _native

DEFAULT_EVERY = 50
PASSES = ("forward", "input-grad", "weight-grad")


@dataclass(frozen=True)
class Options:
    """Checked options; the names and meanings are those of `mercury-tracer capture`."""

    every: int | None
    steps: frozenset[int]
    samples: int | None
    channels: int | None
    filters: int | None
    layers: tuple[str, ...]
    passes: tuple[str, ...]
    max_bytes: int | None
    dtype: str
    seed: int
    label: str | None
    batch_axis: int | dict[str, int] | None
    dataset: dict[str, Any]
    resume: int | None
    loss_reduction: str
    name: str | None
    on_error: str
    on_unsupported: str
    verify: bool
    check_samples: bool

    def is_captured(self, step: int) -> bool:
        """Whether a step is to be captured; steps count from 0."""
        return step in self.steps or (self.every is not None and step % self.every == 0)

    @property
    def needs_grad_output(self) -> bool:
        """Whether a kept pass multiplies dY."""
        return len(self.passes) > 1

    @property
    def kinds(self) -> tuple[str, ...]:
        """The operands that the kept passes multiply, in the order of writing."""
        operands = ("weight", "input", "grad_output")
        return operands if self.needs_grad_output else operands[:2]


def check_options(
    *,
    every,
    steps,
    samples,
    channels,
    filters,
    layers,
    passes,
    max_bytes,
    dtype,
    seed,
    label,
    batch_axis,
    dataset,
    resume,
    loss_reduction,
    name,
    on_error,
    on_unsupported,
    verify,
    check_samples,
) -> Options:
    """Checks each option; an error names the option and its remedy."""
    chosen = frozenset(_check_steps(steps))
    if every is None and steps is None:
        every = DEFAULT_EVERY
    if every is None and not chosen:
        raise ValueError(
            "steps is empty, so no step would be captured; give step numbers, or every"
        )
    return Options(
        every=None if every is None else check_count("every", every),
        steps=chosen,
        samples=_check_limit("samples", samples),
        channels=_check_limit("channels", channels),
        filters=_check_limit("filters", filters),
        layers=_check_texts("layers", layers),
        passes=_check_passes(passes),
        max_bytes=parse_bytes(max_bytes),
        dtype=_check_choice("dtype", dtype, ("f32", "f16")),
        seed=check_count("seed", seed, least=0),
        label=_check_line("label", label),
        batch_axis=check_batch_axis(batch_axis),
        dataset=_check_dataset(dataset),
        resume=None
        if resume is None or resume is False
        else check_count("resume", resume, least=0),
        loss_reduction=_check_choice("loss_reduction", loss_reduction, ("mean", "sum")),
        name=_check_line("name", name),
        on_error=_check_choice("on_error", on_error, ("warn", "raise")),
        on_unsupported=_check_choice("on_unsupported", on_unsupported, ("raise", "list")),
        verify=bool(verify),
        check_samples=bool(check_samples),
    )


def check_count(name: str, value: Any, least: int = 1) -> int:
    """Checks an integer option."""
    if (
        isinstance(value, bool)
        or not hasattr(value, "__index__")
        or isinstance(value, torch.Tensor)
    ):
        raise TypeError(f"{name} is {value!r}, but must be an integer")
    value = operator.index(value)
    if not least <= value < 2**63:
        raise ValueError(f"{name} is {value}, but must be at least {least} and below 2^63")
    return value


def parse_bytes(value: int | str | None) -> int | None:
    """Reads a size: a number of bytes, or text such as `500MB` or `2GiB`."""
    if value is None:
        return None
    if not isinstance(value, str):
        return check_count("max_bytes", value)
    try:
        return check_count("max_bytes", _native.parse_bytes(value))
    except _native.MercuryError as error:
        raise ValueError(f"max_bytes is {value!r}, but must be a number of bytes: {error}") from None


def _check_limit(name: str, value: Any) -> int | None:
    return None if value is None else check_count(name, value)


def _check_steps(steps: Any) -> list[int]:
    if steps is None:
        return []
    if isinstance(steps, (str, bytes)) or not isinstance(steps, Iterable):
        raise TypeError(
            f"steps is {steps!r}, but must be a list of step numbers; for a period, use every"
        )
    return [check_count("steps", step, least=0) for step in steps]


def _check_texts(name: str, values: Any) -> tuple[str, ...]:
    values = (values,) if isinstance(values, str) else tuple(values)
    for value in values:
        if not isinstance(value, str) or not value:
            raise TypeError(
                f"{name} contains {value!r}, but must contain patterns such as 'features.*'"
            )
    return values


def _check_passes(passes: Any) -> tuple[str, ...]:
    given = _check_texts("passes", passes)
    for name in given:
        if name not in PASSES:
            raise ValueError(f"passes contains {name!r}, which is not one of {', '.join(PASSES)}")
    if "forward" not in given:
        raise ValueError(
            "passes must contain forward, because every other pass is compared with it"
        )
    return tuple(name for name in PASSES if name in given)


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, but must be one of {', '.join(choices)}")
    return value


def _check_line(option: str, text: Any) -> str | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise TypeError(f"{option} is {text!r}, but must be text")
    if not text.strip() or len(text) > 100 or not text.isprintable():
        raise ValueError(f"{option} is {text!r}, but must be one line of 1 to 100 characters")
    return text


def check_batch_axis(axis: Any) -> int | dict[str, int] | None:
    """Checks the dimension that holds the samples."""
    if axis is None:
        return None
    if isinstance(axis, Mapping):
        axes = {str(key): check_count("batch_axis", value, least=0) for key, value in axis.items()}
        return axes
    return check_count("batch_axis", axis, least=0)


def _check_dataset(dataset: Any) -> dict[str, Any]:
    if dataset is None:
        dataset = {}
    if isinstance(dataset, str):
        dataset = {"name": dataset}
    if not isinstance(dataset, Mapping):
        raise TypeError(
            f"dataset is {dataset!r}, but must be a name or a dict with name and train_samples"
        )
    known = {"name": "unknown", "train_samples": 0, "validation_samples": 0, "description": {}}
    unknown = set(dataset) - set(known)
    if unknown:
        raise ValueError(
            f"dataset has the unknown key {min(unknown)!r}; known are {', '.join(known)}"
        )
    return known | dict(dataset)
