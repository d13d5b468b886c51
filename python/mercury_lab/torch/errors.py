"""Exceptions of the capture."""

from mercury_lab._native import MercuryError


class IncompleteCapture(MercuryError):
    """A step computed something that the capture cannot record.

    `op` names the operation, such as `conv3d`, and `module` the module that called it.
    """

    def __init__(self, op: str, module: str, reason: str) -> None:
        super().__init__(f"{op} in module {module}: {reason}")
        self.op = op
        self.module = module
        self.reason = reason


class Unsupported(Exception):
    """An operation that is not one of the recorded products; the recorder adds the module."""

    def __init__(self, op: str, reason: str) -> None:
        super().__init__(f"{op}: {reason}")
        self.op = op
        self.reason = reason


class SkipStep(Exception):
    """A captured step that cannot be used; the next one is captured instead."""
