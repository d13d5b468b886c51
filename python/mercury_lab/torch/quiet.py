"""A context for tensor work that neither the model nor the user's modes may notice."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes


@contextlib.contextmanager
def own_work(device_type: str = "cpu") -> Iterator[None]:
    """Computes without gradients, without autocast, and invisibly for function and dispatch modes.

    Selective checkpointing counts the operations of a forward in a dispatch mode; extra ones would
    shift its saved results.
    """
    with (
        torch.no_grad(),
        torch._C.DisableTorchFunction(),
        _disable_current_modes(),
        torch.autocast(device_type, enabled=False),
    ):
        yield


def guard_hook(
    receive: Callable[[Tensor], None], fail: Callable[[Exception], None]
) -> Callable[[Tensor | None], None]:
    """Makes a hook whose errors go to `fail`, because they must not break the backward pass."""

    def hook(value: Tensor | None) -> None:
        try:
            if value is not None:
                receive(value)
        except Exception as error:
            fail(error)

    return hook
