"""Tells trained, checkpointed and recomputed forwards from those without gradients."""

import enum
import sys

import torch
from torch.utils.checkpoint import CheckpointFunction

APPLY = torch.autograd.Function.apply.__func__.__code__


class Stage(enum.Enum):
    """What the training does now."""

    # A forward with gradients.
    TRAINED = enum.auto()
    # A forward without gradients, which reentrant checkpointing computes again in the backward.
    CHECKPOINTED = enum.auto()
    # A forward with gradients inside the backward: a recomputation.
    RECOMPUTED = enum.auto()
    # The forward of a custom autograd.Function.
    CUSTOM = enum.auto()
    # No gradients: evaluation, frozen parts, teachers.
    IGNORED = enum.auto()

    @property
    def is_backward(self) -> bool:
        """Whether a backward runs."""
        return self is Stage.RECOMPUTED


def find_stage() -> Stage:
    """Finds what the training does now, in this thread."""
    is_backward = torch._C._current_graph_task_id() != -1
    if torch.is_grad_enabled():
        return Stage.RECOMPUTED if is_backward else Stage.TRAINED
    if is_backward:
        return Stage.IGNORED
    function = find_function()
    if function is None:
        return Stage.IGNORED
    return Stage.CHECKPOINTED if issubclass(function, CheckpointFunction) else Stage.CUSTOM


def find_function() -> type | None:
    """Returns the autograd.Function whose forward runs; the innermost one wins."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is APPLY:
            return frame.f_locals["cls"]
        frame = frame.f_back
    return None
