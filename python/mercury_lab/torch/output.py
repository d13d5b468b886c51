"""Writes assembled steps and the tables through the Rust trace writer."""

import json
import math
import operator
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mercury_lab import __version__, _native
from mercury_lab._native import MercuryError
from torch import nn

from .assemble import StepTensors
from .checks import check_model
from .errors import ArgumentError, SkipStep
from .layers import Layers
from .naming import unwrap
from .options import Options
from .step import Step

# The most rows of steps that wait in memory.
MAX_ROWS = 1000


class TraceOutput:
    """The trace's folder; it is created when the first captured step is complete."""

    def __init__(self, folder: str, options: Options, layers: Layers) -> None:
        self.folder = folder
        self.options = options
        self.layers = layers
        self.writer: _native.CaptureWriter | None = None
        # Rows of steps that were not sent yet; the writer's threads should sleep in steps
        # without capture.
        self.rows: list[tuple] = []
        self.batch: int | None = None
        self.captured = 0
        self.used_bytes = 0
        if options.resume is None or not self._is_begun(options.resume):
            _native.CaptureWriter.check(folder)
        else:
            self._resume(options.resume)

    def _is_begun(self, step: int) -> bool:
        """Whether the folder has a trace; only a training that begins may lack it."""
        if (Path(self.folder) / "manifest.json").exists():
            return True
        if step > 0:
            raise MercuryError(
                f"resume is {step}, but {self.folder} has no trace of the steps before; give "
                f"the folder of the "
                "training's trace, or leave resume out, which begins a trace at step 0"
            )
        return False

    def _resume(self, step: int) -> None:
        """Opens the trace again; the options must be those that it was begun with."""
        self.writer = _native.CaptureWriter.resume(self.folder, step)
        manifest = json.loads((Path(self.folder) / "manifest.json").read_text())
        self.batch = manifest["training"]["batch_size"]
        self.layers.restore(json.loads(self.writer.layers))
        now, before = self.layers.sampling(), manifest["sampling"]
        now["seed"], before["seed"] = self.options.seed, manifest["seed"]
        now["loss_reduction"] = self.options.loss_reduction
        before["loss_reduction"] = (
            manifest["training"].get("settings", {}).get("loss_reduction", "mean")
        )
        try:
            self.layers.check_globs()
        except ArgumentError:
            self.writer.close()
            raise
        for field in (
            "seed",
            "loss_reduction",
            "samples",
            "passes",
            "dtype",
            "channels",
            "filters",
        ):
            if now[field] != before[field]:
                self.writer.close()
                raise ValueError(
                    f"{field} differs from that of the resumed trace {self.folder}; give the same"
                )
        self.captured = len(manifest["captured"])
        self.used_bytes = self.captured * self._step_bytes()

    def log_step(self, *row: Any) -> None:
        """Logs a step: its number, epoch, loss, accuracy, learning rate and seconds."""
        self.rows.append(row)
        if len(self.rows) >= MAX_ROWS and self.writer is not None:
            self.send_rows()

    def send_rows(self) -> None:
        """Sends the rows that wait."""
        for row in self.rows:
            self.writer.log_step(*row)
        self.rows.clear()

    def flush(self) -> None:
        """Waits until everything is on disk."""
        if self.writer is not None:
            self.send_rows()
            self.writer.flush()

    def close(self, is_complete: bool) -> None:
        """Ends the trace, which is complete if the training has ended."""
        self.send_rows()
        if is_complete:
            self.writer.finish()
        else:
            self.writer.close()

    def is_full(self) -> bool:
        """Whether another step might exceed `max_bytes`."""
        limit = self.options.max_bytes
        return (
            limit is not None
            and self.writer is not None
            and self.used_bytes + self._step_bytes() > limit
        )

    def _step_bytes(self) -> int:
        wanted = [layer.describe() for layer in self.layers.known.values() if layer.wanted]
        return _native.step_bytes(
            json.dumps(wanted), json.dumps(self.layers.sampling()), self.batch
        )

    def write_step(
        self,
        step: Step,
        assembled: StepTensors,
        indices: list[int] | None,
        manifest: Callable[[], dict[str, Any]],
        log_row: Callable[[], None],
    ) -> None:
        """Sends a step to the writer.

        `manifest()` describes the training when the trace is created; `log_row()` logs the step
        after its tensors.
        """
        if self.batch is not None and step.batch != self.batch:
            raise SkipStep(
                f"the step has {step.batch} samples, but the trace has {self.batch} per step"
            )
        if indices is not None and len(indices) != step.batch:
            raise ArgumentError(
                f"dataset_indices has {len(indices)} entries, but the step has {step.batch} samples"
            )
        self.batch = step.batch
        if self.writer is None:
            self._create(manifest())
        else:
            new = [layer.describe() for layer in self.layers.commit()]
            if new:
                self.writer.add_layers(json.dumps(new), json.dumps(self.layers.sampling()))
        files = len(assembled.tensors)
        # Each tensor is freed as soon as the writer's queue has taken it.
        assembled.tensors.reverse()
        for index in range(files):
            layer, kind, values = assembled.tensors.pop()
            self.writer.write(step.number, index, layer.name, kind, step.kept, values)
        # The step's row comes before the mark, so that the table of steps is never behind
        # the manifest.
        log_row()
        self.send_rows()
        places = step.kept if indices is None else [int(indices[sample]) for sample in step.kept]
        self.writer.mark_captured(step.number, step.kept, places, files)
        self.captured += 1
        self.used_bytes += self._step_bytes()

    def _create(self, manifest: dict[str, Any]) -> None:
        self.layers.check_globs()
        if self.options.max_bytes is not None and self._step_bytes() > self.options.max_bytes:
            reason = (
                f"max_bytes is {self.options.max_bytes}, but one step may need {self._step_bytes()}"
            )
            raise ArgumentError(f"{reason}; raise it, or lower samples, channels or filters")
        layers = [layer.describe() for layer in self.layers.commit()]
        manifest["sampling"] = self.layers.sampling()
        self.writer = _native.CaptureWriter(self.folder, json.dumps(manifest), json.dumps(layers))


def describe_training(
    model: nn.Module, optimizer: Any, step: Step, options: Options
) -> dict[str, Any]:
    """Makes the manifest of a new trace, without the part that is kept."""
    device, model = check_model(model), unwrap(model)
    group = optimizer.param_groups[0] if optimizer is not None else {}
    first = step.forwards[0]
    settings = {"loss_reduction": options.loss_reduction}
    if step.has_fused:
        # Fused attention and einsum are written as the products that they consist of.
        settings["attention"] = "explicit products"
    if optimizer is not None:
        settings["optimizer"] = type(optimizer).__name__
    versions = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "mercury-lab": __version__,
    }
    manifest = {
        "created_by": f"mercury-lab {__version__}",
        "framework": {"name": "pytorch", "version": torch.__version__},
        "model": {
            "name": options.name or type(model).__name__,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "input": first.sample_shape,
            "classes": max(first.outputs, 1),
        },
        "dataset": options.dataset,
        "seed": options.seed,
        "training": {
            "steps": 0,
            "batch_size": step.batch,
            "learning_rate": read_number(group.get("lr", 0.0)),
            "momentum": read_number(group.get("momentum", 0.0)),
            "weight_decay": read_number(group.get("weight_decay", 0.0)),
            "settings": settings,
            "validation_accuracy": None,
        },
        "versions": versions,
        "device": str(device),
    }
    if options.label is not None:
        manifest["label"] = options.label
    return manifest


def read_indices(values: Any) -> list[int]:
    """Reads integers, which may be those of numpy or a tensor."""
    values = values.tolist() if isinstance(values, torch.Tensor) else values
    return [operator.index(value) for value in values]


def read_number(value: Any) -> float:
    """Reads a hyper-parameter or a metric, which may be a tensor."""
    number = float(value.detach() if isinstance(value, torch.Tensor) else value)
    return number if math.isfinite(number) else math.nan
