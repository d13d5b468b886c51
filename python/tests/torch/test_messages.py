"""What a capture says about itself: coverage, the number of captured steps, the time of a step."""

import time
import warnings

import mercury_lab.torch as mt
import pytest
import torch
from mercury_lab.torch.output import TraceOutput
from torch import nn

from nets import make_net
from tools import Trace, image_batches, run_step, train


def make_upsampling(count):
    """A linear layer and `count` transposed convolutions."""
    parts = [nn.Unflatten(1, (4, 1, 1)), *(nn.ConvTranspose2d(4, 4, 1) for _ in range(count)), nn.Flatten()]
    return nn.Sequential(nn.Linear(6, 4), *parts)


def read_first_line(capture):
    return str(capture.coverage()).splitlines()[0]


@pytest.mark.parametrize(
    "count, end",
    [
        (0, ""),
        (1, ", and 1 operation whose products are not captured: conv_transpose2d in 2"),
        (
            5,
            ", and 5 operations whose products are not captured: conv_transpose2d in 2, conv_transpose2d in 3, "
            "conv_transpose2d in 4, …",
        ),
    ],
)
def test_coverage_says_at_once_what_is_missing(count, end, folder):
    _, _, capture = run_step(make_upsampling(count), folder, (torch.randn(3, 6),), on_unsupported="list")
    assert read_first_line(capture) == "captured 24 of 24 MACs per sample (forward)" + end


def test_coverage_after_a_refused_step_has_the_layers_that_were_seen(folder):
    model = make_upsampling(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(UserWarning, match="conv_transpose2d"), mt.capture(model, folder, optimizer=optimizer) as capture:
        model(torch.randn(3, 6)).sum().backward()
        optimizer.step()
    missing = "and 1 operation whose products are not captured: conv_transpose2d in 2"
    assert read_first_line(capture) == f"captured 0 of 24 MACs per sample (forward), {missing}"
    assert "left out: 0 in 0: no step was captured with it" in str(capture.coverage())


def test_coverage_counts_unknown_operations(folder):
    @torch.library.custom_op("mercury_test::triple", mutates_args=())
    def triple(x: torch.Tensor) -> torch.Tensor:
        return x * 3

    triple.register_autograd(lambda ctx, gradient: gradient * 3)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 4)

        def forward(self, x):
            return triple(self.fc(x))

    with pytest.warns(UserWarning, match="is not known"):
        _, _, capture = run_step(Model(), folder, (torch.randn(3, 6),))
    assert read_first_line(capture).endswith(
        ", and 1 operation that may compute products: mercury_test::triple in model"
    )


@pytest.mark.parametrize("options, steps", [({"every": 50}, 60), ({"every": 4}, 2), ({"every": 4, "steps": [1]}, 3)])
def test_a_trace_without_steady_state_is_noticed(options, steps, folder):
    model = nn.Linear(4, 2)
    with pytest.warns(UserWarning) as caught, mt.capture(model, folder, **options) as capture:
        for _ in range(steps):
            model(torch.randn(3, 4)).sum().backward()
            capture.step()
    count = len(Trace(folder).captured)
    message = (
        f"capture: captured {count} of {steps} training steps (every={options['every']}); a replay needs 3 or more"
    )
    assert [str(warning.message)[: len(message)] for warning in caught] == [message]


@pytest.mark.parametrize("options", [{"every": 1}, {"steps": [0]}])
def test_enough_steps_and_chosen_ones_are_not_noted(options, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(make_net(), image_batches(3, batch=4, size=16), folder, **options)


def test_the_time_of_a_step_includes_its_capture(folder, monkeypatch):
    """As in `mercury-tracer`; the rows' times add up to that of the loop."""
    write_step = TraceOutput.write_step

    def write_slowly(self, *args):
        time.sleep(0.3)
        write_step(self, *args)

    monkeypatch.setattr(TraceOutput, "write_step", write_slowly)
    began = time.perf_counter()
    train(make_net(), image_batches(3, batch=4, size=16), folder, steps=[1])
    passed = time.perf_counter() - began
    seconds = [row["seconds"] for row in Trace(folder).steps]
    assert seconds[1] >= 0.3 > max(seconds[0], seconds[2])
    assert sum(seconds) <= passed


def test_what_is_not_logged_is_not_a_number(folder):
    train(make_net(), image_batches(1, batch=4, size=16), folder, steps=[0])
    [row] = Trace(folder).steps
    assert row["loss"] > 0 and row["accuracy"] != row["accuracy"]


def test_forwards_without_backward_and_eval_mode_are_named(folder):
    model = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Linear(5, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(UserWarning) as found:
        with mt.capture(model, folder, optimizer=optimizer, steps=[0, 7]):
            model(torch.randn(3, 4))
            model.eval()
            model(torch.randn(6, 4)).square().mean().backward()
            optimizer.step()
    texts = [str(warning.message) for warning in found]
    assert any("a forward of 3 samples had no backward" in text for text in texts)
    assert any("in eval mode in a captured step" in text for text in texts)
    assert any("steps 7 were not reached: the training ended with step 0" in text for text in texts)
    trace = Trace(folder)
    assert trace.manifest["captured"][0]["samples"] == list(range(6))
