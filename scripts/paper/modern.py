#!/usr/bin/env python3
"""Trains a model of torchvision on photos, from random weights, and captures it by the Python package."""

import argparse
import sys
from pathlib import Path

import mercury_lab.torch as mt
import torch
import torchvision
from PIL import Image
from torchvision import transforms

BATCH = 4
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def read_photos(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Reads photos that are named by class as 224 x 224 pixels, normalised; returns them with their classes."""
    cut = [transforms.Resize(224), transforms.CenterCrop(224)]
    shape = transforms.Compose([*cut, transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)])
    paths = sorted(folder.glob("*.jpg"))
    names = [path.name.split("_")[0] for path in paths]
    classes = {name: number for number, name in enumerate(sorted(set(names)))}
    photos = [shape(Image.open(path).convert("RGB")) for path in paths]
    return torch.stack(photos), torch.tensor([classes[name] for name in names])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=["vit_b_16", "convnext_tiny"])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the trace")
    parser.add_argument("--captured", required=True, help="steps, separated by commas; training ends after the last")
    parser.add_argument("--samples", type=int, default=1, help="samples to keep of a captured step")
    parser.add_argument("--filters", type=int, default=16, help="filters to keep of a layer")
    arguments = parser.parse_args()
    captured = list(map(int, arguments.captured.split(",")))
    torch.manual_seed(1)
    torch.set_num_threads(1)
    photos, labels = read_photos(arguments.photos)
    model = torchvision.models.get_model(arguments.model, num_classes=int(labels.max()) + 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    order = torch.Generator().manual_seed(1)
    kept = {"steps": captured, "samples": arguments.samples, "filters": arguments.filters}
    with mt.capture(model, arguments.out, optimizer=optimizer, name=arguments.model, **kept) as capture:
        for _ in range(captured[-1] + 1):
            chosen = torch.randperm(len(photos), generator=order)[:BATCH]
            loss = torch.nn.functional.cross_entropy(model(photos[chosen]), labels[chosen])
            loss.backward()
            capture.log(loss=loss.item())
            optimizer.step()
            optimizer.zero_grad()
    print(capture.coverage(), file=sys.stderr)


if __name__ == "__main__":
    main()
