"""Attention: fused calls as two products, and multi-head attention with its hidden projections."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tools import assert_close, output_gradient, run_step


class Attend(nn.Module):
    """Fused attention of projected inputs."""

    def __init__(self, **options):
        super().__init__()
        self.options = options
        self.q, self.k, self.v = (nn.Parameter(torch.randn(8, 8) / 3) for _ in range(3))

    def project(self, x, context):
        return x @ self.q, context @ self.k, context @ self.v

    def forward(self, x, context):
        return F.scaled_dot_product_attention(*self.project(x, context), **self.options)


MASK = torch.rand(5, 7) > 0.3
MASK[:, 0] = True
ATTENTIONS = {
    "plain": {},
    "boolean mask": {"attn_mask": MASK},
    "float mask": {"attn_mask": torch.randn(5, 7)},
    "causal": {"is_causal": True},
    "scale": {"scale": 0.7},
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_fused_attention_is_written_as_two_products(name, folder):
    options = ATTENTIONS[name]
    model = Attend(**options)
    x, context = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 7, 8)
    trace, y, capture = run_step(model, folder, (x, context))
    capture.verify()
    q, k, v = (tensor.detach().requires_grad_() for tensor in model.project(x, context))
    raw = q @ k.transpose(-1, -2)
    mask = torch.ones(5, 7, dtype=torch.bool).tril() if options.get("is_causal") else options.get("attn_mask")
    scores = raw * options.get("scale", 1 / math.sqrt(8))
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    p = scores.softmax(-1)
    grad_scores, grad_k = torch.autograd.grad(p @ v, (raw, k), output_gradient(y))
    assert_close(trace.values("scores", "input"), q)
    assert_close(trace.values("scores", "weight"), k)
    assert_close(trace.values("scores", "grad_output"), grad_scores)
    assert_close(trace.values("context", "input"), p)
    assert_close(trace.values("context", "weight"), v.transpose(-1, -2))
    assert_close(trace.values("context", "grad_output"), output_gradient(y))
    # The products give the gradient of K.
    dy = trace.values("scores", "grad_output").view(2, 3, 5, 7)
    assert_close(dy.transpose(-1, -2) @ q.detach(), grad_k)


def test_grouped_query_attention_repeats_keys(folder):
    class Grouped(Attend):
        def project(self, x, context):
            return x @ self.q, (context @ self.k)[:, :2], (context @ self.v)[:, :2]

    model = Grouped(enable_gqa=True)
    x = torch.randn(2, 4, 5, 8)
    trace, _, _ = run_step(model, folder, (x, x))
    _, k, _ = model.project(x, x)
    assert_close(trace.values("scores", "weight"), k.repeat_interleave(2, 1))


def test_dropout_of_fused_attention_is_repeated(folder):
    model = Attend(dropout_p=0.5)
    x = torch.randn(2, 3, 5, 8)
    trace, y, _ = run_step(model, folder, (x, x), samples=1)
    p = trace.values("context", "input").view(1, 3, 5, 5)
    assert 0.2 < (p == 0).float().mean() < 0.8
    _, _, v = model.project(x, x)
    (sample,) = set(trace.keys("context", "input")["sample"])
    assert_close(p @ v[sample].detach(), y[sample])


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", ["packed", "separate", "cross"])
def test_multi_head_attention(need_weights, batch_first, kind, folder):
    """pytorch#78109: out_proj is never called as a module."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            sizes = {"kdim": 6, "vdim": 10} if kind == "separate" else {}
            self.attn = nn.MultiheadAttention(8, 2, batch_first=batch_first, dropout=0.1, **sizes)

        def forward(self, x, key, value):
            return self.attn(x, key, value, need_weights=need_weights)[0]

    x, memory = torch.randn(3, 5, 8), torch.randn(3, 4, 8)
    key, value = (torch.randn(3, 4, 6), torch.randn(3, 4, 10)) if kind == "separate" else (memory, memory)
    inputs = (x, x, x) if kind == "packed" else (x, key, value)
    order = inputs if batch_first else [tensor.transpose(0, 1) for tensor in dict.fromkeys(inputs)]
    if not batch_first and len(order) < 3:
        order = [order[0]] * 3 if kind == "packed" else [order[0], order[1], order[1]]
    trace, y, capture = run_step(Model(), folder, order, batch_axis=None if batch_first else 1)
    capture.verify()
    projections = {
        "packed": ["attn.in_proj"],
        "cross": ["attn.in_proj.q", "attn.in_proj.kv"],
        "separate": ["attn.q_proj", "attn.k_proj", "attn.v_proj"],
    }[kind]
    assert list(trace.layers) == [*projections, "attn.scores", "attn.context", "attn.out_proj"]
    assert_close(trace.values(projections[0], "input"), x)
    dy = output_gradient(y)
    assert_close(trace.values("attn.out_proj", "grad_output"), dy if batch_first else dy.transpose(0, 1))
    assert trace.layers["attn.out_proj"]["rows"] == 5 if "rows" in trace.layers["attn.out_proj"] else True
