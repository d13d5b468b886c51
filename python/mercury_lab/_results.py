"""Results of commands, as Python objects over the folders that the command line writes."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from mercury_lab import _native
from mercury_lab._arguments import StrPath
from mercury_lab._config import Config
from mercury_lab._folders import OutFolder
from mercury_lab._native import Table


class Results:
    """The folder of a replay, sweep or search. Tables are read when they are asked for.

    docs/formats.md lists the columns of the tables, with units. `polars.DataFrame`, `pyarrow.table` and duckdb take a
    `Table` without a copy.

    Attributes:
        folder: The folder. A temporary one is removed together with this object.
        text: The summary that the command line prints; empty for a folder that was opened.
        notes: Notes of the command.
    """

    folder: Path
    text: str
    notes: list[str]

    def __init__(self, folder: StrPath) -> None:
        """Opens the results in `folder`, which a command has written."""
        self.folder = Path(folder)
        self.text = ""
        self.notes = []
        self._owner: OutFolder | None = None
        if not (self.folder / "run.json").is_file():
            raise _native.MercuryError(
                f"{self.folder}: holds no results (run.json is missing); give the folder of a replay"
            )

    @classmethod
    def _from_output(cls, folder: OutFolder, output: _native.Output) -> Self:
        results = cls(folder.path)
        results.text = output.text
        results.notes = output.notes
        results._owner = folder
        return results

    @cached_property
    def layers(self) -> Table:
        """A row for each configuration, captured step, layer and pass."""
        return self._read("layers")

    @cached_property
    def models(self) -> Table:
        """A row for each configuration and captured step: the whole model."""
        return self._read("models")

    @cached_property
    def configurations(self) -> Table:
        """A row for each configuration: the steps after the trial together."""
        return self._read("configurations")

    @cached_property
    def designs(self) -> Table:
        """A row for the configurations that differ only in the seed of the projection; a search has none."""
        return self._read("designs")

    @cached_property
    def angles(self) -> Table:
        """Agreement of signature bits by angle, if a replay measured bounds."""
        return self._read("angles")

    @cached_property
    def run(self) -> dict[str, Any]:
        """The record of the run: trace, configurations, measures, versions."""
        record: dict[str, Any] = json.loads((self.folder / "run.json").read_text())
        return record

    def _read(self, name: str) -> Table:
        path = self.folder / f"{name}.parquet"
        if not path.is_file():
            raise _native.MercuryError(f"{self.folder}: these results have no table of {name}")
        return _native.read_table(path)

    def __repr__(self) -> str:
        return self.text or f"{type(self).__name__}({str(self.folder)!r})"


class SweepResults(Results):
    """The folder of a sweep."""

    _printed: Table | None = None

    @classmethod
    def _from_output(cls, folder: OutFolder, output: _native.Output) -> Self:
        results = super()._from_output(folder, output)
        results.text = str(output.table)
        results._printed = output.table
        return results

    @property
    def table(self) -> Table:
        """The table that the command line prints: the selected configurations, without columns of details.

        For a folder that was opened, all configurations.
        """
        return self.configurations if self._printed is None else self._printed


class SearchResults(Results):
    """The folder of a search."""

    @property
    def summary(self) -> str:
        """The verdict and the table of readings of the hardware: `text` up to the settings of each layer."""
        return self.text.partition("\nsettings per layer")[0].rstrip()

    @cached_property
    def frontier(self) -> Table:
        """A row for each reading, method and bound: speed-up and error of the design found."""
        return self._read("frontier")

    @cached_property
    def choices(self) -> Table:
        """A row for each reading, layer and pass: the chosen settings."""
        return self._read("choices")

    @cached_property
    def best(self) -> Config:
        """The recommended design, which is `best.toml` in the folder. Its layers do not reuse if none saves cycles.

        `print` shows the keys that differ from the preset "mercury"; `.toml` has all.
        """
        return Config._from_folder(self.folder / "best.toml", self._owner)


@dataclass(frozen=True, repr=False)
class Inspection:
    """What a trace holds.

    Attributes:
        text: Model, training and captured steps.
        layers: A row for each layer: operation, geometry, MACs per sample, what is kept of it, bytes.
    """

    text: str
    layers: Table

    def __repr__(self) -> str:
        return f"{self.text}{self.layers}"


@dataclass(frozen=True, repr=False)
class Ladder:
    """The speed-up from one reading of the hardware to the bound, one assumption after the other.

    Attributes:
        rungs: A row for each assumption, with the flags that add it to those before.
        notes: Notes of the command.
    """

    rungs: Table
    notes: list[str]

    def __repr__(self) -> str:
        return str(self.rungs)


@dataclass(frozen=True, repr=False)
class Comparison:
    """The differences between two results; `print` shows notes and changes.

    Attributes:
        changes: A row for each layer and pass that changed, and for the model; columns end in `_a` or `_b`.
        crossed: Whether a threshold is crossed.
        notes: Names of the results, the settings in which they differ, and remarks on what can be compared.
    """

    changes: Table
    crossed: bool
    notes: list[str]

    def __repr__(self) -> str:
        return "\n".join([*self.notes, "", str(self.changes)])
