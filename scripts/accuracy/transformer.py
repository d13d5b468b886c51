"""A small Transformer for translation (Vaswani et al., 2017), with normalisation before each part."""

import math

import torch
import torch.nn.functional as F
from multi30k import BEGIN, LENGTH, PAD
from torch import nn


class Attention(nn.Module):
    """Attention with its two products written out, so that each is a layer that may reuse."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, memory: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Attends from x to memory, except where `hidden` is true."""
        query, key, value = self.split(self.query(x)), self.split(self.key(memory)), self.split(self.value(memory))
        scores = torch.matmul(query, key.transpose(2, 3)) / math.sqrt(query.shape[3])
        shares = scores.masked_fill(hidden, -1e9).softmax(3)
        return self.output(torch.matmul(shares, value).transpose(1, 2).flatten(2))

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """Returns `[samples, heads, tokens, width of a head]`."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """A layer of the encoder; with `cross`, of the decoder."""

    def __init__(self, width: int, heads: int, dropout: float, cross: bool) -> None:
        super().__init__()
        self.attention, self.norm = Attention(width, heads), nn.LayerNorm(width)
        self.cross, self.cross_norm = (Attention(width, heads), nn.LayerNorm(width)) if cross else (None, None)
        self.wide, self.narrow, self.last_norm = (
            nn.Linear(width, 4 * width),
            nn.Linear(4 * width, width),
            nn.LayerNorm(width),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, hidden, memory=None, memory_hidden=None):
        y = self.norm(x)
        x = x + self.dropout(self.attention(y, y, hidden))
        if self.cross is not None:
            x = x + self.dropout(self.cross(self.cross_norm(x), memory, memory_hidden))
        return x + self.dropout(self.narrow(F.relu(self.wide(self.last_norm(x)))))


class Transformer(nn.Module):
    """Encoder and decoder over sentences of `LENGTH` tokens, with learned positions."""

    def __init__(self, sources: int, targets: int, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(sources, width), nn.Embedding(targets, width)
        self.source_place = nn.Parameter(torch.zeros(LENGTH, width))
        self.target_place = nn.Parameter(torch.zeros(LENGTH, width))
        self.encoder = nn.ModuleList(Layer(width, heads, dropout, cross=False) for _ in range(layers))
        self.decoder = nn.ModuleList(Layer(width, heads, dropout, cross=True) for _ in range(layers))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.scores = nn.Linear(width, targets)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("later", torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1), persistent=False)
        for parameter in (self.source.weight, self.target.weight, self.source_place, self.target_place):
            nn.init.normal_(parameter, std=0.1)

    def encode(self, sources: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the encoded tokens, and where they are padding."""
        hidden = (sources == PAD)[:, None, None]
        x = self.dropout(self.source(sources) + self.source_place)
        for layer in self.encoder:
            x = layer(x, hidden)
        return self.encoder_norm(x), hidden

    def decode(self, tokens: torch.Tensor, memory: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Returns the scores of each next word. No token sees a later one, so padding at the end needs no mask."""
        x = self.dropout(self.target(tokens) + self.target_place)
        for layer in self.decoder:
            x = layer(x, self.later, memory, hidden)
        return self.scores(self.decoder_norm(x))

    def forward(self, sources: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Returns the scores of each target word, given those before."""
        before = F.pad(targets[:, :-1], (1, 0), value=BEGIN)
        return self.decode(before, *self.encode(sources))


@torch.no_grad()
def translate(model: Transformer, sources: torch.Tensor) -> torch.Tensor:
    """Translates greedily: `[samples, LENGTH]`. Layers keep the sizes of the training."""
    memory, hidden = model.encode(sources)
    tokens = torch.full((len(sources), LENGTH + 1), PAD)
    tokens[:, 0] = BEGIN
    for place in range(LENGTH):
        tokens[:, place + 1] = model.decode(tokens[:, :LENGTH], memory, hidden)[:, place].argmax(1)
    return tokens[:, 1:]
