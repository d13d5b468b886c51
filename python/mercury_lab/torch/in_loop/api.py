"""The entry point of reuse in the loop."""

from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

import torch
from mercury_lab import Config, MercuryError
from mercury_lab._arguments import AllSections, StrPath
from torch import nn

from ..checks import check_model, check_optimizer, unwrap_optimizer
from ..naming import unwrap
from ..options import check_batch_axis
from .session import Reuse, ReuseOptions


def reuse(
    model: nn.Module,
    config: StrPath | Config | None = None,
    *,
    preset: str | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    measure_every: int | None = None,
    batch_axis: int | Mapping[str, int] | None = None,
    check_samples: bool = True,
    on_unsupported: str = "raise",
    learn: bool = False,
    name: str | None = None,
    **sections: Unpack[AllSections],
) -> Reuse:
    """Computes a model's layers with reuse, as MERCURY's hardware would, in training and evaluation.

    Use it as a context around the training loop:

        with mt.reuse(model, config="best.toml") as reuse:
            for x, y in loader:
                loss = loss_fn(model(x), y)
                loss.backward()
                reuse.log(loss=loss.item())
                optimizer.step()
                optimizer.zero_grad()

    The forward pass multiplies vectors' substitutes, the input gradient those of dY by signatures of
    its own, and the weight gradient has the groups of the forward pass (docs/accuracy.md). Results
    are computed in f32 on the CPU, wherever the model is. Call the model itself, not its `forward`.
    Other threads must not change the weights during a call.

    Args:
        model: The model, or its `torch.compile` or DDP wrapper. Compiled code runs eagerly.
        config: A TOML file, such as the `best.toml` of a search, or a `mercury_lab.Config`.
        preset: A built-in configuration; "mercury" without file and preset.
        optimizer: Its steps end the training steps. None: those of any optimizer with a parameter of
            the model, once after each forward.
        measure_every: Compares each result with the exact one in steps 0, n, 2n, …, which take about
            twice as long. `stop.window` switches layers off by the cycles of these steps; None
            measures none, so no layer is ever switched off.
        batch_axis: The dimension that holds the samples, as in `capture`.
        check_samples: Evaluates the model twice before the first forward, to find where each layer's
            input holds the samples, as in `capture`.
        on_unsupported: `raise`: a product that cannot be replaced is an error (`IncompleteReuse`);
            `exact`: it is computed exactly and noted in `Reuse.exact`.
        learn: The projections of all Conv2d and Linear with reuse in the forward pass are learned
            (`in_loop/learned.py`): give `Reuse.projections` to the optimizer, as a group without
            weight decay. They begin as drawn.
        name: The model's name; a configuration that was searched for another is refused. None takes
            that of its class.
        sections: Keys of the configuration by section, such as `rpq={"bits": 32}`.

    Raises:
        TypeError, ValueError: An argument is wrong; the message names it.
        MercuryError: The configuration is invalid, does not fit the model's layers (in the first
            forward), or the model has reuse already.
    """
    check_model(model)
    check_optimizer(unwrap_optimizer(optimizer), model)
    if learn and isinstance(model, nn.parallel.DistributedDataParallel):
        raise MercuryError(
            "learn: the gradients of projections would differ between ranks, as DistributedDataParallel "
            "does not reduce them; train the projections on one rank"
        )
    if measure_every is not None and (isinstance(measure_every, bool) or measure_every < 1):
        raise ValueError(f"measure_every is {measure_every!r}, but must be a number of steps or None")
    if on_unsupported not in ("raise", "exact"):
        raise ValueError(f'on_unsupported is {on_unsupported!r}, but must be "raise" or "exact"')
    options = ReuseOptions(
        model_name=name or type(unwrap(model)).__name__,
        configuration=name_configuration(config, preset),
        optimizer=unwrap_optimizer(optimizer),
        measure_every=measure_every,
        batch_axis=check_batch_axis(batch_axis),
        check_samples=check_samples,
        on_unsupported=on_unsupported,
        learn=learn,
    )
    return Reuse(model, Config(config, preset=preset, **sections), options)


def name_configuration(config: StrPath | Config | None, preset: str | None) -> str:
    """Names a configuration after its file or preset, for the table of measurements."""
    if config is None:
        return preset or "mercury"
    return "config" if isinstance(config, Config) else Path(config).stem
