"""Trainings: no change by the capture, accumulation, evaluation, frozen and unused parts."""

import copy
import warnings

import mercury_lab.torch as mt
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nets import Decoder, Encoder, make_net, sequence_batches, token_batches, token_loss
from tools import Trace, assert_close, image_batches, output_gradient, run_step, sum_weighted, train

TRAININGS = {
    "convolutions": (make_net, lambda: list(image_batches(4, batch=4, size=16)), F.cross_entropy),
    "attention": (Encoder, lambda: list(sequence_batches(4)), F.cross_entropy),
    "decoder": (Decoder, lambda: list(token_batches(4)), token_loss),
}


@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.parametrize("options", [{}, {"samples": 1, "verify": True}], ids=["whole", "sampled"])
def test_a_captured_training_ends_with_the_same_weights(name, options, folder):
    make, batches, loss_fn = TRAININGS[name]
    model, data = make(), batches()
    plain = copy.deepcopy(model)
    torch.manual_seed(5)
    train(plain, data, loss_fn=loss_fn)
    expected_random = torch.rand(3)
    torch.manual_seed(5)
    train(model, data, folder, loss_fn=loss_fn, every=2, on_error="raise", **options)
    assert torch.equal(torch.rand(3), expected_random)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    assert Trace(folder).captured == [0, 2]


def test_accumulated_batches_are_samples_of_one_step(folder):
    model = make_net().eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    batches = list(image_batches(3, batch=2, size=16))
    with mt.capture(model, folder, optimizer=optimizer, verify=True, on_error="raise") as capture:
        for x, y in batches:
            F.cross_entropy(model(x), y).backward()
        optimizer.step()
    capture.verify()
    trace = Trace(folder)
    assert trace.manifest["training"]["batch_size"] == 6
    assert trace.manifest["captured"][0]["samples"] == list(range(6))
    assert_close(trace.values("0", "input"), torch.cat([x for x, _ in batches]))


def test_accumulation_keeps_a_sample_of_all_batches(folder):
    model = nn.Sequential(nn.Linear(4, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    batches = [torch.randn(4, 4) for _ in range(5)]
    with mt.capture(model, folder, optimizer=optimizer, samples=3, seed=2, on_error="raise") as capture:
        for x in batches:
            sum_weighted(model(x))
        capture.log(dataset_indices=range(100, 120))
        optimizer.step()
    trace = Trace(folder)
    captured = trace.manifest["captured"][0]
    assert len(captured["samples"]) == 3 and captured["samples"][-1] >= 4
    assert captured["dataset_indices"] == [100 + sample for sample in captured["samples"]]
    assert_close(trace.values("0", "input"), torch.cat(batches)[captured["samples"]])
    dy = output_gradient(torch.empty(4, 3)).repeat(5, 1)
    assert_close(trace.values("0", "grad_output"), dy[captured["samples"]])


def test_forwards_that_do_not_train_are_no_samples(folder):
    """An adversarial input needs gradients of its own; an evaluation may lack no_grad."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    x = torch.randn(3, 4, requires_grad=True)
    with mt.capture(model, folder, optimizer=optimizer, verify=True, on_error="raise") as capture:
        for _ in range(2):
            (gradient,) = torch.autograd.grad(model(x).square().sum(), x)
        model(torch.randn(5, 4))
        adversarial = (x + gradient.sign()).detach()
        y = model(adversarial)
        torch.autograd.grad(y.sum(), y, retain_graph=True)
        torch.autograd.grad(y.sum(), model[0].bias, retain_graph=True)
        sum_weighted(y)
        optimizer.step()
    capture.verify()
    trace = Trace(folder)
    assert trace.manifest["training"]["batch_size"] == 3
    assert trace.manifest["captured"][0]["samples"] == [0, 1, 2]
    assert_close(trace.values("0", "input"), adversarial)
    assert_close(trace.values("2", "grad_output"), output_gradient(y))


def test_a_captured_step_frees_its_tensors(folder):
    """The loop's loss keeps the graph with its hooks until the next step."""
    model = Decoder(dropout=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    (x, y) = next(token_batches(1))
    with mt.capture(model, folder, optimizer=optimizer, on_error="raise") as capture:
        loss = token_loss(model(x), y)
        step = capture.recorder.step
        assert sum(call.x.numel() for call in step.calls) > 1000
        loss.backward()
        optimizer.step()
        assert all(call.x is call.w is call.dy is call.attention is None for call in step.calls)
        assert capture.recorder.step is None
    assert loss.grad_fn is not None


def test_only_the_kept_part_is_held_during_a_step(folder):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with mt.capture(model, folder, optimizer=optimizer, samples=2, channels=4, filters=2, on_error="raise") as capture:
        y = model(torch.randn(32, 3, 16, 16))
        first, second = capture.recorder.step.calls
        assert (first.x.shape, second.x.shape) == ((2, 3, 16, 16), (2, 4, 14, 14))
        assert (first.w.shape, second.w.shape) == ((2, 27), (2, 72))
        sum_weighted(y)
        assert [tuple(dy.shape) for dy in second.gradients.values()] == [(2, 4, 12, 12)]
        optimizer.step()


def test_evaluation_in_a_captured_step_is_ignored(folder):
    """opacus#176: an evaluation under no_grad keeps no activations."""
    model = make_net()
    x, y = next(image_batches(1, batch=4, size=16))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with mt.capture(model, folder, optimizer=optimizer, verify=True, on_error="raise") as capture:
        model.eval()
        with torch.no_grad():
            model(torch.randn(7, 3, 16, 16))
        with torch.inference_mode():
            model(torch.randn(7, 3, 16, 16))
        assert not capture.recorder.step.calls and not capture.recorder.step.forwards
        model.train()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    capture.verify()
    assert Trace(folder).manifest["training"]["batch_size"] == 4


def test_encoder_fast_path_is_not_taken_when_training(folder):
    """pytorch#128413: the encoder's fast path calls no module."""
    model = Encoder().eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with mt.capture(model, folder, optimizer=optimizer, verify=True, on_error="raise") as capture:
        with torch.no_grad():
            model(torch.randn(4, 6, 16))
        model(torch.randn(4, 6, 16)).square().sum().backward()
        optimizer.step()
    capture.verify()
    assert "encoder.layers.1.self_attn.context" in Trace(folder).layers


def test_a_frozen_part_is_captured_without_its_gradients(folder):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    model[0].requires_grad_(False)
    model[4].requires_grad_(False)
    with pytest.warns(UserWarning, match="captured without dY, because they have no gradients: 0"):
        trace, _, capture = run_step(model, folder, (torch.randn(3, 4),))
    capture.verify()
    grads = {name: (layer["input_grad"], layer["weight_grad"]) for name, layer in trace.layers.items()}
    assert grads == {"0": (False, False), "2": (False, True), "4": (True, False)}
    assert ("0", "grad_output") not in trace.files(0) and ("0", "weight") in trace.files(0)


def test_layers_that_thaw_are_named(folder):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(UserWarning, match="layer 0 was frozen when it was first captured"):
        with mt.capture(model, folder, optimizer=optimizer, every=1):
            for _ in range(2):
                sum_weighted(model(torch.randn(3, 4)))
                optimizer.step()
                model[0].requires_grad_(True)
    assert ("0", "grad_output") in Trace(folder).files(1)


def test_a_result_without_part_in_the_loss_is_left_out(folder):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x):
            self.unused(x)
            return self.used(x)

    with pytest.warns(UserWarning, match="layer unused is left out .* no part in the loss"):
        trace, _, capture = run_step(Model(), folder, (torch.randn(3, 4),))
    assert {name for name, _ in trace.files(0)} == {"used"}
    assert "no part in the loss" in str(capture.coverage())


def test_a_module_that_is_unused_in_some_steps_adds_its_layer_later(folder):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.wide = nn.Linear(4, 4), nn.Linear(4, 4), False

        def forward(self, x):
            return self.b(self.a(x)) if self.wide else self.a(x)

    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with mt.capture(model, folder, optimizer=optimizer, every=1, filters=2, on_error="raise"):
        for wide in (False, True, False):
            model.wide = wide
            sum_weighted(model(torch.randn(2, 4)))
            optimizer.step()
    trace = Trace(folder)
    assert list(trace.layers) == ["a", "b"]
    assert [len(trace.files(step)) for step in range(3)] == [3, 6, 3]
    assert len(trace.manifest["sampling"]["filters"]["b"]) == 2


def test_two_backward_passes_add_up(folder):
    model = nn.Sequential(nn.Linear(4, 3))

    def backward(y):
        y.square().sum().backward(retain_graph=True)
        sum_weighted(y)

    trace, y, capture = run_step(model, folder, (torch.randn(2, 4),), backward=backward)
    capture.verify()
    assert_close(trace.values("0", "grad_output"), 2 * y + output_gradient(y))


def test_no_warnings_in_a_plain_training(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(make_net(), image_batches(3, batch=4, size=16), folder, every=1)


def test_a_part_without_gradients_is_ignored_whatever_it_computes(folder):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.teacher, self.fc = nn.Sequential(nn.ConvTranspose1d(4, 4, 1), nn.Flatten()), nn.Linear(4, 2)

        def forward(self, x):
            with torch.no_grad():
                target = self.teacher(x.unsqueeze(-1))
            return self.fc(x + target)

    trace, _, capture = run_step(Model(), folder, (torch.randn(3, 4),))
    assert list(trace.layers) == ["fc"]
    assert "teacher.0.conv_transpose1d" in str(capture.coverage())
