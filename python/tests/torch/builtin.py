"""The tracer's twelve models in PyTorch: ten of torchvision, Inception-v4 and the Transformer.

Parameters have the names of the tracer's models, so one file of weights fits both.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

PAD = 0
# Columns of the hidden layers of VGG's classifier, of the published 4096.
VGG_WIDTH = 64


def build(name: str, classes: int) -> nn.Module:
    """Builds a model with random parameters, for images of one channel or a vocabulary of `classes` tokens."""
    # On the meta device, the large classifiers that are replaced take no time.
    with torch.device("meta"):
        model = SPECIAL[name](classes) if name in SPECIAL else build_torchvision(name, classes)
    model.to_empty(device="cpu")
    draw_weights(model)
    return model.train()


def build_torchvision(name: str, classes: int) -> nn.Module:
    """Builds torchvision's model, with a narrower classifier if it is a VGG."""
    named = {"transform_input": False, "init_weights": False} if name == "googlenet" else {}
    model = torchvision.models.get_model(name, weights=None, num_classes=classes, **named)
    if name.startswith("vgg"):
        model.classifier[0] = nn.Linear(512 * 7 * 7, VGG_WIDTH)
        model.classifier[3] = nn.Linear(VGG_WIDTH, VGG_WIDTH)
        model.classifier[6] = nn.Linear(VGG_WIDTH, classes)
    path, first = next((path, m) for path, m in model.named_modules() if isinstance(m, nn.Conv2d))
    window = {"stride": first.stride, "padding": first.padding, "bias": first.bias is not None}
    model.set_submodule(path, nn.Conv2d(1, first.out_channels, first.kernel_size, **window))
    return model


def draw_weights(model: nn.Module) -> None:
    """Draws all parameters, including those of normalisations, and initialises the running statistics."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                fan_in = parameter[0].numel()
                deviation = fan_in**-0.5 if name == "embedding.weight" else (2 / fan_in) ** 0.5
                parameter.normal_(0, deviation, generator=generator)
            elif name.endswith("weight"):
                parameter.uniform_(0.5, 1.5, generator=generator)
            else:
                parameter.uniform_(-0.1, 0.1, generator=generator)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()


def compute_loss(name: str, output: Tensor, labels: Tensor) -> Tensor:
    """Computes the mean cross entropy, without padding; GoogLeNet adds 0.3 of each auxiliary head's."""
    if name == "googlenet":
        heads = [output.logits, output.aux_logits1, output.aux_logits2]
    else:
        heads = [output]
    ignored = PAD if name == "transformer" else -100
    losses = [F.cross_entropy(head.flatten(0, -2), labels.flatten(), ignore_index=ignored) for head in heads]
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss * 0.3
    return total


# Inception-v4, with timm's names.


class ConvNorm(nn.Module):
    """A convolution, batch normalisation and ReLU."""

    def __init__(self, channels: int, filters: int, kernel: tuple[int, int], stride: int, padding: list[int]):
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(filters, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Branches(nn.Module):
    """Modules in parallel, whose channels are concatenated."""

    def __init__(self, **branches: nn.Module):
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.children()], 1)


def make_conv(channels: int, filters: int, size: int, stride: int = 1) -> ConvNorm:
    """Makes a convolution without padding."""
    return ConvNorm(channels, filters, (size, size), stride, [0, 0])


def make_padded(channels: int, filters: int, rows: int, columns: int) -> ConvNorm:
    """Makes a convolution that keeps the size."""
    return ConvNorm(channels, filters, (rows, columns), 1, [rows // 2, columns // 2])


def make_smoothed(channels: int, filters: int) -> nn.Sequential:
    """Makes a mean over each 3 x 3 neighbourhood and a 1 x 1 convolution."""
    return nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), make_conv(channels, filters, 1))


def make_stem() -> list[nn.Module]:
    long = [make_conv(160, 64, 1), make_padded(64, 64, 1, 7), make_padded(64, 64, 7, 1), make_conv(64, 96, 3)]
    return [
        make_conv(1, 32, 3, 2),
        make_conv(32, 32, 3),
        make_padded(32, 64, 3, 3),
        Branches(maxpool=nn.MaxPool2d(3, 2), conv=make_conv(64, 96, 3, 2)),
        Branches(branch0=nn.Sequential(make_conv(160, 64, 1), make_conv(64, 96, 3)), branch1=nn.Sequential(*long)),
        Branches(conv=make_conv(192, 192, 3, 2), maxpool=nn.MaxPool2d(3, 2)),
    ]


def make_inception_a() -> Branches:
    return Branches(
        branch0=make_conv(384, 96, 1),
        branch1=nn.Sequential(make_conv(384, 64, 1), make_padded(64, 96, 3, 3)),
        branch2=nn.Sequential(make_conv(384, 64, 1), make_padded(64, 96, 3, 3), make_padded(96, 96, 3, 3)),
        branch3=make_smoothed(384, 96),
    )


def make_reduction_a() -> Branches:
    return Branches(
        branch0=make_conv(384, 384, 3, 2),
        branch1=nn.Sequential(make_conv(384, 192, 1), make_padded(192, 224, 3, 3), make_conv(224, 256, 3, 2)),
        branch2=nn.MaxPool2d(3, 2),
    )


def make_inception_b() -> Branches:
    long = [make_conv(1024, 192, 1), make_padded(192, 192, 7, 1), make_padded(192, 224, 1, 7)]
    long += [make_padded(224, 224, 7, 1), make_padded(224, 256, 1, 7)]
    return Branches(
        branch0=make_conv(1024, 384, 1),
        branch1=nn.Sequential(make_conv(1024, 192, 1), make_padded(192, 224, 1, 7), make_padded(224, 256, 7, 1)),
        branch2=nn.Sequential(*long),
        branch3=make_smoothed(1024, 128),
    )


def make_reduction_b() -> Branches:
    long = [make_conv(1024, 256, 1), make_padded(256, 256, 1, 7)]
    long += [make_padded(256, 320, 7, 1), make_conv(320, 320, 3, 2)]
    return Branches(
        branch0=nn.Sequential(make_conv(1024, 192, 1), make_conv(192, 192, 3, 2)),
        branch1=nn.Sequential(*long),
        branch2=nn.MaxPool2d(3, 2),
    )


class InceptionC(nn.Module):
    """The module of figure 6, two of whose branches fork."""

    def __init__(self):
        super().__init__()
        self.branch0 = make_conv(1536, 256, 1)
        self.branch1_0 = make_conv(1536, 384, 1)
        self.branch1_1a, self.branch1_1b = make_padded(384, 256, 1, 3), make_padded(384, 256, 3, 1)
        self.branch2_0 = make_conv(1536, 384, 1)
        self.branch2_1, self.branch2_2 = make_padded(384, 448, 3, 1), make_padded(448, 512, 1, 3)
        self.branch2_3a, self.branch2_3b = make_padded(512, 256, 1, 3), make_padded(512, 256, 3, 1)
        self.branch3 = make_smoothed(1536, 256)

    def forward(self, x: Tensor) -> Tensor:
        first = self.branch0(x)
        short = self.branch1_0(x)
        short = torch.cat([self.branch1_1a(short), self.branch1_1b(short)], 1)
        long = self.branch2_2(self.branch2_1(self.branch2_0(x)))
        long = torch.cat([self.branch2_3a(long), self.branch2_3b(long)], 1)
        return torch.cat([first, short, long, self.branch3(x)], 1)


class InceptionV4(nn.Module):
    """Szegedy et al., AAAI 2017, as in timm, without dropout."""

    def __init__(self, classes: int):
        super().__init__()
        blocks = [make_inception_a() for _ in range(4)] + [make_reduction_a()]
        blocks += [make_inception_b() for _ in range(7)] + [make_reduction_b()]
        blocks += [InceptionC() for _ in range(3)]
        self.features = nn.Sequential(*make_stem(), *blocks)
        self.last_linear = nn.Linear(1536, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.last_linear(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


# The Transformer.


class Translator(nn.Module):
    """The Transformer of Vaswani et al., NeurIPS 2017, with fewer columns; one embedding is shared."""

    WIDTH, DEPTH = 128, 6

    def __init__(self, vocabulary: int):
        super().__init__()
        width, depth = self.WIDTH, self.DEPTH
        self.embedding = nn.Embedding(vocabulary, width)
        self.dropout = nn.Dropout(0.1)
        self.transformer = nn.Transformer(width, width // 64, depth, depth, 4 * width, 0.1, batch_first=True)
        # Multi-head attention returns a transposed view. The tracer's tensor is contiguous, and some processors draw
        # dropout in the order of memory.
        for module in self.modules():
            if isinstance(module, nn.MultiheadAttention):
                module.register_forward_hook(lambda _, __, output: (output[0].contiguous(), *output[1:]))

    def embed(self, words: Tensor) -> Tensor:
        positions = torch.arange(words.shape[1], dtype=torch.float64).unsqueeze(1)
        pairs = torch.arange(self.WIDTH // 2, dtype=torch.float64)
        angle = positions * (pairs * (-2 * math.log(10_000) / self.WIDTH)).exp()
        encoding = torch.stack([angle.sin(), angle.cos()], -1).flatten(1).float()
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


SPECIAL: dict[str, Callable[[int], nn.Module]] = {"inception_v4": InceptionV4, "transformer": Translator}
