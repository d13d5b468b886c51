"""The canonical form of a call: matrix products Y = X W of a layer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

Tensor = torch.Tensor


def pass_gradient(gradient: Tensor) -> Tensor:
    """The gradient of the call's output is that of the product."""
    return gradient


@dataclass
class Product:
    """Products that a call computed.

    | op | X | W | dY |
    | --- | --- | --- | --- |
    | conv | `[N, channels, *in]` | `[filters, channels / groups, *kernel]` | `[N, filters, *out]` |
    | linear | `[..., inputs]` | `[outputs, inputs]` | `[..., outputs]` |
    | matmul | `[..., rows, inner]` | `[..., columns, inner]` | `[..., rows, columns]` |

    The planes of a convolution over one dimension have one row.
    """

    op: str
    x: Tensor
    w: Tensor
    # Computes dY from the gradient of the call's output.
    to_grad: Callable[[Tensor], Tensor] = pass_gradient
    # Stride, padding, dilation and groups of a convolution.
    window: dict[str, Any] = field(default_factory=dict)
    # The product's name within its module, if it has one, such as `scores`.
    part: str | None = None
    # Whether training computes the gradients of X and W; None: as the tensors require it.
    input_grad: bool | None = None
    weight_grad: bool | None = None
    # Samples are the outermost dimension, whatever the model's batch axis is.
    samples_first: bool = False

    # The tensor that identifies the call when a checkpoint computes it again; None: X.
    identity: Tensor | None = None

    def __post_init__(self) -> None:
        if self.input_grad is None:
            self.input_grad = self.x.requires_grad
        if self.weight_grad is None:
            self.weight_grad = self.w.requires_grad

    @property
    def trailing(self) -> int:
        """Dimensions of X behind those that samples may be folded into."""
        return {"linear": 1, "matmul": 2}.get(self.op, 3)

    @property
    def lead(self) -> tuple[int, ...]:
        """Dimensions of X that hold samples, and rows or heads."""
        return tuple(self.x.shape[: self.x.dim() - self.trailing])

    def geometry(self, batch: int) -> dict[str, Any]:
        """The layer's geometry for a batch, as `Geometry` of the trace crate reads it."""
        per_sample = 1
        for size in self.lead:
            per_sample *= size
        per_sample //= batch
        if self.op == "linear":
            outputs, inputs = self.w.shape
            return {
                "op": "linear",
                "rows": per_sample,
                "in_features": inputs,
                "out_features": outputs,
            }
        if self.op == "matmul":
            (rows, inner), columns = self.x.shape[-2:], self.w.shape[-2]
            return {
                "op": "matmul",
                "heads": per_sample,
                "rows": rows,
                "inner": inner,
                "columns": columns,
            }
        sizes = {"in_channels": self.x.shape[1], "out_channels": self.w.shape[0]}
        sizes |= {"input": list(self.x.shape[2:]), "kernel": list(self.w.shape[2:])}
        # In a trace, a convolution over one dimension is one over planes of a single row.
        return {"op": "conv2d", **sizes, **self.window}
