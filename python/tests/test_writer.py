"""Tests of the trace writer for other frameworks."""

import math

import mercury_lab as mercury
import numpy
import polars


def test_an_accuracy_that_is_not_logged_is_not_a_number(tmp_path):
    x, w, dy = (numpy.ones(shape, numpy.float32) for shape in ((2, 1, 4), (3, 4), (2, 1, 3)))
    layers = {"fc": mercury.Linear(4, 3)}
    with mercury.TraceWriter(tmp_path / "trace", layers, model={"name": "tiny"}, batch_size=2) as trace:
        for step in range(2):
            trace.capture(step, {"fc": (x, w, dy)})
        trace.log(0, loss=1.0)
        trace.log(1, loss=0.5, accuracy=0.75, seconds=0.25)
    steps = polars.read_parquet(tmp_path / "trace" / "steps.parquet")
    assert math.isnan(steps["accuracy"][0])
    assert steps["accuracy"][1:].to_list() == [0.75]
    assert steps["seconds"].to_list() == [0.0, 0.25]
    assert "trained 2 steps" in str(mercury.inspect(tmp_path / "trace"))
