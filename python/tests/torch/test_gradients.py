"""Only backward passes count whose gradients the optimizer uses."""

import mercury_lab
import mercury_lab.torch as mt
import pytest
import torch
from mercury_lab.torch import assemble
from torch import nn

from tools import Trace, assert_close, output_gradient, run_step, sum_weighted


def make_pair():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))


def discard_by_optimizer(model, optimizer):
    optimizer.zero_grad()


def discard_by_module(model, optimizer):
    model.zero_grad()


def discard_to_zero(model, optimizer):
    optimizer.zero_grad(set_to_none=False)


def discard_by_hand(model, optimizer):
    for parameter in model.parameters():
        parameter.grad = None


def discard_data(model, optimizer):
    for parameter in model.parameters():
        parameter.grad.data.zero_()


DISCARDS = [discard_by_optimizer, discard_by_module, discard_to_zero, discard_by_hand, discard_data]


def check_step(trace, capture, x, model, step=0):
    capture.verify()
    assert len(trace.manifest["captured"][step]["samples"]) == len(x)
    assert_close(trace.values("0", "input", step), x)
    dw = trace.values("0", "grad_output", step).T @ trace.values("0", "input", step)
    assert_close(dw, model[0].weight.grad)


@pytest.mark.parametrize("discard", DISCARDS)
@pytest.mark.parametrize("after_forward", [False, True])
def test_a_discarded_gradient_is_none(discard, after_forward, folder):
    model, x = make_pair(), torch.randn(4, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with mt.capture(model, folder, optimizer=optimizer, verify=True, on_error="raise") as capture:
        model(torch.randn(4, 6)).sum().backward()
        if after_forward:
            y = model(x)
            discard(model, optimizer)
        else:
            discard(model, optimizer)
            y = model(x)
        sum_weighted(y)
        optimizer.step()
    check_step(Trace(folder), capture, x, model)


@pytest.mark.parametrize("samples", [2, 6])
def test_a_discarded_forward_takes_no_place_of_a_kept_sample(samples, folder):
    model = make_pair()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with mt.capture(model, folder, optimizer=optimizer, samples=samples, on_error="raise"):
        for _ in range(3):
            model(torch.randn(16, 6)).sum().backward()
            optimizer.zero_grad()
        sum_weighted(model(torch.randn(16, 6)))
        optimizer.step()
    assert len(Trace(folder).manifest["captured"][0]["samples"]) == samples


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("set_to_none", [False, True])
def test_accumulation_counts_whole_wherever_the_gradient_is_reset(place, set_to_none, folder):
    model = make_pair()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    batches = torch.randn(3, 2, 4, 6)
    with mt.capture(model, folder, optimizer=optimizer, every=1, verify=True, on_error="raise") as capture:
        for step in range(3):
            if place == "first":
                optimizer.zero_grad(set_to_none=set_to_none)
            for x in batches[step]:
                sum_weighted(model(x))
            grad = model[0].weight.grad.clone()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            if place == "last":
                optimizer.zero_grad(set_to_none=set_to_none)
    capture.verify()
    trace = Trace(folder)
    assert trace.manifest["training"]["batch_size"] == 8
    for step in range(3):
        assert_close(trace.values("0", "input", step), batches[step].flatten(0, 1))
    assert_close(trace.values("0", "grad_output", 2).T @ trace.values("0", "input", 2), grad)


def test_the_discriminator_of_a_gan_has_no_samples_of_the_generator(folder, recwarn):
    discriminator, generator = make_pair(), nn.Linear(3, 6)
    optimizer = torch.optim.SGD(discriminator.parameters(), lr=0.0)
    other = torch.optim.SGD(generator.parameters(), lr=0.01)
    inputs, grads = [], []
    with mt.capture(discriminator, folder, optimizer=optimizer, every=1, verify=True, on_error="raise") as capture:
        for _ in range(3):
            optimizer.zero_grad()
            real, fake = torch.randn(4, 6), generator(torch.randn(4, 3))
            (discriminator(fake.detach()).mean() - discriminator(real).mean()).backward()
            inputs.append(torch.cat([fake.detach(), real]))
            grads.append(discriminator[0].weight.grad.clone())
            optimizer.step()
            other.zero_grad()
            (-discriminator(fake).mean()).backward()
            other.step()
    capture.verify()
    assert not any("frozen" in str(warning.message) for warning in recwarn)
    trace = Trace(folder)
    assert trace.captured == [0, 1, 2]
    for step in range(3):
        x, dy = trace.values("0", "input", step), trace.values("0", "grad_output", step)
        assert_close(x, inputs[step])
        assert_close(dy.T @ x, grads[step])


def test_gradients_that_are_discarded_before_the_step_are_named(folder):
    model = make_pair()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with pytest.warns(UserWarning, match="its gradients were discarded before the optimizer step"):
        with mt.capture(model, folder, optimizer=optimizer, steps=[0]):
            model(torch.randn(4, 6)).sum().backward()
            optimizer.zero_grad()
            optimizer.step()


def test_assigned_gradients_count(folder):
    model, x = make_pair(), torch.randn(4, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with mt.capture(model, folder, optimizer=optimizer, verify=True, on_error="raise") as capture:
        y = model(x)
        gradients = torch.autograd.grad((y * output_gradient(y)).sum(), list(model.parameters()))
        for parameter, gradient in zip(model.parameters(), gradients):
            parameter.grad = gradient
        optimizer.step()
    check_step(Trace(folder), capture, x, model)


def test_verify_compares_with_the_change_of_grad(folder):
    """A hook of the loop that changes the gradient is seen, as it is part of the training."""
    model = make_pair()
    model[0].weight.register_hook(lambda gradient: gradient * 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with mt.capture(model, folder, optimizer=optimizer, verify=True, on_error="raise") as capture:
        sum_weighted(model(torch.randn(4, 6)))
        optimizer.step()
    with pytest.raises(mercury_lab.MercuryError, match="0.weight has a relative error of 0.5"):
        capture.verify()


def test_the_step_may_come_after_zero_grad_without_an_optimizer(folder):
    model, x = make_pair(), torch.randn(4, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with mt.capture(model, folder, on_error="raise") as capture:
        sum_weighted(model(x))
        optimizer.step()
        optimizer.zero_grad()
        capture.step()
    assert_close(Trace(folder).values("0", "input"), x)


class Stop(torch.autograd.Function):
    """Passes no gradient on."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return None


class HalfStopped(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return Stop.apply(self.first(x)) + self.second(x)


@pytest.mark.parametrize("verify", [False, True])
def test_a_function_without_a_gradient_breaks_nothing(verify, folder):
    model = HalfStopped()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(UserWarning, match="layer first is left out"):
        with mt.capture(model, folder, optimizer=optimizer, every=1, verify=verify) as capture:
            for _ in range(3):
                model(torch.randn(4, 6)).sum().backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=False)
    assert Trace(folder).captured == [0, 1, 2]
    if verify:
        capture.verify()


def test_sparse_gradients(folder):
    embedding = nn.Embedding(10, 6, sparse=True)
    trace, _, capture = run_step(nn.Sequential(embedding, nn.Linear(6, 3)), folder, (torch.randint(10, (4, 5)),))
    assert embedding.weight.grad.is_sparse
    assert len(capture.verify()) == 2


@pytest.mark.parametrize("loss_reduction", ["mean", "sum"])
def test_verify_checks_what_is_written(loss_reduction, folder, monkeypatch):
    """A mistake between the hooks and the files: the samples of accumulated batches change places."""
    join = assemble.join

    def join_reversed(layer, kind, calls, step):
        values = join(layer, kind, calls, step)
        return values.flip(0) if (layer.name, kind) == ("0", "input") else values

    for place, function in (("right", join), ("wrong", join_reversed)):
        monkeypatch.setattr(assemble, "join", function)
        model = make_pair()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        options = {"verify": True, "on_error": "raise", "loss_reduction": loss_reduction}
        with mt.capture(model, folder / place, optimizer=optimizer, **options) as capture:
            for _ in range(2):
                sum_weighted(model(torch.randn(4, 6)))
            optimizer.step()
        if place == "right":
            assert len(capture.verify()) == 2
        else:
            with pytest.raises(mercury_lab.MercuryError, match="1 of 2 weights .*0.weight has a relative error"):
                capture.verify()


def test_a_forward_that_fails_after_a_discard_is_forgotten(folder):
    class Fragile(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 2)

        def forward(self, x, fails=False):
            y = self.fc(x)
            if fails:
                raise RuntimeError("out of memory")
            return y

    model, x = Fragile(), torch.randn(4, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with mt.capture(model, folder, optimizer=optimizer, verify=True, on_error="raise") as capture:
        sum_weighted(model(torch.randn(4, 6)))
        optimizer.zero_grad()
        with pytest.raises(RuntimeError, match="out of memory"):
            model(torch.randn(4, 6), fails=True)
        sum_weighted(model(x))
        optimizer.step()
    capture.verify()
    assert_close(Trace(folder).values("fc", "input"), x)
