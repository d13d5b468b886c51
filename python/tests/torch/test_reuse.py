"""Reuse in the loop: values, gradients, samples, state, and what is refused."""

import copy

import mercury_lab as mercury
import mercury_lab.torch as mt
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from nets import Encoder, make_net
from tools import image_batches, run_step
from torch import nn
from torch.utils.checkpoint import checkpoint

# Whole patches, signatures of 64 bits and one entry: vectors of random numbers find nothing.
NO_HITS = {
    "preset": "patch-os",
    "rpq": {"bits": 64},
    "mcache": {"entries": 1, "ways": 1},
    "reuse": {"passes": ["forward", "input-grad", "weight-grad"]},
    "stop": {"window": 0},
}
# Short signatures: many HITs.
MANY_HITS = {"preset": "mercury", "rpq": {"bits": 6}, "stop": {"window": 0}}


class Function(nn.Module):
    """A function of the input and weights of its own."""

    def __init__(self, compute, **shapes):
        super().__init__()
        self.compute = compute
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.randn(shape)))

    def forward(self, x):
        return self.compute(self, x)


def attention(m, x):
    q, k, v = (F.linear(x, w).unflatten(-1, (2, -1)).transpose(1, 2) for w in (m.q, m.k, m.v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.1).transpose(1, 2).flatten(2)


def masked_attention(m, x):
    q, k, v = (F.linear(x, w).unflatten(-1, (2, -1)).transpose(1, 2) for w in (m.q, m.k, m.v))
    allowed = torch.ones(5, 5, dtype=torch.bool).tril()
    grouped = {"enable_gqa": True}
    return F.scaled_dot_product_attention(q, k[:, :1], v[:, :1], attn_mask=allowed, scale=0.1, **grouped)


torch.manual_seed(4)  # The weights below are equal in each run.
QKV = {"q": (6, 7), "k": (6, 7), "v": (6, 7)}
MODELS = {
    "conv2d": (nn.Conv2d(3, 4, 3, padding=1), (2, 3, 6, 6)),
    "strided": (nn.Conv2d(4, 4, (3, 2), stride=(2, 1), dilation=(1, 2), groups=2), (2, 4, 9, 7)),
    "same": (nn.Conv2d(3, 4, 4, padding="same"), (2, 3, 6, 6)),
    "conv1d": (nn.Conv1d(3, 4, 3, padding=1), (2, 3, 9)),
    "linear": (nn.Linear(7, 5), (6, 7)),
    "tokens": (nn.Linear(7, 5, bias=False), (2, 4, 7)),
    "matmul": (Function(lambda m, x: x @ m.w, w=(7, 5)), (2, 4, 7)),
    "left weight": (Function(lambda m, x: m.w @ x, w=(5, 4)), (2, 4, 7)),
    "addmm": (Function(lambda m, x: torch.addmm(m.b, x, m.w, beta=0.5, alpha=2), b=(5,), w=(7, 5)), (6, 7)),
    "bmm": (Function(lambda m, x: torch.bmm(x, F.linear(x, m.w).transpose(1, 2)), w=(7, 7)), (2, 4, 7)),
    "baddbmm": (
        Function(lambda m, x: torch.baddbmm(m.b, x, F.linear(x, m.w).mT, beta=2), b=(4, 4), w=(7, 7)),
        (2, 4, 7),
    ),
    "einsum": (Function(lambda m, x: torch.einsum("nti,oi->ont", x, m.w), w=(5, 7)), (2, 4, 7)),
    "einsum heads": (
        Function(lambda m, x: torch.einsum("nhti,hio->nhto", x, m.w), w=(2, 7, 5)),
        (2, 2, 4, 7),
    ),
    "attention": (Function(attention, **QKV), (2, 5, 7)),
    "masked attention": (Function(masked_attention, **QKV), (2, 5, 7)),
    "multi-head": (Encoder().eval(), (2, 5, 16)),
}


def compute(model, x):
    """The output of a model and its gradients, of the input first, for a fixed gradient of the output."""
    model.zero_grad()
    x = x.clone().requires_grad_(x.is_floating_point())
    y = model(x)
    weights = torch.sin(torch.arange(y.numel(), dtype=y.dtype)).view_as(y)
    (y * weights).sum().backward()
    gradients = [x.grad, *(parameter.grad for parameter in model.parameters())]
    return y.detach(), [gradient for gradient in gradients if gradient is not None]


@pytest.mark.parametrize("name", MODELS)
def test_without_hits_results_and_gradients_are_those_of_torch(name):
    model, shape = copy.deepcopy(MODELS[name][0]), MODELS[name][1]
    x = torch.randn(shape)
    y, gradients = compute(model, x)
    with mt.reuse(model, **NO_HITS) as reuse:
        replaced, others = compute(model, x)
    counts = reuse.counts
    assert sum(row["mau"] for row in counts) > 0 and not reuse.exact
    # A causal mask leaves the first query a single key, so its gradient is 0 in all samples.
    allowed = {"model.q"} if "attention" in name else set()
    assert {row["layer"] for row in counts if row["hit"]} <= allowed
    torch.testing.assert_close(replaced, y, rtol=1e-4, atol=1e-5)
    assert len(gradients) == len(others)
    for gradient, other in zip(gradients, others):
        torch.testing.assert_close(other, gradient, rtol=1e-3, atol=1e-4)


def sign(vectors, bits):
    """Signatures by the definition."""
    rows = pl.DataFrame(mercury.projection(vectors.shape[1], bits=bits)).sort("bit")["values"]
    return (vectors @ torch.tensor(rows.to_list()).T > 0).long()


def substitute(vectors, bits):
    """Replaces each vector by the first one with its signature."""
    known = {}
    for number, signature in enumerate(sign(vectors, bits)):
        known.setdefault(tuple(signature.tolist()), number)
    return vectors[[known[tuple(signature.tolist())] for signature in sign(vectors, bits)]]


def test_with_hits_all_passes_follow_the_definition():
    layer, bits = nn.Linear(6, 5, bias=False), 4
    x = torch.randn(40, 6)
    weights = torch.randn(40, 5)
    x.requires_grad_(True)
    options = NO_HITS | {"rpq": {"bits": bits}, "mcache": {"entries": 0, "ways": 1, "scope_linear": "batch"}}
    with mt.reuse(layer, **options) as reuse:
        y = layer(x)
        (y * weights).sum().backward()
    replaced = substitute(x.detach(), bits)
    assert len(replaced.unique(dim=0)) < 17
    torch.testing.assert_close(y, replaced @ layer.weight.T)
    torch.testing.assert_close(layer.weight.grad, weights.T @ replaced)
    torch.testing.assert_close(x.grad, substitute(weights, bits) @ layer.weight)
    remaining = {row["pass"]: row["mau"] for row in reuse.counts}
    assert remaining["forward"] == remaining["weight-grad"] == len(replaced.unique(dim=0))


@pytest.mark.parametrize("filters", [4, 16])
@pytest.mark.parametrize("variant", ["sign", "sign+rescale"])
def test_a_captured_step_with_reuse_has_the_hitmaps_and_errors_of_its_replay(folder, variant, filters):
    convs = nn.Conv2d(3, filters, 3, padding=1), nn.ReLU(), nn.Conv2d(filters, 12, 3, stride=2)
    model = nn.Sequential(*convs, nn.Flatten(), nn.Linear(48, 5))
    x = torch.randn(4, 3, 6, 6)
    options = MANY_HITS | {"rpq": {"bits": 6, "variant": variant}}
    with mt.reuse(model, measure_every=1, **options) as reuse:
        run_step(model, folder, (x,), verify=False)
    measured = pl.DataFrame(reuse.measurements).sort("layer", "pass")
    results = mercury.replay(folder, errors="all", **options)
    replayed = pl.DataFrame(results.layers).filter(pl.col("pass").is_not_null()).sort("layer", "pass")
    # The first layer's input needs no gradient.
    assert measured["layer"].to_list() == replayed["layer"].to_list() and len(measured) == 8
    for column in ("hit", "mau", "mnu", "signature_bits", "baseline_cycles", "mercury_cycles"):
        assert measured[column].to_list() == replayed[column].to_list(), column
    for column in ("output_error", "output_cosine", "output_norm_ratio"):
        torch.testing.assert_close(measured[column].to_torch(), replayed[column].to_torch(), rtol=1e-4, atol=1e-6)


def train(model, batches, reuse, optimizer):
    """Trains with a loss that is logged."""
    for x, y in batches:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        reuse.log(loss=loss.item())
        optimizer.step()


def test_a_training_continues_from_its_checkpoint():
    batches = list(image_batches(8, size=8))
    options = MANY_HITS | {"measure_every": 2, "bits": {"patience": 1, "max": 12}, "stop": {"window": 1}}

    def make():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        return model, torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)

    whole, optimizer = make()
    with pytest.warns(UserWarning, match="reuse: layers switched off"), mt.reuse(whole, **options) as first:
        train(whole, batches, first, optimizer)
    part, optimizer = make()
    with pytest.warns(UserWarning, match="layers switched off"), mt.reuse(part, **options) as second:
        train(part, batches[:5], second, optimizer)
    with mt.reuse(part, **options) as third:
        third.load_state_dict(second.state_dict())
        train(part, batches[5:], third, optimizer)
    assert first.signature_bits == third.signature_bits > 6
    for expected, found in zip(whole.parameters(), part.parameters()):
        assert torch.equal(expected, found)
    assert pl.DataFrame(first.measurements).equals(pl.DataFrame(third.measurements))
    with mt.reuse(part, rpq={"bits": 7}) as other, pytest.raises(mercury.MercuryError, match="another config"):
        other.load_state_dict(first.state_dict())


def test_signatures_grow_with_logged_losses_alone():
    layer, options = nn.Linear(4, 2), MANY_HITS | {"bits": {"patience": 2, "max": 64}}
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    unrelated = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.0)
    with mt.reuse(layer, **options) as reuse:
        for loss, bits in ((1.0, 6), (1.0, 6), (1.0, 7), (0.5, 7), (None, 7), (None, 7), (0.6, 7), (0.6, 8)):
            if loss is not None:
                reuse.log(loss=torch.tensor(loss))
            layer(torch.ones(2, 4))
            optimizer.step()
            unrelated.step()
            assert reuse.signature_bits == bits, loss
    assert reuse.step_number == 8


def test_evaluation_has_reuse_but_not_in_a_pause_or_after_the_end():
    model, x = make_net(), next(image_batches(1))[0]
    model.eval()
    exact = model(x)
    with torch.no_grad(), mt.reuse(model, **MANY_HITS) as reuse:
        assert not torch.equal(model(x), exact)
        assert {row["training"] for row in reuse.counts} == {False}
        with reuse.paused():
            assert torch.equal(model(x), exact)
        reuse.reset_counts()
        assert reuse.counts == []
    assert torch.equal(model(x), exact)


def test_settings_of_layers_apply_by_name(tmp_path):
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    config = tmp_path / "best.toml"
    config.write_text(
        'rpq.bits = 6\nstop.window = 0\n[[layer]]\nname = "1"\nreuse.passes = []\n'
        '[[layer]]\nname = "2"\nrpq.bits = 9\nreuse.passes = ["forward"]\n'
    )
    with mt.reuse(model, config, measure_every=1) as reuse:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.randn(30, 8)).sum().backward()
        optimizer.step()
    rows = {(row["layer"], row["pass"]): row for row in pl.DataFrame(reuse.measurements).to_dicts()}
    assert set(rows) == {("0", "forward"), ("0", "weight-grad"), ("2", "forward")}
    assert rows["2", "forward"]["signature_bits"] == 9
    assert {row["configuration"] for row in rows.values()} == {"best"}


def test_micro_batches_of_a_step_are_measured_together():
    layer, x = nn.Linear(6, 3), torch.randn(20, 6)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    with mt.reuse(layer, measure_every=1, **MANY_HITS) as reuse:
        for part in (x[:12], x[12:]):
            layer(part).sum().backward()
        optimizer.step()
    rows = pl.DataFrame(reuse.measurements)
    assert rows["pass"].to_list() == ["forward", "weight-grad"]
    assert (rows["hit"] + rows["mau"] + rows["mnu"]).to_list() == [20, 20]


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_blocks_compute_the_same(reentrant):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
            self.saves_memory = False

        def forward(self, x):
            x = self.first(x)
            if self.saves_memory:
                return checkpoint(self.second, x, use_reentrant=reentrant)
            return self.second(x)

    model, x = Net(), torch.randn(20, 6)
    with mt.reuse(model, **MANY_HITS) as reuse:
        y, gradients = compute(model, x)
        counts = reuse.counts
        reuse.reset_counts()
        model.saves_memory = True
        again, others = compute(model, x)
        assert reuse.counts == counts
    assert torch.equal(y, again) and all(map(torch.equal, gradients, others))


def test_samples_are_found_in_any_dimension():
    """A cache that lives for a sample finds the same HITs whichever dimension holds the samples."""
    options = MANY_HITS | {"preset": "patch-os", "mcache": {"scope_linear": "sample"}}
    layer, x = nn.Linear(6, 3), torch.randn(3, 9, 6)
    found = []
    for batch_axis in (0, 1):
        moved = x.transpose(0, batch_axis)
        with torch.no_grad(), mt.reuse(layer, batch_axis=batch_axis, **options) as reuse:
            y = layer(moved).transpose(0, batch_axis)
        found.append((y, reuse.counts))
    assert torch.equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]
    assert found[0][1][0]["hit"] > 0


def test_autocast_and_compiled_models_keep_their_types():
    model, x = make_net(), next(image_batches(1))[0]
    with torch.autocast("cpu", torch.bfloat16), mt.reuse(torch.compile(model, backend="eager"), **NO_HITS):
        y = model[0](x)
    assert y.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(y, model[0](x), rtol=2e-2, atol=2e-2)


def test_what_cannot_be_replaced_is_an_error_or_computed_exactly():
    model = nn.Sequential(nn.Conv3d(1, 2, 2), nn.Flatten(), nn.Linear(54, 3))
    x = torch.randn(2, 1, 4, 4, 4)
    expected = model[:2](x)
    with mt.reuse(model), pytest.raises(mt.IncompleteReuse, match=r'conv3d in module 0: .*on_unsupported="exact"'):
        model(x)
    with mt.reuse(model, on_unsupported="exact", **NO_HITS) as reuse:
        torch.testing.assert_close(model(x), model[2](expected))
    assert list(reuse.exact) == ["0.conv3d"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"measure_every": 0}, "measure_every is 0"),
        ({"on_unsupported": "skip"}, "on_unsupported is 'skip'"),
        ({"rpq": {"bits": 65}}, "rpq.bits"),
        ({"preset": "mercuri"}, "did you mean"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises((ValueError, mercury.MercuryError), match=message):
        mt.reuse(nn.Linear(2, 2), **arguments)


@pytest.mark.parametrize("is_training", [True, False])
def test_a_configuration_of_another_model_is_refused(tmp_path, is_training):
    config = tmp_path / "other.toml"
    for text, message in (
        ('model = "vgg13"\n', "the configuration is for vgg13, but the model is Linear"),
        ('[[layer]]\nname = "features.*"\nrpq.bits = 8\n', "matches no layer of Linear"),
    ):
        config.write_text(text)
        layer = nn.Linear(2, 2)
        with mt.reuse(layer, config), pytest.raises(mercury.MercuryError, match=message):
            with torch.set_grad_enabled(is_training):
                layer(torch.randn(3, 2))
