"""Tests docs/examples/write_trace.py: its gradients are right, and the analyzer accepts its traces."""

import sys
from pathlib import Path

import mercury_lab as mercury
import numpy as np
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
import write_trace  # noqa: E402


@pytest.mark.parametrize("layer", [
    write_trace.Conv2d(2, 3, input=(5, 6), kernel=(3, 2), stride=(2, 1), padding=(1, 1)),
    write_trace.Conv2d(1, 2, input=(4, 4), kernel=(1, 1)),
])
def test_gradients_of_a_convolution_are_right(layer):
    random = np.random.default_rng(1)
    x = random.standard_normal((2, layer.in_channels, *layer.input))
    w = random.standard_normal((layer.out_channels, layer.in_channels, *layer.kernel))
    dy = random.standard_normal((2, layer.out_channels, *layer.output))
    loss = lambda x, w: (write_trace.convolve(layer, x, w) * dy).sum()  # noqa: E731
    gradients = write_trace.convolve_backward(layer, x, w, dy)
    for which, gradient in enumerate(gradients):
        for index in np.ndindex(gradient.shape):
            moved = [x.copy(), w.copy()]
            moved[which][index] += 1.0
            # The loss is linear in each operand, so the step may have any size.
            assert np.isclose(gradient[index], loss(*moved) - loss(x, w), rtol=1e-5, atol=1e-5), (which, index)


def test_the_analyzer_accepts_the_trace(tmp_path):
    trace = tmp_path / "trace"
    write_trace.train(str(trace), steps=4, every=2, batch=8, kept=2)
    assert "as they were written" in mercury.verify(trace)
    # With 64 bits almost only equal vectors hit, so errors are small.
    results = mercury.replay(trace, rpq={"bits": 64}, mcache={"entries": 0, "ways": 1})
    layers = pl.DataFrame(results.layers)
    assert layers.select("step", "layer", "pass").rows() == [
        (step, layer, name)
        for step in (0, 2)
        for layer, passes in [("conv1", 2), ("conv2", 3), ("fc", 3)]
        for name in (["forward", "weight-grad"] if passes == 2 else ["forward", "input-grad", "weight-grad"])
    ]
    assert layers["samples"].unique().to_list() == [2] and layers["output_error"].null_count() == 0
    assert layers["output_error"].max() < 0.2
