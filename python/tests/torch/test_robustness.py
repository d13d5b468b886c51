"""Loops with scalers, several captures, and odd values: the training goes on, and the trace is right."""

import collections
import dataclasses

import mercury_lab.torch as mt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mercury_lab import MercuryError
from torch import nn

from tools import Trace, assert_close, output_gradient, run_step, sum_weighted


def get_stance():
    return torch._dynamo.eval_frame._stance.stance


def run_fused(folder, scales, **options):
    """Trains with a fused optimizer, whose step skips overflows itself."""
    model = nn.Sequential(nn.Linear(16, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    options = {"scaler": scaler, "on_error": "raise", "every": 1} | options
    with mt.capture(model, folder, optimizer=optimizer, **options):
        for scale in scales:
            y = model(torch.ones(4, 16))
            scaler.scale((y * output_gradient(y)).sum() * scale).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    return model


def test_a_hidden_scaler_of_a_fused_optimizer_is_noticed(folder):
    with pytest.raises(MercuryError, match=r"a GradScaler that capture does not know .* scaler="):
        run_fused(folder, [1.0], scaler=None)


def test_an_overflow_of_a_fused_optimizer_is_no_step(folder):
    with pytest.warns(UserWarning, match="step 0 is not captured: the gradients overflowed"):
        model = run_fused(folder, [1e38, 1.0, 1e38, 1.0])
    trace = Trace(folder)
    assert trace.captured == [0, 1]
    assert [row["step"] for row in trace.steps] == [0, 1]
    assert_close(trace.values("0", "grad_output", 1), output_gradient(model(torch.ones(4, 16))))


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("first_closed", [0, 1])
def test_two_captures_overlap(same, first_closed, folder, tmp_path):
    models = [nn.Sequential(nn.Linear(6, 2))]
    models.append(models[0] if same else nn.Sequential(nn.Linear(6, 2)))
    folders = [folder, tmp_path / "other"]
    captures = [mt.capture(model, place, every=1, on_error="raise") for model, place in zip(models, folders)]
    x = torch.randn(4, 6)
    for _ in range(2):
        for model in set(models):
            sum_weighted(model(x))
        for capture in captures:
            capture.step()
    captures[first_closed].close()
    assert get_stance() == "force_eager"
    captures[1 - first_closed].close()
    assert get_stance() == "default"
    for place in folders:
        assert Trace(place).captured == [0, 1]
        assert_close(Trace(place).values("0", "input"), x)


def test_odd_values_in_the_log_are_ignored(folder):
    model = nn.Sequential(nn.Linear(6, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with mt.capture(model, folder, optimizer=optimizer, steps=[0]) as capture:
        loss = model(torch.randn(4, 6)).square().mean(1)
        loss.mean().backward()
        with pytest.warns(UserWarning) as caught:
            capture.log(loss=loss, accuracy="half", epoch=1.5, dataset_indices=["a"])
        capture.log(epoch=np.int64(3))
        optimizer.step()
        with pytest.warns(UserWarning, match="log_evaluation|TypeError|ValueError"):
            capture.log_evaluation(10, top1="good")
    keys = [str(warning.message).split(" is ignored")[0] for warning in caught]
    assert keys == [f"capture: log: {key}" for key in ("loss", "accuracy", "epoch", "dataset_indices")]
    (row,) = Trace(folder).steps
    assert row["loss"] != row["loss"] and row["epoch"] == 3


def test_a_log_behind_the_step_is_noticed_once(folder):
    model = nn.Sequential(nn.Linear(6, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(UserWarning) as caught, mt.capture(model, folder, optimizer=optimizer, every=1) as capture:
        for _ in range(3):
            capture.log(epoch=1)
            model(torch.randn(4, 6)).sum().backward()
            optimizer.step()
            capture.log(loss=1.0)
    assert [str(each.message)[:70] for each in caught] == [
        "capture: log was called between the optimizer's step and the next forward"[:70]
    ]


class Headed(nn.Module):
    """Its head is used by the loop."""

    def __init__(self):
        super().__init__()
        self.body, self.head, self.embed = nn.Linear(6, 6), nn.Linear(6, 3, bias=False), nn.Embedding(5, 3)

    def forward(self, x):
        return self.body(x)


def test_a_product_in_the_loss_is_named(folder):
    model = Headed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    x, classes = torch.randn(4, 6), torch.tensor([0, 1, 2, 3])
    with pytest.warns(UserWarning, match="head.weight: it has a gradient, but its product ran outside"):
        with mt.capture(model, folder, optimizer=optimizer, steps=[0], verify=True, on_error="raise") as capture:
            (F.linear(model(x), model.head.weight) * F.embedding(classes, model.embed.weight)).sum().backward()
            optimizer.step()
    assert [row.module for row in capture.coverage().unsupported] == ["head.weight"]
    with pytest.raises(MercuryError, match="head.weight has a relative error of 1"):
        capture.verify()


def test_numpy_integers_are_integers(folder):
    model = nn.Sequential(nn.Linear(6, 2))
    run_step(model, folder, (torch.randn(4, 6),), steps=np.arange(1), samples=np.int64(2), every=np.int32(3))
    assert len(Trace(folder).manifest["captured"][0]["samples"]) == 2


@dataclasses.dataclass
class Batch:
    """A batch as some libraries pass it."""

    scale: float
    x: torch.Tensor


@pytest.mark.parametrize("kind", ["mapping", "dataclass"])
@pytest.mark.parametrize("check_samples", [False, True])
def test_inputs_in_containers(kind, check_samples, folder):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 2)

        def forward(self, batch):
            return self.fc(batch["x"] if kind == "mapping" else batch.x)

    x = torch.randn(4, 8, 6)
    batch = collections.UserDict(scale=1.0, x=x) if kind == "mapping" else Batch(1.0, x)
    trace, _, _ = run_step(Model(), folder, (batch,), check_samples=check_samples)
    assert_close(trace.values("fc", "input"), x)


class Wrapper(torch.optim.Optimizer):
    """Wraps an optimizer as Accelerate does."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    def step(self, closure=None):
        self.optimizer.step(closure)


def test_a_wrapped_optimizer(folder):
    model, x = nn.Sequential(nn.Linear(6, 2)), torch.randn(4, 6)
    optimizer = Wrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    trace, _, _ = run_step(model, folder, (x,), optimizer=optimizer)
    assert_close(trace.values("0", "input"), x)


def test_modules_without_sizes_are_named(folder):
    with pytest.raises(ValueError, match="module 1 is a LazyLinear without sizes; run the model once before"):
        mt.capture(nn.Sequential(nn.ReLU(), nn.LazyLinear(3)), folder)


@pytest.mark.filterwarnings("ignore")
def test_quantised_modules_are_named(folder):
    model = nn.Sequential(nn.Linear(6, 6), torch.ao.nn.quantized.dynamic.Linear(6, 3))
    with pytest.raises(mt.IncompleteCapture, match="linear_dynamic in module 1: .*before quantisation"):
        run_step(model, folder, (torch.randn(4, 6),), backward=lambda y: None)


@pytest.mark.parametrize("hook", ["accumulation.Accumulation.note_reached", "accumulation.Accumulation.note_added"])
def test_an_error_in_a_hook_does_not_break_the_backward(hook, folder, monkeypatch):
    def fail(self, value):
        raise RuntimeError("a bug")

    monkeypatch.setattr(f"mercury_lab.torch.{hook}", fail)
    model = nn.Sequential(nn.Linear(6, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(UserWarning, match="RuntimeError: a bug"):
        with mt.capture(model, folder, optimizer=optimizer, every=1, verify=True):
            for _ in range(2):
                sum_weighted(model(torch.randn(4, 6)))
                optimizer.step()
    assert model[0].weight.grad is not None
