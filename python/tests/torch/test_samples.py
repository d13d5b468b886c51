"""The order of the samples in the layers' inputs, which sizes alone do not show."""

import copy

import mercury_lab.torch as mt
import pytest
import torch
from torch import nn

from nets import Decoder, token_batches, token_loss
from tools import Trace, assert_close, output_gradient, run_step, sum_weighted, train


class Transposed(nn.Module):
    """Its input has the batch first, its layer the sequence."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        return self.fc(x.transpose(0, 1)).transpose(0, 1)


@pytest.mark.parametrize("tokens", [3, 4, 8])
@pytest.mark.parametrize("flatten", [False, True])
def test_a_layer_whose_input_is_transposed_inside(tokens, flatten, folder):
    class Flattened(Transposed):
        def forward(self, x):
            return self.fc(x.transpose(0, 1).flatten(0, 1)).view(tokens, 4, 5).transpose(0, 1)

    x = torch.randn(4, tokens, 6)
    trace, y, capture = run_step(Flattened() if flatten else Transposed(), folder, (x,))
    capture.verify()
    assert_close(trace.values("fc", "input"), x)
    assert_close(trace.values("fc", "grad_output"), output_gradient(y))


class Heads(nn.Module):
    """Products whose heads are outside of the samples."""

    def __init__(self, kind, heads):
        super().__init__()
        self.kind, self.heads = kind, heads
        self.q = nn.Linear(8, 8)

    def forward(self, x):
        batch, tokens, _ = x.shape
        q = self.q(x).view(batch, tokens, self.heads, -1).permute(2, 0, 1, 3)
        if self.kind == "einsum":
            return torch.einsum("hbqd,hbkd->hbqk", q, q)
        if self.kind == "fused":
            return nn.functional.scaled_dot_product_attention(q, q, q)
        if self.kind == "folded":
            q = q.reshape(-1, tokens, q.shape[-1])
        return q @ q.transpose(-1, -2)

    def read(self, x):
        return self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)


@pytest.mark.parametrize("kind", ["matmul", "einsum", "folded", "fused"])
@pytest.mark.parametrize("heads", [2, 4, 8])
@pytest.mark.parametrize("samples", [None, 2])
def test_heads_outside_of_the_samples(kind, heads, samples, folder):
    x = torch.randn(4, 3, 8)
    model = Heads(kind, heads)
    trace, _, _ = run_step(model, folder, (x,), samples=samples)
    kept = trace.manifest["captured"][0]["samples"]
    (name,) = [name for name in trace.layers if name not in ("q", "context")]
    assert_close(trace.values(name, "input"), model.read(x)[kept])


class Positions(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.fc, self.embed = nn.Linear(6, 6), nn.Linear(6, 6)
        self.register_buffer("table", torch.randn(rows, 6))

    def forward(self, x):
        return self.fc(x) + self.embed(self.table)


def test_a_table_of_positions_holds_no_samples(folder):
    x = torch.randn(4, 8, 6)
    with pytest.raises(mt.IncompleteCapture, match=r"linear in module embed: .*\(8, 6\) holds the 4 samples in no"):
        run_step(Positions(8), folder, (x,))
    trace, _, _ = run_step(Positions(8), folder, (x,), on_unsupported="list")
    assert list(trace.layers) == ["fc"]


def test_the_batch_of_another_tensor(folder):
    """The first argument is a table that has more rows than the batch has samples."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, table, x):
            return self.fc(x) + table.mean(0)

    with pytest.raises(mt.IncompleteCapture, match="linear in module fc: .*batch_axis"):
        run_step(Model(), folder, (torch.randn(4, 6), torch.randn(8, 6)))


def test_batch_axis_is_checked(folder):
    x = torch.randn(4, 8, 6)
    with pytest.raises(mt.IncompleteCapture, match="does not hold the 4 samples where batch_axis"):
        run_step(Transposed(), folder, (x,), batch_axis={"fc": 0})
    trace, _, _ = run_step(Transposed(), folder, (x,), batch_axis={"fc": 1})
    assert_close(trace.values("fc", "input"), x)


def test_without_the_check_sizes_decide(folder):
    x = torch.randn(4, 8, 6)
    trace, _, _ = run_step(Transposed(), folder, (x,), check_samples=False)
    assert_close(trace.values("fc", "input"), x.transpose(0, 1))


class TrainingOnly(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 5)

    def forward(self, x):
        if not self.training:
            raise RuntimeError("no evaluation")
        return self.second(self.first(x[:, 0]).unsqueeze(0).expand(8, 4, 6))


def test_a_model_that_cannot_be_evaluated(folder):
    x = torch.randn(4, 8, 6)
    with (
        pytest.warns(UserWarning, match="the check of the samples' order failed.*RuntimeError: no evaluation"),
        pytest.raises(mt.IncompleteCapture, match="linear in module second: .* in several orders.*batch_axis"),
    ):
        run_step(TrainingOnly(), folder, (x,))
    with pytest.warns(UserWarning, match="the check of the samples' order failed"):
        trace, y, _ = run_step(TrainingOnly(), folder, (x,), batch_axis={"second": 1})
    assert_close(trace.values("second", "grad_output"), output_gradient(y).transpose(0, 1))


class Stateful(nn.Module):
    """Has every kind of state that a forward may change."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(6, 6, 3, padding=1), nn.BatchNorm1d(6)
        self.drop, self.fc = nn.Dropout(0.3), nn.Linear(6, 5)
        self.register_buffer("count", torch.zeros(()))
        self.calls, self.seen, self.sizes = 0, None, {}
        self.plain = torch.zeros(2)

    def forward(self, x):
        self.calls += 1
        self.count += 1
        self.plain += 1
        self.sizes[len(self.sizes)] = x.shape
        self.seen = self.count.clone()
        x.add_(1)
        y = self.norm(self.conv(x.transpose(1, 2))).transpose(1, 2)
        return self.fc(self.drop(y.transpose(0, 1))).transpose(0, 1) * self.count


def test_the_check_changes_nothing(folder):
    batches = list(torch.randn(3, 4, 8, 6))
    models = [Stateful()]
    models.append(copy.deepcopy(models[0]))
    randoms = []
    for model, captured in zip(models, (False, True)):
        torch.manual_seed(3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        capture = mt.capture(model, folder, optimizer=optimizer, every=1, on_error="raise") if captured else None
        for x in batches:
            sum_weighted(model(x.clone()))
            optimizer.step()
            optimizer.zero_grad()
        if captured:
            capture.close()
        randoms.append(torch.rand(3))
    assert torch.equal(*randoms)
    plain, checked = models
    for name, value in plain.state_dict().items():
        assert torch.equal(value, checked.state_dict()[name]), name
    assert (plain.calls, plain.sizes, plain.seen) == (checked.calls, checked.sizes, checked.seen)
    assert torch.equal(plain.plain, checked.plain)
    assert checked.training and checked.drop.training
    assert Trace(folder).captured == [0, 1, 2]


def test_the_check_leaves_no_weights_without_gradients_in_the_cache_of_autocast(folder):
    model = Transposed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with mt.capture(model, folder, optimizer=optimizer, verify=True, on_error="raise") as capture:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = model(torch.randn(4, 8, 6))
        sum_weighted(y.float())
        optimizer.step()
    assert model.fc.weight.grad is not None
    assert len(capture.verify()) == 1


def test_a_decoder_with_as_many_heads_and_tokens_as_samples(folder):
    capture = train(
        Decoder(), token_batches(1, batch=4, tokens=4), folder, loss_fn=token_loss, verify=True, on_error="raise"
    )
    capture.verify()
    assert Trace(folder).captured == [0]


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_transformer_with_masks_and_as_many_tokens_as_samples(batch_first, folder):
    model = nn.Transformer(8, 2, 1, 1, 16, batch_first=batch_first)
    source, target = torch.randn(4, 4, 8), torch.randn(4, 4, 8)
    mask = nn.Transformer.generate_square_subsequent_mask(4)
    padding = torch.zeros(4, 4, dtype=torch.bool)
    padding[1, 3] = True
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with mt.capture(model, folder, optimizer=optimizer, verify=True, on_error="raise") as capture:
        model(source, target, tgt_mask=mask, src_key_padding_mask=padding).square().sum().backward()
        optimizer.step()
    capture.verify()
    x = source if batch_first else source.transpose(0, 1)
    assert_close(Trace(folder).values("encoder.layers.0.self_attn.in_proj", "input"), x)


def test_images_that_are_folded_into_the_batch(folder):
    class Video(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x.flatten(0, 1))

    with pytest.raises(mt.IncompleteCapture, match="conv2d in module conv: .* 6 images for 2 samples.*make the images"):
        run_step(Video(), folder, (torch.randn(2, 3, 3, 8, 8),))


def test_batches_of_another_size_have_the_order_that_was_found(folder):
    class Flattened(Transposed):
        def forward(self, x):
            return self.fc(x.transpose(0, 1).flatten(0, 1))

    model = Flattened()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    batches = [torch.randn(4, 8, 6), torch.randn(2, 8, 6)]
    with mt.capture(model, folder, optimizer=optimizer, verify=True, on_error="raise") as capture:
        for x in batches:
            model(x).square().sum().backward()
        optimizer.step()
    capture.verify()
    assert_close(Trace(folder).values("fc", "input"), torch.cat(batches))
