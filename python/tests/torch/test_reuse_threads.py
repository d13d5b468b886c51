"""The threads of reuse: PyTorch's, and as many as PyTorch has."""

import os
import subprocess
import sys

import mercury_lab.torch as mt
import pytest
import torch
from torch import nn

OPTIONS = {"preset": "mercury", "rpq": {"bits": 8}, "stop": {"window": 0}}

# Prints the process's threads after plain training steps and after steps with reuse.
COUNT_THREADS = """
import os, torch, mercury_lab.torch as mt
from torch import nn
torch.set_num_threads(int(os.environ["THREADS"]))
model, x = nn.Sequential(nn.Conv2d(8, 16, 3), nn.Conv2d(16, 16, 3)), torch.randn(16, 8, 32, 32)

def count_threads():
    for _ in range(3):
        model(x).sum().backward()
    return len(os.listdir("/proc/self/task"))

plain = count_threads()
with mt.reuse(model, preset="mercury"):
    print(plain, count_threads())
"""


@pytest.fixture
def restore_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc, and OpenMP is GCC's on Linux")
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_reuse_runs_on_the_threads_of_pytorch(threads):
    environment = os.environ | {"THREADS": str(threads)}
    command = [sys.executable, "-c", COUNT_THREADS]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    plain, reused = map(int, printed.split())
    assert reused == plain


def test_results_do_not_depend_on_the_number_of_threads(restore_threads):
    def train(threads):
        torch.set_num_threads(threads)
        torch.manual_seed(3)
        layer, x = nn.Conv2d(8, 16, 3, bias=False), torch.randn(16, 8, 20, 20, requires_grad=True)
        with mt.reuse(layer, reuse={"passes": ["forward", "input-grad", "weight-grad"]}, **OPTIONS):
            y = layer(x)
            y.backward(torch.randn_like(y))
        return y, x.grad, layer.weight.grad

    for one, three in zip(train(1), train(3), strict=True):
        assert torch.equal(one, three)
