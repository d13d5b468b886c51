"""Finds the boundaries of optimizer steps."""

import sys
from typing import Any

import torch
from mercury_lab._native import MercuryError

# Fused optimizers are stepped by the scaler itself.
SCALER_STEPS = {torch.amp.GradScaler._maybe_opt_step.__code__, torch.amp.GradScaler.step.__code__}
OVERFLOW = "the gradients overflowed, so the scaler skipped the optimizer's step"


class Boundary:
    """Tells a capture where the optimizer steps, by hooks of the optimizer and the scaler."""

    def __init__(self, capture: Any, optimizer: Any, scaler: Any) -> None:
        self.capture = capture
        self.optimizer = optimizer
        self.scaler = scaler
        self.handles = []
        self.has_stepped = False
        self.hidden_scaler = False
        self.has_overflowed = False
        if scaler is not None:
            self._wrap_update(scaler)
        if optimizer is not None:
            # A compiled optimizer step must run the hooks as they are.
            self.handles = [
                optimizer.register_step_pre_hook(torch.compiler.disable(self._before_step)),
                optimizer.register_step_post_hook(torch.compiler.disable(self._after_step)),
            ]

    def close(self) -> None:
        """Removes all hooks."""
        for handle in self.handles:
            handle.remove()
        self.handles = []
        if self.scaler is not None:
            self.scaler.__dict__.pop("update", None)

    def list_optimized(self) -> set[int] | None:
        """The ids of the optimizer's parameters; None without an optimizer."""
        if self.optimizer is None:
            return None
        return {
            id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]
        }

    def scale(self, step: Any) -> float:
        """The factor of the step's loss."""
        if self.hidden_scaler:
            raise MercuryError(
                "a GradScaler that capture does not know scales the loss, so dY is unknown and "
                "capturing stops; pass "
                "it to capture as scaler="
            )
        return 1.0 if self.scaler is None else float(self.scaler.get_scale())

    def _before_step(self, optimizer: Any, args: tuple, kwargs: dict) -> None:
        # The first argument is the optimizer.
        if kwargs.get("closure", args[1] if len(args) > 1 else None) is not None:
            self.capture.refuse_closure()
        self.has_stepped = True
        # A fused optimizer skips its step itself.
        found = getattr(optimizer, "found_inf", None)
        self.has_overflowed = found is not None and bool(found)
        if self.has_overflowed:
            self.capture.discard_step(OVERFLOW)
            return
        if self.scaler is None and self.capture.recorder.is_on:
            self.hidden_scaler = runs_in_scaler()
        self.capture.end_step()

    def _after_step(self, optimizer: Any, args: tuple, kwargs: dict) -> None:
        if not self.has_overflowed:
            self.capture.begin_next_step()

    def _wrap_update(self, scaler: Any) -> None:
        """Sees the end of an iteration whose optimizer step the scaler skipped."""
        update = scaler.update

        def watched_update(*args, **kwargs):
            if not self.has_stepped:
                self.capture.discard_step(OVERFLOW)
            self.has_stepped = False
            return update(*args, **kwargs)

        scaler.update = watched_update


def runs_in_scaler() -> bool:
    """Whether a GradScaler that scales calls the optimizer."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code in SCALER_STEPS:
            return frame.f_locals["self"].get_scale() != 1.0
        frame = frame.f_back
    return False
