"""A naive convolution with TREC's reuse, straight from its definition: the oracle of reuse in the loop.

A row of im2col, in the order of `torch.nn.functional.unfold`, is cut into sub-vectors of L elements. Sub-vectors at the
same place of a row share a bucket if their signatures are equal; bit i of a signature is 1 where the product with random
vector i is above 0. A representative replaces all members of its bucket: their mean (centroid) or the first. Buckets live
for a batch or for a sample.
"""

import torch
import torch.nn.functional as F

SCOPES = ("batch", "sample")
REPRESENTATIVES = ("centroid", "first")


def find_buckets(vectors: torch.Tensor, projection: torch.Tensor) -> torch.Tensor:
    """Numbers the buckets of vectors `[vectors, L]` by the bits of `projection`, `[L, bits]`."""
    bits = (vectors @ projection > 0).long()
    signatures = (bits << torch.arange(bits.shape[1])).sum(1)
    return signatures.unique(return_inverse=True)[1]


def substitute(
    vectors: torch.Tensor, buckets: torch.Tensor, representative: str
) -> tuple[torch.Tensor, int]:
    """Replaces each vector by its bucket's representative; also returns the number of buckets."""
    count = int(buckets.max()) + 1
    if representative == "centroid":
        sums = torch.zeros(count, vectors.shape[1], dtype=torch.float64)
        sums.index_add_(0, buckets, vectors.double())
        members = buckets.bincount(minlength=count).double()
        return (sums / members[:, None]).float()[buckets], count
    first = torch.full((count,), len(vectors))
    first = first.scatter_reduce(0, buckets, torch.arange(len(vectors)), "amin")
    return vectors[first[buckets]], count


def substitute_rows(
    rows: torch.Tensor, projection: torch.Tensor, representative: str, scope: str
) -> tuple[torch.Tensor, int]:
    """Substitutes in im2col rows `[samples, places, elements]`; returns them and the vectors that remain."""
    length = projection.shape[0]
    result, remaining = rows.clone(), 0
    groups = [slice(None)] if scope == "batch" else [slice(s, s + 1) for s in range(len(rows))]
    for group in groups:
        for start in range(0, rows.shape[2], length):
            part = rows[group, :, start : start + length]
            vectors = part.reshape(-1, length)
            buckets = find_buckets(vectors, projection)
            substituted, count = substitute(vectors, buckets, representative)
            result[group, :, start : start + length] = substituted.view(part.shape)
            remaining += count
    return result, remaining


def convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    projection: torch.Tensor,
    representative: str = "centroid",
    scope: str = "batch",
) -> tuple[torch.Tensor, float]:
    """Convolves without padding; also returns the share of sub-vectors that remain."""
    size = weight.shape[2]
    rows = F.unfold(x, size).transpose(1, 2)
    substituted, remaining = substitute_rows(rows, projection, representative, scope)
    y = substituted @ weight.flatten(1).T
    if bias is not None:
        y = y + bias
    side = x.shape[2] - size + 1
    vectors = rows.shape[0] * rows.shape[1] * (rows.shape[2] // projection.shape[0])
    return y.transpose(1, 2).unflatten(2, (side, -1)), remaining / vectors
