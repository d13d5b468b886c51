"""Finds the samples of a batch in the tensors of its layers."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .errors import ArgumentError, Unsupported
from .products import Product

if TYPE_CHECKING:
    from .probe import Probe

SEQUENCE_LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
ASK = (
    "give batch_axis, the dimension that holds the samples (an int, or a dict from layer "
    "patterns to ints)"
)


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
    flattened into that dimension, as the innermost one.
    """

    axis: int = 0
    inner: int = 0

    def split(self, tensor: Tensor, batch: int, trailing: int) -> Tensor:
        """Returns `[samples, rest, *trailing dimensions]`."""
        ends = tensor.shape[tensor.dim() - trailing :]
        tensor = tensor.movedim(self.axis, 0)
        if self.inner:
            tensor = tensor.reshape(-1, self.inner, *tensor.shape[1:]).transpose(0, 1)
        return tensor.reshape(batch, -1, *ends)

    def join(self, tensor: Tensor, lead: tuple[int, ...], trailing: int) -> Tensor:
        """Returns `[*lead, *trailing dimensions]`: undoes `split`."""
        ends = tensor.shape[tensor.dim() - trailing :]
        if not lead:
            return tensor.reshape(ends)
        first, others = lead[self.axis], [*lead[: self.axis], *lead[self.axis + 1 :]]
        if self.inner:
            tensor = tensor.reshape(self.inner, first // self.inner, *others, *ends).transpose(0, 1)
        return tensor.reshape(first, *others, *ends).movedim(0, self.axis)

    def fits(self, lead: tuple[int, ...], batch: int) -> bool:
        """Whether leading dimensions of these sizes can be split."""
        if self.axis >= len(lead):
            return False
        if self.inner:
            return lead[self.axis] % self.inner == 0 and self.inner % batch == 0
        return lead[self.axis] % batch == 0


def list_orders(lead: tuple[int, ...], batch: int) -> list[Order]:
    """Lists the orders in which leading dimensions of these sizes may hold the samples."""
    orders = [Order(axis) for axis, size in enumerate(lead) if size % batch == 0]
    folded = [
        Order(axis, batch) for axis, size in enumerate(lead) if size % batch == 0 and size > batch
    ]
    return orders + folded


def is_ambiguous(product: Product, batch: int) -> bool:
    """Whether sizes alone do not show where a product's samples are."""
    if batch == 1 or product.op.startswith("conv"):
        return False
    return product.x.shape[0] != batch or batch in product.x.shape[1:]


class BatchAxis:
    """Decides where the samples of each layer are."""

    def __init__(self, axis: int | dict[str, int] | None, modules: list[nn.Module]) -> None:
        self.given = axis
        self.names: set[str] = set()
        # None: the samples' order is not checked.
        self.probe: Probe | None = None
        self.mixed = any(is_sequence_first(module) for module in modules)

    def find_input_axis(self, module: nn.Module, tensors: list[Tensor]) -> int:
        """Returns the dimension of a forward's first tensor that holds the samples."""
        if not tensors or tensors[0].dim() == 0:
            raise Unsupported("its arguments contain no tensor with a batch dimension")
        shape = list(tensors[0].shape)
        axis = self.given if isinstance(self.given, int) else (self.given or {}).get("input")
        if axis is None:
            axis = int(is_sequence_first(module) and len(shape) > 2)
        if axis >= len(shape):
            raise ArgumentError(
                f"batch_axis is {axis}, but the model's first tensor has the shape {shape}"
            )
        return axis

    def count_samples(self, module: nn.Module, tensors: list[Tensor]) -> tuple[int, list[int]]:
        """Returns the batch size and the shape of one sample of a forward's first tensor."""
        axis = self.find_input_axis(module, tensors)
        shape = list(tensors[0].shape)
        return shape[axis], shape[:axis] + shape[axis + 1 :] or [1]

    def check_globs(self) -> None:
        """Refuses a pattern that matches no layer of the step."""
        globs = self.given if isinstance(self.given, dict) else ()
        for glob in globs:
            if glob != "input" and not fnmatch.filter(self.names, glob):
                names = ", ".join(sorted(self.names))
                raise ArgumentError(
                    f"batch_axis contains {glob!r}, which matches none of input, {names}"
                )

    def find(
        self,
        name: str,
        number: str,
        product: Product,
        batch: int,
        stack: list[nn.Module],
        attending: int,
    ) -> Order:
        """Decides the order of a product's leading dimensions, or refuses it.

        `number` is the name with the number of the call. `attending` is the size of the sample
        dimension of the running multi-head attention, or 0.
        """
        self.names.add(name)
        lead = product.lead or (1,)
        if product.op.startswith("conv") and lead[0] != batch:
            raise Unsupported(
                f"its input holds {lead[0]} images for {batch} samples, and a trace has one "
                f"image per sample; make "
                "the images the samples (call the model with [samples * images, ...]), or "
                "leave the module out"
            )
        order = self._choose(name, product, lead, batch, stack, attending)
        if order is not None and not order.fits(lead, batch):
            order = None
        is_given = (
            not attending and not product.samples_first and self._find_given(name) is not None
        )
        if self.probe is not None and is_ambiguous(product, batch):
            order = self._check_order(order, number, product, batch, is_given or bool(attending))
        elif (
            order is not None
            and not is_given
            and self._is_mixed(product, lead, batch, stack, attending)
        ):
            reason = (
                f"its input of shape {tuple(product.x.shape)} may hold the samples in "
                f"either dimension"
            )
            raise Unsupported(f"{reason}, in a model with modules of batch_first=False; {ASK}")
        if order is None:
            shape = tuple(product.x.shape)
            raise Unsupported(
                f"its input has the shape {shape}, which does not fit a batch of {batch}; {ASK}"
            )
        return order

    def _check_order(
        self, order: Order | None, number: str, product: Product, batch: int, is_known: bool
    ) -> Order | None:
        """Compares an order with those of the probe; without them, an order `is_known` to count."""
        shape = tuple(product.x.shape)
        found = self.probe.find_orders(number, batch)
        if found is None:
            if is_known or order is None:
                return order
            self.probe.repeat()
            raise Unsupported(
                f"its input of shape {shape} may hold the {batch} samples in several orders, "
                f"and the check of samples "
                f"did not see it; {ASK}"
            )
        if order in found or (order is None and not found):
            return order
        if is_known:
            raise Unsupported(
                f"its input of shape {shape} does not hold the {batch} samples where "
                f"batch_axis or batch_first says; "
                f"correct it, or give check_samples=False"
            )
        if found:
            return found[0]
        raise Unsupported(
            f"its input of shape {shape} holds the {batch} samples in no order that a trace "
            f"can express, or mixes "
            f"them; {ASK} and check_samples=False if you know the order"
        )

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
        if any(
            isinstance(module, SEQUENCE_LAYERS) and is_sequence_first(module) for module in stack
        ):
            return Order(axis=1) if len(lead) > 1 else Order(inner=batch)
        return self._guess(lead, batch)

    def _find_given(self, name: str) -> int | None:
        if not isinstance(self.given, dict):
            return self.given
        return next(
            (axis for glob, axis in self.given.items() if fnmatch.fnmatchcase(name, glob)), None
        )

    def _guess(self, lead: tuple[int, ...], batch: int) -> Order | None:
        if lead[0] % batch == 0:
            return Order()
        return Order(axis=1) if len(lead) > 1 and lead[1] == batch and self.mixed else None

    def _is_mixed(
        self, product: Product, lead: tuple[int, ...], batch: int, stack: list, attending: int
    ) -> bool:
        """Whether a model with modules of both orders leaves the order of a product open."""
        if (
            not self.mixed
            or batch == 1
            or attending
            or product.samples_first
            or product.op.startswith("conv")
        ):
            return False
        if any(
            isinstance(module, SEQUENCE_LAYERS) and is_sequence_first(module) for module in stack
        ):
            return False
        second = len(lead) > 1 and lead[1] == batch
        flattened = len(lead) == 1 and lead[0] != batch
        return lead[0] % batch == 0 and (second or flattened)


def _apply_given(axis: int, lead: tuple[int, ...], batch: int, op: str) -> Order:
    if axis == 0 or (len(lead) > axis and lead[axis] == batch):
        return Order(axis=axis)
    # A sequence-first tensor that was flattened, or products with the heads folded into the batch.
    return Order(inner=batch) if op == "linear" and len(lead) == 1 and lead[0] != batch else Order()


def list_tensors(args: tuple, kwargs: dict) -> list[Tensor]:
    """Lists the tensors among arguments, also in sequences, mappings and dataclasses."""
    found: list[Tensor] = []
    pending = [*args, *kwargs.values()]
    while pending:
        value = pending.pop(0)
        if isinstance(value, torch.Tensor):
            found.append(value)
        else:
            pending[:0] = list_parts(value)
    return found


def list_parts(value: Any) -> list[Any]:
    """Lists what a container holds; other objects hold nothing."""
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, Mapping):
        return list(value.values())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in dataclasses.fields(value)]
    return []
