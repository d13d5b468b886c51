"""Scaled dot-product attention as two explicit products, and multi-head attention with visible
calls.

The fused call computes the training's results. The products are recomputed beside it, for the kept
samples only.
"""

import math
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import Unsupported
from .products import Product

SDPA = F.scaled_dot_product_attention
MULTI_HEAD = F.multi_head_attention_forward
# Relative differences between the explicit products and the fused call that rounding explains.
TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def expose_multi_head(enter: Callable[[], Any]) -> Callable[..., Any]:
    """Copies torch's multi-head attention so that its inner calls are seen; it computes the same.

    `enter` makes the context in which the inner calls run.
    """
    names = {**F.__dict__, "has_torch_function": lambda tensors: False}
    copied = types.FunctionType(
        MULTI_HEAD.__code__,
        names,
        MULTI_HEAD.__name__,
        MULTI_HEAD.__defaults__,
        MULTI_HEAD.__closure__,
    )
    copied.__kwdefaults__ = MULTI_HEAD.__kwdefaults__

    def call(*args, **kwargs):
        with enter():
            return copied(*args, **kwargs)

    return call


@dataclass
class Attention:
    """Arguments of a fused call.

    Q is `[..., rows, inner]`, K `[..., keys, inner]`, V `[..., keys, columns]`.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    dropout: float
    is_causal: bool
    scale: float
    enable_gqa: bool

    @classmethod
    def from_call(
        cls,
        query,
        key,
        value,
        attn_mask=None,
        dropout_p=0.0,
        is_causal=False,
        *,
        scale=None,
        enable_gqa=False,
    ) -> "Attention":
        """Reads the arguments of the call."""
        scale = 1 / math.sqrt(query.shape[-1]) if scale is None else float(scale)
        return cls(
            query, key, value, attn_mask, float(dropout_p), bool(is_causal), scale, bool(enable_gqa)
        )

    def weights_shape(self) -> tuple[int, ...]:
        """The shape of the attention weights, `[..., rows, keys]`."""
        return (*self.query.shape[:-1], self.key.shape[-2])


def replay_dropout(attention: Attention, state: Tensor | None) -> Tensor | None:
    """Draws the call's dropout factors, 0 or 1 / (1 - p), again from the generator's earlier state.

    The generator's present state is kept.
    """
    if attention.dropout == 0:
        return None
    device = attention.query.device
    present = read_generator(device)
    write_generator(device, state)
    try:
        ones = torch.ones(attention.weights_shape(), device=device)
        return F.dropout(ones, attention.dropout, training=True)
    finally:
        write_generator(device, present)


def read_generator(device: torch.device) -> Tensor:
    """Returns the state of a device's default generator."""
    return (
        torch.get_rng_state()
        if device.type == "cpu"
        else torch.get_device_module(device).get_rng_state(device)
    )


def write_generator(device: torch.device, state: Tensor) -> None:
    """Restores the state of a device's default generator."""
    if device.type == "cpu":
        torch.set_rng_state(state)
    else:
        torch.get_device_module(device).set_rng_state(state, device)


class ExplicitAttention:
    """The two products of a fused call, for the kept samples.

    Shapes: Q `[samples, heads, rows, inner]`, K `[samples, heads, keys, inner]`,
    V `[samples, heads, keys, columns]`; P, the attention weights, `[samples, heads, rows, keys]`.
    """

    def __init__(
        self,
        attention: Attention,
        y: Tensor,
        state: Tensor | None,
        select: Callable[[Tensor], Tensor],
    ):
        """`select` returns the kept samples of a tensor with full leading dimensions."""
        self.scale = attention.scale
        lead = attention.query.shape[:-2]

        def gather(tensor: Tensor) -> Tensor:
            tensor = tensor.detach().to(y.dtype)
            if attention.enable_gqa:
                tensor = tensor.repeat_interleave(lead[-1] // tensor.shape[-3], -3)
            kept = select(tensor.expand(*lead, *tensor.shape[-2:]))
            # A copy, because the model may change the tensor in place.
            return kept.to(torch.float32, copy=True)

        self.query, self.key, self.value = (
            gather(t) for t in (attention.query, attention.key, attention.value)
        )
        scores = self.query @ self.key.transpose(-2, -1) * self.scale + self._read_mask(
            attention, select
        )
        # A row whose keys are all masked attends to none.
        self.weights = torch.softmax(scores, -1).nan_to_num(0.0)
        dropped = replay_dropout(attention, state)
        self.dropped = None if dropped is None else select(dropped)
        self.dropped_weights = self.weights if self.dropped is None else self.weights * self.dropped
        self._check(select(y.detach()).float(), y.dtype)

    def _read_mask(
        self, attention: Attention, select: Callable[[Tensor], Tensor]
    ) -> Tensor | float:
        """Returns what is added to the kept samples' scores: 0 or -inf, or the given bias."""
        shape, device = attention.weights_shape(), attention.query.device
        mask = attention.mask
        if attention.is_causal:
            mask = torch.ones(shape[-2:], dtype=torch.bool, device=device).tril()
        if mask is None:
            return 0.0
        mask = mask.detach()
        if mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape, device=device).masked_fill(~mask, -math.inf)
        return select(mask.expand(shape)).float()

    def _check(self, y: Tensor, dtype: torch.dtype) -> None:
        """Compares P V with the fused call's result."""
        difference = torch.linalg.vector_norm(self.dropped_weights @ self.value - y)
        if (
            y.numel()
            and not difference <= TOLERANCES.get(dtype, 1e-2) * torch.linalg.vector_norm(y) + 1e-12
        ):
            reason = "the explicit products differ from the fused call's result"
            if self.dropped is not None:
                reason += (
                    ", because its dropout cannot be repeated; use SDPBackend.MATH "
                    "(torch.nn.attention), or dropout_p=0"
                )
            raise Unsupported(reason)

    def backward(self, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Returns dY of the unscaled scores and of the context, from that of the call."""
        grad_weights = grad @ self.value.transpose(-2, -1)
        if self.dropped is not None:
            grad_weights = grad_weights * self.dropped
        row_sums = (grad_weights * self.weights).sum(-1, keepdim=True)
        return self.weights * (grad_weights - row_sums) * self.scale, grad


def list_products(attention: Attention) -> tuple[Product, Product]:
    """Describes both products of the whole batch; their tensors have no values."""
    lead, (rows, inner) = attention.query.shape[:-2], attention.query.shape[-2:]
    keys, columns = attention.value.shape[-2:]

    def empty(*shape: int) -> Tensor:
        return torch.empty(*lead, *shape, device="meta")

    query, key, value = attention.query, attention.key, attention.value
    scores = Product(
        "matmul",
        empty(rows, inner),
        empty(keys, inner),
        part="scores",
        samples_first=True,
        identity=query,
        input_grad=query.requires_grad,
        weight_grad=key.requires_grad,
    )
    context = Product(
        "matmul",
        empty(rows, keys),
        empty(columns, keys),
        part="context",
        samples_first=True,
        identity=query,
        input_grad=query.requires_grad or key.requires_grad,
        weight_grad=value.requires_grad,
    )
    return scores, context
