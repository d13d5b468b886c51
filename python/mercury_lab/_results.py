"""Results of commands, as Python objects over the folders that the command line writes."""

import json
import tempfile
from functools import cached_property
from pathlib import Path

from mercury_lab import _native


class Results:
    """The folder of a replay or a sweep. Tables are read when they are asked for; docs/formats.md lists their columns.

    Tables are `Table` objects, which `polars.DataFrame`, `pyarrow.table` and duckdb take without a copy.
    """

    def __init__(self, folder, text="", notes=()):
        """Opens the results in `folder`, which `replay`, `sweep`, `ladder` or `search` has written."""
        self._temporary = folder if isinstance(folder, tempfile.TemporaryDirectory) else None
        #: The folder of the results.
        self.folder = Path(folder.name if self._temporary else folder)
        #: The summary that the command line prints.
        self.text = text
        #: Notes of the command.
        self.notes = list(notes)
        if not (self.folder / "run.json").is_file():
            raise _native.MercuryError(f"{self.folder}: holds no results (run.json is missing); give the folder of a replay")

    @cached_property
    def layers(self):
        """A row for each configuration, captured step, layer and pass."""
        return self._table("layers")

    @cached_property
    def models(self):
        """A row for each configuration, captured step and pass: the whole model."""
        return self._table("models")

    @cached_property
    def configurations(self):
        """A row for each configuration."""
        return self._table("configurations")

    @cached_property
    def designs(self):
        """A row for the configurations that differ only in the seed of the projection."""
        return self._table("designs")

    @cached_property
    def angles(self):
        """Agreement of signature bits by angle, if bounds were measured."""
        return self._table("angles")

    @cached_property
    def run(self):
        """The record of the run: trace, configurations, command, versions."""
        return json.loads((self.folder / "run.json").read_text())

    def _table(self, name):
        return _native.read_table(self.folder / f"{name}.parquet")

    def __repr__(self):
        return self.text or f"{type(self).__name__}({str(self.folder)!r})"


class SearchResults(Results):
    """The folder of a search."""

    @cached_property
    def frontier(self):
        """A row for each reading, method and bound: speed-up and error of the design found."""
        return self._table("frontier")

    @cached_property
    def choices(self):
        """A row for each reading, layer and pass: the chosen settings."""
        return self._table("choices")

    @property
    def best(self):
        """The configuration file of the recommended design; `None` if no design saves cycles."""
        path = self.folder / "best.toml"
        return path if path.is_file() else None


class Inspection:
    """What a trace holds."""

    def __init__(self, output):
        #: Model, training and captured steps, as text.
        self.text = output.text
        #: A row for each layer: operation, geometry, MACs per sample, what is kept of it, bytes.
        self.layers = output.table

    def __repr__(self):
        return f"{self.text}{self.layers}"


class Ladder:
    """The speed-up from one reading of the hardware to the bound, one assumption after the other."""

    def __init__(self, output):
        #: A row for each rung.
        self.rungs = output.table
        #: Notes of the command.
        self.notes = output.notes

    def __repr__(self):
        return str(self.rungs)
