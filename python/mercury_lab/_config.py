"""Configurations as Python objects."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, Unpack

from mercury_lab._arguments import AllSections, StrPath
from mercury_lab._command import flag, key_flags, list_keys, run


class Config:
    """A configuration: a file or a preset, overridden by keys. It is checked when it is made.

    >>> config = Config(preset="patch-os", rpq={"bits": 32})
    >>> config["rpq.bits"], config["rpq.granularity"]
    (32, 'patch')

    A file is read again by each command that takes the `Config`.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self, config: "ConfigLike | None" = None, *, preset: str | None = None, **sections: Unpack[AllSections]
    ) -> None:
        """Makes a configuration.

        Args:
            config: A TOML file, or another `Config`.
            preset: A built-in configuration, which `Config.presets` lists; "mercury" without file and preset.
            sections: Keys by section, such as `rpq={"bits": 32}`, which override file and preset. docs/configuration.md
                lists them with units.

        Raises:
            MercuryError: A key or a value is invalid.
        """
        # Keeps the file of another Config, or of results, whose folder may be temporary.
        self._owner: object = config
        self._base, self._keys = split_configuration(config, preset, sections)
        self._toml = run("config", "show", *self._base, *key_flags(self._keys)).text
        self._values: dict[str, Any] = tomllib.loads(self._toml)
        self._is_short = False

    @classmethod
    def _from_folder(cls, path: Path, owner: object) -> Self:
        """Makes the configuration of a file in a folder that exists as long as its owner."""
        config = cls(path)
        config._owner = owner
        # Each value has the same source.
        config._is_short = True
        return config

    @staticmethod
    def presets() -> str:
        """A text that lists the built-in configurations and describes each."""
        return run("config", "presets").text

    @property
    def toml(self) -> str:
        """The configuration as TOML, with the source of each value."""
        return self._toml

    @property
    def values(self) -> dict[str, Any]:
        """The configuration as nested dictionaries."""
        return self._values

    def differences(self, preset: str = "mercury") -> str:
        """The keys whose values differ from those of a preset, and the tables of layers, as TOML."""
        others = Config(preset=preset).values
        lines, section = [f"# What differs from the preset {preset}."], ""
        text, header, layers = self._toml.partition("[[layer]]")
        for line in text.splitlines():
            key, equals, value = line.partition(" = ")
            if line.startswith("["):
                section = line.strip("[]")
            elif equals and not line.startswith("#"):
                values, other = (tree[section] if section else tree for tree in (self._values, others))
                if values[key] != other.get(key):
                    lines.append(f"{section}.{key}".strip(".") + f" = {value.partition('  #')[0].rstrip()}")
        return "\n".join([*lines, "", header + layers] if header else lines).rstrip() + "\n"

    def save(self, path: StrPath) -> None:
        """Writes the configuration to a file, for `--config` and `--reuse` of the command line."""
        Path(path).write_text(self._toml)

    def __getitem__(self, key: str) -> Any:
        """The value of a key such as `rpq.bits`."""
        value: Any = self._values
        for part in key.split("."):
            value = value[part]
        return value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self._values == other._values

    def __repr__(self) -> str:
        return self.differences() if self._is_short else self._toml


#: A TOML file or a `Config`.
ConfigLike = StrPath | Config


def split_configuration(
    config: ConfigLike | None, preset: str | None, sections: Mapping[str, object]
) -> tuple[list[str], dict[str, object]]:
    """The flags for file and preset, and the keys that override them."""
    keys = dict(list_keys(sections))
    if isinstance(config, Config):
        return config._base + flag("preset", preset), config._keys | keys
    return flag("config", config) + flag("preset", preset), keys


def configuration_flags(config: ConfigLike | None, preset: str | None, sections: Mapping[str, object]) -> list[str]:
    """The flags of the arguments of a configuration."""
    base, keys = split_configuration(config, preset, sections)
    return base + key_flags(keys)
