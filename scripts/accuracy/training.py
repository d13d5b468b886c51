"""Trains a network for some epochs, from a checkpoint if there is one."""

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from cifar10 import STREAM
from torch import nn

MOMENTUM = 0.9


class Diverged(Exception):
    """The loss is no longer a finite number."""


@dataclass
class Schedule:
    """One cycle: the learning rate rises to `peak` over the first 30 % of steps and falls to 0 (Smith, 2018)."""

    epochs: int
    steps_per_epoch: int
    peak: float
    decay: float

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def __str__(self) -> str:
        return f"one-cycle to {self.peak:g}"


def make_sgd(groups: list[dict], schedule: Schedule) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=schedule.peak, momentum=MOMENTUM, nesterov=True, weight_decay=schedule.decay)


@dataclass
class Task:
    """What is trained, how an epoch's batches and a loss are computed, and how the trained network is evaluated."""

    model: nn.Module
    schedule: Schedule
    batches: Callable[[int], Iterator[Any]]
    loss: Callable[[nn.Module, Any], torch.Tensor]
    evaluate: Callable[[nn.Module], float]
    metric: str
    seed: int
    batch_size: int
    make_optimizer: Callable[[list[dict], Schedule], torch.optim.Optimizer] = make_sgd

    @property
    def settings(self) -> str:
        """The schedule as a row names it: rows of other settings are other runs."""
        return f"{self.schedule}, batch {self.batch_size}, {self.schedule.steps_per_epoch} steps"


@dataclass
class Training:
    """The state of a run between epochs, saved to a file after each. `reuse` is an entered context or None."""

    task: Task
    checkpoint: Path
    reuse: Any = None
    epoch: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        schedule = self.task.schedule
        groups = [{"params": list(self.task.model.parameters())}]
        if self.projections is not None:
            groups.append({"params": list(self.projections.parameters()), "weight_decay": 0.0})
        self.optimizer = self.task.make_optimizer(groups, schedule)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=schedule.peak,
            total_steps=schedule.steps,
            anneal_strategy="linear",
            cycle_momentum=False,
            final_div_factor=1e4,
        )

    @property
    def projections(self) -> nn.ParameterDict | None:
        """The learned projections of reuse, if it has any."""
        return getattr(self.reuse, "projections", None) or None

    def resume(self) -> bool:
        """Continues from the own checkpoint, if there is one."""
        if self.checkpoint.exists():
            self.load(self.checkpoint)
        return self.epoch > 0

    def branch(self, path: Path) -> None:
        """Begins where another run, without reuse, had saved its state."""
        self.load(path)
        self.seconds = 0.0

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        steps, expected = state["scheduler"]["total_steps"], self.task.schedule.steps
        if steps != expected:
            raise SystemExit(
                f"{path}: is of a schedule of {steps} steps, but this run has {expected}; "
                "give the epochs of that run, or remove its folder"
            )
        self.task.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.epoch, self.seconds, self.losses = state["epoch"], state["seconds"], state["losses"]
        if self.reuse is not None and state["reuse"] is not None:
            self.reuse.load_state_dict(state["reuse"])
        if self.projections is not None:
            self.projections.load_state_dict(state["projections"])

    def save(self, path: Path) -> None:
        state = {
            "model": self.task.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "epoch": self.epoch,
            "seconds": self.seconds,
            "losses": self.losses,
            "reuse": None if self.reuse is None else self.reuse.state_dict(),
        }
        if self.projections is not None:
            state["projections"] = self.projections.state_dict()
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)

    def run_epoch(self) -> None:
        """Trains one epoch. Random numbers such as dropout's depend on seed and epoch alone."""
        started = time.monotonic()
        torch.manual_seed(self.task.seed * STREAM + self.epoch)
        losses = [self.run_step(batch) for batch in self.task.batches(self.epoch)]
        self.epoch += 1
        self.seconds += time.monotonic() - started
        self.losses.append(sum(losses) / len(losses))

    def run_step(self, batch: Any, log: Callable[[float], None] | None = None) -> float:
        """Trains one step; `log` takes its loss before the weights change."""
        model = self.task.model.train()
        loss = self.task.loss(model, batch)
        value = loss.item()
        if not math.isfinite(value):
            raise Diverged
        self.optimizer.zero_grad()
        loss.backward()
        if self.reuse is not None:
            self.reuse.log(loss=value)
        if log is not None:
            log(value)
        self.optimizer.step()
        self.scheduler.step()
        return value
