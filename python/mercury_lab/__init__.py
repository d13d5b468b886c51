"""MERCURY Lab: would input-similarity reuse speed up training of your model, by which design, and at what cost in accuracy?

>>> import mercury_lab as mercury
>>> results = mercury.replay("trace", rpq={"bits": 32})  # doctest: +SKIP
>>> results.models  # doctest: +SKIP

`mercury_lab.torch` captures traces of PyTorch models (extra `torch`); `mercury_lab.distributed` replays on many
machines (extra `dask`). This module needs neither.
"""

from importlib.metadata import version as _version

from mercury_lab._analysis import compare, cycles, inspect, ladder, merge, projection, replay, report, search, sweep
from mercury_lab._analysis import vectors, verify
from mercury_lab._config import Config
from mercury_lab._errors import MercuryWarning
from mercury_lab._native import MercuryError, ParquetTable, Table
from mercury_lab._results import Inspection, Ladder, Results, SearchResults
from mercury_lab._writer import Conv2d, Linear, Matmul, TraceWriter

__version__ = _version("mercury-lab")

__all__ = [
    "Config",
    "Conv2d",
    "Inspection",
    "Ladder",
    "Linear",
    "Matmul",
    "MercuryError",
    "MercuryWarning",
    "ParquetTable",
    "Results",
    "SearchResults",
    "Table",
    "TraceWriter",
    "compare",
    "cycles",
    "inspect",
    "ladder",
    "merge",
    "projection",
    "replay",
    "report",
    "search",
    "sweep",
    "vectors",
    "verify",
]
