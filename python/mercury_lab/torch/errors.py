"""Exceptions of the capture and of reuse."""

import contextlib
import os
import sys
import warnings

import torch
from mercury_lab._native import MercuryError


class _Incomplete(MercuryError):
    """`op` names the operation, such as `conv3d`, and `module` the module that called it."""

    def __init__(self, op: str, module: str, reason: str) -> None:
        super().__init__(f"{op} in module {module}: {reason}")
        self.op = op
        self.module = module
        self.reason = reason


class IncompleteCapture(_Incomplete):
    """A step computed something that the capture cannot record.

    `op` names the operation, such as `conv3d`, and `module` the module that called it.
    """


class IncompleteReuse(_Incomplete):
    """The model computed a product that reuse cannot replace.

    `op` names the operation, such as `conv3d`, and `module` the module that called it.
    """


class ArgumentError(MercuryError, ValueError):
    """A mistake in the arguments that only a captured step reveals.

    In the first one it is raised whatever `on_error` says: hardly anything is trained, and no trace
    would result.
    """


class Unsupported(Exception):
    """The reason why a call is not recorded; the recorder adds the operation and the module."""


class NoSamples(Unsupported):
    """The reason why a product has no samples; such a product is listed, not missed."""


class SkipStep(Exception):
    """A captured step that cannot be used; the next one is captured instead."""


def warn(message: str, source: str = "capture") -> None:
    """Warns, at the line of the user's program that called torch or this package."""
    frame, level = sys._getframe(1), 2
    inner = (os.path.dirname(__file__), os.path.dirname(torch.__file__), contextlib.__file__)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(inner):
        frame, level = frame.f_back, level + 1
    warnings.warn(f"{source}: {message}", stacklevel=level)
