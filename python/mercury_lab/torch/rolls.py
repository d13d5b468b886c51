"""Copies the arguments of a model's call, with their samples rolled."""

import copy
import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

# Square arguments of these names relate tokens to tokens.
TOKEN_MASKS = {"mask", "attn_mask", "src_mask", "tgt_mask", "memory_mask"}


class Rolls:
    """Copies arguments, with their samples rolled."""

    def __init__(self, module: nn.Module, axis: int, batch: int) -> None:
        self.module, self.axis, self.batch = module, axis, batch
        # The dimensions of the first tensor.
        self.dimensions = 0

    def copy_arguments(self, args: tuple, kwargs: dict, shift: int) -> tuple[tuple, dict]:
        """Copies the arguments of a call; the samples move by `shift`."""
        self.dimensions = 0
        names = self._list_names(args)
        copied = tuple(self._copy(value, name, shift) for value, name in zip(args, names))
        return copied, {name: self._copy(value, name, shift) for name, value in kwargs.items()}

    def _list_names(self, args: tuple) -> list[str]:
        try:
            names = list(inspect.signature(self.module.forward).parameters)
        except (TypeError, ValueError):
            names = []
        return names + [""] * len(args)

    def _copy(self, value: Any, name: str, shift: int) -> Any:
        if isinstance(value, Tensor):
            return self._roll(value.detach().clone(), name, shift)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*(self._copy(part, name, shift) for part in value))
        if isinstance(value, (list, tuple)):
            return type(value)(self._copy(part, name, shift) for part in value)
        if isinstance(value, Mapping):
            copied = copy.copy(value)
            for key, part in value.items():
                copied[key] = self._copy(part, str(key), shift)
            return copied
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            copied = copy.copy(value)
            for field in dataclasses.fields(value):
                object.__setattr__(
                    copied, field.name, self._copy(getattr(value, field.name), field.name, shift)
                )
            return copied
        return value

    def _roll(self, tensor: Tensor, name: str, shift: int) -> Tensor:
        self.dimensions = self.dimensions or tensor.dim()
        is_square = tensor.dim() == 2 and tensor.shape[0] == tensor.shape[1]
        if not shift or tensor.layout is not torch.strided or (is_square and name in TOKEN_MASKS):
            return tensor
        # Padding masks and class indices have the samples first, even if other tensors do not.
        axes = (self.axis, 0) if tensor.dim() >= self.dimensions else (0, self.axis)
        for axis in axes:
            if axis < tensor.dim() and tensor.shape[axis] == self.batch:
                return tensor.roll(shift, axis)
        return tensor
