# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own model
#
# Would input-similarity reuse speed up the training of *your* PyTorch model? This notebook answers it for two small ones,
# a vision transformer and a network of ConvNeXt blocks, on Fashion-MNIST (`python data/fetch.py fashion-mnist`). Put
# your own model, optimizer and data in their place.
#
# It needs `pip install 'mercury-lab[torch]'`, and altair and polars for its pictures.

# %%
import tempfile
import warnings
from pathlib import Path

import altair as alt
import mercury_lab as mercury
import mercury_lab.torch as mt
import polars as pl
import torch
import torch.nn.functional as F
from torch import nn

alt.renderers.enable("png", scale_factor=2)
warnings.filterwarnings("error", category=mercury.MercuryWarning)

DATA = Path("../data/fashion-mnist")
ERRORS = alt.Axis(format="%", values=[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1])
FOLDER = Path(tempfile.mkdtemp(prefix="own-model-"))

# %% [markdown]
# ## The models
# Plain PyTorch. Nothing in them knows of the capture.


# %%
class Attention(nn.Module):
    """Self-attention of `heads` heads over a sequence [samples, tokens, width]."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        samples, tokens, width = x.shape
        parts = self.qkv(x).view(samples, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*parts)
        return self.out(y.transpose(1, 2).reshape(samples, tokens, width))


class Encoder(nn.Module):
    """A block of a vision transformer (Dosovitskiy et al., 2021)."""

    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """A vision transformer on patches of 4 x 4."""

    def __init__(self, width=64, depth=3, heads=4):
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, stride=4)
        self.position = nn.Parameter(torch.randn(1, 49, width) * 0.02)
        self.blocks = nn.Sequential(*(Encoder(width, heads) for _ in range(depth)))
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.blocks(x).mean(dim=1))


class ConvNeXtBlock(nn.Module):
    """A block of ConvNeXt (Liu et al., 2022): depthwise 7 x 7, then two linear layers over channels."""

    def __init__(self, width):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand, self.project = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + self.project(F.gelu(self.expand(y))).permute(0, 3, 1, 2)


def build_convnext(width=48, depth=3):
    stem = nn.Conv2d(1, width, 2, stride=2)
    blocks = [ConvNeXtBlock(width) for _ in range(depth)]
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


# %% [markdown]
# ## Training, with a capture
# The loop is yours; `mt.capture` is the one line that is added, and `capture.log` tells it the loss. Every 40th step is
# captured: of 4 samples, the inputs X, the weights W and the gradients dY of every convolution, linear layer and product
# of activations. Steps that are not captured run as if the package were not there.


# %%
def read_images():
    """The training images, [60000, 1, 28, 28] with mean 0 and deviation 1, and their classes."""
    pixels, labels = ((DATA / f"train-{name}-ubyte").read_bytes() for name in ("images-idx3", "labels-idx1"))
    images = torch.frombuffer(bytearray(pixels[16:]), dtype=torch.uint8).view(-1, 1, 28, 28).float() / 255
    return (images - 0.286) / 0.353, torch.frombuffer(bytearray(labels[8:]), dtype=torch.uint8).long()


def train(model, folder, steps=81, every=40, batch=32):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    data = {"name": "fashion-mnist", "train_samples": len(images)}
    with mt.capture(model, folder, optimizer=optimizer, every=every, samples=4, filters=32, dataset=data) as capture:
        for _ in range(steps):
            chosen = torch.randint(len(images), (batch,))
            loss = F.cross_entropy(model(images[chosen]), labels[chosen])
            loss.backward()
            capture.log(loss=loss.item(), dataset_indices=chosen)
            optimizer.step()
            optimizer.zero_grad()
    return capture


torch.manual_seed(1)
images, labels = read_images()
models = {"ViT": ViT(), "ConvNeXt": build_convnext()}
captures = {name: train(model, FOLDER / name) for name, model in models.items()}

# %% [markdown]
# What was captured? All multiply-accumulates of the model should be; anything else is named here.

# %%
for name, capture in captures.items():
    print(f"== {name}\n{capture.coverage()}\n")

# %%
mercury.inspect(FOLDER / "ViT")

# %% [markdown]
# ## What would a HIT rate cost?
# A replay computes the signatures of all input vectors, looks them up in MCACHE, and times the array. Here for six
# signature lengths: longer signatures hit less often, and err less.

# %%
rows = []
for name in models:
    sweep = mercury.sweep(FOLDER / name, rpq={"bits": range(8, 49, 8)}, preset="mercury-skip", errors="rough")
    rows.append(pl.DataFrame(sweep.configurations).with_columns(model=pl.lit(name)))
lengths = pl.concat(rows)
alt.Chart(lengths).mark_line(point=True).encode(
    alt.X("output_error", title="output error |Y' - Y| / |Y|", axis=ERRORS, scale=alt.Scale(type="log", nice=False)),
    alt.Y("hit_rate", title="hit rate", axis=alt.Axis(format="%")),
    alt.Color("model", title=None),
    alt.Tooltip(["rpq.bits", "hit_rate", "output_error", "speed_up"]),
).properties(width=420, height=240)

# %% [markdown]
# ## The verdict
# `search` chooses signature length, variant and the cut of vectors for each layer, within an error of 10 % of each layer
# and pass, and judges the choice on captured steps that it was not chosen by.

# %%
searches = {
    name: mercury.search(
        FOLDER / name,
        FOLDER / f"{name}-search",
        bound="layer-error<=0.1",
        per_layer={"rpq.bits": [12, 20, 28, 36], "rpq.variant": ["sign", "sign+rescale"]},
    )
    for name in models
}
print(searches["ViT"].summary)

# %% [markdown]
# The speed-up by the error that is accepted, for each reading of what a HIT and a signature cost. `bound` costs nothing,
# so no hardware reaches it.

# %%
frontiers = [pl.DataFrame(found.frontier).with_columns(model=pl.lit(name)) for name, found in searches.items()]
per_layer = pl.concat(frontiers).filter(pl.col("method") == "per layer")
alt.Chart(per_layer).mark_line(point=True).encode(
    alt.X("limit", title="accepted error of each layer and pass", axis=ERRORS, scale=alt.Scale(type="log")),
    alt.Y("speed_up", title="speed-up of a training step", scale=alt.Scale(zero=False)),
    alt.Color("reading", title=None),
    alt.Column("model", title=None),
).properties(width=280, height=220)

# %% [markdown]
# The report holds all of this in one page, and the settings of each layer.

# %%
mercury.report([searches["ViT"], searches["ConvNeXt"]], FOLDER / "report.html")
