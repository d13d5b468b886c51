"""Finds the samples of a batch in the tensors of its layers."""

import fnmatch
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .errors import ArgumentError, Unsupported

SEQUENCE_LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
ASK = "give batch_axis, the dimension that holds the samples (an int, or a dict from layer patterns to ints)"


def is_sequence_first(module: nn.Module) -> bool:
    """Whether a module expects `[tokens, samples, features]`."""
    if isinstance(module, SEQUENCE_LAYERS):
        module = module.self_attn
    if isinstance(module, (nn.TransformerEncoder, nn.TransformerDecoder)):
        return len(module.layers) > 0 and is_sequence_first(module.layers[0])
    if isinstance(module, (nn.MultiheadAttention, nn.Transformer)):
        return not module.batch_first
    return False


@dataclass(frozen=True)
class Order:
    """How samples are folded into the leading dimensions of a layer's tensors.

    `axis` is the dimension with the samples, whose size may be a multiple of the batch, with the
    samples outermost. If `inner` is not 0, it is the size of a dimension with the samples that was
    flattened into the first dimension, as the innermost one.
    """

    axis: int = 0
    inner: int = 0

    def split(self, tensor: Tensor, batch: int, trailing: int) -> Tensor:
        """Returns `[samples, rest, *trailing dimensions]`."""
        ends = tensor.shape[tensor.dim() - trailing :]
        if self.inner:
            tensor = tensor.reshape(-1, self.inner, *ends).transpose(0, 1)
        elif self.axis > 0:
            tensor = tensor.movedim(self.axis, 0)
        return tensor.reshape(batch, -1, *ends)

    def fits(self, lead: tuple[int, ...], batch: int) -> bool:
        """Whether leading dimensions of these sizes can be split."""
        if self.inner:
            return lead[0] % self.inner == 0 and self.inner % batch == 0
        return len(lead) > self.axis and lead[self.axis] % batch == 0


class BatchAxis:
    """Decides where the samples of each layer are."""

    def __init__(self, axis: int | dict[str, int] | None, modules: list[nn.Module]) -> None:
        self.given = axis
        self.names: set[str] = set()
        self.mixed = any(is_sequence_first(module) for module in modules)

    def count_samples(self, module: nn.Module, tensors: list[Tensor]) -> tuple[int, list[int]]:
        """Returns the batch size and the shape of one sample of a forward's first tensor."""
        if not tensors or tensors[0].dim() == 0:
            raise Unsupported("its arguments contain no tensor with a batch dimension")
        shape = list(tensors[0].shape)
        axis = self.given if isinstance(self.given, int) else (self.given or {}).get("input")
        if axis is None:
            axis = int(is_sequence_first(module) and len(shape) > 2)
        if axis >= len(shape):
            raise ArgumentError(f"batch_axis is {axis}, but the model's first tensor has the shape {shape}")
        return shape[axis], shape[:axis] + shape[axis + 1 :] or [1]

    def check_globs(self) -> None:
        """Refuses a pattern that matches no layer of the step."""
        globs = self.given if isinstance(self.given, dict) else ()
        for glob in globs:
            if glob != "input" and not fnmatch.filter(self.names, glob):
                names = ", ".join(sorted(self.names))
                raise ArgumentError(f"batch_axis contains {glob!r}, which matches none of input, {names}")

    def find(self, name: str, product: Any, batch: int, stack: list[nn.Module], attending: int) -> Order:
        """Decides the order of a product's leading dimensions, or refuses it.

        `attending` is the size of the sample dimension of the running multi-head attention, or 0.
        """
        self.names.add(name)
        lead = product.lead or (1,)
        order = self._choose(name, product, lead, batch, stack, attending)
        if order is None or not order.fits(lead, batch):
            reason = f"its input has the shape {tuple(product.x.shape)}, which does not fit a batch of {batch}; {ASK}"
            raise Unsupported(reason)
        if product.op.startswith("conv") and lead[0] != batch:
            reason = f"its input holds {lead[0]} images for {batch} samples; a convolution must see one per sample"
            raise Unsupported(reason)
        return order

    def _choose(self, name, product, lead, batch, stack, attending) -> Order | None:
        if product.op.startswith("conv") or product.samples_first:
            return Order()
        if attending:
            # Inside the function, its tensors are `[tokens, samples, features]`.
            if product.op == "matmul":
                return Order()
            return Order(axis=1) if len(lead) > 1 else Order(inner=attending)
        given = self._find_given(name)
        if given is not None:
            return _apply_given(given, lead, batch, product.op)
        if any(isinstance(module, SEQUENCE_LAYERS) and is_sequence_first(module) for module in stack):
            return Order(axis=1) if len(lead) > 1 else Order(inner=batch)
        return self._guess(product, lead, batch)

    def _find_given(self, name: str) -> int | None:
        if not isinstance(self.given, dict):
            return self.given
        return next((axis for glob, axis in self.given.items() if fnmatch.fnmatchcase(name, glob)), None)

    def _guess(self, product: Any, lead: tuple[int, ...], batch: int) -> Order | None:
        first = lead[0] % batch == 0
        second = len(lead) > 1 and lead[1] == batch
        flattened = len(lead) == 1 and lead[0] != batch
        if self.mixed and first and (second or flattened) and batch > 1:
            shape = tuple(product.x.shape)
            reason = f"its input of shape {shape} may hold the samples in either dimension"
            raise Unsupported(f"{reason}, in a model with modules of batch_first=False; {ASK}")
        if first:
            return Order()
        return Order(axis=1) if second and self.mixed else None


def _apply_given(axis: int, lead: tuple[int, ...], batch: int, op: str) -> Order:
    if axis == 0 or (len(lead) > axis and lead[axis] == batch):
        return Order(axis=axis)
    # A sequence-first tensor that was flattened, or products with the heads folded into the batch.
    return Order(inner=batch) if op == "linear" and len(lead) == 1 and lead[0] != batch else Order()


def list_tensors(args: tuple, kwargs: dict) -> list[Tensor]:
    """Lists the tensors among arguments, also in lists, tuples and dicts."""
    found: list[Tensor] = []
    pending = [*args, *kwargs.values()]
    while pending:
        value = pending.pop(0)
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            pending[:0] = value
        elif isinstance(value, dict):
            pending[:0] = value.values()
    return found
