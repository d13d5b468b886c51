"""Learned projections: R follows the gradient of a soft assignment of vectors to entries.

A signature's bits are signs, which have no gradient. As TREC does (Guan et al., NeurIPS 2022), a bit
is therefore taken for a steep sigmoid s of the projection, here of the cosine between vector and row
of R. To first order, a bit h that changes from 0 to 1 moves a vector's substitute from the
representative c0 of the entry with bit 0 to c1 of that with bit 1, all other bits being equal:

    dL / dR_h = sum over vectors x of  <g, c1 - c0>  ds_h / dR_h,

where g is the gradient with respect to the substitute, a row of dY W. Where one of the two entries is
empty, the bit has no gradient. TREC's own rule weighs all entries by their distance in number; ours
takes the neighbours alone, and estimates the sum from a few samples of each batch.
"""

import json
import re

import torch
import torch.nn.functional as F
from mercury_lab import _native
from mercury_lab._native import MercuryError
from torch import Tensor, nn

from ..naming import find_paths, sanitise

CPU = torch.device("cpu")
# Slope of the sigmoid: bits of vectors within about 3 degrees of a row's plane may change.
SLOPE = 20.0
# Samples of a batch that the gradient is computed from.
SAMPLES = 16
LAYERS = (nn.Conv2d, nn.Linear)
# Longer signatures and the number of their group do not fit into 64 bits.
MAX_BITS = 32
# The number of a call at the end of a layer's name.
CALL = re.compile(r"\.call-\d+$")


class LearnedProjections:
    """The projections of a model's layers that have reuse in the forward pass."""

    def __init__(self, model: nn.Module, native: _native.ReuseLoop) -> None:
        # `[length, bits]`; a name's dots are underscores here.
        self.parameters = nn.ParameterDict()
        self.keys: dict[str, str] = {}
        for module, path in find_paths(model).items():
            if isinstance(module, LAYERS):
                self._add(sanitise(path or "model"), module, native)
        if not self.keys:
            raise MercuryError(
                "learn: no Conv2d or Linear of the model has reuse in its forward pass; remove learn, "
                "or set reuse.passes"
            )

    def _add(self, name: str, module: nn.Module, native: _native.ReuseLoop) -> None:
        settings = json.loads(native.settings(name))
        if "forward" not in settings["reuse"]["passes"]:
            return
        rpq = settings["rpq"]
        if rpq["variant"] != "sign":
            raise MercuryError(f"learn: rpq.variant of {name} is {rpq['variant']}; set it to sign")
        if rpq["bits"] > MAX_BITS:
            raise MercuryError(f"learn: rpq.bits of {name} is {rpq['bits']}; set it to at most {MAX_BITS}")
        if settings["mcache"]["representative"] != "centroid":
            raise MercuryError(
                f"learn: mcache.representative of {name} is {settings['mcache']['representative']}; "
                "the gradient of a projection is that of centroids, so set it to centroid"
            )
        length = find_length(rpq["granularity"], module)
        drawn = torch.tensor(native.draw_projection(name, length), dtype=torch.float32, device=CPU)
        key = name.replace(".", "_")
        if key in self.parameters:
            raise MercuryError(f"learn: two layers have the name {key} without dots; rename one")
        self.keys[name] = key
        self.parameters[key] = nn.Parameter(drawn.T.contiguous())

    def get(self, name: str) -> nn.Parameter | None:
        """The projection of a layer, if it has one; all calls of a layer share it."""
        key = self.keys.get(CALL.sub("", name))
        return None if key is None else self.parameters[key]


def find_length(granularity: str, module: nn.Module) -> int:
    """The length of a layer's vectors, of which its rows must hold a whole number."""
    weight = module.weight
    row = weight[0].numel()
    name, _, count = granularity.rstrip(")").partition("(")
    if isinstance(module, nn.Linear) and name == "channel-patch":
        return row
    lengths = {"patch": row, "channel-patch": weight[0, 0].numel(), "sub-vector": int(count or 1)}
    length = lengths.get(name) if not (name == "channel-patch" and count) else None
    if length is None or row % length or getattr(module, "groups", 1) != 1:
        raise MercuryError(
            f"learn: rpq.granularity is {granularity}, but a learned projection needs patch, "
            f"channel-patch, or sub-vector(d) with a d that divides a row of {row} elements, in "
            "layers without groups"
        )
    return length


def compute_projection_grad(
    op: str, window: dict, x: Tensor, w: Tensor, dy: Tensor, r: Tensor, crosses_samples: bool
) -> Tensor:
    """Computes the gradient of R, `[length, bits]`, from X, W and dY in the layout of a trace."""
    batch = len(x)
    kept = torch.arange(min(SAMPLES, batch), device=CPU)
    rows, grads = cut_rows(op, window, x[kept], w, dy[kept])
    length, bits = r.shape
    # `[places of a row, vectors, length]`.
    vectors = rows.reshape(len(rows), -1, length).transpose(0, 1)
    grads = grads.reshape(len(rows), -1, length).transpose(0, 1)
    dots = vectors @ r
    signatures = ((dots > 0).long() << torch.arange(bits, device=CPU)).sum(-1)
    groups = torch.arange(len(vectors), device=CPU).view(-1, 1)
    if not crosses_samples:
        sample = torch.arange(len(kept), device=CPU).repeat_interleave(len(rows) // len(kept))
        groups = groups * len(kept) + sample
    numbers, centroids, known = average(groups << bits | signatures, vectors)
    norms = vectors.norm(dim=-1, keepdim=True) * r.norm(dim=0)
    cosines = dots / norms.clamp_min(1e-12)
    soft = torch.sigmoid(SLOPE * cosines)
    slopes = SLOPE * soft * (1 - soft)
    # <g, c1 - c0> of each vector and bit.
    gains = torch.stack(
        [
            compute_gain(numbers, 1 << bit, signatures, centroids, known, grads)
            for bit in range(bits)
        ],
        -1,
    )
    weights = gains * slopes / norms.clamp_min(1e-12)
    gradient = torch.einsum("pnl,pnh->lh", vectors, weights)
    # The derivative of the norm of R's columns.
    along = torch.einsum("pnh,pnh->h", weights, dots)
    gradient -= r * (along / r.square().sum(0))
    return gradient * (batch / len(kept))


def cut_rows(op: str, window: dict, x: Tensor, w: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the rows of im2col, and the gradients with respect to them."""
    if op == "linear":
        return x.flatten(0, -2), (dy @ w).flatten(0, -2)
    sizes = {key: window[key] for key in ("dilation", "padding", "stride")}
    rows = F.unfold(x, w.shape[2:], **sizes).transpose(1, 2).flatten(0, 1)
    return rows, dy.flatten(2).transpose(1, 2).flatten(0, 1) @ w.flatten(1)


def average(keys: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns each vector's entry, the entries' means, and their keys in ascending order."""
    known, numbers = keys.unique(return_inverse=True)
    flat = numbers.flatten()
    sums = torch.zeros(len(known), vectors.shape[-1], dtype=vectors.dtype, device=CPU).index_add_(0, flat, vectors.flatten(0, 1))
    counts = torch.bincount(flat, minlength=len(known))
    return numbers, sums / counts.unsqueeze(1), known


def compute_gain(
    numbers: Tensor, bit: int, signatures: Tensor, means: Tensor, known: Tensor, grads: Tensor
) -> Tensor:
    """<g, c1 - c0> of each vector for one bit; 0 where one of the entries is empty."""
    # By entry, because far fewer than vectors.
    flipped = known ^ bit
    places = torch.searchsorted(known, flipped).clamp_max(len(known) - 1)
    exists = known[places] == flipped
    towards = torch.where(exists.unsqueeze(1), means[places] - means, 0.0)
    gains = torch.einsum("pnl,pnl->pn", grads, towards[numbers])
    return torch.where((signatures & bit) > 0, -gains, gains)
