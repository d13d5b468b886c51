"""Mixed precision: operands as they were computed with, and gradients without the scaler's factor."""

import warnings

import mercury_lab.torch as mt
import pytest
import torch
from mercury_lab import MercuryError
from torch import nn

from nets import Encoder
from tools import Trace, assert_close, output_gradient, sum_weighted


def test_autocast_stores_what_was_computed_with(folder):
    """ao#568: the call sees f32, but computes in bf16."""
    model = nn.Sequential(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 4))
    x = torch.randn(4, 16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with mt.capture(model, folder, optimizer=optimizer, verify=True, on_error="raise") as capture:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = model(x)
        sum_weighted(y.float())
        optimizer.step()
    assert max(row.error for row in capture.verify()) > 1e-6
    trace = Trace(folder)
    assert_close(trace.values("0", "input"), x.bfloat16(), 0)
    assert_close(trace.values("0", "weight"), model[0].weight.bfloat16(), 0)


def test_autocast_of_attention(folder):
    model = Encoder()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with mt.capture(model, folder, optimizer=optimizer, verify=True, on_error="raise") as capture:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(torch.randn(4, 6, 16)).float().square().sum()
        loss.backward()
        optimizer.step()
    capture.verify()


def run_scaled(model, folder, x, scales, **options):
    """Trains with a GradScaler under fp16; `scales` multiply the losses of the steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    passed = {"scaler": scaler} if options.pop("pass_scaler", True) else {}
    with mt.capture(model, folder, optimizer=optimizer, on_error="raise", **passed, **options) as capture:
        for scale in scales:
            with torch.autocast("cpu", dtype=torch.float16):
                y = model(x)
            scaler.scale((y.float() * output_gradient(y).float()).sum() * scale).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    assert "update" not in vars(scaler)
    return capture


def test_the_scale_is_divided_out(folder):
    model = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 4))
    x = torch.randn(4, 16)
    capture = run_scaled(model, folder, x, [1.0], verify=True)
    capture.verify()
    with torch.autocast("cpu", dtype=torch.float16):
        y = model(x)
    assert_close(Trace(folder).values("2", "grad_output"), output_gradient(y), 1e-3)


def test_an_overflowed_step_is_replaced_by_the_next(folder):
    model = nn.Sequential(nn.Linear(16, 4))
    with pytest.warns(UserWarning, match="step 0 is not captured: the gradients overflowed"):
        run_scaled(model, folder, torch.randn(4, 16), [1e38, 1.0, 1.0])
    trace = Trace(folder)
    assert trace.captured == [0]
    assert [row["step"] for row in trace.steps] == [0, 1]
    assert trace.values("0", "grad_output").abs().max() < 10


def test_a_scaler_that_was_not_given_is_noticed(folder):
    model = nn.Sequential(nn.Linear(16, 4))
    with pytest.raises(MercuryError, match=r"a GradScaler that capture does not know .* scaler="):
        run_scaled(model, folder, torch.randn(4, 16), [1.0], pass_scaler=False)


def test_a_scaler_that_was_not_given_does_not_break_the_training(folder):
    """The warning comes with the first step that is to be captured, not at the end, and once."""
    model = nn.Sequential(nn.Linear(16, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with mt.capture(model, folder, optimizer=optimizer, every=1) as capture:
        for number in range(3):
            scaler.scale(model(torch.randn(4, 16)).sum()).backward()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                scaler.step(optimizer)
            assert len(caught) == (1 if number == 0 else 0)
            assert all("capture: a GradScaler that capture does not know" in str(each.message) for each in caught)
            scaler.update()
        with pytest.warns(UserWarning, match="nothing was captured: a GradScaler"):
            capture.close()
