"""The row of the running step in the table of steps."""

import math
import time
from collections.abc import Callable
from typing import Any

from .reports import Reports


class StepRow:
    """What the loop logs of a step, and the step's time."""

    def __init__(self, reports: Reports) -> None:
        self.reports = reports
        self.values: dict[str, Any] = {}
        # When the last row was logged.
        self.began = time.perf_counter()

    def clear(self) -> None:
        """Begins the row of another step."""
        self.values = {}

    def read(self, key: str, value: Any, read: Callable[[Any], Any]) -> None:
        """Notes a value; one that cannot be read is ignored, because training goes on."""
        if value is None:
            return
        try:
            self.values[key] = read(value)
        except (TypeError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            message = f"log: {key} is ignored, because it cannot be read ({reason})"
            self.reports.warn(message, key=f"log {key}")

    def finish(self, learning_rate: float) -> tuple[int, float, float, float, float]:
        """Returns the epoch, loss, accuracy, learning rate and seconds."""
        began, self.began = self.began, time.perf_counter()
        loss, accuracy = self.values.get("loss", math.nan), self.values.get("accuracy", math.nan)
        return self.values.get("epoch", 0), loss, accuracy, learning_rate, self.began - began
