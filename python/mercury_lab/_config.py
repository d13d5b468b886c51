"""Configurations as Python objects."""

import tempfile
import tomllib
from pathlib import Path

from mercury_lab._command import configuration, run


class Config:
    """A configuration: a file or a preset, overridden by keys. It is checked when it is made.

    >>> Config(preset="patch-os", rpq={"bits": 32})["rpq.bits"]
    32
    """

    def __init__(self, config=None, *, preset=None, **sections):
        """`config` is a TOML file or another `Config`; `preset` one of the built-in ones, which `Config.presets` lists.

        Other arguments are sections with their keys, such as `rpq={"bits": 32}`. docs/configuration.md lists the keys.
        """
        self._toml = run("config", "show", *configuration(config, preset, sections)).text
        self._values = tomllib.loads(self._toml)
        self._file = None

    @staticmethod
    def presets():
        """A text that lists the built-in configurations and describes each."""
        return run("config", "presets").text

    @property
    def toml(self):
        """The configuration as TOML, with the source of each value."""
        return self._toml

    @property
    def values(self):
        """The configuration as nested dictionaries."""
        return self._values

    @property
    def path(self):
        """A file with the configuration, which exists as long as this object."""
        if self._file is None:
            self._file = tempfile.NamedTemporaryFile("w", suffix=".toml", prefix="mercury-")
            self._file.write(self._toml)
            self._file.flush()
        return Path(self._file.name)

    def save(self, path):
        """Writes the configuration to a file, for `--config` and `--reuse`."""
        Path(path).write_text(self._toml)

    def __getitem__(self, key):
        """The value of a key such as `rpq.bits`."""
        value = self._values
        for part in key.split("."):
            value = value[part]
        return value

    def __repr__(self):
        return self._toml

    def __eq__(self, other):
        return isinstance(other, Config) and self._values == other._values

    __hash__ = None
