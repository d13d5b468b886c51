"""Loops that cannot be captured: one clear message, and the training goes on."""

import mercury_lab.torch as mt
import pytest
import torch
from mercury_lab import MercuryError
from torch import nn

from nets import make_net
from tools import Trace, image_batches, run_step, sum_weighted, train


def test_a_warning_instead_of_an_exception(folder):
    """By default, the training is never broken."""
    model = nn.Sequential(nn.ConvTranspose2d(3, 2, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(UserWarning) as caught, mt.capture(model, folder, optimizer=optimizer, every=1):
        for _ in range(3):
            model(torch.randn(2, 3, 4, 4)).sum().backward()
            optimizer.step()
    messages = [str(warning.message) for warning in caught]
    assert sum("conv_transpose2d in module 0" in message and "nothing" not in message for message in messages) == 1
    assert not folder.exists()


def test_an_error_of_the_capture_does_not_break_the_training(folder, monkeypatch):
    model = nn.Sequential(nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def fail(*args):
        raise RuntimeError("a bug")

    monkeypatch.setattr("mercury_lab.torch.observer.gather", fail)
    with pytest.warns(UserWarning, match=r"RuntimeError: a bug .*linear of module 0"):
        with mt.capture(model, folder, optimizer=optimizer, every=1):
            for _ in range(3):
                sum_weighted(model(torch.randn(2, 4)))
                optimizer.step()


def test_neither_optimizer_nor_step(folder):
    model = nn.Linear(4, 2)
    with pytest.warns(UserWarning, match=r"no optimizer step was seen.*optimizer=.*capture.step\(\)"):
        with mt.capture(model, folder):
            sum_weighted(model(torch.randn(2, 4)))
    with pytest.raises(MercuryError, match="no optimizer step was seen"):
        with mt.capture(model, folder, on_error="raise"):
            sum_weighted(model(torch.randn(2, 4)))


def test_step_beside_an_optimizer(folder):
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.raises(MercuryError, match="step: the optimizer"),
        mt.capture(model, folder, optimizer=optimizer) as capture,
    ):
        capture.step()


def run_nothing(model, folder, forward):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with mt.capture(model, folder, optimizer=optimizer):
        for _ in range(2):
            forward()
            optimizer.step()


def test_nothing_was_captured(folder):
    model = nn.Linear(4, 2)
    x = torch.randn(2, 4)
    with pytest.warns(UserWarning, match="nothing was captured: the model computed nothing with gradients"):
        run_nothing(model, folder, lambda: None)
    with pytest.warns(UserWarning, match="nothing was captured: the model computed nothing with gradients"):
        run_nothing(model, folder, torch.no_grad()(lambda: model(x)))
    with pytest.warns(UserWarning, match="nothing was captured: no layer received a gradient; call backward"):
        run_nothing(model, folder, lambda: model(x))
    other = nn.Linear(4, 2)
    with pytest.warns(UserWarning, match="give capture the model that the loop calls"):
        run_nothing(model, folder, lambda: sum_weighted(other(x)))
    model.requires_grad_(False)
    with pytest.warns(UserWarning, match="nothing was captured: all layers are frozen"):
        run_nothing(model, folder, lambda: model(x))
    assert not folder.exists()


def test_no_step_was_chosen(folder):
    with pytest.warns(UserWarning, match="none of the 2 steps was chosen"):
        train(make_net(), image_batches(2, batch=4, size=16), folder, steps=[7])


def test_a_folder_that_exists(folder):
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    model = nn.Linear(4, 2)
    with pytest.raises(MercuryError, match=str(folder)):
        mt.capture(model, folder)


def test_a_smaller_last_batch_is_replaced_by_the_next_step(folder):
    model = make_net()
    batches = list(image_batches(5, batch=4, size=16))
    batches[2] = tuple(tensor[:3] for tensor in batches[2])
    with pytest.warns(UserWarning, match="step 2 is not captured: the step has 3 samples, but the trace has 4"):
        train(model, batches, folder, every=2)
    assert Trace(folder).captured == [0, 3, 4]


def test_rows_may_not_vary(folder):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(x).mean(1)

    batches = [(torch.randn(2, tokens, 4), torch.tensor([0, 1])) for tokens in (5, 6, 5)]
    with pytest.warns(UserWarning, match=r"layer fc has other sizes .*\(rows 5 and now 6\); pad the inputs"):
        train(Model(), batches, folder, every=1)
    assert Trace(folder).captured == [0, 2]


def test_a_batch_that_no_dimension_shows(folder):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            return torch.stack([self.fc(row) for row in x])

    with pytest.raises(
        mt.IncompleteCapture, match=r"linear in module fc: .* does not fit a batch of 3; give batch_axis"
    ):
        run_step(Model(), folder, (torch.randn(3, 4),))


def test_infinite_gradients_without_a_scaler(folder):
    model = nn.Sequential(nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with pytest.warns(UserWarning, match=r"step 0 is not captured: dY of layer 0 is not finite.*scaler="):
        with mt.capture(model, folder, optimizer=optimizer):
            for factor in (float("inf"), 1.0):
                (model(torch.rand(2, 4)) * factor).sum().backward()
                nn.utils.clip_grad_value_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
    assert Trace(folder).captured == [1]


def test_a_closure_is_refused(folder):
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def closure():
        loss = model(torch.randn(2, 4)).sum()
        loss.backward()
        return loss

    with pytest.warns(UserWarning, match="with a closure"), mt.capture(model, folder, optimizer=optimizer):
        optimizer.step(closure)
        optimizer.step(closure)


def test_double_backward_is_refused(folder):
    model = nn.Sequential(nn.Linear(4, 2))

    def backward(y):
        x = y.grad_fn.next_functions and y
        (gradient,) = torch.autograd.grad(x.square().sum(), model[0].weight, create_graph=True)
        gradient.square().sum().backward()

    with pytest.raises(mt.IncompleteCapture, match="create_graph=True"):
        run_step(model, folder, (torch.randn(3, 4),), backward=backward)


def test_weights_that_change_between_accumulated_batches(folder):
    model = nn.Sequential(nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(mt.IncompleteCapture, match="its weight changed between two forwards"):
        with mt.capture(model, folder, optimizer=optimizer, on_error="raise"):
            for _ in range(2):
                sum_weighted(model(torch.randn(3, 4)))
                with torch.no_grad():
                    model[0].weight.add_(1)
            optimizer.step()


def test_verify_finds_a_lost_call(folder, monkeypatch):
    """A product that is hidden from the capture changes the weight's gradient."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(self.fc(x)) + (x.unsqueeze(1) * self.fc.weight).sum(-1)

    _, _, capture = run_step(Model(), folder, (torch.randn(3, 4),))
    with pytest.raises(MercuryError, match=r"verify: .*fc.weight has a relative error of 0\.\d+ in step 0"):
        capture.verify()


def test_verify_needs_its_option_and_a_step(folder):
    model = nn.Linear(4, 2)
    _, _, capture = run_step(model, folder, (torch.randn(2, 4),), verify=False)
    with pytest.raises(MercuryError, match="verify=True"):
        capture.verify()


def test_a_folder_that_another_capture_took_meanwhile(folder):
    models = [nn.Sequential(nn.Linear(4, 2)) for _ in range(2)]
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in models]
    first = mt.capture(models[0], folder, optimizer=optimizers[0])
    second = mt.capture(models[1], folder, optimizer=optimizers[1])
    for model in models:
        sum_weighted(model(torch.randn(3, 4)))
    optimizers[0].step()
    with pytest.warns(UserWarning, match=str(folder)):
        optimizers[1].step()
    with pytest.raises(MercuryError, match=str(folder)):
        mt.capture(models[0], folder)
    first.close()
    with pytest.warns(UserWarning, match="nothing was captured"):
        second.close()
    assert Trace(folder).captured == [0]
