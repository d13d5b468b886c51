"""Checkpointing of both kinds: each call is captured once, with the gradients of the recomputed graph."""

import copy

import mercury_lab.torch as mt
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from tools import assert_close, run_step, sum_weighted


class Checkpointed(nn.Module):
    """A network with checkpoints, one inside the other."""

    def __init__(self, use_reentrant, nested=False, whole=False):
        super().__init__()
        self.reentrant, self.nested = use_reentrant, nested
        self.first = nn.Linear(8, 8)
        self.block = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.3), nn.ReLU(), nn.Linear(16, 8))
        self.attn = nn.MultiheadAttention(8, 2, dropout=0.2, batch_first=True)
        self.last = nn.Linear(8, 3)

    def attend(self, x):
        run = checkpoint(self.block, x, use_reentrant=self.reentrant) if self.nested else self.block(x)
        return x + self.attn(run, run, run, need_weights=False)[0]

    def forward(self, x):
        x = self.first(x)
        x = checkpoint(self.block, x, use_reentrant=self.reentrant)
        x = checkpoint(Part(self.attend, self), x, use_reentrant=self.reentrant)
        return self.last(x)


class Part:
    """A function of a module."""

    def __init__(self, function, module):
        self.function, self.module = function, module

    def __call__(self, x):
        return self.function(x)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_checkpointing_captures_each_call_once(use_reentrant, nested, folder):
    """pytorch#147995: a backward drops function modes, so recomputed calls are lost silently."""
    model = Checkpointed(use_reentrant, nested)
    x = torch.randn(4, 5, 8)
    state = torch.get_rng_state()
    trace, _, capture = run_step(model, folder, (x,))
    capture.verify()
    names = ["first", "block.0", "block.3"]
    names += ["block.0.call-1", "block.3.call-1"]
    names += [f"attn.{part}" for part in ("in_proj", "scores", "context", "out_proj")] + ["last"]
    assert list(trace.layers) == names
    assert {(name, "grad_output") for name in names} <= trace.files(0)
    assert all(trace.layers[name]["input_grad"] for name in names[1:])
    # The same as without checkpoints.
    plain = copy.deepcopy(model)
    torch.set_rng_state(state)
    original = torch.utils.checkpoint.checkpoint
    globals_of_test = plain.forward.__func__.__globals__
    globals_of_test["checkpoint"] = lambda function, x, use_reentrant: function(x)
    try:
        expected, _, _ = run_step(plain, folder.with_name("plain"), (x,))
    finally:
        globals_of_test["checkpoint"] = original
    for name in names:
        assert_close(trace.values(name, "grad_output"), expected.values(name, "grad_output"))
        assert_close(trace.values(name, "input"), expected.values(name, "input"))


def test_a_model_inside_a_reentrant_checkpoint(folder):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.randn(3, 4, requires_grad=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with mt.capture(model, folder, optimizer=optimizer, verify=True, on_error="raise") as capture:
        sum_weighted(checkpoint(model, x, use_reentrant=True))
        optimizer.step()
    capture.verify()


def test_a_checkpoint_that_cannot_be_recognised_is_refused(folder):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.weight = nn.Linear(4, 4), nn.Parameter(torch.randn(4, 4))

        def forward(self, x):
            # A function of a tensor alone enters no module when it is recomputed.
            return checkpoint(lambda x: F.linear(x, self.weight), self.fc(x), use_reentrant=True)

    with pytest.raises(mt.IncompleteCapture, match=r"reentrant checkpoint.*use_reentrant=False"):
        run_step(Model(), folder, (torch.randn(2, 4),))


def test_selective_checkpointing_sees_no_operations_of_the_capture(folder):
    from functools import partial

    from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

    def policy(context, op, *args, **kwargs):
        save = op in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.index_select.default)
        return CheckpointPolicy.MUST_SAVE if save else CheckpointPolicy.PREFER_RECOMPUTE

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh())

        def forward(self, x):
            contexts = partial(create_selective_checkpoint_contexts, policy)
            return checkpoint(self.block, x, use_reentrant=False, context_fn=contexts)

    model = Model()
    x = torch.randn(3, 4)
    plain = copy.deepcopy(model)
    sum_weighted(plain(x))
    _, _, capture = run_step(model, folder, (x,), samples=2)
    capture.verify()
    for actual, expected in zip(model.parameters(), plain.parameters()):
        assert torch.equal(actual.grad, expected.grad)
