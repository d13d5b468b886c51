#!/usr/bin/env python3
"""Trains an image classifier without reuse: `exact.py resnet20 --seed 1`.

The folder of the run keeps the last checkpoint and the one at half of the epochs, from which calibration runs branch.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from cifar10 import Cifar10
from networks import CifarNet, ResNet20
from training import Schedule, Task, Training, count_correct

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from places import find_dataset  # noqa: E402
from runs import read_commit  # noqa: E402

BATCH = 128
# Network, epochs, peak of the learning rate, weight decay, scale of the pixels.
TASKS = {"resnet20": (ResNet20, 7, 0.3, 5e-4, "normalised"), "cifarnet": (CifarNet, 15, 0.1, 5e-4, "symmetric")}


def make_task(name: str, seed: int, epochs: int | None) -> tuple[Task, Cifar10]:
    network, default_epochs, peak, decay, scale = TASKS[name]
    torch.manual_seed(seed)
    model = network().to(memory_format=torch.channels_last)
    data = Cifar10(find_dataset("cifar10") / "cifar10", scale)
    schedule = Schedule(epochs or default_epochs, len(data.train[1]) // BATCH, peak, decay)

    def compute_loss(model, batch):
        images, labels = batch
        return F.cross_entropy(model(images.contiguous(memory_format=torch.channels_last)), labels)

    task = Task(model, schedule, lambda epoch: data.train_batches(BATCH, seed, epoch), compute_loss)
    return task, data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--out", type=Path, default=Path("accuracy"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.out / f"{arguments.task}-exact-{arguments.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    commit = read_commit()
    task, data = make_task(arguments.task, arguments.seed, arguments.epochs)
    training = Training(task, folder / "last.pt")
    while training.epoch < task.schedule.epochs:
        training.run_epoch()
        if training.epoch == (task.schedule.epochs + 1) // 2:
            training.save(folder / "half.pt")
        print(f"{time.strftime('%H:%M:%S')} epoch {training.epoch} loss {training.losses[-1]:.4f}", flush=True)
    correct = count_correct(task.model, data.test_batches(1000))
    result = {"top1": correct / len(data.test[1]), "seconds": training.seconds, "commit": commit, "losses": training.losses}
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    print(result)


if __name__ == "__main__":
    main()
