"""Computes the weights' gradients from the tensors that a step writes."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.grad import conv2d_weight

from .assemble import StepTensors
from .layers import Layer
from .step import Call, Step


@dataclass
class WeightProduct:
    """What the gradient of a product's weight needs, besides X and dY."""

    op: str
    # A view of the parameter.
    w: Tensor
    window: dict[str, Any]

    def multiply(self, x: Tensor, dy: Tensor) -> Tensor:
        """Computes dY^T X of all samples, in the weight's shape."""
        if self.op == "linear":
            return torch.einsum("srf,sri->fi", dy, x)
        return conv2d_weight(x, self.w.shape, dy, **self.window)


def sum_written(
    step: Step, assembled: StepTensors, products: dict[int, WeightProduct]
) -> dict[int, list[tuple[Tensor, Tensor]]]:
    """Computes dY^T X of the tensors to be written, by the id of the parameter; `products` are
    those of calls, by id.

    Returns views of the parameter with their gradients; parameters whose operands are not kept
    whole are left out.
    """
    if len(step.kept) < step.batch:
        return {}
    operands = {(layer.name, kind): values for layer, kind, values in assembled.tensors}
    written: dict[int, list[tuple[Tensor, Tensor]]] = {}
    partial = set()
    groups: dict[Layer, list[Call]] = {}
    for call in step.calls:
        groups.setdefault(call.layer, []).append(call)
    for layer, calls in groups.items():
        key, product = id(calls[0].parameter), products.get(id(calls[0]))
        x, dy = (operands.get((layer.name, kind)) for kind in ("input", "grad_output"))
        is_whole = layer.channels is None and layer.grad_channels is None
        if product is not None and x is not None and dy is not None and is_whole:
            gradient = product.multiply(x, dy) * assembled.scale
            written.setdefault(key, []).append((product.w, gradient))
        elif any(call.has_grad for call in calls):
            partial.add(key)
    return {key: parts for key, parts in written.items() if key not in partial}
