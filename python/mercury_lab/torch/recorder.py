"""Records the products of captured steps: module hooks, a function mode, and an auditing dispatch
mode.

Hooks and modes exist only during captured steps. Hooks keep the stack of running modules. The modes
are on only between the entry of the outermost module of the model and its exit, so that they nest
with the
user's own modes and nothing stays on after an exception.
"""

import contextlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from .attention import MULTI_HEAD, SDPA, expose_multi_head
from .audit import classify
from .checkpoint import Stage, find_stage
from .eager import EAGER
from .errors import Unsupported
from .naming import Owners, find_parameter, find_paths, unwrap
from .observer import Observer, describe_sdpa
from .operations import READERS
from .probe import Probe
from .quiet import own_work
from .samples import BatchAxis, list_tensors
from .step import Step, guard
from .thread import ThreadState


class CallMode(TorchFunctionMode):
    """Shows the recorder each call of a function that may compute products."""

    def __init__(self, recorder: "Recorder") -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return self.recorder.run_call(func, args, kwargs or {})


class AuditMode(TorchDispatchMode):
    """Shows the recorder each operation that runs outside of recorded calls."""

    def __init__(self, recorder: "Recorder") -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if self.recorder.thread.handled == 0:
            self.recorder.audit(func)
        return func(*args, **(kwargs or {}))


class Recorder:
    """Records a model's products between `start` and `stop`."""

    def __init__(
        self, model: nn.Module, observer: Observer, batch_axis: Any, probe: Probe | None
    ) -> None:
        self.model = model
        self.observer = observer
        self.batch_axis_option = batch_axis
        self.probe = probe
        self.thread = ThreadState()
        self.handles: list[Any] = []
        self.step: Step | None = None
        self.mode = CallMode(self)

    @property
    def is_on(self) -> bool:
        """Whether hooks are registered."""
        return bool(self.handles)

    def start(self, step: Step) -> None:
        """Registers the hooks for a captured step; compiled code runs eagerly until `stop`."""
        self.step = step
        self.paths = find_paths(self.model)
        self.axis = BatchAxis(self.batch_axis_option, list(self.paths))
        self.axis.probe = self.probe
        self.observer.start(step, Owners(self.paths), self.axis)
        root = unwrap(self.model)
        self.handles = [
            register_module_forward_pre_hook(self.enter_module),
            register_module_forward_hook(self.leave_module, always_call=True),
            root.register_forward_pre_hook(self.read_arguments, with_kwargs=True),
            *step.gradients.listen(root.parameters(), step.fail),
        ]
        # Global hooks see a compiled module twice, once as its wrapper; that is intended.
        warnings.filterwarnings(
            "ignore", message=r"Using `torch\.compile\(module\)` when there are global hooks"
        )
        EAGER.enter()

    def stop(self) -> Step | None:
        """Removes the hooks, and modes that an interrupted forward left on; returns the step."""
        step, self.step = self.step, None
        if step is not None:
            step.is_over = True
        if self.is_on:
            EAGER.leave()
        for handle in self.handles:
            handle.remove()
        self.handles = []
        if self.thread.modes:
            self._leave_modes()
        self.thread.modules.clear()
        self.observer.stop()
        return step

    def enter_module(self, module: nn.Module, args: tuple) -> None:
        """Runs before each module's forward."""
        if module not in self.paths:
            return
        state = self.thread
        state.modules.append(module)
        if len(state.modules) > 1:
            return
        state.forward = None
        stage = find_stage()
        if stage is Stage.IGNORED:
            return
        if not stage.is_backward and module is not unwrap(self.model):
            self.open_forward(module, args, {})
        self._enter_modes()

    def read_arguments(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Runs after `enter_module`, before the model's forward, and gets keyword arguments."""
        state = self.thread
        if state.modes and state.modules == [module] and not find_stage().is_backward:
            self.step.called_whole = True
            self.open_forward(module, args, kwargs)

    def open_forward(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Begins a micro-batch."""
        self.thread.handled_error = sys.exception()
        with self.guard("forward"):
            self._probe(module, args, kwargs)
        with self.guard("forward"), own_work():
            batch, shape = self.axis.count_samples(module, list_tensors(args, kwargs))
            self.step.drop_discarded()
            self.thread.mark = self.step.mark()
            forward = self.thread.forward = self.step.open_forward(module, batch, shape)
            forward.in_eval_mode = not unwrap(self.model).training

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

    def leave_module(self, module: nn.Module, args: tuple, output: Any) -> None:
        """Runs after each module's forward, also if it raised."""
        state = self.thread
        if module not in state.modules:
            return
        while state.modules.pop() is not module:
            pass
        if not state.modules:
            if state.modes:
                self._leave_modes()
            self._close_forward(state, output)
            state.handled = 0
            state.attending.clear()

    def _close_forward(self, state: ThreadState, output: Any) -> None:
        """Ends a micro-batch; one that raised is forgotten, because the loop may repeat it."""
        if state.forward is None:
            return
        if sys.exception() is not state.handled_error:
            self.step.restore(state.mark)
        elif isinstance(output, Tensor) and output.dim() > 0:
            state.forward.outputs = output.shape[-1]
        state.forward = state.mark = state.handled_error = None

    def _enter_modes(self) -> None:
        modes = [AuditMode(self), self.mode]
        for mode in modes:
            mode.__enter__()
            self.thread.modes.append(mode)

    def _leave_modes(self) -> None:
        while self.thread.modes:
            self.thread.modes.pop().__exit__(None, None, None)

    def guard(self, op: str) -> contextlib.AbstractContextManager:
        """Notes errors of the capture, which must not break the training."""
        stack = self.thread.modules
        return guard(self.step, op, self.paths.get(stack[-1], "") or "model" if stack else "model")

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

    def run_multi_head(self, args: tuple, kwargs: dict, mode: TorchFunctionMode) -> Any:
        """Runs multi-head attention with inner calls that `mode` sees."""
        query = args[0] if args else kwargs["query"]
        samples = query.shape[1] if query.dim() == 3 else 1
        self.thread.attending.append(samples)
        self.observer.begin_attention()
        try:
            return expose_multi_head(lambda: mode)(*args, **kwargs)
        finally:
            self.thread.attending.pop()

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
            path = self.paths.get(self.thread.modules[-1], "") if self.thread.modules else ""
            self.observer.note_unknown(op, path or "model")
