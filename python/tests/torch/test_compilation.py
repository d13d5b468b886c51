"""Compiled models and steps: captured steps run eagerly, others as they were compiled."""

import shutil
import warnings

import mercury_lab.torch as mt
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nets import make_net
from tools import Trace, image_batches, train


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("given", ["compiled", "plain", "in place", "part"])
def test_compiled_models_are_captured_in_warm_state(backend, given, folder):
    """pytorch#117758: after a warm compilation no module hook runs, silently."""
    torch.compiler.reset()
    model = make_net().eval()
    run = model
    if given == "in place":
        model.compile(backend=backend)
    elif given == "part":
        model[4] = torch.compile(model[4], backend=backend)
    else:
        run = torch.compile(model, backend=backend)
    batches = list(image_batches(4, batch=4, size=16))
    for x, y in batches:
        F.cross_entropy(run(x), y).backward()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    target = run if given == "compiled" else model
    optimizer.zero_grad()
    with mt.capture(target, folder, optimizer=optimizer, every=3, verify=True, on_error="raise") as capture:
        for x, y in batches:
            F.cross_entropy(run(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    capture.verify()
    trace = Trace(folder)
    assert trace.captured == [0, 3]
    assert list(trace.layers) == ["0", "4", "8"]
    # Other steps ran the code that was compiled before.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled


@pytest.mark.parametrize("part", ["optimizer", "whole step"])
def test_compiled_steps_run_the_hooks_of_the_optimizer(part, folder):
    torch.compiler.reset()
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def backward(x):
        model(x).square().sum().backward()

    def whole(x):
        backward(x)
        optimizer.step()
        optimizer.zero_grad()

    compiled = torch.compile(whole if part == "whole step" else lambda: optimizer.step(), backend="eager")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Dynamo does not know how to trace")
        with mt.capture(model, folder, optimizer=optimizer, every=2, verify=True, on_error="raise") as capture:
            for _ in range(5):
                x = torch.randn(3, 4)
                if part == "whole step":
                    compiled(x)
                else:
                    backward(x)
                    compiled()
                    optimizer.zero_grad()
    capture.verify()
    assert Trace(folder).captured == [0, 2, 4]


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_model_that_inductor_compiled(folder):
    torch.compiler.reset()
    model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4))
    run = torch.compile(model)
    batches = [(torch.randn(4, 8), torch.randint(0, 4, (4,))) for _ in range(3)]
    for x, y in batches:
        F.cross_entropy(run(x), y).backward()
    model.zero_grad()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    capture = train(run, batches, folder, optimizer=optimizer, every=2, verify=True, on_error="raise")
    capture.verify()
    assert Trace(folder).captured == [0, 2]
