"""Reuse in unusual loops: several optimizers, models called in parts, exceptions, copies, checkpoints."""

import copy
import io

import mercury_lab as mercury
import mercury_lab.torch as mt
import polars as pl
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

OPTIONS = {"preset": "mercury", "rpq": {"bits": 6}, "stop": {"window": 0}}


class Parts(nn.Module):
    """A model that loops may call in parts."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return self.decoder(self.encoder(x))


def test_reuse_begins_with_the_call_and_ends_with_close():
    layer, x = nn.Linear(6, 6), torch.randn(30, 6)
    exact = layer(x)
    reuse = mt.reuse(layer, **OPTIONS)
    assert not torch.equal(layer(x), exact)
    reuse.close()
    assert torch.equal(layer(x), exact)


def test_several_optimizers_end_one_step():
    model, x = Parts(), torch.randn(20, 6)
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (model.encoder, model.decoder)]
    with mt.reuse(model, measure_every=2, **OPTIONS) as reuse:
        for _ in range(4):
            model(x).sum().backward()
            for optimizer in optimizers:
                optimizer.step()
    assert reuse.step_number == 4
    assert pl.DataFrame(reuse.measurements)["step"].unique().sort().to_list() == [0, 2]
    with mt.reuse(model, optimizer=optimizers[0], **OPTIONS) as reuse:
        for _ in range(4):
            model(x).sum().backward()
            optimizers[1].step()
        optimizers[0].step()
        assert reuse.step_number == 1
        reuse.step()
    assert reuse.step_number == 2


def test_an_optimizer_is_known_by_its_parameters_not_by_its_place_in_memory():
    layer = nn.Linear(6, 6)
    with mt.reuse(layer, **OPTIONS) as reuse:
        for _ in range(20):
            torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1).step()
            layer(torch.randn(3, 6)).sum().backward()
            torch.optim.SGD(layer.parameters(), lr=0.1).step()
    assert reuse.step_number == 20


def test_a_model_called_in_parts_is_checked_as_a_whole(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('[[layer]]\nname = "decoder"\nrpq.bits = 8\n')
    model = Parts()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with mt.reuse(model, config) as reuse:
        model.decoder(model.encoder(torch.randn(4, 6))).sum().backward()
        optimizer.step()
    assert {row["layer"] for row in reuse.counts} == {"encoder", "decoder"}


def test_a_forward_that_raised_does_not_count():
    class Failing(Parts):
        def forward(self, x, fails=False):
            x = self.encoder(x)
            if fails:
                raise RuntimeError("out of memory")
            return self.decoder(x)

    model, x = Failing(), torch.randn(20, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with mt.reuse(model, measure_every=1, **OPTIONS) as reuse:
        with pytest.raises(RuntimeError, match="out of memory"):
            model(x, fails=True)
        model(x).sum().backward()
        optimizer.step()
    rows = pl.DataFrame(reuse.measurements).filter(pl.col("layer") == "encoder", pl.col("pass") == "forward")
    assert (rows["hit"] + rows["mau"] + rows["mnu"]).to_list() == [20]


def test_a_validation_with_gradients_is_no_part_of_the_measured_step():
    model, x = Parts(), torch.randn(20, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with mt.reuse(model, measure_every=1, **OPTIONS) as reuse:
        model.eval()
        model(x)
        model.train()
        model(x).sum().backward()
        optimizer.step()
    rows = pl.DataFrame(reuse.measurements).filter(pl.col("pass") == "forward")
    assert (rows["hit"] + rows["mau"] + rows["mnu"]).to_list() == [20, 20]


def test_models_are_copied_and_saved_without_reuse():
    model, x = Parts(), torch.randn(20, 6)
    exact = model(x)
    with mt.reuse(model, **OPTIONS):
        copied, file = copy.deepcopy(model), io.BytesIO()
        torch.save(model, file)
        assert torch.equal(copied(x), exact)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), exact)


def test_one_model_has_reuse_once():
    model = Parts()
    with mt.reuse(model, **OPTIONS) as reuse:
        with pytest.raises(mercury.MercuryError, match="has reuse already"):
            mt.reuse(model.encoder, **OPTIONS)
        with reuse.paused(), mt.reuse(model, **OPTIONS) as other:
            model(torch.randn(4, 6))
        assert other.counts and not reuse.counts


def test_inference_mode_is_known():
    for layer, x in ((nn.Conv1d(3, 4, 3), torch.randn(2, 3, 9)), (nn.Linear(6, 3), torch.randn(5, 6))):
        with torch.inference_mode(), mt.reuse(layer, **OPTIONS) as reuse:
            layer(x)
        assert reuse.counts


@pytest.mark.parametrize("is_float", [True, False])
def test_fully_masked_rows_of_attention_have_finite_gradients(is_float):
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(3, 4, 8, requires_grad=True)
    padding = torch.zeros(3, 4, dtype=torch.bool)
    padding[1] = True
    mask = torch.zeros(3, 4).masked_fill(padding, float("-inf")) if is_float else padding
    with mt.reuse(layer, **OPTIONS):
        y, _ = layer(x, x, x, key_padding_mask=mask, need_weights=False)
        y.sum().backward()
    assert torch.isfinite(y).all() and torch.isfinite(x.grad).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters())


def test_custom_functions_are_refused():
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return torch.nn.functional.linear(x, w)

        @staticmethod
        def backward(ctx, grad):
            x, w = ctx.saved_tensors
            return grad @ w, grad.T @ x

    class Net(nn.Linear):
        def forward(self, x):
            return Double.apply(x, self.weight)

    model, x = Net(6, 6, bias=False), torch.randn(4, 6)
    with mt.reuse(model, **OPTIONS), pytest.raises(mt.IncompleteReuse, match="custom autograd.Function"):
        model(x)
    with mt.reuse(model, on_unsupported="exact", **OPTIONS) as reuse:
        assert torch.equal(model(x), x @ model.weight.T)
    assert reuse.exact and not reuse.counts


class Checkpointed(Parts):
    """Its blocks are computed again in the backward pass."""

    def __init__(self, blocks, reentrant=True):
        super().__init__()
        self.blocks = blocks
        self.reentrant = reentrant

    def forward(self, x):
        for block in self.blocks(self):
            x = checkpoint(block, x, use_reentrant=self.reentrant)
        return x


def test_checkpoints_whose_recomputation_is_ambiguous_are_refused():
    x = torch.randn(20, 6, requires_grad=True)
    twice = Checkpointed(lambda m: [m.encoder, m.encoder])
    with mt.reuse(twice, **OPTIONS), pytest.raises(mt.IncompleteReuse, match="which 2 calls of this step may be"):
        twice(x).sum().backward()
    once = Checkpointed(lambda m: [m.encoder])
    with mt.reuse(once, **OPTIONS), pytest.raises(mt.IncompleteReuse, match="which 2 calls of this step may be"):
        (once(x).sum() + once(x[:8]).sum()).backward()


def test_a_checkpointed_function_without_a_module_is_refused():
    model = Checkpointed(lambda m: [lambda x: x @ m.encoder.weight])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with mt.reuse(model, **OPTIONS), pytest.raises(mt.IncompleteReuse, match="checkpoint modules instead"):
        model(torch.randn(20, 6, requires_grad=True)).sum().backward()
        optimizer.step()


def test_wrong_batch_axes_are_refused():
    layer = nn.Linear(6, 3)
    with pytest.raises(ValueError, match="batch_axis"):
        mt.reuse(layer, batch_axis=-1)
    with mt.reuse(layer, batch_axis={"fetures": 1}, **OPTIONS), pytest.raises(ValueError, match="'fetures'"):
        layer(torch.randn(4, 6))
    with mt.reuse(layer, on_unsupported="exact", **OPTIONS) as reuse:
        layer(torch.randn(6))
    assert isinstance(reuse.exact, dict)


def test_defaults_of_torch_do_not_matter():
    layer, x = nn.Linear(6, 3), torch.randn(20, 6)
    torch.set_default_dtype(torch.float64)
    try:
        with mt.reuse(layer, **OPTIONS) as reuse:
            layer(x).sum().backward()
    finally:
        torch.set_default_dtype(torch.float32)
    assert reuse.counts
