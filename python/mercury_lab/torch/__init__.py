"""Captures the layers' operands of any PyTorch model in training, and trains it with reuse."""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as _error:
    if _error.name != "torch":
        raise
    raise ModuleNotFoundError(
        "mercury_lab.torch needs PyTorch: pip install 'mercury-lab[torch]'", name="torch"
    ) from None

from .api import capture
from .capture import Capture
from .coverage import Coverage, CoverageRow
from .errors import IncompleteCapture, IncompleteReuse
from .in_loop.api import reuse
from .in_loop.session import Reuse

__all__ = [
    "Capture",
    "Coverage",
    "CoverageRow",
    "IncompleteCapture",
    "IncompleteReuse",
    "Reuse",
    "capture",
    "reuse",
]
