"""Follows a model's forward by module hooks, and keeps modes on from its entry to its exit.

Hooks keep the stack of running modules. The modes are on only between the entry of the outermost
module of the model and its exit, so that they nest with the user's own modes and nothing stays on
after an exception.
"""

import sys
import warnings
from abc import ABC, abstractmethod
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from .attention import expose_multi_head
from .checkpoint import Stage, find_stage
from .eager import EAGER
from .naming import ProductNames, find_paths, unwrap
from .thread import ThreadState


class CallMode(TorchFunctionMode):
    """Shows each call of a torch function to the hooks' owner."""

    def __init__(self, owner: Any) -> None:
        super().__init__()
        self.owner = owner

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return self.owner.run_call(func, args, kwargs or {})


class AuditMode(TorchDispatchMode):
    """Shows each operation that runs outside of handled calls to the hooks' owner."""

    def __init__(self, owner: Any) -> None:
        super().__init__()
        self.owner = owner

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if self.owner.thread.handled == 0:
            self.owner.audit(func)
        return func(*args, **(kwargs or {}))


def ignore_call(*args: Any, **kwargs: Any) -> None:
    """The hook of a model's copy."""


def get_ignored_call() -> Any:
    """Rebuilds the hook of a model that was saved."""
    return ignore_call


class OwnHook:
    """A hook of a module, which copies and files of the module do not take with them."""

    def __init__(self, call: Any) -> None:
        self.call = call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)

    def __deepcopy__(self, memo: dict) -> Any:
        return ignore_call

    def __reduce__(self) -> tuple:
        return get_ignored_call, ()


class ModelHooks(ABC):
    """Hooks of a model between `register` and `unregister`; compiled code runs eagerly."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.thread = ThreadState()
        self.handles: list[Any] = []

    @property
    @abstractmethod
    def names(self) -> ProductNames:
        """Names of the running forward's products."""

    @abstractmethod
    def ignores(self, stage: Stage) -> bool:
        """Whether forwards of a stage are left alone."""

    @abstractmethod
    def open_forward(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Runs before the outermost module's forward, but not in the backward pass."""

    @abstractmethod
    def close_forward(self, state: ThreadState, output: Any) -> None:
        """Runs after the outermost module's forward, also if it raised."""

    @abstractmethod
    def make_modes(self) -> list[Any]:
        """The modes of a forward, the innermost last."""

    @property
    def is_on(self) -> bool:
        """Whether hooks are registered."""
        return bool(self.handles)

    def register(self) -> None:
        """Registers the hooks."""
        self.paths = find_paths(self.model)
        self.root = unwrap(self.model)
        self.handles = [
            register_module_forward_pre_hook(self.enter_module),
            register_module_forward_hook(self.leave_module, always_call=True),
            self.root.register_forward_pre_hook(OwnHook(self.read_arguments), with_kwargs=True),
        ]
        # Global hooks see a compiled module twice, once as its wrapper; that is intended.
        warnings.filterwarnings(
            "ignore", message=r"Using `torch\.compile\(module\)` when there are global hooks"
        )
        EAGER.enter()

    def unregister(self) -> None:
        """Removes the hooks, and modes that an interrupted forward left on."""
        if self.is_on:
            EAGER.leave()
        for handle in self.handles:
            handle.remove()
        self.handles = []
        if self.thread.modes:
            self._leave_modes()
        self.thread.modules.clear()

    def enter_module(self, module: nn.Module, args: tuple) -> None:
        """Runs before each module's forward."""
        if module not in self.paths:
            return
        state = self.thread
        state.modules.append(module)
        if len(state.modules) > 1:
            return
        state.forward, state.outermost = None, module
        stage = find_stage()
        if self.ignores(stage):
            return
        if not stage.is_backward and module is not self.root:
            self.open_forward(module, args, {})
        for mode in self.make_modes():
            mode.__enter__()
            state.modes.append(mode)

    def read_arguments(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """Runs after `enter_module`, before the model's forward, and gets keyword arguments."""
        state = self.thread
        if state.modes and state.modules == [module] and not find_stage().is_backward:
            self.open_forward(module, args, kwargs)

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
            self.close_forward(state, output)
            state.handled = 0
            state.attending.clear()

    def _leave_modes(self) -> None:
        while self.thread.modes:
            self.thread.modes.pop().__exit__(None, None, None)

    def find_module(self) -> str:
        """The path of the running module."""
        stack = self.thread.modules
        return (self.paths.get(stack[-1], "") or "model") if stack else "model"

    def run_multi_head(self, args: tuple, kwargs: dict, mode: TorchFunctionMode) -> Any:
        """Runs multi-head attention with inner calls that `mode` sees."""
        query = args[0] if args else kwargs["query"]
        samples = query.shape[1] if query.dim() == 3 else 1
        self.thread.attending.append(samples)
        self.names.begin_attention()
        try:
            return expose_multi_head(lambda: mode)(*args, **kwargs)
        finally:
            self.thread.attending.pop()


def has_raised(state: ThreadState) -> bool:
    """Whether the forward that ends has raised an exception."""
    return sys.exception() is not state.handled_error
