"""Reuse in the loop of a training, and its state between steps."""

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

from ..checkpoint import Stage, find_stage
from ..errors import IncompleteReuse, Unsupported, warn
from ..output import read_number
from ..probe import Probe
from ..products import Product
from .interceptor import Interceptor, LoopForward
from .learned import LearnedProjections
from .measurement import MeasuredSteps
from .product import LayerCall, to_native
from .threads import share_threads


@dataclass(frozen=True)
class ReuseOptions:
    """Checked options of `mercury_lab.torch.reuse`."""

    model_name: str
    # The configuration's name in the table of measurements.
    configuration: str
    optimizer: torch.optim.Optimizer | None
    measure_every: int | None
    batch_axis: Any
    check_samples: bool
    on_unsupported: str
    learn: bool


class Reuse:
    """Running reuse. Use it in `with`, or call `close` at the end."""

    def __init__(self, model: nn.Module, config: Config, options: ReuseOptions) -> None:
        share_threads()
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
        # Of the running step's calls, names and batches by name without the call's number.
        self.trained: dict[str, set[tuple[str, int]]] = {}
        # Calls under reentrant checkpointing that were not yet computed again.
        self.checkpointed = 0
        probe = Probe("reuse") if options.check_samples else None
        self.interceptor = Interceptor(model, self, options.batch_axis, probe)
        self.learned = LearnedProjections(model, self.native) if options.learn else None
        self.hook: Any = None
        self._start()

    def _start(self) -> None:
        if self.hook is None:
            self.interceptor.start()
            self.hook = register_optimizer_step_post_hook(self._after_optimizer)

    @property
    def projections(self) -> nn.ParameterDict:
        """The learned projections, `[length, bits]` each, for the optimizer; none without `learn`."""
        return nn.ParameterDict() if self.learned is None else self.learned.parameters

    def save_projections(self, folder: str | os.PathLike) -> dict[str, str]:
        """Writes each learned projection to a file; returns the value of rpq.projection by layer."""
        os.makedirs(folder, exist_ok=True)
        values: dict[str, str] = {}
        learned = self.learned
        for name in dict.fromkeys((*(learned.keys if learned else ()), *self.layers)):
            parameter = None if learned is None else learned.get(name)
            if parameter is not None:
                path = os.path.join(os.path.abspath(folder), f"{name}.safetensors")
                _native.write_projection(path, to_native(parameter))
                values[name] = f"file:{path}"
        return values

    def __enter__(self) -> "Reuse":
        self._start()
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
        """Whether an optimizer's step ends a training step."""
        if self.options.optimizer is not None:
            return optimizer is self.options.optimizer
        own = {id(parameter) for parameter in self.model.parameters()}
        groups = (parameter for group in optimizer.param_groups for parameter in group["params"])
        # Several optimizers may step after one backward pass.
        return bool(self.trained) and any(id(parameter) in own for parameter in groups)

    def _end_step(self) -> None:
        loss, self.loss = self.loss, None
        # Not a number: an unknown loss does not grow signatures.
        loss = float("nan") if loss is None else loss
        self.losses.append(loss)
        self.native.record_loss(loss)
        cycles = self.measured.end_step(self.step_number)
        self._switch_off(self.step_number, cycles)
        self.step_number += 1
        self.trained.clear()
        self.check_layers()
        if self.checkpointed:
            self.checkpointed = 0
            reason = "its products were not computed again inside a module, so they had no reuse in the backward pass"
            self.refuse("checkpoint", "model", f"{reason}; checkpoint modules instead of functions")

    def _switch_off(self, step: int, cycles: list[tuple[str, int, int]]) -> None:
        off = self.native.record_cycles(step, cycles) if cycles else []
        if off:
            window = self.config["stop.window"]
            warn(
                f"layers switched off, because reuse cost cycles over {window} measured steps "
                f"(stop.window): {', '.join(off)}",
                source="reuse",
            )

    # Results and state.

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
            "projections": dict(self.projections.state_dict()),
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
        self.projections.load_state_dict(state["projections"])
        for loss in self.losses:
            self.native.record_loss(loss)
        for step, cycles in by_step.items():
            self.native.record_cycles(step, cycles)

    # The model's calls.

    def begin_call(
        self, names: tuple[str, str], product: Product, batch: int, forward: LoopForward
    ) -> LayerCall | None:
        """Begins a call of a layer; None if it is computed without reuse now.

        `names` are the layer's without and with the number of the call.
        """
        base, name = names
        # A part of a forward may be checkpointed.
        stage = find_stage()
        geometry = json.dumps(product.geometry(batch))
        layer = self.natives.get((name, geometry))
        if layer is None:
            layer = self._find_layer(name, geometry, product)
        if stage in (Stage.TRAINED, Stage.CHECKPOINTED):
            self.trained.setdefault(base, set()).add((name, batch))
        projection = None if self.learned is None else self.learned.get(name)
        native = layer.begin(None if projection is None else to_native(projection))
        if native is None:
            return None
        self.checkpointed += stage is Stage.CHECKPOINTED
        self.checkpointed -= stage is Stage.RECOMPUTED and self.checkpointed > 0
        is_trained = stage is not Stage.IGNORED and forward.is_training
        return LayerCall(
            self,
            name,
            product.op,
            product.window,
            native,
            batch,
            forward,
            compares=is_trained and self._is_measured(),
            counts=stage is not Stage.RECOMPUTED,
            projection=projection,
            crosses_samples=layer.crosses_samples,
        )

    def _find_layer(self, name: str, geometry: str, product: Product) -> _native.ReuseLayer:
        layer = self.natives[name, geometry] = self.native.layer(name, geometry)
        grads = {"input_grad": bool(product.input_grad), "weight_grad": bool(product.weight_grad)}
        self.layers.setdefault(name, {"name": name, "geometry": json.loads(geometry), **grads})
        return layer

    def find_recomputed(self, base: str) -> tuple[str, int]:
        """Finds the name and the batch of a call that a checkpoint computes again."""
        calls = self.trained.get(base, set())
        if len(calls) != 1:
            raise Unsupported(
                f"a checkpoint computes {base} again, which {len(calls)} calls of this step may be; checkpoint "
                "modules that are called once per step, with one size of batch"
            )
        return next(iter(calls))

    def _is_measured(self) -> bool:
        every = self.options.measure_every
        return every is not None and self.step_number % every == 0

    def check_layers(self) -> None:
        """Refuses a configuration that does not fit the model, once all of it ran."""
        if not self.is_checked and self.layers:
            self.is_checked = True
            self.native.check_layers(self.options.model_name, json.dumps(list(self.layers.values())))
            self.interceptor.axis.check_globs()

    def add_counts(self, call: LayerCall, name: str, counted: tuple) -> None:
        """Adds the outcomes of a pass."""
        known = self.outcomes.setdefault((call.layer, name, call.forward.is_training), [0, 0, 0])
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
