"""Records the products of captured steps: module hooks, a function mode, and an auditing dispatch
mode. They exist only during captured steps.
"""

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from .attention import MULTI_HEAD, SDPA
from .audit import classify
from .checkpoint import Stage, find_stage
from .errors import Unsupported
from .hooks import AuditMode, CallMode, ModelHooks, has_raised
from .naming import Owners, ProductNames, find_parameter
from .observer import Observer, describe_sdpa
from .operations import READERS
from .probe import Probe
from .quiet import own_work
from .samples import BatchAxis, list_tensors
from .step import Step, guard
from .thread import ThreadState


class Recorder(ModelHooks):
    """Records a model's products between `start` and `stop`."""

    def __init__(
        self, model: nn.Module, observer: Observer, batch_axis: Any, probe: Probe | None
    ) -> None:
        super().__init__(model)
        self.observer = observer
        self.batch_axis_option = batch_axis
        self.probe = probe
        self.step: Step | None = None
        self.mode = CallMode(self)

    @property
    def names(self) -> ProductNames:
        """Names of the running forward's products."""
        return self.observer.names

    def start(self, step: Step) -> None:
        """Registers the hooks for a captured step."""
        self.step = step
        self.register()
        self.axis = BatchAxis(self.batch_axis_option, list(self.paths))
        self.axis.probe = self.probe
        self.observer.start(step, Owners(self.paths), self.axis)
        self.handles += step.gradients.listen(self.root.parameters(), step.fail)

    def stop(self) -> Step | None:
        """Removes the hooks; returns the step."""
        step, self.step = self.step, None
        if step is not None:
            step.is_over = True
        self.unregister()
        self.observer.stop()
        return step

    def ignores(self, stage: Stage) -> bool:
        """Forwards without gradients are no part of the training."""
        return stage is Stage.IGNORED

    def make_modes(self) -> list[Any]:
        """The auditing mode sees what the function mode's calls run."""
        return [AuditMode(self), self.mode]

    def open_forward(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Begins a micro-batch."""
        self.step.called_whole |= module is self.root
        self.thread.handled_error = sys.exception()
        with self.guard("forward"):
            self._probe(module, args, kwargs)
        with self.guard("forward"), own_work():
            batch, shape = self.axis.count_samples(module, list_tensors(args, kwargs))
            self.step.drop_discarded()
            self.thread.mark = self.step.mark()
            forward = self.thread.forward = self.step.open_forward(module, batch, shape)
            forward.in_eval_mode = not self.root.training

    def _probe(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Finds the samples' order in the layers' inputs, before the first captured forward."""
        tensors = list_tensors(args, kwargs)
        if (
            self.probe is None
            or find_stage() is not Stage.TRAINED
            or not tensors
            or tensors[0].dim() == 0
        ):
            return
        axis = self.axis.find_input_axis(module, tensors)
        self.probe.run(module, args, kwargs, axis, tensors[0].shape[axis], self)

    def close_forward(self, state: ThreadState, output: Any) -> None:
        """Ends a micro-batch; one that raised is forgotten, because the loop may repeat it."""
        if state.forward is None:
            return
        if has_raised(state):
            self.step.restore(state.mark)
        elif isinstance(output, Tensor) and output.dim() > 0:
            state.forward.outputs = output.shape[-1]
        state.forward = state.mark = state.handled_error = None

    def guard(self, op: str) -> contextlib.AbstractContextManager:
        """Notes errors of the capture, which must not break the training."""
        return guard(self.step, op, self.find_module())

    def run_call(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        """Runs a call, and records it if it may compute products."""
        self._note_used(args, kwargs)
        reader = READERS.get(func) or self.observer.extra_readers.get(func)
        if reader is None and func is not SDPA and func is not MULTI_HEAD:
            return func(*args, **kwargs)
        stage = find_stage()
        name = getattr(func, "__name__", str(func))
        if stage is Stage.IGNORED:
            self.observer.note_ignored(name, self.thread)
            return self._run_handled(func, args, kwargs)
        if func is MULTI_HEAD:
            return self.run_multi_head(args, kwargs, self.mode)
        if func is SDPA:
            return self._run_attention(name, args, kwargs, stage)
        y = self._run_handled(func, args, kwargs)
        with self.guard(name):
            self.observer.observe(reader, args, kwargs, y, stage, self.thread)
        return y

    def _note_used(self, args: tuple, kwargs: dict) -> None:
        """Notes the parameters that the model's forward uses in any call, also as views."""
        step = self.step
        for value in (*args, *kwargs.values()):
            for part in value if isinstance(value, (list, tuple)) else (value,):
                parameter = find_parameter(part) if isinstance(part, Tensor) else None
                if parameter is not None and step is not None:
                    step.used.add(id(parameter))

    def _run_attention(self, name: str, args: tuple, kwargs: dict, stage: Stage) -> Any:
        attention = None
        with self.guard(name):
            attention = describe_sdpa(args, kwargs)
        y = self._run_handled(SDPA, args, kwargs)
        if attention is not None:
            with self.guard(name):
                self.observer.observe_attention(attention, y, stage, self.thread)
        return y

    def _run_handled(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        self.thread.handled += 1
        try:
            return func(*args, **kwargs)
        finally:
            self.thread.handled -= 1

    def audit(self, func: Any) -> None:
        """Notes an operation outside of recorded calls that is a product or unknown."""
        kind = classify(func)
        if kind == "known" or self.step is None:
            return
        stage = find_stage()
        if stage is Stage.IGNORED or stage.is_backward:
            return
        op = func._schema.name.removeprefix("aten::") if hasattr(func, "_schema") else str(func)
        with self.guard(op):
            if op.startswith("quantized"):
                raise Unsupported("it is quantised; capture the model before quantisation")
            if kind == "product":
                raise Unsupported("it computes products outside of the calls that the capture sees")
            self.observer.note_unknown(op, self.find_module())
