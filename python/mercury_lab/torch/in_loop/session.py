"""Reuse in the loop of a training: what is known between its steps."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from mercury_lab import Config, _native
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from ..checkpoint import Stage
from ..errors import IncompleteReuse, warn
from ..output import read_number
from ..probe import Probe
from ..products import Product
from .interceptor import Interceptor, LoopForward
from .measurement import MeasuredSteps
from .learned import LearnedProjections
from .product import LayerCall, to_native


@dataclass(frozen=True)
class ReuseOptions:
    """Checked options of `mercury_lab.torch.reuse`."""

    model_name: str
    # The configuration's name in the table of measurements.
    configuration: str
    measure_every: int | None
    batch_axis: Any
    check_samples: bool
    on_unsupported: str
    learn: bool


class Reuse:
    """Running reuse. Use it in `with`, or call `close` at the end."""

    def __init__(self, model: nn.Module, config: Config, options: ReuseOptions) -> None:
        self.model = model
        self.config = config
        self.options = options
        self.native = _native.ReuseLoop(config.toml, "config")
        self.measured = MeasuredSteps()
        # The number of the running training step, and the losses of those before.
        self.step_number = 0
        self.losses: list[float] = []
        self.loss: float | None = None
        self.is_paused = False
        # By name; those of the model's calls so far.
        self.layers: dict[str, dict[str, Any]] = {}
        self.natives: dict[tuple[str, str], _native.ReuseLayer] = {}
        # Products that are computed without reuse whatever the configuration says, with reasons.
        self.exact: dict[str, str] = {}
        self.is_checked = False
        self.outcomes: dict[tuple[str, str, bool], list[int]] = {}
        self.owned: dict[int, bool] = {}
        self.interceptor = Interceptor(
            model, self, options.batch_axis, Probe() if options.check_samples else None
        )
        self.learned = LearnedProjections(model, self.native) if options.learn else None
        self.hook: Any = None

    @property
    def projections(self) -> nn.ParameterDict:
        """The learned projections, `[length, bits]` each, for the optimizer; none without `learn`."""
        return nn.ParameterDict() if self.learned is None else self.learned.parameters

    def save_projections(self, folder: str | os.PathLike) -> dict[str, str]:
        """Writes each learned projection to a file; returns the value of rpq.projection by layer."""
        values = {}
        os.makedirs(folder, exist_ok=True)
        for name, key in self.learned.keys.items() if self.learned else ():
            path = os.path.join(os.path.abspath(folder), f"{name}.safetensors")
            _native.write_projection(path, to_native(self.learned.parameters[key]))
            values[name] = f"file:{path}"
        return values

    def __enter__(self) -> "Reuse":
        if self.hook is None:
            self.interceptor.start()
            self.hook = register_optimizer_step_post_hook(self._after_optimizer)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: Any) -> None:
        self.close()

    def close(self) -> None:
        """Ends reuse: the model computes exactly from now on."""
        if self.hook is not None:
            self.hook.remove()
            self.hook = None
            self.interceptor.stop()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Computes exactly inside of this context, for example to evaluate without reuse."""
        before, self.is_paused = self.is_paused, True
        try:
            yield
        finally:
            self.is_paused = before

    # The loop's calls.

    def log(self, *, loss: Any) -> None:
        """Notes the running step's loss: signatures grow while it does not fall (`bits.patience`).

        Call it before the optimizer's step. The loss takes effect from the next step on.
        """
        self.loss = read_number(loss)

    def step(self) -> None:
        """Ends a training step; only for loops without a torch optimizer."""
        self._end_step()

    def _after_optimizer(self, optimizer: Any, args: tuple, kwargs: dict) -> None:
        if self._trains(optimizer):
            self._end_step()

    def _trains(self, optimizer: Any) -> bool:
        """Whether an optimizer has a parameter of the model."""
        if id(optimizer) not in self.owned:
            own = {id(parameter) for parameter in self.model.parameters()}
            groups = (parameter for group in optimizer.param_groups for parameter in group["params"])
            self.owned[id(optimizer)] = any(id(parameter) in own for parameter in groups)
        return self.owned[id(optimizer)]

    def _end_step(self) -> None:
        loss, self.loss = self.loss, None
        # Not a number: an unknown loss does not grow signatures.
        loss = float("nan") if loss is None else loss
        self.losses.append(loss)
        self.native.record_loss(loss)
        cycles = self.measured.end_step(self.step_number)
        self._switch_off(self.step_number, cycles)
        self.step_number += 1

    def _switch_off(self, step: int, cycles: list[tuple[str, int, int]]) -> None:
        off = self.native.record_cycles(step, cycles) if cycles else []
        if off:
            window = self.config["stop.window"]
            warn(
                f"layers switched off, because reuse cost cycles over {window} measured steps "
                f"(stop.window): {', '.join(off)}",
                source="reuse",
            )

    # What is known.

    @property
    def signature_bits(self) -> int:
        """Bits of a signature in force, in layers without settings of their own."""
        return self.native.signature_bits

    @property
    def measurements(self) -> _native.Table:
        """Measured steps, as `measurements.parquet` of `mercury-tracer train` (docs/formats.md)."""
        return self.measured.to_table(self.options.configuration)

    @property
    def counts(self) -> list[dict[str, Any]]:
        """HITs, MAUs and MNUs since the beginning, by layer, pass and mode of the model."""
        return [
            {
                "layer": layer,
                "pass": name,
                "training": is_training,
                **dict(zip(("hit", "mau", "mnu"), outcomes, strict=True)),
            }
            for (layer, name, is_training), outcomes in self.outcomes.items()
        ]

    def reset_counts(self) -> None:
        """Sets all counts to 0."""
        self.outcomes.clear()

    def state_dict(self) -> dict[str, Any]:
        """The state between steps, for a checkpoint; plain data that `torch.save` takes."""
        return {
            "config": self.config.toml,
            "step": self.step_number,
            "losses": list(self.losses),
            "measurements": list(self.measured.rows),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a checkpoint of the same configuration."""
        if state["config"] != self.config.toml:
            raise _native.MercuryError(
                "load_state_dict: the checkpoint has another configuration; give reuse the one "
                "that it was saved with"
            )
        self.native = _native.ReuseLoop(self.config.toml, "config")
        self.natives.clear()
        self.measured = MeasuredSteps()
        self.measured.rows = [tuple(row) for row in state["measurements"]]
        self.losses, self.step_number = list(state["losses"]), state["step"]
        by_step: dict[int, list[tuple[str, int, int]]] = {}
        for row in self.measured.rows:
            by_step.setdefault(row[0], []).append((row[1], row[-2], row[-1]))
        for loss in self.losses:
            self.native.record_loss(loss)
        for step, cycles in by_step.items():
            self.native.record_cycles(step, cycles)

    # The model's calls.

    def begin_call(self, name: str, product: Product, forward: LoopForward) -> LayerCall | None:
        """Begins a call of a layer; None if it is computed without reuse now."""
        geometry = json.dumps(product.geometry(forward.batch))
        layer = self.natives.get((name, geometry))
        if layer is None:
            layer = self.native.layer(name, geometry)
            self.natives[name, geometry] = layer
            described = {"name": name, "geometry": json.loads(geometry)}
            grads = {"input_grad": product.input_grad, "weight_grad": product.weight_grad}
            self.layers.setdefault(name, described | grads)
        projection = None if self.learned is None else self.learned.get(name)
        native = layer.begin(None if projection is None else to_native(projection))
        if native is None:
            return None
        is_trained = forward.stage is not Stage.IGNORED
        return LayerCall(
            self,
            name,
            product.op,
            product.window,
            native,
            compares=is_trained and self._is_measured(),
            counts=forward.stage is not Stage.RECOMPUTED,
            is_training=forward.is_training,
            projection=projection,
            crosses_samples=layer.crosses_samples,
        )

    def _is_measured(self) -> bool:
        every = self.options.measure_every
        return every is not None and self.step_number % every == 0

    def check_layers(self) -> None:
        """Refuses a configuration that does not fit the model, after its first training forward."""
        if not self.is_checked:
            self.is_checked = True
            self.native.check_layers(self.options.model_name, json.dumps(list(self.layers.values())))

    def add_counts(self, call: LayerCall, name: str, counted: tuple) -> None:
        """Adds the outcomes of a pass."""
        known = self.outcomes.setdefault((call.layer, name, call.is_training), [0, 0, 0])
        for place, count in enumerate(counted[:3]):
            known[place] += count

    def note_exact(self, name: str, reason: str) -> None:
        """Notes a product that is computed without reuse, because it has no samples."""
        self.exact.setdefault(name, reason)

    def refuse(self, op: str, module: str, reason: str) -> None:
        """Raises, or notes that a product is computed without reuse."""
        if self.options.on_unsupported == "raise":
            raise IncompleteReuse(op, module, f'{reason}; or give on_unsupported="exact"')
        self.exact.setdefault(f"{module}.{op}", reason)
