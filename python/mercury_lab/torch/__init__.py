"""Captures the layers' operands of any PyTorch model in training, as a trace for mercury-lab."""

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
from .errors import IncompleteCapture

__all__ = ["Capture", "Coverage", "CoverageRow", "IncompleteCapture", "capture"]
