"""Runs commands of the analyzer: from keyword arguments to its flags, with progress and warnings."""

import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeGuard

from mercury_lab import _native
from mercury_lab._arguments import SECTIONS, WORK_OPTIONS, ProgressOption
from mercury_lab._errors import MercuryWarning
from mercury_lab._progress import show_progress


def run(command: str, *arguments: object, progress: ProgressOption = False) -> _native.Output:
    """Runs a command of `mercury-analyzer`; returns its output.

    Raises `MercuryError` with the command line's message. Warnings become `MercuryWarning`, at the line that called the
    caller of this function.
    """
    with show_progress(progress) as update:
        output = _native.run_command([command, *map(str, arguments)], update)
    for text in output.warnings:
        warnings.warn(text, MercuryWarning, stacklevel=3)
    return output


def flag(name: str, value: object) -> list[str]:
    """A flag and its value; nothing if the value is None, False or an empty list.

    A list becomes one flag with the values separated by commas.
    """
    if value is None or value is False:
        return []
    if value is True:
        return [f"--{name}"]
    if is_list(value):
        texts = [str(each) for each in value]
        return [f"--{name}={','.join(texts)}"] if texts else []
    return [f"--{name}={value}"]


def repeated_flag(name: str, values: object) -> list[str]:
    """A flag for each value; a single value is a list of one, None an empty list."""
    return [] if values is None else [f"--{name}={value}" for value in list_values(values)]


def axis_flag(name: str, key: str, values: Iterable[object]) -> str:
    """A flag for a key and the list of its values."""
    return f"--{name}={key}={','.join(map(format_value, values))}"


def work_flags(options: Mapping[str, object]) -> list[str]:
    """The flags of the arguments in `WorkOptions` that are no sections."""
    return [text for name in WORK_OPTIONS for text in flag(name.replace("_", "-"), options.get(name))]


def drop_work(options: Mapping[str, object]) -> dict[str, object]:
    """The arguments without those of `work_flags`: the sections of a configuration."""
    return {name: value for name, value in options.items() if name not in WORK_OPTIONS}


def key_flags(keys: Mapping[str, object]) -> list[str]:
    """The flags of keys of a configuration."""
    return [f"--{key}={format_value(value)}" for key, value in keys.items()]


def list_keys(sections: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """The pairs of key and value in sections, such as `("rpq.bits", 32)`."""
    for section, values in sections.items():
        if section not in SECTIONS:
            raise TypeError(f"unexpected argument {section!r}; sections of a configuration are {', '.join(SECTIONS)}")
        if not isinstance(values, Mapping):
            raise TypeError(f"{section} must be a dictionary of keys, such as {section}={{...}}, not {values!r}")
        for key, value in values.items():
            yield f"{section}.{key}", value


def format_value(value: object) -> str:
    """A value of a key, as the command line takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if is_list(value):
        return json.dumps(list(value), separators=(",", ":"))
    return str(value)


def list_values(values: object) -> list[Any]:
    """The values of a list; a single value is a list of one."""
    return list(values) if is_list(values) else [values]


def is_list(value: object) -> TypeGuard[Iterable[object]]:
    """Whether a value stands for several: a list, a range, an array; but no text and no path."""
    return isinstance(value, Iterable) and not isinstance(value, (str, os.PathLike))
