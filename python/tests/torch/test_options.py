"""Options: what is kept, which steps are captured, and the messages about wrong values."""

import json
import shutil

import mercury_lab.torch as mt
import pytest
import torch
from mercury_lab import MercuryError
from torch import nn

from nets import make_net
from tools import Trace, assert_close, image_batches, output_gradient, run_step, sum_weighted, train

WRONG = {
    "every": [0, -1, 1.5, "10", True],
    "steps": ["1,2", 3, [-1], [1.5], []],
    "samples": [0, "8"],
    "channels": [0],
    "filters": [0, 2.0],
    "layers": [[3], [""]],
    "passes": [["input-grad"], ["forward", "sideways"], "backward"],
    "max_bytes": ["12 parsecs", 0, -5, "MB"],
    "dtype": ["bf16", torch.float32],
    "seed": [-1, "x"],
    "label": ["", "two\nlines", 7, "x" * 101],
    "batch_axis": [-1, "0", {"fc": "x"}],
    "dataset": [3, {"nome": "x"}],
    "resume": [-1, "yes"],
    "loss_reduction": ["none", None],
    "name": ["", "two\nlines", 7],
    "on_error": ["ignore"],
    "on_unsupported": ["warn"],
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_values_are_named(name, folder):
    model = nn.Linear(2, 2)
    for value in WRONG[name]:
        with pytest.raises((TypeError, ValueError), match=name):
            mt.capture(model, folder, **{name: value})
    assert not folder.exists()


def test_wrong_models_and_optimizers_are_named(folder):
    with pytest.raises(TypeError, match="model is function"):
        mt.capture(lambda x: x, folder)
    with pytest.raises(ValueError, match="DataParallel"):
        mt.capture(nn.DataParallel(nn.Linear(2, 2)), folder)
    with pytest.raises(ValueError, match="meta device"):
        mt.capture(nn.Linear(2, 2, device="meta"), folder)
    split = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    with pytest.raises(ValueError, match=r"several devices \(cpu, meta\)"):
        mt.capture(split, folder)
    with pytest.raises(TypeError, match="optimizer is dict"):
        mt.capture(nn.Linear(2, 2), folder, optimizer={})
    model = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="scaler is int"):
        mt.capture(model, folder, scaler=1024)
    with pytest.warns(UserWarning, match="optimizer has no parameter of model"):
        mt.capture(model, folder, optimizer=torch.optim.SGD(nn.Linear(2, 2).parameters())).close(failed=True)
    with pytest.raises(ValueError, match="LBFGS"):
        mt.capture(model, folder, optimizer=torch.optim.LBFGS(model.parameters()))
    with pytest.raises(TypeError):
        mt.capture(model, folder, frequency=3)


def test_channels_and_filters(folder):
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 12, 3), nn.Flatten(), nn.Linear(12 * 4 * 4, 5))
    x = torch.randn(4, 3, 8, 8)
    trace, y, capture = run_step(model, folder, (x,), samples=2, channels=4, filters=6)
    capture.verify()
    sampling = trace.manifest["sampling"]
    samples = trace.manifest["captured"][0]["samples"]
    assert sampling["samples"] == len(samples) == 2
    assert {name: len(kept) for name, kept in sampling["channels"].items()} == {"1": 4}
    assert {name: len(kept) for name, kept in sampling["filters"].items()} == {"0": 6, "1": 6}
    channels, filters = sampling["channels"]["1"], sampling["filters"]["1"]
    hidden = model[0](x)
    assert_close(trace.values("1", "input"), hidden[samples][:, channels])
    assert_close(trace.values("1", "weight"), model[1].weight[filters])
    first = model[1](hidden)
    (dy,) = torch.autograd.grad(model[3](first.flatten(1)), first, output_gradient(y))
    assert_close(trace.values("1", "grad_output"), dy[samples][:, sampling["grad_channels"]["1"]])
    assert set(filters) <= set(sampling["grad_channels"]["1"])
    assert trace.keys("1", "input") == {"sample": sorted(samples * 4), "channel": channels * 2}


def test_layers_and_passes(folder):
    model = make_net()
    x, _ = next(image_batches(1, batch=4, size=16))
    trace, _, capture = run_step(model, folder, (x,), layers=["4", "8*"], passes=["forward"])
    assert trace.files(0) == {(layer, kind) for layer in ("4", "8") for kind in ("input", "weight")}
    assert list(trace.layers) == ["0", "4", "8"]
    assert trace.manifest["sampling"]["passes"] == ["forward"]
    assert "not chosen" in str(capture.coverage())


def test_a_pattern_without_layers_is_an_error(folder):
    x, _ = next(image_batches(1, batch=4, size=16))
    with pytest.raises(ValueError, match=r"layers contains 'conv\*', which matches none of 0, 4, 8"):
        run_step(make_net(), folder, (x,), layers=["0", "conv*"])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"layers": "conv*"}, r"^layers contains 'conv\*', which matches none of 0, 4, 8$"),
        ({"max_bytes": 1000}, "^max_bytes is 1000, but one step may need"),
        ({"batch_axis": 4}, "^batch_axis is 4, but the model's first tensor has the shape"),
        ({"batch_axis": {"fc": 1}}, "^batch_axis contains 'fc', which matches none of input, 0, 4, 8$"),
    ],
)
def test_mistakes_in_arguments_raise_in_the_first_captured_step(options, message, folder):
    """Also without on_error="raise": the training would run to its end without a trace."""
    model = make_net()
    before = model[0].weight.clone()
    with pytest.raises(ValueError, match=message):
        train(model, image_batches(3, batch=4, size=16), folder, **options)
    assert torch.equal(model[0].weight, before)
    assert not folder.exists()


def test_mistakes_in_later_steps_do_not_break_the_training(folder):
    model = nn.Linear(4, 2)
    with pytest.warns(UserWarning) as caught, mt.capture(model, folder, every=1) as capture:
        for indices in ([0, 1, 2], [0, 1], [0, 1, 2]):
            sum_weighted(model(torch.randn(3, 4)))
            capture.log(dataset_indices=indices)
            capture.step()
    assert str(caught[0].message) == "capture: dataset_indices has 2 entries, but the step has 3 samples"
    assert Trace(folder).captured == [0]
    assert [row["step"] for row in Trace(folder).steps] == [0, 1, 2]


def test_a_summed_loss_is_divided_by_the_batch(folder, tmp_path):
    model = nn.Sequential(nn.Linear(4, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    batches = [(torch.randn(size, 4), torch.tensor([0, 1, 2, 0])[:size]) for size in (4, 2)]
    gradients = {}
    for reduction in ("sum", "mean"):
        options = {"loss_reduction": reduction, "verify": True, "on_error": "raise"}
        with mt.capture(model, tmp_path / reduction, optimizer=optimizer, **options) as capture:
            for x, y in batches:
                loss = nn.functional.cross_entropy(model(x), y, reduction="sum")
                (loss if reduction == "sum" else loss / 6).backward()
            optimizer.step()
            optimizer.zero_grad()
        capture.verify()
        trace = Trace(tmp_path / reduction)
        assert trace.manifest["training"]["settings"]["loss_reduction"] == reduction
        gradients[reduction] = trace.values("0", "grad_output")
    assert_close(gradients["sum"], gradients["mean"])


def test_the_model_has_the_given_name(folder, tmp_path):
    x, _ = next(image_batches(1, batch=4, size=16))
    assert run_step(make_net(), folder, (x,))[0].manifest["model"]["name"] == "Sequential"
    trace, _, _ = run_step(make_net(), tmp_path / "named", (x,), name="tiny-net")
    assert trace.manifest["model"]["name"] == "tiny-net"


def test_unsupported_operations_elsewhere_do_not_matter(folder):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 4, 3))
    trace, _, _ = run_step(model, folder, (torch.randn(2, 3, 5, 5),), layers=["0"])
    assert list(trace.layers) == ["0"]


@pytest.mark.parametrize(
    "options, expected",
    [({"every": 3}, [0, 3, 6]), ({"steps": [1, 5]}, [1, 5]), ({"every": 3, "steps": [1]}, [0, 1, 3, 6])],
)
def test_steps(options, expected, folder):
    train(make_net(), image_batches(7, batch=4, size=16), folder, **options)
    trace = Trace(folder)
    assert trace.captured == expected
    assert [row["step"] for row in trace.steps] == list(range(7))
    assert [row["step"] for row in trace.steps if row["captured"]] == expected


def test_max_bytes_stops_the_capture(folder):
    with pytest.warns(UserWarning, match="max_bytes is reached before step 2"):
        train(make_net(), image_batches(5, batch=4, size=16), folder, every=1, max_bytes="200KB")
    assert Trace(folder).captured == [0, 1]


def test_max_bytes_below_one_step(folder):
    with pytest.raises(ValueError, match="max_bytes is 1000, but one step may need"):
        train(make_net(), image_batches(1, batch=4, size=16), folder, max_bytes=1000, on_error="raise")


def test_sizes_with_units():
    sizes = {"500MB": 500_000_000, "2GiB": 2 << 30, "1.5 kib": 1536, 7: 7, "12": 12}
    assert {text: mt.options.parse_bytes(text) for text in sizes} == sizes


def test_resume_continues_a_trace(folder):
    torch.manual_seed(1)
    model = make_net()
    batches = list(image_batches(9, batch=4, size=16))
    options = {"every": 2, "samples": 2, "filters": 3, "on_error": "raise"}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(InterruptedError), mt.capture(model, folder, optimizer=optimizer, **options):
        for x, y in batches[:6]:
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        raise InterruptedError
    assert not Trace(folder).manifest["complete"]
    assert Trace(folder).captured == [0, 2, 4]
    with pytest.raises(ValueError, match="filters differs from that of the resumed trace"):
        mt.capture(model, folder, optimizer=optimizer, resume=3, **{**options, "filters": 4})
    with pytest.raises(ValueError, match="layers contains 'conv', which matches none of 0, 4, 8"):
        mt.capture(model, folder, optimizer=optimizer, resume=3, layers="conv", **options)
    train(model, batches[3:], folder, resume=3, **options)
    trace = Trace(folder)
    assert trace.captured == [0, 2, 4, 6, 8]
    assert [row["step"] for row in trace.steps] == list(range(9))
    assert trace.manifest["complete"]


def test_resume_at_0_begins_a_trace(folder):
    """A loop that always passes its first step works in its first run, and after a kill before the first step."""
    for prepare in (lambda: None, folder.mkdir):
        prepare()
        train(make_net(), image_batches(3, batch=4, size=16), folder, every=1, resume=0, on_error="raise")
        assert Trace(folder).captured == [0, 1, 2]
        shutil.rmtree(folder)
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
    with pytest.raises(MercuryError, match=r"resume is 5, but .*trace has no trace of the steps before"):
        mt.capture(make_net(), folder, optimizer=optimizer, resume=5)
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(MercuryError, match=str(folder)):
        mt.capture(make_net(), folder, optimizer=optimizer, resume=0)


def test_resume_at_0_of_a_trace_without_steps(folder):
    model = make_net()
    train(model, image_batches(1, batch=4, size=16), folder, every=1)
    manifest = Trace(folder).manifest | {"captured": [], "complete": False}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    train(model, image_batches(3, batch=4, size=16), folder, every=1, resume=0, on_error="raise")
    assert Trace(folder).captured == [0, 1, 2]


def test_half_precision_is_recorded_in_the_manifest(folder):
    trace, _, _ = run_step(nn.Sequential(nn.Linear(4, 2)), folder, (torch.randn(2, 4),), dtype="f16")
    assert trace.manifest["sampling"]["dtype"] == "f16"


@pytest.mark.parametrize("axis", [1, {"*": 1, "input": 1}])
def test_sequence_first_model_with_batch_axis(axis, folder):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.out = nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x):
            tokens, batch, _ = x.shape
            return self.out(self.fc(x).tanh().reshape(tokens * batch, 8)).view(tokens, batch, 3)

    x = torch.randn(5, 3, 4)
    trace, y, capture = run_step(Model(), folder, (x,), batch_axis=axis)
    capture.verify()
    assert trace.manifest["training"]["batch_size"] == 3
    assert_close(trace.values("fc", "input"), x.transpose(0, 1))
    assert_close(trace.values("out", "grad_output"), output_gradient(y).transpose(0, 1))


def test_an_ambiguous_batch_axis_is_asked_for(folder):
    """A sequence-first encoder, and as many tokens as samples: the head may see either order."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn, self.head = nn.MultiheadAttention(8, 2), nn.Linear(8, 3)

        def forward(self, x):
            x = x.transpose(0, 1)
            return self.head(self.attn(x, x, x)[0]).transpose(0, 1)

    x = torch.randn(4, 4, 8)
    with pytest.raises(mt.IncompleteCapture, match=r"linear in module head: .*batch_first=False; give batch_axis"):
        run_step(Model(), folder, (x,), check_samples=False)
    trace, y, capture = run_step(Model(), folder, (x,), batch_axis={"head": 1}, check_samples=False)
    capture.verify()
    assert_close(trace.values("head", "grad_output"), output_gradient(y))
    assert_close(trace.values("attn.in_proj", "input"), x)


def test_sum_weighted_is_what_the_tests_compare_with():
    y = torch.zeros(2, 3, requires_grad=True)
    sum_weighted(y)
    assert torch.equal(y.grad, output_gradient(y))
