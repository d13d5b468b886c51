"""The tasks of the calibration: networks with their data, schedules and metrics."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from bleu import compute_bleu
from cifar10 import Cifar10
from multi30k import PAD, Multi30k
from networks import CifarNet, ResNet20
from torch import nn
from training import Schedule, Task, make_sgd
from transformer import Transformer, translate

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from places import find_dataset  # noqa: E402

# Width, layers of encoder and decoder each, heads, dropout.
TRANSFORMER = (128, 2, 4, 0.1)
SMOOTHING = 0.1
# With --quick: steps in an epoch and batches of an evaluation.
QUICK = 2


@dataclass(frozen=True)
class Settings:
    """The hyperparameters of a task; `--epochs` replaces the epochs."""

    epochs: int
    batch: int
    peak: float
    decay: float


SETTINGS = {
    "resnet20": Settings(epochs=7, batch=128, peak=0.3, decay=5e-4),
    "transformer": Settings(epochs=4, batch=64, peak=2e-3, decay=0.0),
    "cifarnet": Settings(epochs=4, batch=100, peak=0.05, decay=5e-4),
}


def make_task(name: str, seed: int, epochs: int | None = None, quick: bool = False) -> Task:
    """Makes a task with the initial weights of a seed."""
    settings = SETTINGS[name]
    epochs = 2 if quick else epochs or settings.epochs
    limit = QUICK if quick else None
    torch.manual_seed(seed)
    if name == "transformer":
        return make_translation(settings, seed, epochs, limit)
    network, scale = (ResNet20, "normalised") if name == "resnet20" else (CifarNet, "symmetric")
    return make_classification(network(), scale, settings, seed, epochs, limit)


def make_classification(
    network: nn.Module, scale: str, settings: Settings, seed: int, epochs: int, limit: int | None
) -> Task:
    """CIFAR-10; the metric is the share of correct classes (top-1) of the 10,000 test images."""
    data = Cifar10(require_dataset("cifar10"), scale)
    model = network.to(memory_format=torch.channels_last)

    def compute_loss(model: nn.Module, batch: tuple) -> torch.Tensor:
        images, labels = batch
        return F.cross_entropy(model(images.contiguous(memory_format=torch.channels_last)), labels)

    return make(
        settings, seed, epochs, limit,
        model=model, pairs=len(data.train[1]), metric="top1", loss=compute_loss,
        batches=lambda epoch: data.train_batches(settings.batch, seed, epoch),
        # Batches of the training's size, because some caches live for a batch.
        evaluate=lambda model: measure_top1(model, islice(data.test_batches(settings.batch), limit)),
    )  # fmt: skip


def make_translation(settings: Settings, seed: int, epochs: int, limit: int | None) -> Task:
    """Multi30K, German to English; the metric is BLEU of the 1,014 validation sentences, decoded greedily."""
    data = Multi30k(require_dataset("multi30k"))
    width, layers, heads, dropout = TRANSFORMER
    model = Transformer(len(data.source.words), len(data.target.words), width, layers, heads, dropout)

    def compute_loss(model: nn.Module, batch: tuple) -> torch.Tensor:
        sources, targets = batch
        scores = model(sources, targets)
        return F.cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=PAD, label_smoothing=SMOOTHING)

    return make(
        settings, seed, epochs, limit,
        model=model, pairs=len(data.sources), metric="bleu", loss=compute_loss, make_optimizer=make_adam,
        batches=lambda epoch: data.train_batches(settings.batch, seed, epoch),
        evaluate=lambda model: measure_bleu(model, data, settings.batch, limit),
    )  # fmt: skip


def make(
    settings: Settings, seed: int, epochs: int, limit: int | None, *, pairs: int, batches: Callable, **parts
) -> Task:
    schedule = Schedule(epochs, limit or pairs // settings.batch, settings.peak, settings.decay)
    return Task(
        schedule=schedule,
        seed=seed,
        batch_size=settings.batch,
        batches=lambda epoch: islice(batches(epoch), limit),
        **{"make_optimizer": make_sgd, **parts},
    )


def make_adam(groups: list[dict], schedule: Schedule) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, lr=schedule.peak, betas=(0.9, 0.98))


def require_dataset(name: str) -> Path:
    folder = find_dataset(name)
    if folder is None:
        raise SystemExit(f"data/{name}: could not be fetched; put its files there, as data/README.md says")
    return folder / name


@torch.no_grad()
def measure_top1(model: nn.Module, batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Returns the share of images that an image classifier gets right."""
    model.eval()
    correct = images = 0
    for inputs, labels in batches:
        scores = model(inputs.contiguous(memory_format=torch.channels_last))
        correct += int((scores.argmax(1) == labels).sum())
        images += len(labels)
    return correct / images


def measure_bleu(model: nn.Module, data: Multi30k, size: int, limit: int | None) -> float:
    model.eval()
    translated = [translate(model, part).tolist() for part in islice(data.questions.split(size), limit)]
    hypotheses = [data.target.decode(numbers) for part in translated for numbers in part]
    return compute_bleu(hypotheses, data.references[: len(hypotheses)])
