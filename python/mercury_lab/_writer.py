"""Writes a trace from any program: a training in JAX, in numpy, on another machine.

For PyTorch, `mercury_lab.torch.capture` does all of this in one line.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from math import nan
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mercury_lab._native import CaptureWriter, MercuryError

Pair = tuple[int, int]


@dataclass(frozen=True)
class Conv2d:
    """A 2-D convolution; pairs are (rows, columns). A 1-D convolution has one row.

    X is [samples, in_channels, *input], W is [out_channels, in_channels / groups, *kernel], and dY is
    [samples, out_channels, *output].
    """

    in_channels: int
    out_channels: int
    input: Pair
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    op = "conv2d"

    @property
    def output(self) -> Pair:
        """The size of an output plane."""
        axes = zip(self.input, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        rows, columns = (
            (size + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
            for size, taps, stride, padding, dilation in axes
        )
        return rows, columns


@dataclass(frozen=True)
class Linear:
    """A fully connected layer; `rows` is 1, or the tokens of a sequence.

    X is [samples, rows, in_features], W is [out_features, in_features], and dY is [samples, rows, out_features].
    """

    in_features: int
    out_features: int
    rows: int = 1

    op = "linear"


@dataclass(frozen=True)
class Matmul:
    """Products of two activations, such as queries and keys: `heads` of them for each sample.

    X is [samples, heads, rows, inner], W holds the right operand by columns, [samples, heads, columns, inner], and dY is
    [samples, heads, rows, columns].
    """

    rows: int
    inner: int
    columns: int
    heads: int = 1

    op = "matmul"


Geometry = Conv2d | Linear | Matmul


class TraceWriter:
    """Writes a trace, one captured step after the other, on other threads. A killed writer leaves a readable trace.

    >>> with TraceWriter("trace", {"fc": Linear(64, 10)}, model={"name": "tiny"}, batch_size=32) as trace:  # doctest: +SKIP
    ...     for step, (x, w, dy, loss) in enumerate(training):
    ...         trace.capture(step, {"fc": (x, w, dy)})
    ...         trace.log(step, loss=loss)
    """

    def __init__(
        self,
        folder: str | Path,
        layers: Mapping[str, Geometry],
        *,
        model: Mapping[str, Any],
        batch_size: int,
        dataset: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        framework: tuple[str, str] | None = None,
        seed: int = 0,
        device: str = "cpu",
        versions: Mapping[str, str] | None = None,
        label: str | None = None,
        without_input_grad: Sequence[str] = (),
        frozen: Sequence[str] = (),
    ) -> None:
        """Starts a trace in `folder`, which must be empty or missing.

        `layers` are those of the model by name, in execution order. `model` holds name, and may hold parameters, input
        (the shape of a sample) and classes. `dataset` may hold name, train_samples and validation_samples; `training`
        may hold steps, learning_rate, momentum, weight_decay and settings. `framework` is a name and a version.
        Layers in `without_input_grad` have the data itself as their input; those in `frozen` have no weight gradient.
        docs/formats.md describes each field.
        """
        unknown = [name for name in (*without_input_grad, *frozen) if name not in layers]
        if unknown:
            raise MercuryError(f"layer {unknown[0]}: is not one of the layers {', '.join(layers)}")
        listed = [
            {
                "name": name,
                "geometry": {"op": geometry.op, **asdict(geometry)},
                "input_grad": name not in without_input_grad,
                "weight_grad": name not in frozen,
            }
            for name, geometry in layers.items()
        ]
        manifest = {
            "created_by": f"mercury-lab {version('mercury-lab')}",
            "model": {"parameters": 0, "input": [], "classes": 1, **model},
            "dataset": {"name": "unknown", "train_samples": 0, "validation_samples": 0, **(dataset or {})},
            "seed": seed,
            "training": {
                "steps": 0,
                "batch_size": batch_size,
                "learning_rate": 0.0,
                "momentum": 0.0,
                "weight_decay": 0.0,
                "validation_accuracy": None,
                **(training or {}),
            },
            "versions": {"mercury-lab": version("mercury-lab"), **(versions or {})},
            "device": device,
            # All that is given of a sample is kept; a step says which samples it has.
            "sampling": {"samples": None, "channels": {}, "grad_channels": {}, "filters": {}},
        }
        if framework is not None:
            manifest["framework"] = {"name": framework[0], "version": framework[1]}
        if label is not None:
            manifest["label"] = label
        self._batch_size = batch_size
        self._writer = CaptureWriter(str(folder), json.dumps(manifest), json.dumps(listed))

    def capture(
        self,
        step: int,
        tensors: Mapping[str, tuple[Any, Any, Any]],
        *,
        samples: Sequence[int] | None = None,
        dataset_indices: Sequence[int] | None = None,
    ) -> None:
        """Writes a step: X, W and dY by layer.

        Tensors are contiguous f32 arrays in the CPU's memory, of any library with `__dlpack__`; W are the weights that
        the step computed with, and dY is the gradient of the batch's mean loss with respect to the layer's output, or
        None. X and dY hold only the samples in `samples`, which are places in the batch, ascending; without it, all.
        `dataset_indices` are the places of these samples in the data set.
        """
        chosen = list(range(self._batch_size) if samples is None else samples)
        files = 0
        for layer, operands in tensors.items():
            for kind, values in zip(("input", "weight", "grad_output"), operands, strict=True):
                if values is not None:
                    self._writer.write(step, files, layer, kind, chosen, values)
                    files += 1
        indices = list(chosen if dataset_indices is None else dataset_indices)
        self._writer.mark_captured(step, chosen, indices, files)

    def log(
        self,
        step: int,
        *,
        loss: float,
        epoch: int = 0,
        accuracy: float = nan,
        learning_rate: float = 0.0,
        seconds: float = 0.0,
    ) -> None:
        """Logs a training step, captured or not, after its capture: signatures grow by the losses of all steps.

        `accuracy` is a share; NaN says that it was not measured. `seconds` include the capture.
        """
        self._writer.next_failure()
        self._writer.log_step(step, epoch, loss, accuracy, learning_rate, seconds)

    def close(self, validation_accuracy: float | None = None) -> None:
        """Waits until everything is on disk, and completes the trace."""
        self._writer.flush()
        self._writer.next_failure()
        self._writer.finish(validation_accuracy)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            # The trace keeps the steps before the failure, and is marked as not complete.
            self._writer.close()
