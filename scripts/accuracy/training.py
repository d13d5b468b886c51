"""Trains a network for some epochs, from a checkpoint if there is one."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

MOMENTUM = 0.9


@dataclass
class Schedule:
    """One cycle: the learning rate rises to `peak` over the first 30 % of steps and falls to 0 (Smith, 2018)."""

    epochs: int
    steps_per_epoch: int
    peak: float
    decay: float

    def __str__(self) -> str:
        return f"one-cycle to {self.peak:g}"


@dataclass
class Task:
    """What is trained, and how an epoch's batches and a loss are computed."""

    model: nn.Module
    schedule: Schedule
    batches: Callable[[int], Iterator[Any]]
    loss: Callable[[nn.Module, Any], torch.Tensor]
    make_optimizer: Callable[[nn.Module, Schedule], torch.optim.Optimizer] | None = None


@dataclass
class Training:
    """The state of a run between epochs, saved to a file after each."""

    task: Task
    checkpoint: Path
    epoch: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    # What reuse knows between steps; None without reuse.
    reuse_state: dict | None = None

    def __post_init__(self) -> None:
        task, schedule = self.task, self.task.schedule
        make_optimizer = task.make_optimizer or make_sgd
        self.optimizer = make_optimizer(task.model, schedule)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=schedule.peak,
            total_steps=schedule.epochs * schedule.steps_per_epoch,
            anneal_strategy="linear",
            cycle_momentum=False,
            final_div_factor=1e4,
        )
        if self.checkpoint.exists():
            self.load(self.checkpoint)

    def load(self, path: Path) -> None:
        """Continues from a checkpoint, which may be another run's."""
        state = torch.load(path, weights_only=True)
        self.task.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.epoch, self.seconds, self.losses = state["epoch"], state["seconds"], state["losses"]
        self.reuse_state = state["reuse"]

    def save(self, path: Path) -> None:
        state = {
            "model": self.task.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "epoch": self.epoch,
            "seconds": self.seconds,
            "losses": self.losses,
            "reuse": self.reuse_state,
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)

    def run_epoch(self, context: AbstractContextManager | None = None) -> None:
        """Trains one epoch within a context, such as reuse, and saves the state."""
        started = time.monotonic()
        model = self.task.model.train()
        losses = []
        with context or nullcontext() as reuse:
            for batch in self.task.batches(self.epoch):
                loss = self.task.loss(model, batch)
                self.optimizer.zero_grad()
                loss.backward()
                losses.append(loss.item())
                if reuse is not None:
                    reuse.log(loss=losses[-1])
                self.optimizer.step()
                self.scheduler.step()
            if reuse is not None:
                self.reuse_state = reuse.state_dict()
        self.epoch += 1
        self.seconds += time.monotonic() - started
        self.losses.append(sum(losses) / len(losses))
        self.save(self.checkpoint)


def make_sgd(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        model.parameters(), lr=schedule.peak, momentum=MOMENTUM, nesterov=True, weight_decay=schedule.decay
    )


@torch.no_grad()
def count_correct(model: nn.Module, batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> int:
    """Counts the images that an image classifier gets right."""
    model.eval()
    return sum(int((model(images).argmax(1) == labels).sum()) for images, labels in batches)
