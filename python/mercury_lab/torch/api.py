"""The entry point of the capture."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .capture import Capture
from .options import PASSES, check_options


def capture(
    model: nn.Module,
    folder: str | os.PathLike,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    scaler: torch.amp.GradScaler | None = None,
    every: int | None = None,
    steps: Sequence[int] | None = None,
    samples: int | None = None,
    channels: int | None = None,
    filters: int | None = None,
    layers: str | Sequence[str] = (),
    passes: Sequence[str] = PASSES,
    max_bytes: int | str | None = None,
    dtype: str = "f32",
    seed: int = 1,
    label: str | None = None,
    batch_axis: int | Mapping[str, int] | None = None,
    dataset: str | Mapping[str, Any] | None = None,
    resume: int | None = None,
    loss_reduction: str = "mean",
    name: str | None = None,
    on_error: str = "warn",
    on_unsupported: str = "raise",
    verify: bool = False,
    check_samples: bool = True,
) -> Capture:
    """Captures the operands X, W and dY of a model's layers in chosen training steps.

    Use it as a context around the training loop:

        with mt.capture(model, "trace", optimizer=optimizer, every=200, samples=8) as capture:
            for x, y in loader:
                loss = loss_fn(model(x), y)
                loss.backward()
                capture.log(loss=loss.item())
                optimizer.step()
                optimizer.zero_grad()

    Args:
        model: The model, or its `torch.compile`, DDP or FSDP wrapper.
        folder: The trace's folder, empty or missing. With several ranks, `-rank0` and so on is
            appended.
        optimizer: Its steps are the training steps. Without it, call `capture.step()` instead.
        scaler: The GradScaler of the training, whose scale is divided out of dY.
        every: Captures steps 0, every, 2 every, …; None: 50, or only `steps` if they are given.
        steps: Captures these steps, too.
        samples: Keeps at most this many samples per captured step, chosen at random; None keeps
            all.
        channels: Keeps at most this many channels of each convolution's input and output gradient.
        filters: Keeps at most this many filters per layer.
        layers: Captures only layers that match one of these patterns, such as `features.*`.
        passes: Keeps the operands of these passes: `forward`, and any of `input-grad`,
            `weight-grad`.
        max_bytes: Stops capturing before the tensor files might exceed this size, such as `2GiB`.
        dtype: Stored type: `f32` or `f16`.
        seed: Seed of the choice of samples, channels and filters.
        label: Your name for the trace.
        batch_axis: The dimension that holds the samples, for all layers, or by pattern of layers
            (`{"decoder.*": 1, "input": 1}`; `input` is the model's first tensor). None: dimension
            0, and dimension 1 in modules with `batch_first=False`.
        dataset: Name of the data set, or a dict with `name` and `train_samples`.
        resume: The step at which a training continues its trace; this and later steps of the trace
            are removed. 0 also begins a trace, so a loop can always pass its first step.
        loss_reduction: `mean` if the loss is the batch's mean; `sum` if it is summed over the
            batch, whose size then divides dY.
        name: The model's name in the trace, such as `resnet18`; None takes that of its class.
        on_error: `warn`: errors of the capture never break the training; `raise`: they do. Mistakes
            in the arguments always raise, here or in the first captured step.
        on_unsupported: `raise`: a step with products that cannot be captured is an error
            (`IncompleteCapture`); `list`: `coverage()` lists them, and the rest is captured.
        check_samples: Before the first captured forward, evaluates the model twice without
            gradients, the second time with the batch rolled by one sample, to find where each
            layer's input holds the samples. Buffers,
            attributes and random numbers are restored. False: sizes and `batch_axis` decide.
        verify: Also compares dY^T X of the whole batch with the weights' gradients, see
            `Capture.verify`.

    Raises:
        TypeError, ValueError: An argument is wrong; the message names it. Mistakes that only the
        model's run reveals, such as a pattern in `layers` that matches nothing, are raised by the
        loop in the first captured step.
        MercuryError: The folder cannot be used.
    """
    options = check_options(
        every=every,
        steps=steps,
        samples=samples,
        channels=channels,
        filters=filters,
        layers=layers,
        passes=passes,
        max_bytes=max_bytes,
        dtype=dtype,
        seed=seed,
        label=label,
        batch_axis=batch_axis,
        dataset=dataset,
        resume=resume,
        loss_reduction=loss_reduction,
        name=name,
        on_error=on_error,
        on_unsupported=on_unsupported,
        verify=verify,
        check_samples=check_samples,
    )
    return Capture(model, name_folder(folder), optimizer, scaler, options)


def name_folder(folder: str | os.PathLike) -> str:
    """Appends the rank to the folder's name if several ranks train; dY is local to each."""
    path = os.fspath(folder)
    distributed = torch.distributed
    if (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    ):
        return f"{path.rstrip(os.sep)}-rank{distributed.get_rank()}"
    return path
