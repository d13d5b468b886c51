"""Learned projections of reuse in the loop."""

import itertools

import mercury_lab as mercury
import mercury_lab.torch as mt
import pytest
import torch
import torch.nn.functional as F
from mercury_lab.torch.in_loop.learned import SLOPE, compute_projection_grad
from torch import nn

OPTIONS = {
    "preset": "trec",
    "rpq": {"bits": 3, "granularity": "sub-vector(4)"},
    "mcache": {"scope": "batch", "scope_linear": "batch"},
}


def compute_by_loops(rows, grads, r, samples, crosses_samples):
    """The gradient of R by its definition, with autograd for the sigmoids."""
    length, bits = r.shape
    r = r.clone().requires_grad_(True)
    total = torch.zeros(())
    for start in range(0, rows.shape[1], length):
        vectors, slopes = rows[:, start : start + length], grads[:, start : start + length]
        entries = {}
        keys = []
        for number, vector in enumerate(vectors):
            sample = 0 if crosses_samples else number // (len(vectors) // samples)
            keys.append((sample, *(vector @ r.detach() > 0).tolist()))
            entries.setdefault(keys[-1], []).append(vector)
        means = {key: torch.stack(members).mean(0) for key, members in entries.items()}
        for (key, vector, slope), bit in itertools.product(zip(keys, vectors, slopes), range(bits)):
            sides = [means.get((*key[: bit + 1], side, *key[bit + 2 :])) for side in (False, True)]
            if None not in map(lambda side: None if side is None else 1, sides):
                cosine = vector @ r[:, bit] / (vector.norm() * r[:, bit].norm())
                total = total + torch.sigmoid(SLOPE * cosine) * (slope @ (sides[1] - sides[0]))
    total.backward()
    return r.grad


@pytest.mark.parametrize("crosses_samples", [True, False])
@pytest.mark.parametrize("op", ["linear", "conv2d"])
def test_the_gradient_is_that_of_the_soft_assignment(op, crosses_samples):
    samples, r = 3, torch.randn(4, 3)
    if op == "linear":
        window, x, w, dy = {}, torch.randn(samples, 5, 8), torch.randn(6, 8), torch.randn(samples, 5, 6)
        rows, grads = x.flatten(0, 1), (dy @ w).flatten(0, 1)
    else:
        window = {"stride": [2, 1], "padding": [1, 0], "dilation": [1, 2], "groups": 1}
        x, w = torch.randn(samples, 2, 6, 5), torch.randn(6, 2, 2, 2)
        sizes = {key: window[key] for key in ("stride", "padding", "dilation")}
        dy = torch.randn_like(F.conv2d(x, w, **sizes))
        rows = F.unfold(x, 2, **sizes).transpose(1, 2).flatten(0, 1)
        grads = dy.flatten(2).transpose(1, 2).flatten(0, 1) @ w.flatten(1)
    expected = compute_by_loops(rows, grads, r, samples, crosses_samples)
    found = compute_projection_grad(op, window, x, w, dy, r, crosses_samples)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_projections_begin_as_drawn_and_are_trained_and_saved(tmp_path):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(2, 8, 2), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4))
    x, y = torch.randn(32, 2, 5, 5), torch.randint(0, 4, (32,))
    with mt.reuse(model, learn=True, **OPTIONS) as reuse:
        drawn = {name: value.detach().clone() for name, value in reuse.projections.items()}
        assert {name: tuple(value.shape) for name, value in drawn.items()} == {"0": (4, 3), "3": (4, 3)}
        with torch.no_grad(), reuse.paused(), mt.reuse(model, **OPTIONS):
            expected = model(x)
        torch.testing.assert_close(model(x), expected)
        parameters = [*model.parameters(), *reuse.projections.parameters()]
        optimizer = torch.optim.SGD(parameters, lr=0.05)
        losses = []
        for _ in range(30):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        trained = model(x)
        files = reuse.save_projections(tmp_path / "projections")
    assert losses[-1] < losses[0]
    assert all(not torch.equal(value, drawn[name]) for name, value in reuse.projections.items())
    layers = "".join(f'[[layer]]\nname = "{name}"\nrpq.projection = "{path}"\n' for name, path in files.items())
    config = tmp_path / "learned.toml"
    config.write_text(mercury.Config(**OPTIONS).toml + layers)
    with mt.reuse(model, config):
        assert torch.equal(model(x), trained)


def test_layers_that_cannot_learn_are_refused():
    model = nn.Sequential(nn.Linear(6, 4))
    for options, message in (
        ({"rpq": {"granularity": "sub-vector(4)"}}, "a d that divides a row of 6 elements"),
        ({"rpq": {"variant": "sign+rescale", "granularity": "patch"}}, "set it to sign"),
        ({"reuse": {"passes": []}}, "has reuse in its forward pass"),
        ({"rpq": {"bits": 40, "granularity": "patch"}}, "at most 32"),
        ({"rpq": {"granularity": "patch"}, "mcache": {"representative": "first"}}, "set it to centroid"),
    ):
        with pytest.raises(mercury.MercuryError, match=message):
            mt.reuse(model, learn=True, **({"preset": "trec"} | options))


def test_a_projection_of_another_length_is_an_error(tmp_path):
    model = nn.Sequential(nn.Linear(8, 4))
    with mt.reuse(model, learn=True, **OPTIONS) as reuse:
        files = reuse.save_projections(tmp_path)
    options = OPTIONS | {"rpq": {"bits": 3, "granularity": "sub-vector(8)", "projection": files["0"]}}
    with mt.reuse(model, **options), pytest.raises(mercury.MercuryError, match="has no tensor for vectors of length 8"):
        model(torch.randn(4, 8))


def test_all_calls_of_a_layer_share_its_projection_and_checkpoints_keep_it(tmp_path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x):
            return self.layer(self.layer(x))

    model, x = Twice(), torch.randn(20, 8)
    with mt.reuse(model, learn=True, **OPTIONS) as reuse:
        with torch.no_grad():
            reuse.projections["layer"].mul_(-1).add_(0.1)
        expected = model(x)
        files = reuse.save_projections(tmp_path)
        state = reuse.state_dict()
    assert set(files) == {"layer", "layer.call-1"}
    with mt.reuse(model, learn=True, **OPTIONS) as again:
        parameter = again.projections["layer"]
        again.load_state_dict(state)
        assert again.projections["layer"] is parameter
        assert torch.equal(model(x), expected)


def test_names_that_differ_in_dots_alone_are_refused():
    model = nn.ModuleDict({"a": nn.ModuleDict({"b": nn.Linear(4, 4)}), "a_b": nn.Linear(4, 4)})
    with pytest.raises(mercury.MercuryError, match="two layers have the name a_b"):
        mt.reuse(model, learn=True, **OPTIONS)
