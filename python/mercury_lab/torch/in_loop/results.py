"""Computes the result of a call from its product with reuse."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map

from ..attention import Attention
from ..products import Product
from ..quiet import own_work
from ..samples import Order
from .product import LayerCall, SubstitutedProduct

# Calls with a term that is added to the product, with its place among the arguments.
ADDENDS = {
    "conv1d": ("bias", 2),
    "conv2d": ("bias", 2),
    "linear": ("bias", 2),
    "addmm": ("input", 0),
    "baddbmm": ("input", 0),
}


def multiply(product: Product, call: LayerCall, order: Order) -> Tensor:
    """Computes the product from substitutes; its samples may lie anywhere in X."""
    x, w, batch = product.x, product.w, call.batch
    dtype = find_dtype(x)
    x, w = x.to(dtype), w.to(dtype)
    if product.op.startswith("conv"):
        return SubstitutedProduct.apply(x, w, call, call.projection)
    arranged = order.split(x, batch, product.trailing)
    if product.op == "linear":
        y = SubstitutedProduct.apply(arranged, w, call, call.projection)
    else:
        y = SubstitutedProduct.apply(arranged, order.split(w, batch, 2), call, None)
    return order.join(y, product.lead, product.trailing)


def find_dtype(x: Tensor) -> torch.dtype:
    """The type in which PyTorch would compute a product."""
    device = x.device.type
    is_cast = torch.is_autocast_enabled(device) and x.dtype != torch.float64
    return torch.get_autocast_dtype(device) if is_cast else x.dtype


def invert_to_grad(
    product: Product, y: Tensor, func: Callable, args: tuple, kwargs: dict
) -> Tensor:
    """Turns Y of a product into the call's result.

    `to_grad` turns the gradient of the call's result into dY. It is linear, and its adjoint turns Y
    into the call's result.
    """
    with own_work():
        meta = tree_map(to_meta, (args, kwargs))
        shape = func(*meta[0], **meta[1]).shape
    y = y.clone() if y.is_inference() else y
    with torch.inference_mode(False), torch.enable_grad():
        place = torch.zeros(shape, dtype=y.dtype, device=y.device, requires_grad=True)
        (result,) = torch.autograd.grad(
            product.to_grad(place), place, y, create_graph=y.requires_grad
        )
    return result


def to_meta(value: Any) -> Any:
    """Returns a tensor without values; other arguments stay."""
    return value.detach().to("meta") if isinstance(value, Tensor) else value


def add_term(op: str, y: Tensor, args: tuple, kwargs: dict) -> Tensor:
    """Adds the call's bias, or beta times the input of `addmm` and `baddbmm`."""
    if op not in ADDENDS:
        return y
    name, place = ADDENDS[op]
    term = args[place] if len(args) > place else kwargs.get(name, kwargs.get("self"))
    if term is None:
        return y
    if op.startswith("conv"):
        term = term.view(-1, *[1] * (y.dim() - 2))
    beta = kwargs.get("beta", 1) if name == "input" else 1
    term = term.to(y.dtype)
    return y + (term if beta == 1 else beta * term)


def attend(
    attention: Attention,
    products: tuple[Product, Product],
    calls: list[tuple[LayerCall, Order] | None],
) -> Tensor:
    """Computes attention with explicit products, as the fused call's documentation defines it."""
    lead = attention.query.shape[:-2]
    query, key, value = (
        expand_heads(attention, tensor) for tensor in (attention.query, attention.key, attention.value)
    )
    products[0].x, products[0].w = query, key.expand(*lead, *key.shape[-2:])
    scores = compute_part(products[0], calls[0]) * attention.scale
    if attention.is_causal:
        rows, keys = scores.shape[-2:]
        allowed = torch.ones(rows, keys, dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, -math.inf)
    if attention.mask is not None and attention.mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention.mask, -math.inf)
    elif attention.mask is not None:
        scores = scores + attention.mask
    # A row whose keys are all masked attends to none. The softmax of such a row would have no gradient.
    masked = torch.isneginf(scores).all(-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(masked, 0.0), -1).masked_fill(masked, 0.0)
    if attention.dropout:
        weights = F.dropout(weights, attention.dropout, training=True)
    transposed = value.transpose(-2, -1)
    products[1].x = weights.to(value.dtype)
    products[1].w = transposed.expand(*lead, *transposed.shape[-2:])
    return compute_part(products[1], calls[1])


def expand_heads(attention: Attention, tensor: Tensor) -> Tensor:
    """Repeats the heads of keys and values in grouped-query attention."""
    heads = attention.query.shape[-3] if attention.query.dim() > 2 else 1
    if not attention.enable_gqa or tensor.shape[-3] == heads:
        return tensor
    return tensor.repeat_interleave(heads // tensor.shape[-3], -3)


def compute_part(product: Product, call: tuple[LayerCall, Order] | None) -> Tensor:
    """Computes one of attention's products, exactly if it has no reuse."""
    if call is None:
        return product.x @ product.w.transpose(-2, -1)
    return multiply(product, *call)
