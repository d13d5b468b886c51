"""Copies the kept part of the operands from the device of the training.

The path of an operand: `recorder` sees the call, `observer` names it and calls `gather`, `step`
holds the copy, `assemble` joins the calls of a step, and `output` sends the joined tensors to the
writer.
"""

import torch
from torch import Tensor

from .products import Product
from .samples import Order
from .step import Forward


def gather(
    product: Product,
    tensor: Tensor,
    order: Order,
    forward: Forward,
    channels: list[int] | None,
    dtype: torch.dtype,
) -> Tensor:
    """Copies the kept samples and channels of X or dY, computed in `dtype`, to the CPU in f32."""
    split = (
        tensor
        if product.op.startswith("conv")
        else order.split(tensor, forward.batch, product.trailing)
    )
    part = select(split, 0, forward.kept if len(forward.kept) < forward.batch else None)
    part = select(part, 1, channels)
    return copy_private(part, tensor, dtype)


def gather_weight(
    product: Product, order: Order, forward: Forward, filters: list[int] | None, dtype: torch.dtype
) -> Tensor:
    """Copies the kept filters, or the kept samples of a right operand."""
    w = product.w.detach()
    if product.op == "matmul":
        return gather(product, w, order, forward, None, dtype)
    part = select(w, 0, filters)
    return copy_private(part.reshape(len(part), -1), w, dtype)


def select(tensor: Tensor, dimension: int, indices: list[int] | None) -> Tensor:
    """Selects along a dimension; None keeps all."""
    if indices is None:
        return tensor
    return tensor.index_select(
        dimension, torch.tensor(indices, dtype=torch.long, device=tensor.device)
    )


def copy_private(part: Tensor, source: Tensor, dtype: torch.dtype) -> Tensor:
    """Copies to the CPU in f32, rounded to `dtype`, safe from in-place changes of the source."""
    copied = part.to(dtype).to("cpu", torch.float32).contiguous()
    if copied.untyped_storage().data_ptr() == source.untyped_storage().data_ptr():
        return copied.clone()
    return copied
