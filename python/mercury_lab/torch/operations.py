"""Reads torch calls as products."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from .einsum import read_einsum, read_tensordot
from .errors import NoSamples, Unsupported
from .naming import find_parameter
from .products import Product, pass_gradient

Reader = Callable[..., list[Product]]


def read_conv(dimensions: int) -> Reader:
    """Makes the reader of a convolution over 1 or 2 dimensions."""
    op = f"conv{dimensions}d"

    def read(
        y, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1
    ) -> list[Product]:
        if input.dim() == dimensions + 1:
            raise Unsupported("its input has no batch dimension; give it one")
        stride, dilation = _pad_left(stride, dimensions, 1), _pad_left(dilation, dimensions, 1)
        x, w = (input, weight) if dimensions == 2 else (input.unsqueeze(2), weight.unsqueeze(2))
        x, padding = _resolve_padding(x, w, padding, dilation, dimensions)
        window = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        to_grad = pass_gradient if dimensions == 2 else (lambda g: g.unsqueeze(2))
        grads = {"input_grad": input.requires_grad, "weight_grad": weight.requires_grad}
        return [Product(op, x, w, to_grad, window, **grads)]

    return read


def _pad_left(value: Any, dimensions: int, fill: int) -> list[int]:
    """Makes a pair `[rows, columns]`; a convolution over one dimension has a single row."""
    values = (
        [int(value)] * dimensions if isinstance(value, int) else [int(number) for number in value]
    )
    if len(values) == 1:
        values *= dimensions
    return [fill] * (2 - dimensions) + values


def _resolve_padding(x: Tensor, w: Tensor, padding: Any, dilation: list[int], dimensions: int):
    """Returns X and its symmetric padding; with `same`, X may get zeros at its ends."""
    if not isinstance(padding, str):
        return x, _pad_left(padding, dimensions, 0)
    if padding == "valid":
        return x, [0, 0]
    totals = [dilation[axis] * (w.shape[2 + axis] - 1) for axis in range(2)]
    if any(total % 2 for total in totals):
        x = F.pad(x, [0, totals[1] % 2, 0, totals[0] % 2])
    return x, [total // 2 for total in totals]


def read_linear(y, input, weight, bias=None) -> list[Product]:
    """Reads `linear`."""
    if weight.dim() == 1:
        return [Product("linear", input, weight[None], lambda g: g.unsqueeze(-1))]
    return [Product("linear", input, weight)]


def read_matmul(y, *tensors, **named) -> list[Product]:
    """Reads `matmul`, `mm` and `bmm`."""
    keys = ("input", "self", "other", "tensor2", "mat2")
    left, right = [*tensors, *(named[key] for key in keys if key in named)][:2]
    return multiply(left, right)


def read_reversed_matmul(y, right, left) -> list[Product]:
    """Reads `left @ right` as the right operand sees it."""
    return multiply(left, right)


def read_added_matmul(
    y, input, left=None, right=None, *, beta=1, alpha=1, **named
) -> list[Product]:
    """Reads `addmm` and `baddbmm`: beta input + alpha left right."""
    left = next((named[key] for key in ("mat1", "batch1") if key in named), left)
    right = next((named[key] for key in ("mat2", "batch2") if key in named), right)
    return multiply(left, right, alpha)


def multiply(left: Tensor, right: Tensor, alpha: float = 1) -> list[Product]:
    """Reads `alpha left right`: a linear layer if an operand is a matrix, else `matmul`."""
    scale = pass_gradient if alpha == 1 else (lambda g: g * alpha)
    if left.dim() == 0 or right.dim() == 0:
        raise Unsupported("an operand is a number")
    if right.dim() == 1:
        return [Product("linear", left, right[None], lambda g: scale(g).unsqueeze(-1))]
    if left.dim() == 1:
        return [
            Product("linear", right.transpose(-1, -2), left[None], lambda g: scale(g).unsqueeze(-1))
        ]
    left_is_weight = find_parameter(left) is not None and find_parameter(right) is None
    if right.dim() == 2 and not (left.dim() == 2 and left_is_weight):
        return [Product("linear", left, right.t(), scale)]
    if left.dim() == 2:
        return [
            Product("linear", right.transpose(-1, -2), left, lambda g: scale(g).transpose(-1, -2))
        ]
    lead = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    for tensor in (left, right):
        if (
            find_parameter(tensor) is not None
            and tensor.dim() == len(lead) + 2
            and tensor.shape[0] != 1
        ):
            raise Unsupported(
                "a weight has a batch dimension, so no dimension holds samples; use einsum"
            )
    x = left.expand(*lead, *left.shape[-2:])
    w = right.transpose(-1, -2)
    return [Product("matmul", x, w.expand(*lead, *w.shape[-2:]), scale)]


def read_dot(y, *args, **kwargs) -> list[Product]:
    """Lists a product of two vectors, such as that of a spectral norm."""
    raise NoSamples("it gives one number, not one per sample")


def refuse(remedy: str) -> Reader:
    """Makes the reader of an operation that is refused by name."""

    def read(y, *args, **kwargs) -> list[Product]:
        raise Unsupported(remedy)

    return read


def check_operands(product: Product) -> None:
    """Refuses tensors that are not dense and real."""
    for tensor in (product.x, product.w):
        if is_traceable_wrapper_subclass(tensor):
            raise Unsupported(
                f"an operand is a {type(tensor).__name__}; a trace has only plain tensors"
            )
        if tensor.is_quantized:
            raise Unsupported("an operand is quantised; capture the model before quantisation")
        if tensor.layout is not torch.strided:
            raise Unsupported("an operand is sparse; a trace has only dense operands")
        if tensor.is_complex():
            raise Unsupported("an operand is complex; a trace has only real numbers")
    if math.prod(product.x.shape) == 0 or math.prod(product.w.shape) == 0:
        raise Unsupported("an operand has no elements")


NOT_YET = "it is not supported yet; leave the module out of the model"
FUSED = "it is one fused operation; write it as a loop of linear layers, or leave the module out"


def _find(*paths: str) -> list[Any]:
    """Finds functions by their paths in torch; releases differ in what they have."""
    found = []
    for path in paths:
        target = torch
        for part in path.split("."):
            target = getattr(target, part, None)
        if target is not None:
            found.append(target)
    return found


def _build_table() -> dict[Any, Reader]:
    groups = [
        (read_conv(1), ["conv1d"]),
        (read_conv(2), ["conv2d"]),
        (read_linear, ["nn.functional.linear"]),
        (
            read_matmul,
            [
                f"{place}{name}"
                for place in ("", "Tensor.")
                for name in ("matmul", "mm", "bmm", "mv")
            ],
        ),
        (read_matmul, ["linalg.matmul", "Tensor.__matmul__"]),
        (read_reversed_matmul, ["Tensor.__rmatmul__"]),
        (
            read_added_matmul,
            [
                "addmm",
                "baddbmm",
                "Tensor.addmm",
                "Tensor.baddbmm",
                "Tensor.addmm_",
                "Tensor.baddbmm_",
            ],
        ),
        (read_einsum, ["functional.einsum", "einsum"]),
        (read_tensordot, ["functional.tensordot", "tensordot"]),
    ]
    unsupported = [
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "conv_tbc",
        "bilinear",
    ]
    unsupported += [
        "addbmm",
        "Tensor.addbmm",
        "addmv",
        "Tensor.addmv",
        "addr",
        "Tensor.addr",
        "inner",
        "Tensor.inner",
    ]
    unsupported += [
        "cdist",
        "functional.cdist",
        "linalg.multi_dot",
        "chain_matmul",
        "functional.chain_matmul",
        "kron",
    ]
    unsupported += ["_scaled_mm", "_grouped_mm"]
    dots = ["dot", "Tensor.dot", "vdot", "Tensor.vdot"]
    unsupported += [
        "nn.functional.scaled_mm",
        "nn.functional.grouped_mm",
        "sparse.mm",
        "sparse.addmm",
    ]
    unsupported += ["sparse.sampled_addmm", "smm", "Tensor.smm", "hspmm", "Tensor.sspaddmm"]
    fused = [
        "lstm",
        "gru",
        "rnn_tanh",
        "rnn_relu",
        "lstm_cell",
        "gru_cell",
        "rnn_tanh_cell",
        "rnn_relu_cell",
    ]
    fused += ["_transformer_encoder_layer_fwd", "_native_multi_head_attention"]
    table = {function: reader for reader, paths in groups for function in _find(*paths)}
    for paths, remedy in ((unsupported, NOT_YET), (fused, FUSED)):
        table.update(dict.fromkeys(_find(*paths), refuse(remedy)))
    table.update(dict.fromkeys(_find(*dots), read_dot))
    return table


READERS = _build_table()
