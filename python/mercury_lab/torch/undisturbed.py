"""Runs a model so that its training does not notice."""

import contextlib
import copy
import random
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _disable_current_modes

from .thread import ThreadState


@contextlib.contextmanager
def without_modes() -> Iterator[None]:
    """Hides all modes, also those of the user, except for the default device."""
    modes = []
    while torch.overrides._len_torch_function_stack():
        modes.append(torch.overrides._pop_mode())
    devices = [mode for mode in reversed(modes) if isinstance(mode, DeviceContext)]
    try:
        for mode in devices:
            torch.overrides._push_mode(mode)
        with _disable_current_modes():
            yield
    finally:
        while torch.overrides._len_torch_function_stack():
            torch.overrides._pop_mode()
        for mode in reversed(modes):
            torch.overrides._push_mode(mode)


@contextlib.contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Evaluates without gradients, and restores the model's state and the random numbers."""
    modules = list(module.modules())
    states = [
        (each, {key: _copy_table(value) for key, value in vars(each).items()}) for each in modules
    ]
    tensors = [
        value for each in modules for value in vars(each).values() if isinstance(value, Tensor)
    ]
    tensors = [tensor for tensor in (*module.buffers(), *tensors) if not tensor.is_inference()]
    saved = [(tensor, tensor.detach().clone(), tensor._version) for tensor in tensors]
    has_cache = torch.is_autocast_cache_enabled()
    fast = torch.backends.mha.get_fastpath_enabled()
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    devices = [device] if device.type != "cpu" else []
    python_state, numpy = random.getstate(), sys.modules.get("numpy")
    numpy_state = None if numpy is None else numpy.random.get_state()
    ThreadState.probing.is_on = True
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        # Weights that were cast without gradients must not reach the captured forward.
        torch.set_autocast_cache_enabled(False)
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            for each in modules:
                # Not `eval()`, which a model may redefine.
                each.training = False
            yield
    finally:
        ThreadState.probing.is_on = False
        torch.set_autocast_cache_enabled(has_cache)
        torch.backends.mha.set_fastpath_enabled(fast)
        random.setstate(python_state)
        if numpy is not None:
            numpy.random.set_state(numpy_state)
        for each, attributes in states:
            _restore_tables(vars(each), attributes)
        with torch.no_grad():
            for tensor, values, version in saved:
                if tensor._version != version:
                    tensor.copy_(values)


def _copy_table(value: Any) -> Any:
    """Copies an attribute of a module that changes in place, such as its table of buffers."""
    return copy.copy(value) if type(value) in (dict, list, set) else value


def _restore_tables(present: dict[str, Any], before: dict[str, Any]) -> None:
    """Restores attributes; tables that other objects may hold stay the same objects."""
    for key in set(present) - set(before):
        del present[key]
    for key, value in before.items():
        table = present.get(key)
        if type(table) is type(value) and isinstance(table, (dict, set)) and table is not value:
            table.clear()
            table.update(value)
        elif isinstance(value, list) and isinstance(table, list):
            table[:] = value
        else:
            present[key] = value
