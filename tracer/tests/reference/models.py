#!/usr/bin/env python3
"""Reference for the tracer's models: what torchvision's, timm's and torch.nn's own compute.

    pip install torch==2.13.0 torchvision==0.28.0 timm==1.0.31
    python tracer/tests/reference/models.py

writes into `models/` beside itself, in about a minute of one core. Names of models as arguments
limit it to these.

Each model gets weights and inputs by formula (`formulas.py`), computes in evaluation mode, and then
takes one training step: forward, cross entropy, backward. It computes in float64: in float32 the
gradients of the deep ones differ by a tenth from one processor, or number of threads, to the next, as
ReLUs and pools near their kinks flip. Three tables of each:

`NAME.parameters.csv`, an entry of the state dict a row, in its order. `norm` and `p0`..`p3` are the
L2 norm and the dot products with four projection vectors: of the step's gradient if the entry is
trainable, of the value after the step's forward if it is a buffer. Some of mobilenet_v2's gradients
are 0 but for rounding, those of biases whose effect the next batch normalisation removes.

`NAME.layers.csv`, a convolution, linear layer or attention product a row, in the order of the
training step. `rows` counts vectors of one sample: 0 for a convolution, the product of the input's
dimensions between the first and the last for a linear layer. A multi-head attention M is

    linear     M.in_proj                  if query, key and value are one tensor, else
    linear     M.in_proj.q, M.in_proj.kv  (target's and memory's tokens)
    attention  M.scores     head's width -> keys, a row for each query, heads as groups
    attention  M.context    keys -> head's width, likewise
    linear     M.out_proj

`NAME.outputs.csv`: `eval_logits`, `train_logits` (and `aux1_logits`, `aux2_logits`), flattened, and
`loss`. Of the transformer's logits [sample, target, word], every 97th.

The training step
-----------------
`torch.manual_seed(1)` comes right before its forward, so the CPU generator draws the dropout masks
in order of use. Of one seed, torch draws these in one way on Intel's processors (by MKL, in row-major
order) and in another elsewhere (in order of memory): `bernoulli` in `versions.json` is what 64 draws
of probability 0.5 gave where the tables were made. Where they differ, the training steps of models
with dropout do too: all but resnet* and inception_v4.

The transformer's decoder reads target columns 0..9 and has to predict columns 1..10; padding among
these does not count.

Loss: mean cross entropy; of googlenet main + 0.3 * (aux1 + aux2). The transformer runs without
torch's inference fast path, which would give the padding outputs of its own.
"""

import argparse
import csv
import json
import math
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy
import timm
import torch
import torch.nn.functional as F
import torchvision
from formulas import PAD, PROJECTIONS, SAMPLES, hashes, initial, summary, tokens, values
from torch import Tensor, nn

OUT = Path(__file__).resolve().parent / "models"
CLASSES = 10

VOCABULARY = 100
SOURCE_LENGTHS = [12, 9, 5, 11]
TARGET_LENGTHS = [11, 7, 4, 10]
LOGIT_STRIDE = 97

PARAMETER_COLUMNS = ["name", "shape", "trainable", "norm"] + [f"p{j}" for j in range(PROJECTIONS)]
LAYER_COLUMNS = ["name", "op", "in_channels", "out_channels", "rows", "groups"] + [
    f"{quantity}_{axis}"
    for quantity in ("input", "output", "kernel", "stride", "padding", "dilation")
    for axis in ("height", "width")
]


# Models.


class Translator(nn.Module):
    """nn.Transformer between the embeddings of "Attention Is All You Need", sections 3.4 and 3.5."""

    WIDTH = 512

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, self.WIDTH)
        self.dropout = nn.Dropout(0.1)
        self.transformer = nn.Transformer(self.WIDTH, 8, 6, 6, 2048, 0.1, batch_first=True)

        # Its result is a transposed view, whose dropout mask would be drawn in an order of memory that
        # only an implementation with the same views repeats.
        for module in self.modules():
            if isinstance(module, nn.MultiheadAttention):
                module.register_forward_hook(lambda _, __, output: (output[0].contiguous(), *output[1:]))

    def embed(self, words: Tensor) -> Tensor:
        position = numpy.arange(words.shape[1])[:, None]
        angle = position / 10000 ** (numpy.arange(0, self.WIDTH, 2) / self.WIDTH)
        encoding = numpy.stack([numpy.sin(angle), numpy.cos(angle)], axis=-1).reshape(-1, self.WIDTH)
        encoding = torch.from_numpy(encoding.astype(numpy.float32))
        return self.dropout(self.embedding(words) * math.sqrt(self.WIDTH) + encoding)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        decoded = self.transformer(
            self.embed(source),
            self.embed(target),
            tgt_mask=torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1),
            src_key_padding_mask=source == PAD,
            tgt_key_padding_mask=target == PAD,
            memory_key_padding_mask=source == PAD,
        )
        return F.linear(decoded, self.embedding.weight)


@dataclass
class Spec:
    build: Callable[[int], nn.Module]
    """A model of so many classes."""
    input: list[int]
    """One sample's: channels, height and width; of the transformer, source's and target's tokens."""
    published: int | None = None
    """Parameters with 1000 classes and without auxiliary heads, from torchvision's documentation."""


def of_torchvision(name: str, **arguments: bool) -> Callable[[int], nn.Module]:
    return lambda classes: torchvision.models.get_model(name, weights=None, num_classes=classes, **arguments)


MODELS = {
    "alexnet": Spec(of_torchvision("alexnet"), [3, 96, 127], 61_100_840),
    "googlenet": Spec(
        of_torchvision("googlenet", aux_logits=True, transform_input=False, init_weights=False),
        [3, 96, 128],
        6_624_904,
    ),
    "vgg13": Spec(of_torchvision("vgg13"), [3, 64, 96], 133_047_848),
    "vgg16": Spec(of_torchvision("vgg16"), [3, 64, 96], 138_357_544),
    "vgg19": Spec(of_torchvision("vgg19"), [3, 64, 96], 143_667_240),
    "resnet50": Spec(of_torchvision("resnet50"), [3, 64, 96], 25_557_032),
    "resnet101": Spec(of_torchvision("resnet101"), [3, 64, 96], 44_549_160),
    "resnet152": Spec(of_torchvision("resnet152"), [3, 64, 96], 60_192_808),
    "inception_v4": Spec(
        lambda classes: timm.create_model("inception_v4", pretrained=False, num_classes=classes), [3, 107, 139]
    ),
    "mobilenet_v2": Spec(of_torchvision("mobilenet_v2"), [3, 64, 96], 3_504_872),
    "squeezenet1_0": Spec(of_torchvision("squeezenet1_0"), [3, 64, 96], 1_248_424),
    "transformer": Spec(Translator, [max(SOURCE_LENGTHS), max(TARGET_LENGTHS) - 1]),
}


def classes(name: str) -> int:
    return VOCABULARY if name == "transformer" else CLASSES


def data(name: str) -> tuple[list[Tensor], Tensor]:
    """A model's inputs and labels."""
    if name == "transformer":
        target = tokens("target", TARGET_LENGTHS)
        return [tokens("source", SOURCE_LENGTHS), target[:, :-1]], target[:, 1:]
    labels = (hashes("labels", 0, SAMPLES) % numpy.uint64(CLASSES)).astype(numpy.int64)
    return [values("input", [SAMPLES, *MODELS[name].input], 0, 1).double()], torch.from_numpy(labels)


# Tables.


def follow(model: nn.Module) -> list[list]:
    """The rows of `NAME.layers.csv`, as the next forward adds them."""
    rows = []

    def add(name: str, op: str, inputs: int, outputs: int, vectors: int, groups: int = 0, *geometry: int) -> None:
        rows.append([name, op, inputs, outputs, vectors, groups, *geometry, *[0] * (12 - len(geometry))])

    def convolution(name: str) -> Callable:
        def hook(module: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
            geometry = [*inputs[0].shape[2:], *output.shape[2:]]
            geometry += [*module.kernel_size, *module.stride, *module.padding, *module.dilation]
            add(name, "conv2d", module.in_channels, module.out_channels, 0, module.groups, *geometry)

        return hook

    def linear(name: str) -> Callable:
        def hook(module: nn.Linear, inputs: tuple[Tensor], output: Tensor) -> None:
            add(name, "linear", module.in_features, module.out_features, math.prod(inputs[0].shape[1:-1]))

        return hook

    def attention(name: str) -> Callable:
        # Its products are calls of functions, so all that it will compute is listed beforehand.
        def hook(module: nn.MultiheadAttention, inputs: tuple[Tensor, Tensor, Tensor], _: dict) -> None:
            query, memory, value = inputs
            assert memory is value
            width, head, heads = module.embed_dim, module.head_dim, module.num_heads
            queries, keys = query.shape[1], memory.shape[1]
            if query is memory:
                add(f"{name}.in_proj", "linear", width, 3 * width, queries)
            else:
                add(f"{name}.in_proj.q", "linear", width, width, queries)
                add(f"{name}.in_proj.kv", "linear", width, 2 * width, keys)
            add(f"{name}.scores", "matmul", head, keys, queries, heads)
            add(f"{name}.context", "matmul", keys, head, queries, heads)
            add(f"{name}.out_proj", "linear", width, width, queries)

        return hook

    def output_projection(module: Translator, _: tuple[Tensor, Tensor], output: Tensor) -> None:
        add("embedding", "linear", module.WIDTH, output.shape[-1], output.shape[1])

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(convolution(name))
        elif isinstance(module, nn.MultiheadAttention):
            module.register_forward_pre_hook(attention(name), with_kwargs=True)
        elif isinstance(module, nn.Linear):
            module.register_forward_hook(linear(name))
        elif isinstance(module, Translator):
            module.register_forward_hook(output_projection)
    return rows


def write(path: Path, columns: list[str], rows: Iterable[list]) -> None:
    def text(value: object) -> object:
        if not isinstance(value, float):
            return value
        if not math.isfinite(value):
            raise SystemExit(f"{path.name} would hold {value}")
        return format(value, ".9g")

    with open(path, "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows([text(value) for value in row] for row in rows)


def reference(name: str) -> None:
    model = MODELS[name].build(classes(name)).double()
    inputs, labels = data(name)
    with torch.no_grad():
        for entry, tensor in model.state_dict().items():
            tensor.copy_(initial(entry, list(tensor.shape)))
        outputs = {"eval_logits": model.eval()(*inputs)}

    layers = follow(model.train())
    torch.manual_seed(1)
    result = model(*inputs)
    if name == "googlenet":
        heads = {"train_logits": result.logits, "aux1_logits": result.aux_logits1, "aux2_logits": result.aux_logits2}
    else:
        heads = {"train_logits": result}
    ignored = PAD if name == "transformer" else -100
    losses = [F.cross_entropy(head.flatten(0, -2), labels.flatten(), ignore_index=ignored) for head in heads.values()]
    loss = losses[0] + 0.3 * sum(losses[1:])
    loss.backward()
    outputs |= heads | {"loss": loss}

    trainable = dict(model.named_parameters())
    parameters = []
    for entry, tensor in model.state_dict().items():
        summarised = trainable[entry].grad if entry in trainable else tensor
        shape = "x".join(map(str, tensor.shape))
        parameters.append([entry, shape, str(entry in trainable).lower(), *summary(entry, summarised)])
    stride = LOGIT_STRIDE if name == "transformer" else 1
    write(OUT / f"{name}.parameters.csv", PARAMETER_COLUMNS, parameters)
    write(OUT / f"{name}.layers.csv", LAYER_COLUMNS, layers)
    write(
        OUT / f"{name}.outputs.csv",
        ["quantity", "index", "value"],
        (
            [quantity, index, value]
            for quantity, tensor in outputs.items()
            for index, value in list(enumerate(tensor.flatten().tolist()))[::stride]
        ),
    )
    print(f"{name}: {len(layers)} layers, loss {loss.item():.6g}", flush=True)


def parameters_of_1000(name: str) -> int:
    """Trainable parameters with 1000 classes (words, of the transformer)."""
    with torch.device("meta"):
        sizes = {entry: parameter.numel() for entry, parameter in MODELS[name].build(1000).named_parameters()}
    published, total = MODELS[name].published, sum(sizes.values())
    without_heads = sum(size for entry, size in sizes.items() if not entry.startswith("aux"))
    print(f"{name}: {total} parameters, {without_heads} without auxiliary heads, published {published}")
    if published not in (None, without_heads):
        raise SystemExit(f"{name} is not the model that was published")
    return total


def write_versions() -> None:
    torch.manual_seed(1)
    draws = torch.empty(64).bernoulli_(0.5).int().tolist()
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "torchvision": torchvision.__version__.split("+")[0],
        "timm": timm.__version__,
        "bernoulli": "".join(map(str, draws)),
        "models": {
            name: {"input": spec.input, "classes": classes(name), "parameters_1000": parameters_of_1000(name)}
            for name, spec in MODELS.items()
        },
    }
    (OUT / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all")
    names = parser.parse_args().models or list(MODELS)
    if unknown := set(names) - set(MODELS):
        parser.error(f"no such model: {', '.join(sorted(unknown))}")

    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(False)
    OUT.mkdir(exist_ok=True)
    write_versions()
    for name in names:
        reference(name)


if __name__ == "__main__":
    main()
