"""A layer's product from substitutes, with the gradients that reuse gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from mercury_lab import _native
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..options import PASSES
from ..quiet import own_work
from .learned import compute_projection_grad

if TYPE_CHECKING:
    from .interceptor import LoopForward
    from .session import Reuse


@dataclass(eq=False)
class LayerCall:
    """A call of a layer in one forward, until its backward pass.

    X is `[samples, channels, height, width]`, `[samples, rows, inputs]` or
    `[samples, heads, rows, inner]`; Y and dY likewise. W is `[filters, channels / groups, *kernel]`,
    `[outputs, inputs]` or `[samples, heads, columns, inner]`.
    """

    reuse: Reuse
    layer: str
    op: str
    # Stride, padding, dilation and groups of a convolution.
    window: dict[str, Any]
    native: _native.ReuseCall
    batch: int
    # The forward that it belongs to.
    forward: LoopForward
    # Whether each result is also computed exactly.
    compares: bool
    # Whether the outcomes of the forward pass count; a checkpoint's recomputation repeats them.
    counts: bool
    # R, if it is learned, and whether an entry lives for a batch.
    projection: Tensor | None
    crosses_samples: bool
    reused: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.reused = {name for name in PASSES if self.native.reuses(name)}

    def compute_forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Computes Y without bias."""
        if "forward" not in self.reused:
            return self.compute_exactly(x, w)
        operands = to_native(x), to_native(w)
        y = empty(self._output_shape(x, w))
        counted = self.native.forward(len(x), *operands, y)
        if self.counts:
            with own_work(x.device.type):
                exact = self.compute_exactly(x, w) if self.compares else None
            self.forward.outcomes.append(self._note("forward", counted, exact, y, operands[0]))
        return y.to(x.device, x.dtype)

    def compute_exactly(self, x: Tensor, w: Tensor) -> Tensor:
        """Computes Y without bias and without reuse."""
        if self.op.startswith("conv"):
            return F.conv2d(x, w, None, **self.window)
        return x @ w.transpose(-2, -1)

    def compute_input_grad(self, x: Tensor, w: Tensor, dy: Tensor) -> Tensor:
        """Computes dX with signatures of dY."""
        dx = empty(x.shape)
        operands = to_native(dy), to_native(w)
        counted, cycles = self.native.input_grad(len(x), *operands, dx, self.compares)
        if self.compares:
            exact = self.compute_exact_gradients(x, w, dy, (True, False))[0]
            self.reuse.measured.add(self.layer, "input-grad", counted, compare(exact, dx), cycles)
        self.reuse.add_counts(self, "input-grad", counted)
        return dx.to(x.device, x.dtype)

    def compute_weight_grad(self, x: Tensor, w: Tensor, dy: Tensor) -> Tensor:
        """Computes dW from the groups of the forward pass."""
        dw = empty(w.shape)
        streamed = to_native(x)
        counted = self.native.weight_grad(len(x), streamed, to_native(dy), dw)
        exact = (
            self.compute_exact_gradients(x, w, dy, (False, True))[1] if self.compares else None
        )
        self._note("weight-grad", counted, exact, dw, streamed)()
        return dw.to(w.device, w.dtype)

    def compute_exact_gradients(
        self, x: Tensor, w: Tensor, dy: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Computes dX and dW without reuse, as far as they are wanted."""
        if self.op.startswith("conv"):
            places = [self.window[key] for key in ("stride", "padding", "dilation")]
            gradients = torch.ops.aten.convolution_backward(
                dy, x, w, None, *places, False, [0, 0], self.window["groups"], [*wanted, False]
            )
            return gradients[0], gradients[1]
        dx = dy @ w if wanted[0] else None
        if not wanted[1]:
            return dx, None
        if self.op == "linear":
            return dx, dy.flatten(0, -2).t() @ x.flatten(0, -2)
        return dx, dy.transpose(-2, -1) @ x

    def compute_projection_grad(self, x: Tensor, w: Tensor, dy: Tensor) -> Tensor:
        """Computes the gradient of a learned projection."""
        operands = (to_native(tensor) for tensor in (x, w, dy))
        return compute_projection_grad(
            self.op, self.window, *operands, self.projection.detach(), self.crosses_samples
        )

    def _output_shape(self, x: Tensor, w: Tensor) -> tuple[int, ...]:
        if not self.op.startswith("conv"):
            return (*x.shape[:-1], w.shape[-2])
        window = zip(
            x.shape[2:],
            w.shape[2:],
            *(self.window[key] for key in ("stride", "padding", "dilation")),
            strict=True,
        )
        sizes = (
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, padding, dilation in window
        )
        return (len(x), len(w), *sizes)

    def _note(
        self, name: str, counted: tuple, exact: Tensor | None, reused: Tensor, x: Tensor
    ) -> Callable[[], None]:
        """Compares a result with the exact one; returns what records the outcomes."""
        measured = None
        if exact is not None:
            measured = compare(exact, reused), self.native.cycles(name, len(x), x)

        def record() -> None:
            if measured is not None:
                self.reuse.measured.add(self.layer, name, counted, *measured)
            self.reuse.add_counts(self, name, counted)

        return record


def compare(exact: Tensor, reused: Tensor) -> _native.Deviation:
    """Compares a result with the exact one."""
    return _native.Deviation(to_native(exact), reused)


def empty(shape: tuple[int, ...]) -> Tensor:
    """Memory for a result of the extension module."""
    return torch.empty(shape, dtype=torch.float32, device="cpu")


class SubstitutedProduct(torch.autograd.Function):
    """Y of a layer as a function of X and W."""

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor, call: LayerCall, projection: Tensor | None) -> Tensor:
        ctx.call = call
        ctx.save_for_backward(x, w)
        return call.compute_forward(x, w)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        call: LayerCall = ctx.call
        x, w = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]
        by_reuse = tuple(
            want and name in call.reused
            for want, name in zip(wanted, ("input-grad", "weight-grad"), strict=True)
        )
        exactly = tuple(
            want and not reused for want, reused in zip(wanted, by_reuse, strict=True)
        )
        dx, dw = (
            call.compute_exact_gradients(x, w, dy, exactly) if any(exactly) else (None, None)
        )
        if by_reuse[0]:
            dx = call.compute_input_grad(x, w, dy)
        if by_reuse[1]:
            dw = call.compute_weight_grad(x, w, dy)
        dr = call.compute_projection_grad(x, w, dy) if ctx.needs_input_grad[3] else None
        return dx, dw, None, dr


def to_native(tensor: Tensor) -> Tensor:
    """Returns the values in f32 on the CPU, row by row; a copy only if they are not so already."""
    return tensor.detach().to("cpu", torch.float32).contiguous()
