"""Whole models: every product is captured, and gives the weights' gradients."""

import mercury_lab.torch as mt
import pytest
import torch
import torchvision
from torch import nn

from nets import Decoder, token_batches, token_loss
from tools import Trace, image_batches, train

MODELS = ["resnet50", "vit_b_16", "convnext_tiny", "swin_t", "mobilenet_v3_small", "efficientnet_b0"]


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


def test_layers_whose_input_holds_no_samples_are_named(folder):
    model = torchvision.models.swin_v2_t(weights=None, num_classes=10)
    with pytest.raises(mt.IncompleteCapture, match=r"linear in module .*cpb_mlp.0: .*\(1, 15, 15, 2\).* batch of 2"):
        train(model, image_batches(1), folder, on_error="raise")
    capture = train(model, image_batches(1), folder, on_error="raise", on_unsupported="list", verify=True)
    assert {row.module.split(".")[-2] for row in capture.coverage().unsupported} == {"cpb_mlp"}
    capture.verify()


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_decoder_with_tied_embedding(dropout, folder):
    model = Decoder(dropout=dropout)
    capture = train(model, token_batches(1), folder, loss_fn=token_loss, verify=True, on_error="raise")
    capture.verify()
    trace = Trace(folder)
    assert [name for name in trace.layers if "blocks.0" in name] == [
        "blocks.0.c_attn",
        "blocks.0.scores",
        "blocks.0.context",
        "blocks.0.c_proj",
        "blocks.0.mlp.0",
        "blocks.0.mlp.2",
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
