"""MERCURY Lab: would input-similarity reuse speed up the training of your model, and what would it cost in accuracy?

>>> import mercury_lab as mercury
>>> results = mercury.replay("trace", rpq={"bits": 32})
>>> results.configurations.rows()[0]["speed_up"]
1.057920837045689

`mercury_lab.torch` captures traces of PyTorch models (extra `torch`); `mercury_lab.distributed` replays on many
machines (extra `dask`). This module needs neither.
"""

from importlib.metadata import version as _version

from mercury_lab._analysis import (
    compare,
    cycles,
    inspect,
    ladder,
    merge,
    projection,
    replay,
    replay_partition,
    report,
    search,
    search_partition,
    sweep,
    vectors,
    verify,
)
from mercury_lab._config import Config
from mercury_lab._errors import MercuryWarning
from mercury_lab._native import MercuryError, ParquetTable, Table
from mercury_lab._results import Comparison, Inspection, Ladder, Results, SearchResults, SweepResults
from mercury_lab._writer import Conv2d, Linear, Matmul, TraceWriter

__version__ = _version("mercury-lab")

__all__ = [
    "Comparison",
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
    "SweepResults",
    "Table",
    "TraceWriter",
    "compare",
    "cycles",
    "inspect",
    "ladder",
    "merge",
    "projection",
    "replay",
    "replay_partition",
    "report",
    "search",
    "search_partition",
    "sweep",
    "vectors",
    "verify",
]
