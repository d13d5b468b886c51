"""Runs commands of the analyzer: from keyword arguments to its flags, with progress and warnings."""

import json
import os
import sys
import warnings
from collections.abc import Iterable, Mapping

from mercury_lab import _native
from mercury_lab._errors import MercuryWarning

#: Sections of a configuration, which functions take as keyword arguments.
SECTIONS = ("rpq", "mcache", "array", "reuse", "bits", "stop", "bounds", "memory", "energy")


def run(command, *arguments, progress=None):
    """Runs a command of `mercury-analyzer`; returns its output.

    Raises `MercuryError` with the command line's message. Warnings become `MercuryWarning`.
    """
    with Progress(progress) as bar:
        output = _native.run_command([command, *map(str, arguments)], bar.update if bar else None)
    for text in output.warnings:
        warnings.warn(text, MercuryWarning, stacklevel=3)
    return output


def flag(name, value):
    """A flag and its value; nothing if the value is None or False.

    A list becomes one flag with the values separated by commas.
    """
    if value is None or value is False:
        return []
    if value is True:
        return [f"--{name}"]
    if isinstance(value, Iterable) and not isinstance(value, (str, os.PathLike)):
        texts = [str(each) for each in value]
        return [f"--{name}={','.join(texts)}"] if texts else []
    return [f"--{name}={value}"]


def repeated(name, values):
    """A flag for each value; a single value is a list of one."""
    if values is None:
        return []
    values = [values] if isinstance(values, (str, os.PathLike)) else values
    return [f"--{name}={value}" for value in values]


def format_value(value):
    """A value of a key, as the command line takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return json.dumps(list(value))
    return str(value)


def configuration(config, preset, sections):
    """The flags of a configuration: a file, a preset or a `Config`, overridden by sections of keys.

    `sections` maps names of sections to dictionaries, such as `{"rpq": {"bits": 32}}`.
    """
    flags = flag("config", getattr(config, "path", config)) + flag("preset", preset)
    for key, value in keys(sections):
        flags.append(f"--{key}={format_value(value)}")
    return flags


def keys(sections):
    """The pairs of key and value of sections, such as `("rpq.bits", 32)`."""
    for section, values in sections.items():
        if section not in SECTIONS:
            raise TypeError(f"unexpected argument {section!r}; sections of a configuration are {', '.join(SECTIONS)}")
        if not isinstance(values, Mapping):
            raise TypeError(f"{section} must be a dictionary of keys, such as {section}={{...}}, not {values!r}")
        for key, value in values.items():
            yield f"{section}.{key}", value


class Progress:
    """A bar on a terminal and in Jupyter, or a function of the caller."""

    def __init__(self, wanted):
        self.function = wanted if callable(wanted) else None
        self.shown = self.function is not None or (_is_interactive() if wanted is None else bool(wanted))
        self.bar = None

    def __bool__(self):
        return self.shown

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.bar is not None:
            self.bar.close()

    def update(self, activity, things, position, length, message):
        """Shows that `position` of `length` things are done or begun; the latest is `message`."""
        if self.function is not None:
            self.function(activity, things, position, length, message)
            return
        if self.bar is None or self.bar.desc != activity:
            from tqdm.auto import tqdm

            self.__exit__()
            self.bar = tqdm(total=length, desc=activity, unit=things.rstrip("s"), leave=False)
        self.bar.set_postfix_str(message, refresh=False)
        self.bar.update(position - self.bar.n)


def _is_interactive():
    return "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())
