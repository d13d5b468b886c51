"""Whole models: every product is captured, and gives the weights' gradients."""

import mercury_lab.torch as mt
import pytest
import torch
import torch.nn.functional as F
import torchvision
from tools import Trace, image_batches, train
from torch import nn

MODELS = ["resnet50", "vit_b_16", "convnext_tiny", "swin_t", "swin_v2_t", "mobilenet_v3_small", "efficientnet_b0"]


@pytest.mark.parametrize("name", MODELS)
def test_torchvision_model_is_captured_whole(name, folder):
    size = {"image_size": 64} if name.startswith("vit") else {}
    model = getattr(torchvision.models, name)(weights=None, num_classes=10, **size)
    options = {"verify": True, "samples": 1, "filters": 4, "channels": 4, "on_error": "raise"}
    capture = train(model, image_batches(1), folder, **options)
    capture.verify()
    coverage = capture.coverage()
    assert coverage.captured == coverage.seen > 0
    assert not coverage.unsupported and not coverage.unknown
    trace = Trace(folder)
    assert trace.manifest["complete"]
    assert all((name, "grad_output") in trace.files(0) for name in trace.layers)


class Block(nn.Module):
    """A GPT-2 block."""

    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        batch, tokens, width = x.shape
        parts = self.c_attn(self.ln_1(x)).split(width, dim=2)
        q, k, v = (part.view(batch, tokens, self.heads, -1).transpose(1, 2) for part in parts)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.mlp(self.ln_2(x))


class Decoder(nn.Module):
    """A GPT-2-like decoder, whose embedding is its output layer."""

    def __init__(self, vocabulary=50, width=32, heads=4, depth=2, dropout=0.1):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(16, width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.lm_head = nn.Linear(width, vocabulary, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.lm_head(x)


def token_batches(count, batch=3, tokens=8, vocabulary=50):
    for _ in range(count):
        text = torch.randint(0, vocabulary, (batch, tokens + 1))
        yield text[:, :-1], text[:, 1:]


def token_loss(logits, targets):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_decoder_with_tied_embedding(dropout, folder):
    model = Decoder(dropout=dropout)
    capture = train(model, token_batches(1), folder, loss_fn=token_loss, verify=True, on_error="raise")
    capture.verify()
    trace = Trace(folder)
    assert [name for name in trace.layers if "blocks.0" in name] == [
        "blocks.0.c_attn", "blocks.0.scores", "blocks.0.context", "blocks.0.c_proj", "blocks.0.mlp.0", "blocks.0.mlp.2",
    ]
    assert "lm_head" in trace.layers
    assert trace.manifest["model"]["input"] == [8]
    assert trace.manifest["model"]["classes"] == 50


@pytest.mark.parametrize("batch_first", [True, False])
def test_transformer_names_its_projections_as_the_tracer(batch_first, folder):
    model = nn.Transformer(16, 2, 1, 1, 32, batch_first=batch_first)
    source, target = torch.randn(3, 5, 16), torch.randn(3, 4, 16)
    if not batch_first:
        source, target = source.transpose(0, 1), target.transpose(0, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with mt.capture(model, folder, optimizer=optimizer, verify=True, on_error="raise") as capture:
        model(source, target).square().sum().backward()
        optimizer.step()
    capture.verify()
    layer = "decoder.layers.0"
    expected = [f"{layer}.self_attn.{part}" for part in ("in_proj", "scores", "context", "out_proj")]
    parts = ("in_proj.q", "in_proj.kv", "scores", "context", "out_proj")
    expected += [f"{layer}.multihead_attn.{part}" for part in parts]
    expected += [f"{layer}.linear1", f"{layer}.linear2"]
    trace = Trace(folder)
    assert [name for name in trace.layers if name.startswith("decoder")] == expected
    assert trace.layers["decoder.layers.0.self_attn.in_proj"]["op"] == "linear"
    assert set(trace.keys("decoder.layers.0.linear1", "input")["row"]) == set(range(4))
    assert set(trace.keys("encoder.layers.0.linear1", "input")["row"]) == set(range(5))


@pytest.mark.parametrize("module", [nn.LSTM, nn.GRU, nn.RNN])
def test_fused_recurrent_layers_are_refused_by_name(module, folder):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = module(4, 5, batch_first=True)
            self.head = nn.Linear(5, 2)

        def forward(self, x):
            return self.head(self.cell(x)[0][:, -1])

    batches = [(torch.randn(2, 3, 4), torch.tensor([0, 1]))]
    with pytest.raises(mt.IncompleteCapture, match=r"in module cell: .* one fused operation") as caught:
        train(Model(), batches, folder, on_error="raise")
    assert caught.value.module == "cell"
    assert not folder.exists()


def test_unsupported_layers_can_be_listed(folder):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 4, 3), nn.Flatten(), nn.Linear(4 * 64 * 64, 10))
    capture = train(model, image_batches(1), folder, on_unsupported="list", on_error="raise")
    assert [(row.op, row.module) for row in capture.coverage().unsupported] == [("conv_transpose2d", "1")]
    assert list(Trace(folder).layers) == ["0", "3"]
    assert "conv_transpose2d" in str(capture.coverage())
