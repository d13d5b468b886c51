"""Reuse in the loop equals TREC's: centroids or first vectors of buckets over a batch or a sample."""

import itertools
import json
import struct

import mercury_lab as mercury
import mercury_lab.torch as mt
import polars as pl
import pytest
import torch
import torch.nn.functional as F
import trec_reference as reference

LENGTH, BITS = 10, 4
DESIGNS = list(itertools.product(reference.REPRESENTATIVES, reference.SCOPES))


def make_inputs():
    """A convolution of 4 channels, kernel 5: rows of 100 elements. Some samples repeat, some elements are 0."""
    x = torch.randn(6, 4, 9, 9).relu()
    x[4] = x[1]
    return x, torch.nn.Conv2d(4, 3, 5), torch.randn(LENGTH, BITS)


def substitute_by_dictionary(rows, projection, representative, scope):
    """The definition, vector by vector."""
    result = rows.clone()
    for start in range(0, rows.shape[2], LENGTH):
        buckets = {}
        for sample, place in itertools.product(range(rows.shape[0]), range(rows.shape[1])):
            bits = tuple((rows[sample, place, start : start + LENGTH] @ projection > 0).tolist())
            buckets.setdefault((sample if scope == "sample" else 0, bits), []).append(
                (sample, place)
            )
        for members in buckets.values():
            vectors = torch.stack([rows[s, p, start : start + LENGTH] for s, p in members])
            stand_in = vectors[0] if representative == "first" else vectors.mean(0)
            for sample, place in members:
                result[sample, place, start : start + LENGTH] = stand_in
    return result


@pytest.mark.parametrize("representative, scope", DESIGNS)
def test_the_reference_follows_the_definition(representative, scope):
    x, layer, projection = make_inputs()
    rows = F.unfold(x, 5).transpose(1, 2)
    expected = substitute_by_dictionary(rows, projection, representative, scope)
    found, remaining = reference.substitute_rows(rows, projection, representative, scope)
    torch.testing.assert_close(found, expected)
    assert 0 < remaining < rows.shape[0] * rows.shape[1] * 10
    y, share = reference.convolve(x, layer.weight, layer.bias, projection, representative, scope)
    exact = expected @ layer.weight.flatten(1).T + layer.bias
    torch.testing.assert_close(y, exact.transpose(1, 2).unflatten(2, (5, 5)))
    assert share == remaining / (rows.shape[0] * rows.shape[1] * 10)


def write_projection(path, projection):
    rows = projection.contiguous()
    shape = {"dtype": "F32", "shape": list(rows.shape), "data_offsets": [0, 4 * rows.numel()]}
    header = json.dumps({"R": shape}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + rows.numpy().tobytes())


def read_gaussian():
    """The package's own random projection, `[LENGTH, BITS]`."""
    rows = pl.DataFrame(mercury.projection(LENGTH, bits=BITS)).sort("bit")["values"]
    return torch.tensor(rows.to_list()).T


@pytest.mark.parametrize("source", ["gaussian", "file"])
@pytest.mark.parametrize("representative, scope", DESIGNS)
def test_reuse_equals_the_reference(representative, scope, source, tmp_path):
    x, layer, projection = make_inputs()
    rpq = {"bits": BITS, "granularity": f"sub-vector({LENGTH})"}
    if source == "gaussian":
        projection = read_gaussian()
    else:
        write_projection(tmp_path / "R.safetensors", projection)
        rpq["projection"] = f"file:{tmp_path / 'R.safetensors'}"
    cache = {"representative": representative, "scope": scope}
    config = mercury.Config(preset="trec", rpq=rpq, mcache=cache)
    model = torch.nn.Sequential(layer).eval()
    expected, _ = reference.convolve(x, layer.weight, layer.bias, projection, representative, scope)
    with torch.no_grad(), mt.reuse(model, config=config):
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(model(x), expected, rtol=1e-2)
