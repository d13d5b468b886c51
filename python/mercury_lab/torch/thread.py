"""The capture's state in one thread."""

import threading
from typing import Any

from torch import nn

from .step import Forward, Mark


class ThreadState(threading.local):
    """What runs in a thread; the backward of a GPU runs in threads of its own."""

    # Whether any capture probes a model in this thread.
    probing = threading.local()

    def __init__(self) -> None:
        self.modules: list[nn.Module] = []
        self.modes: list[Any] = []
        # Nesting of recorded calls.
        self.handled = 0
        # Sample dimensions of running multi-head attentions.
        self.attending: list[int] = []
        self.forward: Forward | None = None
        # The outermost module of the forward that runs, or ran last.
        self.outermost: nn.Module | None = None
        # The state of the step before the outermost module ran, and the exception that
        # was handled then.
        self.mark: Mark | None = None
        self.handled_error: BaseException | None = None
