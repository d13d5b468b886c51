"""CIFAR-10 in memory: 50,000 images for training, in an order and with crops that a seed and an epoch determine."""

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F

RECORD = 1 + 3 * 32 * 32  # A label, then red, green and blue planes.
PADDING = 4
# Of the training images' channels.
MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1)
DEVIATION = torch.tensor([0.2470, 0.2435, 0.2616]).view(1, 3, 1, 1)
# The most batches in an epoch; numbers the random streams of epochs.
STREAM = 1 << 20

Batch = tuple[torch.Tensor, torch.Tensor]


def read_batches(paths: list[Path]) -> Batch:
    """Returns images, u8 of `[images, 3, 32, 32]`, and labels."""
    records = torch.cat([torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8) for path in paths])
    records = records.view(-1, RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].long()


class Cifar10:
    """The data set; `scale` turns pixels of 0 to 1 into the network's input."""

    def __init__(self, folder: Path, scale: str = "normalised") -> None:
        self.train = read_batches([folder / f"data_batch_{number}.bin" for number in range(1, 6)])
        self.test = read_batches([folder / "test_batch.bin"])
        self.mean, self.deviation = (MEAN, DEVIATION) if scale == "normalised" else (0.5, 0.5)

    def to_input(self, images: torch.Tensor) -> torch.Tensor:
        return (images.float() / 255 - self.mean) / self.deviation

    def train_batches(self, size: int, seed: int, epoch: int) -> Iterator[Batch]:
        """Yields whole batches in a random order, cropped at random from padded images, half of them mirrored."""
        random = torch.Generator().manual_seed(seed * STREAM + epoch)
        images, labels = self.train
        order = torch.randperm(len(labels), generator=random)
        for chosen in order[: len(order) // size * size].split(size):
            yield self.to_input(augment(images[chosen], random)), labels[chosen]

    def test_batches(self, size: int) -> Iterator[Batch]:
        images, labels = self.test
        for part, answers in zip(images.split(size), labels.split(size), strict=True):
            yield self.to_input(part), answers


def augment(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Mirrors half of the images and crops each from its padded form, as He et al., 2016, section 4.2."""
    count, _, height, width = images.shape
    padded = F.pad(images, (PADDING,) * 4)
    offsets = torch.randint(2 * PADDING + 1, (2, count, 1), generator=random)
    mirrored = torch.rand(count, 1, generator=random) < 0.5
    rows = offsets[0] + torch.arange(height)
    columns = torch.where(mirrored, torch.arange(width).flip(0), torch.arange(width)) + offsets[1]
    image = torch.arange(count).view(-1, 1, 1, 1)
    channel = torch.arange(3).view(1, 3, 1, 1)
    return padded[image, channel, rows.view(count, 1, height, 1), columns.view(count, 1, 1, width)]
